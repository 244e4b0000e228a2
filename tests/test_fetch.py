"""Downloading, from a real server on this machine: whatever it does, a file arrives whole and right or not at all."""

from __future__ import annotations

import errno
import functools
import gzip
import hashlib
import itertools
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import requests
from click.testing import CliRunner, Result

from set_cli.commands import data as data_command
from set_cli.config import Dataset
from set_cli.data import fetch as fetching
from set_cli.data.card import Digest, Form, SourceFile
from set_cli.data.catalog import CATALOG
from set_cli.data.files import hexadecimal
from set_cli.data.pins import PINS, Pin, write_pins
from set_cli.data.prepare import DataSet, load_data
from set_cli.errors import DataError, StorageError
from set_cli.system.progress import Bar, no_bar
from tests.builders import data_config
from tests.conftest import ONE_THREAD, TRAIN
from tests.raw_files import idx

RNG = np.random.default_rng(0)
CONTENT = RNG.bytes(200_000)
PAGE = b"<html><body>Sign in to the hotel's network</body></html>"
DATA = "import set_cli.commands.data; set_cli.commands.data.main()"
MANY_SECONDS = 60  # generous: only what hangs takes as long


class Request(BaseHTTPRequestHandler):
    """One request, answered as the server's script says."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        path = self.path.strip("/")
        self.server.asked.append((path, self.headers["Range"]))
        answers = self.server.answers[path]
        (answers.pop(0) if len(answers) > 1 else answers[0])(self)

    def send(self, code: int, body: bytes = b"", **headers: str) -> None:
        """A length among the headers may be a lie; the connection is closed then."""
        self.close_connection = "Content_Length" in headers
        self.send_response(code)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


Answer = Callable[[Request], None]


class Server(ThreadingHTTPServer):
    """answers: by path, one after the other, the last one again and again; asked: path and Range of each request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.answers: dict[str, list[Answer]] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.over = threading.Event()

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.server_port}/{path}"

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # the client hung up


def status(code: int, body: bytes = b"", **headers: str) -> Answer:
    return lambda request: request.send(code, body, **headers)


whole = functools.partial(status, 200)  # whatever part is asked for


