"""set-data as a user types it, and what a run makes of imported files: list, show, verify, import."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import runpy
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import set_cli
from set_cli.commands.data import main
from set_cli.config import DATASETS, identity
from set_cli.data import prepare
from set_cli.data.bundled import bundled_digits
from set_cli.data.card import Card, Digest, Form, SourceFile
from set_cli.data.card_text import card_text
from set_cli.data.catalog import CATALOG
from set_cli.data.prepare import load_data
from set_cli.errors import DataError, Interrupted, NotApplicable
from set_cli.experiment import run
from set_cli.runs.folder import locate
from set_cli.system.progress import NoView
from set_cli.system.signals import StopSignals
from set_cli.training.pairs import check_pair, data_label, with_checksum
from tests.conftest import ONE_THREAD, Command, Compose, run_python
from tests.raw_files import idx

ROOT = Path(__file__).resolve().parent.parent
SetData = Callable[..., Result]

SIZES = {"train": 30, "valid": 6, "test": 12}
FEATURES = 180


def made(seed: int = 0, features: int = FEATURES, **sizes: int) -> bytes:
    """A small npz as MADE publishes them."""
    rng = np.random.default_rng(seed)
    stream = io.BytesIO()
    arrays = {f"{split}_data": rng.integers(0, 2, (n, features)) for split, n in (SIZES | sizes).items()}
    np.savez(stream, allow_pickle=False, **{name: array.astype(np.float32) for name, array in arrays.items()})
    return stream.getvalue()


def svmlight(rows: int, seed: int = 0) -> bytes:
    rng = np.random.default_rng(seed)
    lines = []
    for i in range(rows):
        on = np.flatnonzero(rng.random(FEATURES) < 0.2) + 1
        lines.append(f"{i % 3 + 1} " + " ".join(f"{j}:1" for j in on))
    return ("\n".join(lines) + "\n").encode()


@pytest.fixture
def dna(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Card:
    """A dna of 48 rows in the catalogue; its published npz lies in tmp_path/dna.npz, not among the data."""
    content = made()
    (tmp_path / "dna.npz").write_bytes(content)
    digest = Digest("sha256", hashlib.sha256(content).hexdigest(), len(content))
    published, *others = CATALOG["dna"].forms
    form = replace(published, files=(replace(published.files[0], content=digest),))
    card = replace(CATALOG["dna"], forms=(form, *others), mean=None, train=30, valid=6, test=12)
    monkeypatch.setitem(CATALOG, "dna", card)
    return card


@pytest.fixture
def set_data(tmp_path: Path) -> SetData:
    """set-data in this process, its data folder the test's own."""

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["--data-dir", str(tmp_path / "data"), *arguments])

    return run


def status(set_data: SetData, name: str) -> str:
    rows = {row["name"]: row for row in json.loads(set_data("list", "--format", "json").stdout)}
    return str(rows[name]["status"])


def test_list_has_a_row_of_the_contracts_keys_for_every_data_set(set_data: SetData) -> None:
    rows = json.loads(set_data("list", "--format", "json").stdout)
    assert [row["name"] for row in rows] == list(DATASETS)
    for row in rows:
        assert list(row) == ["name", "features", "train", "valid", "test", "classes", "shape", "status", "files"]
        assert row["status"] == ("bundled" if row["name"] == "digits" else "missing")
    table = set_data("list")
    assert table.exit_code == 0
    assert all(name in table.stdout for name in DATASETS)


def test_a_published_file_is_imported_as_verified(dna: Card, set_data: SetData, tmp_path: Path) -> None:
    result = set_data("import", "dna", str(tmp_path / "dna.npz"))
    assert (result.exit_code, result.stderr) == (0, "")
    assert "the published file" in result.stdout
    assert status(set_data, "dna") == "verified"
    assert (tmp_path / "data/dna/dna.npz").read_bytes() == (tmp_path / "dna.npz").read_bytes()
    assert not (tmp_path / "data/dna/imported.json").exists()
    verified = set_data("verify", "dna")
    assert verified.exit_code == 0
    assert verified.stdout.startswith("dna: verified; 30 / 6 / 12 rows of 180, values 0 to 1, mean 0.")


