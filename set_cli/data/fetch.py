"""Download what is missing: mirrors in turn, broken downloads continued, nothing shown before its checksum is right."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import set_cli
from set_cli.data.card import Card, Form, SourceFile
from set_cli.data.files import check_file, content_limit, find
from set_cli.data.pins import read_pins, write_pins
from set_cli.data.readers.guard import one_line
from set_cli.data.sources import LOCK, missing_files, missing_sentence
from set_cli.errors import DataError
from set_cli.system.files import locked, make_folder, remove, remove_strays, rename, storage_errors
from set_cli.system.progress import Bar

if TYPE_CHECKING:
    import requests

    from set_cli.data.watch import Watch

CONNECT_SECONDS, READ_SECONDS = 10.0, 30.0  # without a byte
SLOW_SECONDS, SLOW_BYTES = 60.0, 60_000  # fewer bytes in so many seconds count as a stall
RETRIES = 2  # of a mirror that breaks off
BLOCK = 2**16
INCOMING = ".incoming"  # folder of what is not whole yet
PART = ".part"  # suffix of a download that broke off; the next one resumes there


def fetch(card: Card, form: Form, data_dir: Path, *, with_test: bool, bar: Bar, say: Callable[[str], None]) -> None:
    """Bring the form's missing files to <data.dir>/<data set>/, whole and with the catalogue's checksum.

    Processes that ask for the same data set wait for the first. DataError where no mirror gives an intact file.
    """
    folder = data_dir / card.folder
    with locked(folder / LOCK, lambda: say(f"{card.name}: waiting for another process that fetches it")):
        remove_strays(folder)
        for file in _to_fetch(card, form, folder, with_test=with_test):
            _fetch_file(card, form, file, data_dir, bar)


def fetch_anew(card: Card, form: Form, data_dir: Path, files: list[SourceFile], bar: Bar) -> None:
    """Replace these files, damaged or imported, by the published ones; what is there stays until the new one is."""
    folder = data_dir / card.folder
    with locked(folder / LOCK, lambda: None):
        for file in files:
            _fetch_file(card, form, file, data_dir, bar)


def _to_fetch(card: Card, form: Form, folder: Path, *, with_test: bool) -> list[SourceFile]:
    missing = missing_files(card, form, folder, with_test=with_test)
    return [form.archive] if missing and form.archive is not None else missing


def _fetch_file(card: Card, form: Form, file: SourceFile, data_dir: Path, bar: Bar) -> None:
    folder = data_dir / card.folder
    target = folder / file.published
    make_folder(target.parent)
    failures = []
    for url in file.urls:
        try:
            _download(url, target, file, content_limit(card), bar)
        except DataError as error:
            failures.append(str(error))
        else:
            _supersede(folder, file)
            return
    why = "could not be fetched: " + "; ".join(failures)
    if find(folder, file) is not None:
        raise DataError(f"{card.name}: {file.published} {why}; the file that is there stays as it was")
    raise DataError(missing_sentence(card, form, data_dir, [file], why))


def _supersede(folder: Path, file: SourceFile) -> None:
    """The published file has taken the place of a damaged or imported one, in either packing."""
    names = {file.name, file.name + ".gz"}
    for name in names - {file.published}:
        remove(folder / name)  # it would be found first
    pins = read_pins(folder)
    left = {name: pin for name, pin in pins.items() if name not in names}
    if left != pins:
        write_pins(folder, left)


def _download(url: str, target: Path, file: SourceFile, limit: int, bar: Bar) -> None:
    """One file from one mirror: pooch fetches into a folder of its own, and what is intact takes its place here."""
    import pooch
    import requests

    # Absolute, or pooch takes a folder named ~ for the user's.
    incoming = target.parent.absolute() / INCOMING
    make_folder(incoming)

    def receive(url: str, temporary: str, _: object) -> None:
        part = incoming / (target.name + PART)
        _receive(url, part, file, limit, bar)
        assert file.digest is not None  # only such files are fetched
        try:
            check_file(part, file.digest)
        except DataError:
            part.unlink()  # resuming it would give the same bytes again
            raise ValueError("what it sent does not have the catalogue's checksum") from None
        os.replace(part, temporary)

    # The checksum is compared above: pooch does not know git's.
    registry = {target.name: None}
    puller = pooch.create(incoming, "", registry=registry, urls={target.name: url}, retry_if_failed=RETRIES)
    pooch.get_logger().setLevel("ERROR")
    with storage_errors(target):
        try:
            _remove_strays(incoming)
            puller.fetch(target.name, downloader=receive)
            rename(incoming / target.name, target)
        except (requests.exceptions.RequestException, ValueError) as error:  # before storage_errors sees an OSError
            raise DataError(f"{urlsplit(url).hostname}: {_reason(error)}") from None
        finally:
            with suppress(OSError):  # unless a broken download lies there
                incoming.rmdir()


def _remove_strays(incoming: Path) -> None:
    """Files of a process that was killed, except what can be resumed; pooch would take one for the download."""
    for path in incoming.iterdir():
        if path.suffix != PART:
            path.unlink()


def _receive(url: str, part: Path, file: SourceFile, limit: int, bar: Bar) -> None:
    """Add to `part` what it lacks; requests' exceptions or ValueError where the server does not give it."""
    import requests

    from set_cli.data.watch import Watch

    assert file.digest is not None
    most = file.digest.size or limit
    have = part.stat().st_size if part.exists() else 0
    if have == file.digest.size:
        return  # it broke off after the last byte; the checksum decides
    headers = {"User-Agent": f"set-cli/{set_cli.__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with Watch(SLOW_SECONDS) as watch, _get(url, headers, watch) as response:
        if have and response.status_code == requests.codes.requested_range_not_satisfiable:
            return  # nothing is left to be sent; the checksum decides
        response.raise_for_status()
        for hop in (*response.history, response):
            if url.startswith("https:") and not hop.url.startswith("https:"):
                raise ValueError(f"it redirects to {hop.url.partition('?')[0]}, which is not encrypted")
        if have and response.status_code != requests.codes.partial_content:
            have = 0  # it sends the whole again
        title = f"fetching {file.published} from {urlsplit(url).hostname}"
        with open(part, "ab" if have else "wb") as stream, bar(title, file.digest.size) as advance:
            advance(have)
            for block in _at_speed(_blocks(response.raw, watch)):
                have += len(block)
                if have > most:
                    part.unlink()  # nothing can be resumed
                    raise ValueError(f"it sends more than the {most:,} bytes that were expected")
                stream.write(block)
                advance(len(block))
            stream.flush()
            os.fsync(stream.fileno())


def _get(url: str, headers: dict[str, str], watch: Watch) -> requests.Response:
    """The beginning of an answer. DataError, so that nothing is tried again, where there is no way to the server."""
    import requests
    from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

    try:
        return watch.session().get(url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS))
    except requests.exceptions.ConnectionError as error:
        reason = getattr(error.args[0], "reason", None) if error.args else None
        if isinstance(reason, NewConnectionError | ConnectTimeoutError):
            raise DataError(f"{urlsplit(url).hostname}: {_reason(error)}") from None
        _refuse_drip(watch)
        raise
    finally:
        watch.alive()


