"""Every ending of a click command is one sentence on stderr and the exit code that the contract gives it."""

from __future__ import annotations

import pytest

from set_cli.commands.endings import one_sentence
from set_cli.errors import DataError
from set_cli.system.progress import note, say


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (DataError("a.csv: \x1b[31mempty"), 3, "set-x: a.csv: ?[31mempty\n"),
        (MemoryError(), 7, "set-x: out of memory; take less\n"),
        (KeyboardInterrupt(), 130, "\nset-x: interrupted; nothing was written\n"),
    ],
)
def test_an_ending_has_its_sentence_and_exit_code(
    error: BaseException, code: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        pytest.raises(SystemExit) as ending,
        one_sentence("set-x", interrupted="nothing was written", out_of_memory="take less"),
    ):
        raise error
    assert (ending.value.code, capsys.readouterr().err) == (code, sentence)


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), one_sentence("set-x"):
        raise ZeroDivisionError


def test_a_line_cannot_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say("runs/\x1b[31mred\n  \x9bnext\u202e")
    note("\x1b]0;owned\x07")
    assert (capsys.readouterr()) == ("runs/?[31mred\n  ?next?\n", "?]0;owned?\n")
