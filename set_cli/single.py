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
from set_cli.progress import make_view
from set_cli.runs.folder import already_done


def train_and_tell(config: Config, settings: Mapping[str, Any]) -> None:
    """Train, then print one sentence with the result and the folder."""
    outcome = run(config, settings, make_view(config.progress))
    print(already_done(outcome.path) if outcome.skipped else sentence(outcome.summary, outcome.path))


def sentence(summary: Mapping[str, Any], path: object) -> str:
    """What came out of a finished run."""
    final = summary["connections_final"]
    left = f", {final:,} after the last removal" if final != summary["connections"] else ""
    tested = "" if summary["tested_on"] == "test" else " (tested on held-out training rows)"
    return (
        f"done: {summary['method']} on {summary['dataset']}, test accuracy {summary['last']:.2f} % after the last "
        f"epoch{tested}, best on {summary['best_on']} {summary['best']:.2f} % (epoch {summary['best_epoch']}); "
        f"{summary['connections']:,} connections{left}; {summary['seconds_per_epoch']:.2f} s per epoch: {path}"
    )


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
