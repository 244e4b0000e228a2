"""`set-report diff` of hostile runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from set_cli.errors import DataError
from set_cli.report.diff import compare_two
from set_cli.system.terminal import printable
from tests.builders import finished_run
from tests.hostile.payloads import CONTROLS, PAYLOADS
from tests.hostile.runs import HARMLESS, assert_no_control, hostile_runs, put_everywhere

# What waits for a pipe or reads a device waits for ever.
pytestmark = [pytest.mark.hostile, pytest.mark.timeout(120)]


@pytest.mark.parametrize("payload", [*PAYLOADS[:6], *CONTROLS])
def test_a_difference_of_two_hostile_runs_is_text(payload: str, tmp_path: Path) -> None:
    first, failed = hostile_runs(tmp_path, payload)
    second, _ = hostile_runs(tmp_path, HARMLESS, 1)
    for pair in ((first, second), (second, first), (first, first), (first, failed), (failed, second)):
        assert_no_control(compare_two(*pair))
    shown = compare_two(first, second)
    assert printable(f"{payload}(config key)") in shown
    assert printable(f"{payload}(package)") in shown


def test_a_difference_of_what_is_no_run_is_a_sentence(tmp_path: Path) -> None:
    run = put_everywhere(finished_run(tmp_path, 0, 70, 71), "x")
    for number, content in enumerate(("null", "1", '"x"', "[]", "{}", "[1]", "[[]]", '[{"packages": 1, "git": [{}]}]')):
        other = put_everywhere(finished_run(tmp_path / str(number), 0, 70, 71), "x")
        (other / "run.json").write_text(content)
        try:
            text = compare_two(run, other)
        except DataError as error:
            text = str(error)
        assert_no_control(text)
        assert "run.json" in text or "Environment" in text
