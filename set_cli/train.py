"""set-train: train one run, or a sweep of runs.

set-train                                                      SET-MLP on the bundled digits
set-train dataset=cifar10 model=mlp                            the paper's experiment
set-train -m dataset=mnist method=set,fixprob,dense seed=0,1,2
"""

from __future__ import annotations

import functools
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Mapping
from typing import Any, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

import set_cli
from set_cli.config import Config, did_you_mean, flatten, from_mapping, known_keys, scientific
from set_cli.data.pairs import check_pair, data_label, with_checksum
from set_cli.errors import NOT_APPLICABLE, ConfigError, NotApplicable, SetError
from set_cli.interrupts import StopSignals
from set_cli.progress import say, silence_stdout
from set_cli.runs.folder import already_done, locate
from set_cli.single import train_and_tell
from set_cli.sweep import FOLDER_VARIABLE, NOT_STARTED, SKIPPED, note, outcome_word, print_outcomes, run_in_child

RERUN = "--experimental-rerun"
FOLDERS_OF_HYDRA = re.compile(r"[+~]*hydra\.(run|sweep|output_subdir|job\.chdir)\b")
EXPERIMENT, PAIR = re.compile(r"\++(experiment|sweep)="), re.compile(r"\+*(dataset|model)(\.name)?=")
SHOWN_ELSEWHERE = ("epsilon", "zeta", "seed", "dataset.name", "dataset.checksum", "model.name", "method.name")


def main() -> None:
    """The command; exits with the codes of set_cli.errors."""
    if "--version" in sys.argv[1:]:
        print(f"set-train {set_cli.__version__}")
        return
    code = _guarded(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        silence_stdout()
    sys.exit(code)


def _guarded(arguments: list[str]) -> int:
    """Run Hydra and turn every ending into an exit code and one sentence."""
    try:
        _refuse_switches(arguments)
        with StopSignals() as stop, tempfile.TemporaryDirectory(prefix="set-sweep-") as folder:
            os.environ[FOLDER_VARIABLE] = folder
            try:
                _compose_and_train(stop)
            finally:
                sweep_code = print_outcomes(folder)
            return sweep_code if stop.received is None else 128 + stop.received
    except SetError as error:
        return _fail(str(error), error.exit_code)
    except BrokenPipeError:  # Hydra's own output into `| head`
        silence_stdout()
        return 1
    except Exception as error:
        traceback.print_exc()
        return _fail(f"a bug ({type(error).__name__}): please report the traceback above", 1)


def _fail(sentence: str, exit_code: int) -> int:
    print(f"set-train: {sentence}", file=sys.stderr)
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


def _compose_and_train(stop: StopSignals) -> None:
    """Let Hydra compose and call the job: once, or for every combination of a sweep."""
    failures: list[Exception] = []

    def job(composed: DictConfig) -> None:
        try:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                _job_of_sweep(composed, stop)
            else:
                _train(_config(composed), stop)
        except Exception as error:  # Hydra would print its own words about it; ours follow
            failures.append(error)

    # Hydra then raises what it finds wrong instead of printing it and exiting with 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        hydra.main(version_base="1.3", config_path="pkg://set_cli.conf", config_name="train")(job)()
    except BrokenPipeError:
        raise
    except MissingConfigException as error:
        raise ConfigError(_unknown_option(error)) from None
    except Exception as error:  # nothing of ours: what was typed cannot be composed
        raise ConfigError(_composition_error(error)) from None
    if failures:
        raise failures[0]


def _train(config: Config, stop: StopSignals) -> None:
    path, status = locate(config)
    if status == "done":
        say(already_done(path))
    else:
        train_and_tell(config, _settings(config), sys.argv, stop)


def _job_of_sweep(composed: DictConfig, stop: StopSignals) -> None:
    """Train in a child process and note how it ended; whatever goes wrong costs this run only."""
    noted = functools.partial(note, HydraConfig.get().job.num, " ".join(HydraConfig.get().overrides.task))
    try:
        config = _config(composed)
        path, status = locate(config)
        if stop.received is not None:
            noted(str(path), NOT_STARTED, 0)
        elif status == "done":
            say(already_done(path))
            noted(str(path), "already done", 0)
        else:
            exit_code = run_in_child(config, _settings(config), sys.argv, stop)
            if exit_code == NOT_APPLICABLE:
                noted("see above", SKIPPED, 0)
            else:
                noted(str(path), outcome_word(exit_code), exit_code)
    except NotApplicable as error:
        noted(str(error), SKIPPED, 0)
    except SetError as error:
        noted(str(error), f"failed (exit code {error.exit_code})", error.exit_code)
    except Exception as error:
        traceback.print_exc()
        noted(f"a bug ({type(error).__name__})", "failed (exit code 1)", 1)


def _config(composed: DictConfig) -> Config:
    """The checked configuration of a run that data set and model allow, with the checksum of the user's own data."""
    config = from_mapping(_plain(composed))
    check_pair(config)
    return with_checksum(config)


def _plain(composed: DictConfig) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], OmegaConf.to_container(composed, resolve=False))


def _settings(config: Config) -> dict[str, Any]:
    """What differs from the defaults of this data set, model and method, by the names one types."""
    choices = {"dataset": config.dataset.name, "model": config.model.name, "method": config.method.name}
    defaults = from_mapping(
        _plain(hydra.compose(config_name="train", overrides=[f"{key}={value}" for key, value in choices.items()]))
    )
    default_values = flatten(scientific(defaults))
    settings = {
        key: value
        for key, value in flatten(scientific(config)).items()
        if key not in SHOWN_ELSEWHERE and value != default_values.get(key)
    }
    if config.dataset.checksum is not None:  # whose data it was belongs beside every number
        settings["data"] = f"{data_label(config)}:{config.dataset.checksum[:8]}"
    return settings


def _unknown_option(error: MissingConfigException) -> str:
    """'dataset/cifar' not found: name the group, the option, the options there are."""
    name = error.missing_cfg_file or ""
    group, _, option = name.rpartition("/") if name.startswith("hydra/") else name.partition("/")
    if not group or not error.options:
        return _lines(error, 1)
    names = ", ".join(error.options)
    return f"{group}={option} is not known: expected one of {names}{did_you_mean(option, error.options)}"


def _composition_error(error: Exception) -> str:
    text = str(error)
    if text.startswith("Could not override"):
        key = text.split("'")[1]
        if key in known_keys():
            return f"{key} has no meaning for this data set, model or method (--cfg job lists the keys that have)"
        names = known_keys() + sorted({name.partition(".")[0] for name in known_keys()})
        return f"{key} is not a configuration key{did_you_mean(key, names)} (set-train --cfg job lists them)"
    if text.startswith("Ambiguous value for argument"):
        return f"{text.split(chr(39))[1]} has several values: add -m to sweep over them, or write a list as [a,b]"
    if "missing EQUAL" in text:
        return f"{text.splitlines()[0].removeprefix('Error parsing override ')}: expected key=value"
    return f"the command line cannot be composed: {_lines(error, 2)}"


def _lines(error: Exception, most: int) -> str:
    """The first lines of an error as one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "; ".join(lines[:most]) or type(error).__name__