def test_another_file_needs_unverified_and_is_then_pinned(dna: Card, set_data: SetData, tmp_path: Path) -> None:
    own = tmp_path / "mine.npz"
    own.write_bytes(made(seed=1))
    refused = set_data("import", "dna", str(own))
    assert refused.exit_code == 3
    assert "--unverified" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert not (tmp_path / "data/dna/dna.npz").exists()
    taken = set_data("import", "dna", str(own), "--unverified")
    assert (taken.exit_code, status(set_data, "dna")) == (0, "imported")
    pins = json.loads((tmp_path / "data/dna/imported.json").read_text())
    assert pins == {"dna.npz": {"sha256": hashlib.sha256(own.read_bytes()).hexdigest(), "size": own.stat().st_size}}


def test_an_imported_file_that_changes_is_damaged(
    dna: Card, set_data: SetData, tmp_path: Path, compose: Compose
) -> None:
    own = tmp_path / "mine.npz"
    own.write_bytes(made(seed=1))
    set_data("import", "dna", str(own), "--unverified")
    (tmp_path / "data/dna/dna.npz").write_bytes(made(seed=2))
    assert status(set_data, "dna") == "damaged"
    config = compose("dataset=dna", "model=rbm", f"data.dir={tmp_path}/data", "data.fetch=never")
    with pytest.raises(DataError, match=r"when it was imported .* `set-data import dna FILE --unverified`"):
        load_data(config.dataset, config.data, labels=False)


