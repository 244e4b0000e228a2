"""Standard streams that are closed, full, without a reader, or of another encoding."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders import finished_run

SECURE = "from set_cli.system.standard_streams import *; secure_streams(); import sys, os; "


def in_shell(program: str, streams: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    command = f"exec {sys.executable} -P -c '{program}' {streams}"
    return subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, timeout=60)


@pytest.mark.parametrize("streams", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_a_file_does_not_take_the_place_of_a_closed_stream(streams: str, tmp_path: Path) -> None:
    """Else what a library prints to descriptor 1 or 2 goes into a checkpoint."""
    program = 'print("x"); print("x", file=sys.stderr); f = open("file", "w"); os.write(1, b"x"); os.write(2, b"x"); '
    program += "sys.stdin.read(); sys.exit(f.fileno() < 3 or code_of_output())"
    result = in_shell(SECURE + program, f"{streams} < /dev/null" if "<" not in streams else streams, tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.parametrize(
    ("streams", "code", "told"),
    [
        ("> /dev/full", 6, b"stdout: not all that was printed could be written (No space left on device)\n"),
        ("> /dev/full 2>&1", 6, b""),
        ("2> /dev/full", 0, b""),
        ("| true", 0, b""),
    ],
)
def test_what_could_not_be_written_is_told(streams: str, code: int, told: bytes, tmp_path: Path) -> None:
    program = 'print("x" * 100000); print("y", file=sys.stderr) if "2" in sys.argv else 0; sys.exit(code_of_output())'
    result = in_shell(SECURE + program, ("2 " if streams.startswith("2") else "") + streams, tmp_path)
    assert (result.returncode, result.stderr) == (code, told)


def test_a_reader_that_is_gone_is_told_nothing(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    program = [sys.executable, "-P", "-c", SECURE + 'print("x"); sys.exit(code_of_output())']
    result = subprocess.run(program, cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, timeout=60)
    os.close(writing)
    assert (result.returncode, result.stderr) == (1, b"")


def test_a_file_that_may_not_grow_ends_nothing(tmp_path: Path) -> None:
    program = 'print("x" * 100000); print("alive", file=sys.stderr); sys.exit(code_of_output())'
    result = in_shell(
        f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (9, 9)); {SECURE}{program}", "> out", tmp_path
    )
    assert (result.returncode, (tmp_path / "out").read_bytes()) == (6, b"x" * 9)
    assert result.stderr.startswith(b"alive\nstdout: not all that was printed could be written (File too large)")


def test_a_pipe_that_does_not_wait_is_waited_for(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    program = [sys.executable, "-P", "-c", SECURE + 'print("x" * 1000000); sys.exit(code_of_output())']
    with subprocess.Popen(program, cwd=tmp_path, stdout=writing) as process:
        os.close(writing)
        with os.fdopen(reading, "rb") as stream:
            assert stream.read() == b"x" * 1000000 + b"\n"
    assert process.returncode == 0


@pytest.mark.parametrize(("encoding", "printed"), [("ascii", rb"\u03b5 \udcff"), ("latin-1", rb"\u03b5 \udcff")])
def test_a_character_that_the_stream_lacks_is_escaped(encoding: str, printed: bytes, tmp_path: Path) -> None:
    program = [sys.executable, "-P", "-c", SECURE + 'print("\u03b5 " + os.fsdecode(b"\\xff"))']
    variables = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "1"}
    assert (
        subprocess.run(program, cwd=tmp_path, env=variables, stdout=subprocess.PIPE, timeout=60).stdout.strip()
        == printed
    )


# --- the commands


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run to report."""
    folder = tmp_path_factory.mktemp("here")
    finished_run(folder / "runs", 0, 70, 71)
    return folder


COMMANDS = {
    "train": ["--help", "--version"], "report": ["", "--help", "--format=json"], "predict": ["--help"],
    "data": ["list", "show digits"], "bench": ["--version"],
}  # fmt: skip


@pytest.mark.parametrize(("name", "words"), [(name, words) for name, listed in COMMANDS.items() for words in listed])
def test_a_command_whose_output_is_lost_says_so(name: str, words: str, runs: Path) -> None:
    program = f"import set_cli.commands.{name} as c; c.main()"
    found = {streams: in_shell(program, f"{words} {streams}", runs) for streams in ("", "> /dev/full", ">&-", "2>&-")}
    assert not any(b"Traceback" in result.stderr + result.stdout for result in found.values())
    code = found[""].returncode
    assert found["> /dev/full"].returncode == (code or 6)
    assert found[">&-"].returncode == found["2>&-"].returncode == code
    if code == 0:
        assert found["> /dev/full"].stderr.endswith(b"could be written (No space left on device)\n")
        assert found["2>&-"].stdout == found[""].stdout


def test_a_bug_is_told_where_stdout_is_full(tmp_path: Path) -> None:
    program = 'import click, set_cli.commands.endings as e; c = e.Command("x", callback=lambda: 1 / 0); c.main([])'
    result = in_shell(program, "> /dev/full", tmp_path)
    assert (result.returncode, b"ZeroDivisionError" in result.stderr) == (1, True)