def ranged(content: bytes) -> Answer:
    """What is asked for."""

    def answer(request: Request) -> None:
        start = int((request.headers["Range"] or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        code = 416 if start >= len(content) else 206 if start else 200
        request.send(code, content[start:], Content_Range=f"bytes {start}-{len(content) - 1}/{len(content)}")

    return answer


def broken(content: bytes, sent: int) -> Answer:
    """Breaks off after so many bytes."""
    return status(200, content[:sent], Content_Length=str(len(content)))


def unending(first: bytes, block: bytes, pause: float) -> Answer:
    """So many bytes, then a block after every pause (seconds) until the test is over."""

    def answer(request: Request) -> None:
        request.send(200, first, Content_Length=str(10**12))
        while not request.server.over.wait(pause):
            request.wfile.write(block)

    return answer


stalled = functools.partial(unending, block=b"", pause=1)


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Those before pooch tries again; they are not made."""
    asked: list[float] = []
    monkeypatch.setattr("pooch.core.time", SimpleNamespace(sleep=asked.append))
    monkeypatch.setenv("NO_PROXY", "*")
    return asked


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.over.set()
        running.shutdown()
        thread.join()


def digest_of(content: bytes, kind: Any = "sha256", *, sized: bool = True) -> Digest:
    return Digest(kind, hexadecimal([content], len(content), kind), len(content) if sized else None)


def names(folder: Path) -> list[str]:
    """What lies in a data set's folder, beside the lock."""
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


class Published:
    """A data set of one file, data.bin."""

    def __init__(self, server: Server, tmp_path: Path) -> None:
        self.server, self.data_dir, self.folder = server, tmp_path, tmp_path / "mnist"
        self.path = self.folder / "data.bin"
        self.part = self.folder / fetching.INCOMING / "data.bin.part"
        self.file = SourceFile("data.bin", "all", (server.url("data.bin"),), digest_of(CONTENT))

    def offer(self, *answers: Answer, **facts: Any) -> Published:
        self.server.answers["data.bin"] = list(answers)
        self.file = replace(self.file, **facts)
        return self

    def fetch(self, bar: Bar = no_bar) -> None:
        form = replace(CATALOG["mnist"].forms[0], files=(self.file,))
        card = replace(CATALOG["mnist"], train=300, test=100, forms=(form,))
        fetching.fetch(card, form, self.data_dir, with_test=True, bar=bar, say=print)

    def arrives(self, *ranges: str | None) -> None:
        """Whole, after requests with these ranges."""
        self.server.asked.clear()
        self.fetch()
        assert self.path.read_bytes() == CONTENT
        assert names(self.folder) == ["data.bin"]
        assert [start for _, start in self.server.asked] == list(ranges)

    def fails(self) -> str:
        """The one sentence; nothing lies under the file's name."""
        with pytest.raises(DataError) as caught:
            self.fetch()
        assert not self.path.exists()
        sentence = str(caught.value)
        assert "\n" not in sentence
        for hint in ("127.0.0.1", "`set-data fetch mnist`", "`set-data import mnist FILE…`"):
            assert hint in sentence
        return sentence


@pytest.fixture
def data(server: Server, tmp_path: Path) -> Published:
    return Published(server, tmp_path)


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("kind", ["sha256", "md5", "git-sha1"])
def test_an_intact_file_is_asked_for_once_and_another_is_refused(data: Published, kind: str, sized: bool) -> None:
    data.offer(whole(CONTENT), content=digest_of(CONTENT, kind, sized=sized)).arrives(None)
    data.arrives()
    data.path.unlink()
    assert "does not have the catalogue's checksum" in data.offer(whole(CONTENT[:-1] + b"?")).fails()


@pytest.mark.parametrize(
    ("answers", "ranges"),
    [
        ([status(503), status(503), whole(CONTENT)], [None, None, None]),
        ([broken(CONTENT, 120_000), ranged(CONTENT)], [None, "bytes=120000-"]),
        ([broken(CONTENT, 120_000), whole(CONTENT)], [None, "bytes=120000-"]),
        ([broken(CONTENT + b"??", len(CONTENT))], [None]),  # the length was a lie
    ],
)
def test_a_download_that_breaks_off_goes_on_after_a_pause(
    data: Published, answers: list[Answer], ranges: list[str | None], pauses: list[float]
) -> None:
    data.offer(*answers).arrives(*ranges)
    assert pauses == [1, 2][: max(1, len(ranges) - 1)]


@pytest.mark.parametrize(
    ("left", "sized", "ranges"),
    [
        (CONTENT, True, []),
        (CONTENT, False, ["bytes=200000-"]),
        (CONTENT[:1000], False, ["bytes=1000-"]),
        (bytes(1000), True, ["bytes=1000-", None]),
        (bytes(200_000), True, [None]),
        (bytes(200_001), True, ["bytes=200001-", None]),
        (bytes(200_001), False, ["bytes=200001-", None]),
    ],
)
def test_what_an_earlier_download_left_is_used_if_it_is_right(
    data: Published, left: bytes, sized: bool, ranges: list[str | None]
) -> None:
    data.part.parent.mkdir(parents=True)
    data.part.write_bytes(left)
    for name in ("data.bin", "tmp1234"):  # where the process was killed
        (data.part.parent / name).write_bytes(b"garbage")
    data.offer(ranged(CONTENT), content=digest_of(CONTENT, sized=sized)).arrives(*ranges)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (status(404, PAGE), "404"),
        (status(416), "416"),
        (whole(PAGE), "does not have the catalogue's checksum"),
        (status(200, CONTENT, Content_Length="100000"), "does not have the catalogue's checksum"),
        (status(302, Location="/data.bin"), "30 redirects"),
        (status(302, Location="file:///etc/passwd"), "file:///etc/passwd"),
        (status(302, Location="ftp://localhost/data.bin"), "ftp://localhost/data.bin"),
    ],
)
def test_what_is_no_data_is_a_data_error_and_leaves_nothing(data: Published, answer: Answer, words: str) -> None:
    assert words in data.offer(answer).fails()
    assert names(data.folder) == []