def test_a_file_that_is_neither_published_nor_imported_is_not_parsed(
    dna: Card, set_data: SetData, tmp_path: Path, compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data/dna").mkdir(parents=True)
    (tmp_path / "data/dna/dna.npz").write_bytes(made(seed=1))
    monkeypatch.setattr("set_cli.data.parse.read_npz", lambda *_: pytest.fail("parsed before it was verified"))
    config = compose("dataset=dna", "model=rbm", f"data.dir={tmp_path}/data", "data.fetch=never")
    with pytest.raises(DataError, match=r"dna.npz: sha256 is \w+…, expected \w+…; `set-data fetch dna`"):
        load_data(config.dataset, config.data, labels=False)
    assert status(set_data, "dna") == "damaged"
    failed = set_data("verify", "dna")
    assert (failed.exit_code, len(failed.stderr.splitlines())) == (3, 1)


def test_a_file_can_be_imported_where_it_lies(dna: Card, set_data: SetData, tmp_path: Path) -> None:
    place = tmp_path / "data/dna/dna.npz"
    place.parent.mkdir(parents=True)
    place.write_bytes(made(seed=1))
    assert set_data("import", "dna", str(place), "--unverified").exit_code == 0
    assert status(set_data, "dna") == "imported"
    assert place.read_bytes() == made(seed=1)


def test_any_published_format_is_accepted_under_its_names(dna: Card, set_data: SetData, tmp_path: Path) -> None:
    names = {"train": "dna.scale.tr", "valid": "dna.scale.val", "test": "dna.scale.t"}
    for split, name in names.items():
        (tmp_path / name).write_bytes(svmlight(SIZES[split]))
    files = [str(tmp_path / name) for name in names.values()]
    result = set_data("import", "dna", *files, "--unverified")
    assert result.exit_code == 0, result.stderr
    assert status(set_data, "dna") == "imported"
    text = set_data("verify", "dna").stdout
    assert "30 / 6 / 12 rows of 180" in text
    assert "3 classes of 10 to 10 training rows" in text


def test_several_files_are_told_apart_by_the_words_of_their_names(dna: Card, set_data: SetData, tmp_path: Path) -> None:
    for split in ("test", "train", "valid"):
        (tmp_path / f"my-{split}-part.libsvm").write_bytes(svmlight(SIZES[split]))
    files = [str(tmp_path / f"my-{split}-part.libsvm") for split in ("test", "train", "valid")]
    assert set_data("import", "dna", *files, "--unverified").exit_code == 0
    assert "30 / 6 / 12 rows" in set_data("verify", "dna").stdout


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("dna.npz", made(features=179), "expected rows of 180 features, found an array of shape (30, 179)"),
        ("dna.npz", made(train=31), "expected at most 30 train rows, found 31"),
        ("dna.npz", b"<html>404</html>", "malformed"),
        ("dna.train.data", b"0,1\n", "expected dna as it is published, under names like these: dna.npz; "),
        ("picture.png", b"", "expected dna as it is published"),
    ],
)
def test_a_file_of_another_shape_is_refused_and_not_copied(
    name: str, content: bytes, sentence: str, dna: Card, set_data: SetData, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(content)
    result = set_data("import", "dna", str(tmp_path / "in" / name), "--unverified")
    assert result.exit_code == 3
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not [path for path in (tmp_path / "data").rglob("*") if path.is_file() and path.name != ".lock"]


def test_fewer_rows_than_published_are_taken_and_said(dna: Card, set_data: SetData, tmp_path: Path) -> None:
    (tmp_path / "small.npz").write_bytes(made(test=5))
    result = set_data("import", "dna", str(tmp_path / "small.npz"), "--unverified")
    assert (result.exit_code, "5 of 12 test rows" in result.stdout) == (0, True)
    assert "note: 5 test rows, the published set has 12" in set_data("verify", "dna").stdout


def test_an_intact_published_file_is_not_overwritten(dna: Card, set_data: SetData, tmp_path: Path) -> None:
    set_data("import", "dna", str(tmp_path / "dna.npz"))
    (tmp_path / "mine.npz").write_bytes(made(seed=1))
    result = set_data("import", "dna", str(tmp_path / "mine.npz"), "--unverified")
    assert (result.exit_code, "is there already; move it away" in result.stderr) == (3, True)
    assert status(set_data, "dna") == "verified"


def test_missing_and_unknown_names_and_pipes_are_one_sentence(dna: Card, set_data: SetData, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    for arguments, code in (
        (("import", "dna", str(tmp_path / "nothing.npz")), 3),
        (("import", "dna", str(tmp_path / "pipe.npz"), "--unverified"), 3),
        (("import", "dna", str(tmp_path), "--unverified"), 3),
        (("import", "dmna", "x"), 2),
        (("import", "digits", "x"), 2),
        (("show", "cifar"), 2),
        (("fetch",), 2),
        (("fetch", "custom"), 2),
        (("verify", "dna"), 3),
    ):
        result = set_data(*arguments)
        assert (result.exit_code, len(result.stderr.splitlines())) == (code, 1), (arguments, result.stderr)


def test_training_files_without_test_files_are_partial(
    set_data: SetData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (form,) = CATALOG["mnist"].forms
    files, contents = [], {}
    for file in form.files:
        shape = (8, 28, 28) if "images" in file.name else (8,)
        contents[file.name] = content = idx(np.ones(shape, np.uint8))
        digest = Digest("sha256", hashlib.sha256(content).hexdigest(), len(content))
        files.append(SourceFile(file.name, file.part, file.urls, digest))
    monkeypatch.setitem(CATALOG, "mnist", replace(CATALOG["mnist"], forms=(replace(form, files=tuple(files)),)))
    folder = tmp_path / "data/mnist"
    folder.mkdir(parents=True)
    (folder / files[1].name).write_bytes(contents[files[1].name])
    assert status(set_data, "mnist") == "missing"
    (folder / files[0].name).write_bytes(contents[files[0].name])
    assert status(set_data, "mnist") == "partial"
    for file in files[2:]:
        (folder / file.name).write_bytes(contents[file.name])
    assert status(set_data, "mnist") == "verified"


def test_runs_on_imported_data_are_runs_of_their_own(
    dna: Card, set_data: SetData, tmp_path: Path, compose: Compose
) -> None:
    def run_id() -> str:
        return identity(with_checksum(compose("dataset=dna", "model=rbm", f"data.dir={tmp_path}/data")))

    nothing = run_id()
    set_data("import", "dna", str(tmp_path / "dna.npz"))
    assert run_id() == nothing  # what would have been fetched
    (tmp_path / "data/dna/dna.npz").unlink()
    seen = {nothing}
    for seed in (1, 2):
        (tmp_path / "mine.npz").write_bytes(made(seed))
        set_data("import", "dna", str(tmp_path / "mine.npz"), "--unverified")
        seen.add(run_id())
    assert len(seen) == 3


def test_another_published_form_with_other_rows_is_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compose: Compose
) -> None:
    # web's two forms cut the training rows in different places
    folder = tmp_path / "data/web"
    folder.mkdir(parents=True)
    config = compose("dataset=web", "model=rbm", f"data.dir={tmp_path}/data")
    assert with_checksum(config).dataset.checksum is None  # what would be fetched
    for name in ("w6a", "w6a.t"):
        (folder / name).write_bytes(b"")
    own = with_checksum(config)
    assert own.dataset.checksum is not None
    assert identity(own) != identity(config)
    assert data_label(own) == "svmlight"
    mlp = compose("dataset=web", "model=mlp", f"data.dir={tmp_path}/data")
    assert with_checksum(mlp).dataset.checksum is None  # labels: this is the form that would be fetched


def test_an_import_between_the_command_and_its_reading_is_noticed(
    dna: Card, set_data: SetData, tmp_path: Path, compose: Compose
) -> None:
    def take_in(seed: int) -> None:
        (tmp_path / "mine.npz").write_bytes(made(seed))
        assert set_data("import", "dna", str(tmp_path / "mine.npz"), "--unverified").exit_code == 0

    take_in(1)
    config = with_checksum(compose("dataset=dna", "model=rbm", f"data.dir={tmp_path}/data"))
    assert load_data(config.dataset, config.data, labels=False).origin == "imported"
    take_in(2)
    with pytest.raises(DataError, match="dna: other files than when the command started"):
        load_data(config.dataset, config.data, labels=False)


def test_an_interrupted_run_does_not_go_on_with_other_data(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose("train.epochs=2", "model.hidden=[20]")
    path = locate(config)[0]
    with StopSignals() as stop, pytest.raises(Interrupted):
        run(config, {}, [], StopAtSecondEpoch(), stop)
    digits = bundled_digits()[0]
    monkeypatch.setattr(prepare, "bundled_digits", lambda: (digits, "another checksum"))
    before = (path / "metrics.jsonl").read_bytes()
    with StopSignals() as stop, pytest.raises(DataError, match=r"load_digits changed since this run started"):
        run(config, {}, [], NoView(), stop)
    assert (path / "metrics.jsonl").read_bytes() == before


class StopAtSecondEpoch(NoView):
    def step(self, epoch: int, rows: int, of: int) -> None:
        if epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)


def test_damaged_and_half_made_things_of_a_killed_import_go(dna: Card, set_data: SetData, tmp_path: Path) -> None:
    folder = tmp_path / "data/dna"
    folder.mkdir(parents=True)
    (folder / "dna.npz.tmp").write_bytes(b"half")
    assert set_data("import", "dna", str(tmp_path / "dna.npz")).exit_code == 0
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "dna.npz"]


def higgs_text(rows: int, seed: int = 0) -> bytes:
    rng = np.random.default_rng(seed)
    stream = io.StringIO()
    np.savetxt(stream, np.column_stack([np.arange(rows) % 2, rng.standard_normal((rows, 28))]), delimiter=",")
    return gzip.compress(stream.getvalue().encode())


def test_a_new_higgs_replaces_the_old_one_with_its_conversion(set_data: SetData, tmp_path: Path) -> None:
    folder = tmp_path / "data/higgs"
    for seed in (1, 2):
        (tmp_path / "HIGGS.csv.gz").write_bytes(higgs_text(50, seed))
        result = set_data("import", "higgs", str(tmp_path / "HIGGS.csv.gz"), "--unverified")
        assert result.exit_code == 0, result.stderr
    assert "50 of 11,000,000 rows" in result.stdout
    (conversion,) = folder.glob("converted-*")
    (conversion / "x.f32").write_bytes(b"damaged")
    verified = set_data("verify", "higgs")  # the text is here: it is converted again
    assert (verified.exit_code, verified.stdout.startswith("higgs: imported; 50 / 0 / 0 rows of 28")) == (0, True)


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
def test_a_single_file_that_is_nothing_is_not_imported(name: str, set_data: SetData, tmp_path: Path) -> None:
    for content in (bytes(range(250)) * 4, idx(np.zeros((3, 28, 27), np.uint8))):
        (tmp_path / name).write_bytes(content)
        result = set_data("import", "mnist", str(tmp_path / name), "--unverified")
        assert (result.exit_code, len(result.stderr.splitlines())) == (3, 1)
        assert status(set_data, "mnist") == "missing"


def test_data_without_labels_is_no_data_for_an_mlp(
    dna: Card, set_data: SetData, tmp_path: Path, compose: Compose
) -> None:
    set_data("import", "dna", str(tmp_path / "dna.npz"))
    config = compose("dataset=dna", "model=mlp", f"data.dir={tmp_path}/data")
    with pytest.raises(
        NotApplicable, match=r"dna: the copies .* no labels.* use model=rbm, or take the labelled files in"
    ):
        check_pair(config)
    for split, name in {"train": "dna.scale.tr", "valid": "dna.scale.val", "test": "dna.scale.t"}.items():
        (tmp_path / name).write_bytes(svmlight(SIZES[split]))
        assert set_data("import", "dna", str(tmp_path / name), "--unverified").exit_code == 0
    check_pair(config)
    data = load_data(with_checksum(config).dataset, config.data)
    assert (data.origin, data.train.x.shape, set(data.train.labels)) == ("imported", (30, 180), {0, 1, 2})


def test_a_damaged_file_of_the_form_with_labels_is_found_too(dna: Card, set_data: SetData, tmp_path: Path) -> None:
    set_data("import", "dna", str(tmp_path / "dna.npz"))
    (tmp_path / "dna.scale.t").write_bytes(svmlight(SIZES["test"]))
    taken = set_data("import", "dna", str(tmp_path / "dna.scale.t"), "--unverified")
    assert "dna is now verified" in taken.stdout
    (tmp_path / "data/dna/dna.scale.t").write_bytes(b"1 1:1\n")
    assert status(set_data, "dna") == "damaged"
    fetched = set_data("fetch", "dna")  # it has no checksum to be fetched by: that is said, not success
    assert (fetched.exit_code, "dna.scale.t: sha256 is" in fetched.stderr) == (3, True)


def test_an_import_of_some_files_says_what_is_still_missing(dna: Card, set_data: SetData, tmp_path: Path) -> None:
    (tmp_path / "dna.scale.tr").write_bytes(svmlight(SIZES["train"]))
    taken = set_data("import", "dna", str(tmp_path / "dna.scale.tr"), "--unverified")
    assert "dna is now missing; still missing: dna.scale.val, dna.scale.t" in taken.stdout


def test_a_damaged_list_of_imports_is_written_anew(dna: Card, set_data: SetData, tmp_path: Path) -> None:
    (tmp_path / "mine.npz").write_bytes(made(seed=1))
    set_data("import", "dna", str(tmp_path / "mine.npz"), "--unverified")
    (tmp_path / "data/dna/imported.json").write_text("{}}")
    assert status(set_data, "dna") == "damaged"
    assert set_data("import", "dna", str(tmp_path / "mine.npz"), "--unverified").exit_code == 0
    assert status(set_data, "dna") == "imported"


def test_training_images_are_not_imported_as_test_images(set_data: SetData, tmp_path: Path) -> None:
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(np.zeros((10_001, 28, 28), np.uint8)))
    result = set_data("import", "mnist", str(tmp_path / "t10k-images-idx3-ubyte"), "--unverified")
    assert (result.exit_code, "expected at most 10,000 rows, found 10,001" in result.stderr) == (3, True)


