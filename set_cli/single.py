"""Train one run and say how it ended; also the child process of a sweep: `python -m set_cli.single`."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Mapping
from typing import Any

from set_cli.config import Config, from_mapping
from set_cli.errors import SetError
from set_cli.experiment import run
from set_cli.progress import make_view, result_line, say
from set_cli.runs.folder import already_done


def train_and_tell(config: Config, settings: Mapping[str, Any]) -> None:
    """Train, then print one sentence with the result and the folder."""
    outcome = run(config, settings, make_view(config.progress))
    say(already_done(outcome.path) if outcome.skipped else result_line(outcome.summary, outcome.path))


def main() -> int:
    """Child of a sweep: configuration and settings as JSON on stdin, the ending as the exit code and on stderr."""
    request = json.load(sys.stdin)
    try:
        train_and_tell(from_mapping(request["config"]), request["settings"])
    except SetError as error:
        print(f"set-train: {error}", file=sys.stderr)
        return error.exit_code
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