@pytest.mark.parametrize(
    ("answer", "limit", "words"),
    [
        (stalled(CONTENT[:120_000]), "READ_SECONDS", "timed out"),
        (unending(b"", b"?", 0.02), "SLOW_SECONDS", "bytes in 0 s"),
    ],
)
def test_a_stall_and_a_drip_end_in_time(
    data: Published, answer: Answer, limit: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, limit, 0.2)
    start = time.monotonic()
    assert words in data.offer(answer).fails()
    assert time.monotonic() - start < MANY_SECONDS / 2
    left = data.part.stat().st_size
    with pytest.raises(DataError, match="404"):  # what did arrive is not lost
        data.offer(status(404)).fetch()
    assert data.server.asked[-1] == ("data.bin", f"bytes={left}-")


def raw(*parts: bytes, drip: bytes = b"") -> Answer:
    """These bytes, in place of an answer, then one byte after the other of `drip`, again and again."""

    def answer(request: Request) -> None:
        request.close_connection = True
        for part in parts:
            request.wfile.write(part)
        with suppress(OSError):
            for position in itertools.count():
                if not drip or request.server.over.wait(0.02):
                    return
                request.wfile.write(drip[position % len(drip) :][:1])

    return answer


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        raw(b"HTTP/1.1 200 ", drip=b"O"),
        raw(HEAD, drip=b"X: y\r\n"),
        raw(HEAD, drip=b"X"),
        raw(drip=b"HTTP/1.1 100 Continue\r\n\r\n"),
        raw(CHUNKED, drip=b"0"),
        raw(CHUNKED + b"5; ", drip=b"x"),
        raw(b"HTTP/1.1 302 Found\r\nLocation: /slow\r\nContent-Length: 0\r\n\r\n"),
    ],
    ids=["status", "headers", "a header", "continue", "chunk", "extension", "redirect"],
)
def test_a_server_that_never_comes_to_the_end_of_its_headers(
    data: Published, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    data.server.answers["slow"] = [raw(HEAD, drip=b"X: y\r\n")]
    monkeypatch.setattr(fetching, "SLOW_SECONDS", 0.3)
    assert "it sent no whole answer in 0 s" in data.offer(answer).fails()


def test_a_handshake_that_never_ends(data: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record of TLS that arrives byte by byte."""
    monkeypatch.setattr(fetching, "SLOW_SECONDS", 0.3)
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            with suppress(OSError), listening.accept()[0] as connection:
                connection.sendall(b"\x16\x03\x03\x40\x00")
                while not over.wait(0.02):
                    connection.sendall(b"\x02")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.1)
        thread = threading.Thread(target=serve)
        thread.start()
        url = f"https://127.0.0.1:{listening.getsockname()[1]}/data.bin"
        assert "it sent no whole answer in 0 s" in data.offer(urls=(url,)).fails()
        over.set()
        thread.join()


def test_the_body_of_a_redirect_is_not_read(data: Published) -> None:
    """It may be longer than the memory."""
    head = b"HTTP/1.1 302 Found\r\nLocation: /good\r\nContent-Length: 1000000000000\r\n\r\n"
    data.server.answers["good"] = [whole(CONTENT)]
    data.offer(raw(head, drip=b"x")).arrives(None, None)


@pytest.mark.parametrize(
    "answer",
    [
        raw(b"HTTP/1.1 500 X\x1b[31mred\x07\x9b\r\nContent-Length: 0\r\n\r\n"),
        raw(b"\x1b]0;owned\x07 200\r\n\r\n"),
        raw(b"HTTP/1.1 2\x1b[2J0 OK\r\n\r\n"),
        raw(HEAD + b"Content-Length: \x1b[2J\r\n\r\n"),
        raw(CHUNKED + b"\x1b[2J\r\n"),
        raw(b"HTTP/1.1 302 Found\r\nLocation: ftp://\x1b[31mred/\x07\r\nContent-Length: 0\r\n\r\n"),
        raw(b"HTTP/1.1 302 Found\r\nLocation: http://\xe2\x80\xae[::\x1b]/\r\nContent-Length: 0\r\n\r\n"),
    ],
    ids=["reason", "garbage", "code", "length", "chunk", "scheme", "host"],
)
def test_what_a_mirror_says_cannot_steer_a_terminal(data: Published, answer: Answer) -> None:
    assert data.offer(answer).fails().isprintable()


@pytest.mark.parametrize("size", [100_000, None])
def test_an_endless_file_is_cut_off(data: Published, size: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    most = size or 300_000
    monkeypatch.setattr(fetching, "content_limit", lambda card: 300_000)
    largest = []

    @contextmanager
    def bar(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
        yield lambda count: largest.append(data.part.stat().st_size)

    data.offer(unending(b"", bytes(2**16), 0), content=replace(digest_of(CONTENT), size=size))
    with pytest.raises(DataError, match=f"it sends more than the {most:,} bytes that were expected"):
        data.fetch(bar)
    assert 0 < max(largest) <= most
    assert names(data.folder) == []


@pytest.mark.parametrize("hops", [["https", "http"], ["https", "http", "https"]])
def test_an_encrypted_address_does_not_become_a_plain_one(
    data: Published, hops: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def get(session: requests.Session, url: str, **options: Any) -> requests.Response:
        """As if hops had been encrypted: this server has no certificate."""
        response = real(session, url.replace("https:", "http:"), **options)
        seen: list[Any] = [Mock(url=f"{scheme}://127.0.0.1/secret?key=1") for scheme in hops]
        response.history, response.url = seen[:-1], seen[-1].url
        return response

    real = requests.Session.get
    monkeypatch.setattr(requests.Session, "get", get)
    data.offer(whole(CONTENT), urls=(data.file.urls[0].replace("http:", "https:"),))
    assert "redirects to http://127.0.0.1/secret, which is not encrypted" in data.fails()


def test_mirrors_are_asked_in_turn_and_all_that_fail_are_named(data: Published) -> None:
    local = functools.partial(data.server.url, host="localhost")
    data.server.answers |= {"page": [whole(PAGE)], "moved": [status(302, Location=local("good"))]}
    data.server.answers["good"] = [whole(CONTENT)]
    mirrors = ("http://127.0.0.1:1/not-there", data.server.url("data.bin"), local("page"), data.server.url("moved"))
    sentence = data.offer(status(404), urls=mirrors[:3]).fails()
    for words in (
        "127.0.0.1: [Errno 111] Connection refused",
        "127.0.0.1: 404",
        "localhost: what it sent does not have",
    ):
        assert words in sentence
    data.offer(status(404), urls=mirrors).arrives(*[None] * 8)


def test_a_packed_file_is_kept_as_it_is_published(data: Published) -> None:
    packed = gzip.compress(CONTENT)
    # Some servers say of such a file that it is encoded for the transfer.
    data.offer(status(200, packed, Content_Encoding="gzip"), urls=(data.server.url("x.gz"),), packed=digest_of(packed))
    data.server.answers["x.gz"] = data.server.answers["data.bin"]
    data.fetch()
    assert (data.folder / "data.bin.gz").read_bytes() == packed
    assert names(data.folder) == ["data.bin.gz"]


def test_the_folder_is_taken_literally(data: Published, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    data.data_dir = Path("~/data")
    data.offer(whole(CONTENT)).fetch()
    assert (tmp_path / "~/data/mnist/data.bin").read_bytes() == CONTENT


def test_a_full_disk_is_a_storage_error_and_no_mirror_is_asked(data: Published) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    data.offer(ranged(CONTENT), urls=data.file.urls * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(StorageError, match="could not be written"):
            data.fetch()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(data.server.asked) == 1
    data.arrives("bytes=50000-")


def test_a_disk_that_takes_no_new_file_is_a_storage_error(data: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", Mock(side_effect=OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(StorageError, match=r"could not be written \(No space left\)"):
        data.offer(whole(CONTENT)).fetch()


@pytest.fixture
def mnist(server: Server, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The published files of an MNIST with 300 + 100 rows, known to the catalogue and to the server."""
    (form,) = CATALOG["mnist"].forms
    published, files = {}, []
    for file in form.files:
        rows = 300 if file.part == "train" else 100
        shape, top = ((rows, 28, 28), 256) if "images" in file.name else ((rows,), 10)
        content = idx(RNG.integers(0, top, shape).astype(np.uint8))
        packed = published[file.published] = gzip.compress(content)
        server.answers[file.published] = [ranged(packed)]
        url = server.url(file.published)
        files.append(replace(file, urls=(url,), content=digest_of(content), packed=digest_of(packed)))
    card = replace(CATALOG["mnist"], forms=(replace(form, files=tuple(files)),))
    monkeypatch.setitem(CATALOG, "mnist", card)
    return published


IMAGES = "train-images-idx3-ubyte"
PACKED = IMAGES + ".gz"


def load(folder: Path, holdout: int = 0, fetch: str = "auto") -> DataSet:
    config = data_config(folder, holdout=holdout).model_copy(update={"fetch": fetch})
    return load_data(Dataset(name="mnist"), config)


def test_training_fetches_what_it_needs(mnist: dict[str, bytes], server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.fetch=never forbids to fetch it"):
        load(tmp_path, fetch="never")
    assert server.asked == []
    rows = load(tmp_path, holdout=50)
    assert (len(rows.train), len(rows.test), rows.origin) == (250, 50, "verified")
    assert names(tmp_path / "mnist") == sorted(name for name in mnist if name.startswith("train"))
    assert len(load(tmp_path).test) == 100
    assert sorted(server.asked) == sorted((name, None) for name in mnist)
    assert {name: (tmp_path / "mnist" / name).read_bytes() for name in names(tmp_path / "mnist")} == mnist


def fetch_mnist(folder: Path) -> Result:
    """What `set-data fetch mnist` gives in this process."""
    return CliRunner().invoke(data_command.main, ["--data-dir", str(folder), "fetch", "mnist"])


@pytest.mark.parametrize("name", [IMAGES, PACKED])
@pytest.mark.parametrize("pinned", [True, False])
def test_a_damaged_file_stays_until_the_published_one_is_here(
    mnist: dict[str, bytes], server: Server, tmp_path: Path, name: str, pinned: bool
) -> None:
    folder = tmp_path / "mnist"
    load(tmp_path)
    (folder / PACKED).unlink()
    (folder / name).write_bytes(b"damaged")
    if pinned:
        write_pins(folder, {name: Pin("0" * 64, 7), "other": Pin("1" * 64, 1)})
    server.answers[PACKED] = [status(404)]
    failed = fetch_mnist(tmp_path)
    assert (failed.exit_code, "404" in failed.stderr) == (DataError.exit_code, True)
    assert (folder / name).read_bytes() == b"damaged"
    server.answers[PACKED] = [ranged(mnist[PACKED])]
    server.asked.clear()
    assert fetch_mnist(tmp_path).stdout == f"mnist: fetched to {folder}\n"
    assert server.asked == [(PACKED, None)]
    assert names(folder) == sorted([*mnist, PINS] if pinned else mnist)
    assert load(tmp_path, fetch="never").origin == "verified"


def test_an_archive_is_fetched_for_its_members(data: Published) -> None:
    url = data.server.url("data.tar.gz")
    data.server.answers["data.tar.gz"] = [whole(CONTENT)]
    archive = SourceFile("data.tar.gz", "all", (url,), data.file.content)
    form = Form("cifar", "somebody", (SourceFile("folder/member.bin", "all"),), archive=archive)
    for _ in range(2):
        fetching.fetch(CATALOG["mnist"], form, data.data_dir, with_test=True, bar=no_bar, say=print)
    assert (data.folder / "data.tar.gz").read_bytes() == CONTENT
    assert names(data.folder) == ["data.tar.gz"]
    assert data.server.asked == [("data.tar.gz", None)]


@contextmanager
def child(program: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process that knows this process's MNIST; it does not outlive the test."""
    catalogue = (
        "from set_cli.data.card import Card, Digest, Form, SourceFile\n"
        "from set_cli.data.catalog import CATALOG\n"
        f"CATALOG['mnist'] = {CATALOG['mnist']!r}\n"
    )
    command = [sys.executable, "-P", "-c", catalogue + program, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + MANY_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_killed_download_is_continued(mnist: dict[str, bytes], server: Server, tmp_path: Path) -> None:
    server.answers[PACKED] = [stalled(mnist[PACKED][:120_000]), ranged(mnist[PACKED])]
    part = tmp_path / "mnist" / fetching.INCOMING / (PACKED + fetching.PART)
    with child(DATA, "--data-dir", str(tmp_path), "fetch", "mnist") as process:
        wait_until(lambda: part.exists() and part.stat().st_size > 0)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert names(tmp_path / "mnist") == [fetching.INCOMING]
    left = part.stat().st_size
    load(tmp_path)
    assert [start for path, start in server.asked if path == PACKED] == [None, f"bytes={left}-"]
    assert names(tmp_path / "mnist") == sorted(mnist)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        (DATA, "--data-dir={} fetch mnist"),
        (TRAIN, "dataset=mnist data.dir={} runs_dir={}/runs train.epochs=1 " + ONE_THREAD),
    ],
)
def test_a_signal_ends_a_stalled_download(
    program: str, arguments: str, number: int, mnist: dict[str, bytes], server: Server, tmp_path: Path
) -> None:
    server.answers[PACKED] = [stalled(mnist[PACKED][:120_000])]
    part = tmp_path / "mnist" / fetching.INCOMING / (PACKED + fetching.PART)
    with child(program, *arguments.replace("{}", str(tmp_path)).split()) as process:
        wait_until(lambda: part.exists() and part.stat().st_size > 0)
        process.send_signal(number)
        # Less than fetching.READ_SECONDS: it is the signal that ends it.
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert "interrupted" in stderr
    assert "Traceback" not in stderr
    assert names(part.parent) == [part.name]


# Its arguments are a file that collects what is said, and the folder.
EIGHT = """
import hashlib, pathlib, sys
from set_cli.data.prepare import obtain
from set_cli.system.progress import no_bar
with open(sys.argv[1], "a", buffering=1) as said:
    say = lambda line: print(line, file=said)
    rows = obtain(CATALOG["mnist"], pathlib.Path(sys.argv[2]), True, True, True, no_bar, say)[0].parts
print(hashlib.sha256(rows["train"].x.tobytes() + rows["test"].x.tobytes()).hexdigest())
"""


@pytest.mark.slow  # eight processes that import torch
def test_of_eight_processes_one_fetches(mnist: dict[str, bytes], server: Server, tmp_path: Path) -> None:
    said = tmp_path / "said"

    def after_seven_wait(request: Request) -> None:
        wait_until(lambda: said.read_text().count("waiting for another process") == 7)
        ranged(mnist[PACKED])(request)

    server.answers[PACKED] = [after_seven_wait]
    with ExitStack() as stack:
        processes = [stack.enter_context(child(EIGHT, str(said), str(tmp_path))) for _ in range(8)]
        printed = [process.communicate(timeout=MANY_SECONDS) for process in processes]
    rows = load(tmp_path, fetch="never")
    expected = hashlib.sha256(rows.train.x.tobytes() + rows.test.x.tobytes()).hexdigest()
    assert printed == [(expected + "\n", "")] * 8
    assert sorted(server.asked) == sorted((name, None) for name in mnist)
    assert names(tmp_path / "mnist") == sorted(mnist)