def test_labels_that_nobody_publishes_with_a_checksum_are_not_fetched(dna: Card, set_data: SetData) -> None:
    result = set_data("fetch", "dna", "--labels")
    assert (result.exit_code, "no form with labels can be fetched" in result.stderr) == (2, True)


def test_the_cards_are_the_catalogues() -> None:
    page = runpy.run_path(str(ROOT / "tools/data_cards.py"))["page"]
    for card in CATALOG.values():
        written = (ROOT / "datasets" / f"{card.name}.md").read_text()
        assert written == page(card), "run `make cards`"
        assert written.endswith(card_text(card))
        assert "do not edit" in written.splitlines()[0]
    index = (ROOT / "datasets/README.md").read_text()
    for name in DATASETS:
        assert f"({name}.md)" in index
        assert (ROOT / "datasets" / f"{name}.md").exists()


def test_the_catalogue_is_consistent() -> None:
    for card in CATALOG.values():
        if card.shape is not None:
            assert int(np.prod(card.shape)) == card.features
        if card.paper is not None:
            assert card.paper == (card.train, card.test)
        assert card.bundled or any(form.can_be_fetched for form in card.forms), card.name
        for form in card.forms:
            assert not form.labels or card.classes
            _check_files(form)
    assert len([card for card in CATALOG.values() if card.paper]) == 15


