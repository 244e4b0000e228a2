"""Train one run and say how it ended; also the child process of a sweep: `python -m set_cli.sweeps.process`."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from set_cli.config import Config, from_mapping
from set_cli.errors import NOT_APPLICABLE, TIME_IS_UP, NotApplicable, SetError, TimeIsUp
from set_cli.runs.folder import already_done
from set_cli.runs.lines import result_lines
from set_cli.sweeps.child import LONGEST
from set_cli.system.machine import prepare_for_torch
from set_cli.system.progress import make_view, note, say
from set_cli.system.signals import NOT_STARTED, StopSignals
from set_cli.system.standard_streams import secure_streams


def train_and_tell(
    config: Config, settings: Mapping[str, Any], command: list[str], stop: StopSignals, *, in_sweep: bool = False
) -> None:
    """Train, then say what came out, and of a run by itself what to do next: a sweep says that once for all runs."""
    stop.check(NOT_STARTED)
    prepare_for_torch()
    with stop.at_once(NOT_STARTED):
        # torch takes over a second to import: a refusal or a signal comes first
        from set_cli.experiment import run

    outcome = run(config, settings, command, make_view(config.progress), stop)
    if outcome.skipped and outcome.summary:
        say(already_done(outcome.path))
    elif outcome.summary:
        lines = result_lines(outcome.summary, outcome.path, config.runs_dir)
        if in_sweep:
            lines.pop()
            lines[-1] += f"; {outcome.path}" if config.progress == "none" else ""  # else its title names it
        say("\n".join(lines))


def main() -> int:
    """Child of a sweep: the request as a line of JSON on stdin, the ending as exit code, on stderr and as answer."""
    secure_streams()
    with StopSignals() as stop:
        for number in (signal.SIGUSR1, signal.SIGUSR2):  # Slurm tells all of a job that it will be moved: its affair
            signal.signal(number, signal.SIG_IGN)
        line = sys.stdin.readline()
        if not line:  # the parent was killed before it asked for anything
            return 1
        request = json.loads(line)
        threading.Thread(target=_end_with_parent, daemon=True).start()
        try:
            train_and_tell(
                from_mapping(request["config"]), request["settings"], request["command"], stop, in_sweep=True
            )
        except SetError as error:
            note(f"set-train: {error}")
            _answer(request["answer"], str(error))
            kinds = {NotApplicable: NOT_APPLICABLE, TimeIsUp: TIME_IS_UP}
            return next((code for kind, code in kinds.items() if isinstance(error, kind)), error.exit_code)
        except Exception as error:
            traceback.print_exc()
            _answer(request["answer"], f"a bug ({type(error).__name__}: {error})")
            return 1
    return 0


def _answer(descriptor: int, sentence: str) -> None:
    """Tell the parent how this ended, for the sweep's table."""
    with suppress(OSError):  # nobody waits for it any more
        os.write(descriptor, sentence.encode(errors="replace")[:LONGEST])


def _end_with_parent() -> None:
    """The parent holds the other end of stdin for as long as it lives; a run that nobody waits for is in the way of
    the same command given again."""
    os.read(sys.stdin.fileno(), 1)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
