"""set-train: train one run, or a sweep of runs.

set-train                                                      SET-MLP on the bundled digits
set-train dataset=cifar10 model=mlp                            the paper's experiment
set-train -m dataset=mnist method=set,fixprob,dense seed=0,1,2
"""

from __future__ import annotations

import functools
import os
import re
import secrets
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import set_cli
from set_cli.errors import ConfigError, Interrupted, SetError
from set_cli.sweeps.child import kill_children
from set_cli.sweeps.folder import PREFIX, VARIABLE, SweepFolder, remove_abandoned
from set_cli.sweeps.table import print_forecasts, print_outcomes
from set_cli.system.files import storage_errors
from set_cli.system.signals import StopSignals
from set_cli.system.standard_streams import code_of_output, secure_streams
from set_cli.system.terminal import printable

RERUN, VERSION = "--experimental-rerun", "--version"
NARROWEST, WIDEST = 60, 100  # columns of the help
FOLDERS_OF_HYDRA = re.compile(r"[+~]*hydra\.(run|sweep|output_subdir|job\.chdir)\b")
LAUNCHER = re.compile(r"hydra[/.]launcher\b")
EXPERIMENT, PAIR = re.compile(r"\++(experiment|sweep)="), re.compile(r"\+*(dataset|model)(\.name)?=")


def main() -> None:
    """The command; exits with the codes of set_cli.errors."""
    secure_streams()
    if any(len(word) > 5 and VERSION.startswith(word) for word in sys.argv[1:]):
        print(f"set-train {set_cli.__version__}")
        sys.exit(code_of_output())
    sys.exit(_guarded())


def _guarded() -> int:
    """Run Hydra and turn every ending into an exit code and one sentence."""
    command = list(sys.argv)
    try:
        with StopSignals() as stop:
            _refuse_switches(command[1:])
            with stop.at_once("nothing was started"):
                from set_cli.commands.hydra_arguments import understand  # Hydra takes a third of a second to import
                from set_cli.commands.hydra_defaults import default_values

            typed = understand(command[1:])
            if typed.help:
                print(_help(default_values(typed.words)))
                return code_of_output()
            with stop.at_once("nothing was started"):
                from set_cli.commands.hydra_compose import compose_and_run
            dry, arguments = typed.dry_run, typed.arguments
            if dry:  # nobody else's machine is asked for something that is not to be done
                arguments = [word for word in arguments if not LAUNCHER.match(word)]
            sys.argv[1:] = arguments  # where Hydra looks for them
            with _sweep_folder(command, needed=dry or typed.sweeps) as sweep:
                stop.on_first, stop.before_exit = functools.partial(_stop, sweep), functools.partial(_kill, sweep)
                runs = None
                try:
                    runs = compose_and_run(command, arguments, stop, sweep, dry=dry)
                finally:
                    stop.on_first = lambda number: None
                    outcomes = sweep.outcomes()
                    code = print_forecasts(outcomes) if dry else print_outcomes(outcomes, runs, stop.received)
            lost = code_of_output()
            if code == 0 and typed.only_prints:
                code = lost
            # A single run that a signal did not reach in time is done.
            return code if stop.received is None or not outcomes else 128 + stop.received
    except SetError as error:
        return _fail(str(error), error.exit_code)
    except Exception as error:
        traceback.print_exc()
        return _fail(f"a bug ({type(error).__name__}): please report the traceback above", 1)


def _help(defaults: Mapping[str, Any]) -> str:
    from set_cli.config.reference import help_text

    return help_text(defaults, min(max(shutil.get_terminal_size().columns, NARROWEST), WIDEST))


def _stop(sweep: SweepFolder, number: int) -> None:
    """Stop the runs of a sweep that received a signal. Before the first has started there is nothing to wait for."""
    sweep.ask_to_stop(number)
    if not sweep.has_started():
        raise Interrupted(number, f"interrupted by {signal.Signals(number).name}; nothing was started")


def _kill(sweep: SweepFolder) -> None:
    """End the runs of a sweep at once, wherever they are."""
    sweep.ask_to_die()
    kill_children()


@contextmanager
def _sweep_folder(command: list[str], *, needed: bool) -> Iterator[SweepFolder]:
    """Folder in which the processes of a sweep meet; it is on the file system that the machines of a cluster share.

    needed  whether this is a sweep; else the folder is made when it turns out to be one
    """
    on_other_machines = any(LAUNCHER.match(word) and "submitit" in word for word in command)
    with storage_errors(Path(tempfile.tempdir or "temporary folder")):
        parent = Path.cwd() if on_other_machines else Path(tempfile.gettempdir())
    path = parent / f"{PREFIX}{secrets.token_hex(8)}"
    os.environ[VARIABLE] = str(path)
    sweep = SweepFolder(path)
    try:
        if needed:
            if not on_other_machines:  # whose jobs may live on
                remove_abandoned(parent)
            sweep.make()
        yield sweep
    finally:
        sweep.remove()


def _fail(sentence: str, exit_code: int) -> int:
    print(printable(f"set-train: {' '.join(sentence.splitlines())}"), file=sys.stderr)
    return exit_code


def _refuse_switches(arguments: list[str]) -> None:
    """Refuse what would execute a pickle, or have Hydra make folders of its own."""
    for argument in arguments:
        flag = argument.partition("=")[0]
        # argparse takes any unambiguous beginning of a flag
        if len(flag) > 2 and RERUN.startswith(flag):
            raise ConfigError(f"{RERUN} is not available: it executes the file it is given")
        if PAIR.match(argument) and any(map(EXPERIMENT.match, arguments)):
            raise ConfigError(f"{flag}: +experiment and +sweep choose data set and model; leave {flag} out, or them")
        if FOLDERS_OF_HYDRA.match(argument):
            raise ConfigError(f"{flag}: run folders are not Hydra's here; runs_dir=… says where they go")