def _check_files(form: Form) -> None:
    lengths = {"sha256": 64, "md5": 32, "git-sha1": 40}
    for file in form.files:
        for digest in (file.content, file.packed):
            assert digest is None or len(bytes.fromhex(digest.value)) * 2 == lengths[digest.algorithm]
        assert not file.urls or file.urls[0].endswith(Path(file.published).name)


def test_set_data_answers_without_torch(tmp_path: Path) -> None:
    program = "import sys; sys.modules['torch'] = None; from set_cli.commands.data import main; main()"
    for arguments in (["--version"], ["--help"], ["import", "--help"], ["list"], ["show", "dna"]):
        result = run_python("-c", program, *arguments, folder=tmp_path)
        assert result.returncode == 0, result.stderr
    assert set_cli.__version__ in run_python("-c", program, "--version", folder=tmp_path).stdout
    assert list(tmp_path.iterdir()) == []  # looking makes nothing


def test_a_sweep_over_all_sets_skips_what_the_model_cannot_learn(set_train: Command, tmp_path: Path) -> None:
    result = set_train(
        "-m", "dataset=nips,digits,custom", "train.epochs=1", "data.fetch=never", "backend.threads=1", "progress=none"
    )
    assert result.returncode == 0, result.stderr
    assert "sweep of 3: 2 skipped, 1 done" in result.stdout
    assert "nips has no labels, which this model needs; use model=rbm" in result.stdout


