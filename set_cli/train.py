"""set-train: train one run, or a sweep of runs.

set-train                                                      SET-MLP on the bundled digits
set-train dataset=cifar10 model=mlp                            the paper's experiment
set-train -m dataset=mnist method=set,fixprob,dense seed=0,1,2
"""

from __future__ import annotations

import functools
import os
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
from set_cli.errors import ConfigError, SetError
from set_cli.runs.folder import already_done, locate
from set_cli.sweep import FOLDER_VARIABLE, note, print_outcomes, run_in_child

RERUN = "--experimental-rerun"
OPERATIONAL = ("epsilon", "zeta", "seed", "dataset.name", "model.name", "method.name")


def main() -> None:
    """The command; exits with the codes of set_cli.errors."""
    arguments = sys.argv[1:]
    if "--version" in arguments:
        print(f"set-train {set_cli.__version__}")
        return
    sys.exit(_guarded(arguments))


def _guarded(arguments: list[str]) -> int:
    """Run Hydra and turn every ending into an exit code and one sentence."""
    try:
        _refuse_rerun(arguments)
        with tempfile.TemporaryDirectory(prefix="set-sweep-") as folder:
            os.environ[FOLDER_VARIABLE] = folder
            _compose_and_train()
            return print_outcomes(folder)
    except SetError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted before training began", 130)
    except Exception as error:
        traceback.print_exc()
        return _fail(f"a bug ({type(error).__name__}): please report the traceback above", 1)


def _fail(sentence: str, exit_code: int) -> int:
    print(f"set-train: {sentence}", file=sys.stderr)
    return exit_code


def _refuse_rerun(arguments: list[str]) -> None:
    """Hydra's --experimental-rerun executes a pickle; argparse would take any unambiguous beginning of the flag."""
    for argument in arguments:
        flag = argument.partition("=")[0]
        if len(flag) > 2 and RERUN.startswith(flag):
            raise ConfigError(f"{RERUN} is not available: it executes the file it is given")


def _compose_and_train() -> None:
    """Let Hydra compose and call the job: once, or for every combination of a sweep."""
    failures: list[Exception] = []

    def job(composed: DictConfig) -> None:
        try:
            _job(composed)
        except Exception as error:  # Hydra would print its own words about it; ours follow
            failures.append(error)

    # Hydra then raises what it finds wrong instead of printing it and exiting with 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        hydra.main(version_base="1.3", config_path="pkg://set_cli.conf", config_name="train")(job)()
    except MissingConfigException as error:
        raise ConfigError(_unknown_option(error)) from None
    except Exception as error:  # nothing of ours: what was typed cannot be composed
        raise ConfigError(_composition_error(error)) from None
    if failures:
        raise failures[0]


def _job(composed: DictConfig) -> None:
    """Train what was composed; in a sweep note how it ended, and raise nothing."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        noted = functools.partial(note, HydraConfig.get().job.num, " ".join(HydraConfig.get().overrides.task))
        try:
            config = from_mapping(_plain(composed))
            run_in_child(config, _settings(config), noted)
        except SetError as error:
            noted(str(error), f"failed (exit code {error.exit_code})", error.exit_code)
        return
    config = from_mapping(_plain(composed))
    path, status = locate(config)
    if status == "done":
        print(already_done(path))
        return
    from set_cli.single import train_and_tell  # torch takes over a second to import; a refusal comes first

    train_and_tell(config, _settings(config))


def _plain(composed: DictConfig) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], OmegaConf.to_container(composed, resolve=False))


def _settings(config: Config) -> dict[str, Any]:
    """What differs from the defaults of this data set, model and method, by the names one types."""
    choices = {"dataset": config.dataset.name, "model": config.model.name, "method": config.method.name}
    defaults = from_mapping(
        _plain(hydra.compose(config_name="train", overrides=[f"{key}={value}" for key, value in choices.items()]))
    )
    default_values = flatten(scientific(defaults))
    return {
        key: value
        for key, value in flatten(scientific(config)).items()
        if key not in OPERATIONAL and value != default_values.get(key)
    }


def _unknown_option(error: MissingConfigException) -> str:
    """'dataset/cifar' not found: name the group, the option, the options there are."""
    group, _, option = (error.missing_cfg_file or "").partition("/")
    if not group or not error.options:
        return _first_line(error)
    names = ", ".join(error.options)
    return f"{group}={option} is not known: expected one of {names}{did_you_mean(option, error.options)}"


def _composition_error(error: Exception) -> str:
    line = _first_line(error)
    if line.startswith("Could not override"):
        key = line.split("'")[1]
        return f"{key} is not a configuration key{did_you_mean(key, known_keys())} (set-train --cfg job lists them)"
    return f"the command line cannot be composed: {line}"


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
