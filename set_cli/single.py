"""Train one run and say how it ended; also the child process of a sweep: `python -m set_cli.single`."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Mapping
from typing import Any

from set_cli.config import Config, from_mapping
from set_cli.errors import SetError
from set_cli.interrupts import StopSignals
from set_cli.progress import make_view, result_line, say
from set_cli.runs.folder import already_done


def train_and_tell(config: Config, settings: Mapping[str, Any], command: list[str], stop: StopSignals) -> None:
    """Train, then print one sentence with the result and the folder."""
    stop.check("nothing was begun")
    let_idle_threads_sleep()
    from set_cli.experiment import run  # torch takes over a second to import: a refusal or a signal comes first

    outcome = run(config, settings, command, make_view(config.progress), stop)
    say(already_done(outcome.path) if outcome.skipped else result_line(outcome.summary, outcome.path))


def let_idle_threads_sleep() -> None:
    """Have torch's OpenMP threads sleep soon while they wait, unless the user has said how they should wait.

    They would spin for milliseconds, which takes the cores from everybody else. Until after some 0.1 ms they still spin
    over the pauses within a training step (docs/benchmarks.md, "Waiting threads"). Read when torch is first imported.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def main() -> int:
    """Child of a sweep: the request as JSON on stdin, the ending as the exit code and on stderr."""
    with StopSignals() as stop:
        try:
            request = json.load(sys.stdin)
            train_and_tell(from_mapping(request["config"]), request["settings"], request["command"], stop)
        except SetError as error:
            print(f"set-train: {error}", file=sys.stderr)
            return error.exit_code
        except Exception:
            traceback.print_exc()
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