def test_a_sweep_fails_where_the_users_own_table_has_no_labels(set_train: Command, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 2, (40, 6)).astype(np.uint8)
    np.savez(tmp_path / "own.npz", x_train=rows, x_test=rows[:9])
    result = set_train(
        "-m",
        "dataset=custom",
        "dataset.path=own.npz",
        "model=mlp,rbm",
        "train.epochs=1",
        "model.hidden=[9]",
        ONE_THREAD,
    )
    assert (result.returncode, "sweep of 2: 1 failed (exit code 2), 1 done" in result.stdout) == (1, True), (
        result.stderr
    )
    assert "own.npz has no array y (or labels, target), and this model needs a class for every row" in result.stderr


def test_offline_a_run_says_what_is_missing_where_and_how_to_get_it(set_train: Command, tmp_path: Path) -> None:
    result = set_train("dataset=dna", "model=rbm", "data.fetch=never", "progress=none")
    (sentence,) = result.stderr.splitlines()
    assert result.returncode == 3
    for part in ("dna.npz", str(tmp_path / "datasets/dna"), "`set-data fetch dna`", "`set-data import dna FILE…`"):
        assert part in sentence
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("override", ["+sweep=paper15", "+experiment=dna_rbm"])
def test_a_data_set_beside_an_experiment_is_refused(override: str, set_train: Command) -> None:
    result = set_train("-m", override, "dataset=mnist")
    assert (result.returncode, "leave dataset out" in result.stderr) == (2, True)


def test_paper15_is_a_sweep_without_m_too(set_train: Command, tmp_path: Path) -> None:
    result = set_train("+sweep=paper15", "zeta=5")  # refused before anything is read, fifteen times
    assert result.returncode == 1
    assert "sweep of 15: 15 failed (exit code 2)" in result.stdout
    for card in CATALOG.values():
        assert not card.paper or f"+experiment={card.name}_{card.models[0]} " in result.stdout