def _refuse_drip(watch: Watch) -> None:
    if watch.late:
        raise ValueError(f"it sent no whole answer in {SLOW_SECONDS:.0f} s")


def _blocks(body: Any, watch: Watch) -> Iterator[bytes]:
    """What has arrived, as it was published (some servers call a .gz file an encoding, which requests would undo).

    requests' own iteration waits until a block is full: it would not see a drip, and lose the last block of a broken
    download.
    """
    import requests
    import urllib3

    try:
        while block := body.read1(BLOCK, decode_content=False):
            watch.alive()
            yield block
        _refuse_drip(watch)
    except urllib3.exceptions.HTTPError as error:
        _refuse_drip(watch)
        raise requests.exceptions.ConnectionError(error) from error


def _at_speed(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The blocks, as long as they do not drip: a server that sends a byte now and then would hold us for ever."""
    since, received = time.monotonic(), 0
    for block in blocks:
        yield block
        received += len(block)
        now = time.monotonic()
        if now - since > SLOW_SECONDS:
            if received < SLOW_BYTES:
                raise ValueError(f"it sent {received:,} bytes in {now - since:.0f} s")
            since, received = now, 0


def _reason(error: Exception) -> str:
    """The innermost words of a nest of network exceptions, on one line."""
    inner: BaseException = error
    while inner.__cause__ or inner.__context__:
        inner = inner.__cause__ or inner.__context__ or inner
    text = " ".join(str(error if isinstance(error, ValueError) else inner).split()) or type(inner).__name__
    return one_line(text)[:150]  # a mirror may put anything into its words
