"""What Hydra composes of the command line: one run, or the runs of a sweep; the only module that speaks to Hydra."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from set_cli.commands.hydra_defaults import plain
from set_cli.commands.hydra_launcher import offer_launcher
from set_cli.commands.hydra_received import refuse_packages
from set_cli.commands.hydra_words import count_runs, in_shell, quoted_if_needed
from set_cli.config import Config, flatten, from_mapping, known_keys, scientific
from set_cli.config.guesses import not_a_key, option_meant
from set_cli.errors import ConfigError, Interrupted
from set_cli.sweeps.folder import SweepFolder
from set_cli.sweeps.launch import NOTHING_HEARD, Kind, Launcher, StopSweep, dry_run, single_run, sweep_run
from set_cli.sweeps.side_by_side import SideBySide, settled
from set_cli.system.machine import started_together
from set_cli.system.progress import note
from set_cli.system.signals import StopSignals
from set_cli.system.standard_streams import secure_streams
from set_cli.training.pairs import check_pair, data_label, with_checksum

LAUNCHERS: dict[str, Kind] = {
    "sidebyside": "side_by_side",
    "submitit_launcher.locallauncher": "submitit_local",
    "submitit_launcher.slurmlauncher": "submitit_slurm",
}
PAPER = "paper"  # the recipe that nobody has to name
OTHER_PRIMARY = ("--config-name", "--config-path")
SETTLED = (
    "hydra.run.dir=.", "hydra.sweep.dir=${oc.env:SET_SWEEP_FOLDER}", "hydra.sweep.subdir=${hydra.job.num}",
    "hydra.output_subdir=null", "hydra.job.name=set-train", "hydra.job.chdir=false",
    "hydra/hydra_logging=disabled", "hydra/job_logging=disabled",
)  # fmt: skip
SHOWN_ELSEWHERE = (
    "epsilon", "zeta", "seed", "dataset.name", "dataset.checksum", "dataset.test_checksum", "model.name", "method.name",
)  # fmt: skip


def compose_and_run(
    command: list[str], arguments: list[str], stop: StopSignals, sweep: SweepFolder, *, dry: bool
) -> int | None:
    """Let Hydra compose the configuration of each run and call the task with it; the number of runs, if it is known.

    command    as it was typed, for the record
    arguments  the same without its first word, as Hydra finds them in sys.argv
    dry        only note what would be done, in the sweep's folder

    ConfigError where what was typed cannot be composed; for a single run the errors of set_cli.errors.
    """
    runs = count_runs(arguments)
    refuse_packages(arguments)
    sys.argv.extend(_settled(arguments))
    offer_launcher()
    task = Task(command, dry, stop, runs, sweep)
    # Hydra then raises what it finds wrong instead of printing it and exiting with 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        try:
            hydra.main(version_base="1.3", config_path="pkg://set_cli.conf", config_name="train")(task)()
        finally:
            task.wait()
    except StopSweep:
        return runs
    except SystemExit as ending:  # Hydra's own, once it has said what is wrong
        raise SystemExit(ConfigError.exit_code if ending.code else 0) from None
    except (Interrupted, ConfigError):  # the latter: a file that says to Hydra what it may not
        raise
    except Exception as error:
        if not sweep.has_started():  # nothing of ours: what was typed cannot be composed
            if stop.received is not None:  # Hydra makes new exceptions of those that pass through it
                stop.check("nothing was started")
            if isinstance(error, MissingConfigException):
                raise ConfigError(_unknown_option(error)) from None
            raise ConfigError(_composition_error(error, arguments)) from None
        if stop.received is None:  # a launcher gave up over a run that died; the others are still at work
            note(f"set-train: {_lines(error, 1)}")
        sweep.wait_for_others()
    if task.failures:
        if isinstance(task.failures[0], OmegaConfBaseException):  # which it makes of a signal that passes through it
            stop.check("nothing was started")
        raise task.failures[0]
    return runs


class Task:
    """What Hydra calls with every composed configuration: here, or in the processes that a launcher starts."""

    def __init__(self, command: list[str], dry: bool, stop: StopSignals, runs: int | None, sweep: SweepFolder) -> None:
        self._command, self._dry, self._runs = command, dry, runs
        self._stop: StopSignals | None = stop
        self._sweep: SweepFolder | None = sweep
        self._others: SideBySide | None = None
        self.failures: list[Exception] = []

    def __getstate__(self) -> dict[str, Any]:
        own: dict[str, Any] = {
            "_stop": None,
            "_sweep": None,
            "_others": None,
            "failures": [],
        }  # signals and errors are a process's own
        return self.__dict__ | own

    def wait(self) -> None:
        """Return when the runs that were started side by side have ended."""
        if self._others is not None:
            self._others.wait()
            self.failures += self._others.errors

    def __call__(self, composed: DictConfig) -> None:
        if self._stop is None:
            secure_streams()  # of a process that a launcher started
        try:
            in_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
            if self._sweep is not None and (in_sweep or self._dry):
                self._sweep.make()
            if self._dry:
                dry_run(_number(), _overrides(), lambda: _config(composed), in_sweep=in_sweep)
            elif in_sweep:
                if started_together():
                    raise ConfigError("torchrun trains one run on several processes: expected no sweep (-m)")
                self._run_of_sweep(composed)
            else:
                assert self._stop is not None
                self._stop.on_first = lambda number: None  # from here on the run looks at it between its steps
                config, settings = _checked(composed)
                single_run(config, settings, self._command, self._stop)
        except Exception as error:  # Hydra would print its own words about it; ours follow
            if self._stop is None:  # where nobody would see them
                raise
            self.failures.append(error)

    def _run_of_sweep(self, composed: DictConfig) -> None:
        """Train one run, or begin to where others are trained at the same time.

        Raises StopSweep in the sweep's own process once no further run is to start.
        """
        sweep, elsewhere = SweepFolder.of_this_process(), self._stop is None
        launcher = _launcher(self._runs, elsewhere=elsewhere)
        number, overrides = _number(), _overrides()
        checked = settled(lambda: _checked(composed))  # here and now: Hydra has the configuration of one run at a time
        run = functools.partial(sweep_run, number, overrides, checked, self._command, launcher)
        if launcher.kind == "side_by_side":
            sweep.note(number, {"overrides": overrides, **NOTHING_HEARD})
            self._others = self._others or SideBySide(launcher.at_once)
            self._others.start(run)
        else:
            run()
        if not elsewhere and sweep.asked_to_stop() is not None:
            raise StopSweep


def _number() -> int:
    of_hydra = HydraConfig.get().job
    return 0 if OmegaConf.is_missing(of_hydra, "num") else of_hydra.num  # a single run has none


def _overrides() -> str:
    return " ".join(HydraConfig.get().overrides.task)


def _launcher(runs: int | None, *, elsewhere: bool) -> Launcher:
    """What starts the sweep's runs, by its class and settings."""
    asked: Mapping[str, Any] = HydraConfig.get().launcher
    target = str(asked.get("_target_", ""))
    kind: Kind = next((kind for word, kind in LAUNCHERS.items() if word in target.lower()), "basic")
    return Launcher(kind, int(asked.get("n_jobs", 1)), runs, elsewhere)


def _checked(composed: DictConfig) -> tuple[Config, dict[str, Any]]:
    config = _config(composed)
    return config, changed_settings(config, HydraConfig.get().runtime.choices.get("recipe") or PAPER)


def _config(composed: DictConfig) -> Config:
    """The checked configuration of a run that data set and model allow, with the checksum of the user's own data."""
    for group, option in HydraConfig.get().runtime.choices.items():
        if str(option).endswith((".yaml", ".yml")):  # Hydra takes it, and misses the settings of the pair
            name = str(option).rpartition(".")[0]
            raise ConfigError(f"{group}={option} is a file: expected the option's name, {group}={name}")
    config = from_mapping(plain(composed))
    check_pair(config)
    return with_checksum(config)


def changed_settings(config: Config, recipe: str = PAPER) -> dict[str, Any]:
    """What differs from the defaults of this data set, model, method and recipe, by the names one types."""
    choices = {
        "dataset": config.dataset.name, "model": config.model.name, "method": config.method.name, "recipe": recipe
    }  # fmt: skip
    defaults = from_mapping(
        plain(hydra.compose(config_name="train", overrides=[f"{key}={value}" for key, value in choices.items()]))
    )
    default_values, values = flatten(scientific(defaults)), flatten(scientific(config))
    everything = flatten(config.model_dump(mode="json"))
    # A key that only a recipe sets has no place among the scientific ones where it was typed as it would be without.
    values |= {key: everything[key] for key in default_values if key not in values and key in everything}
    settings = {
        key: value for key, value in values.items() if key not in SHOWN_ELSEWHERE and value != default_values.get(key)
    }
    if recipe != PAPER:
        settings["recipe"] = recipe
    dataset = config.dataset
    if dataset.checksum is not None:  # whose data it was belongs beside every number
        settings["data"] = f"{data_label(config)}:{dataset.checksum[:8]}"
    if dataset.test_path is not None and dataset.test_checksum is not None:
        settings["test_data"] = f"{Path(dataset.test_path).name}:{dataset.test_checksum[:8]}"
    return settings


def _settled(arguments: list[str]) -> list[str]:
    """What conf/train.yaml says of Hydra's folders and logs, as words: another file may be in its place."""
    if not any(argument.partition("=")[0] in OTHER_PRIMARY for argument in arguments):
        return []
    given = {argument.lstrip("+").partition("=")[0] for argument in arguments}
    return [word for word in SETTLED if word.partition("=")[0] not in given]


def _unknown_option(error: MissingConfigException) -> str:
    """'dataset/cifar' not found: name the group, the option, the options there are."""
    name = error.missing_cfg_file or ""
    group, _, option = name.rpartition("/") if name.startswith("hydra/") else name.partition("/")
    if not group or not error.options:
        return _lines(error, 1)
    names = ", ".join(error.options)
    if group == "hydra/launcher" and option.startswith("submitit_"):
        return f"{group}={option} is an extra: pip install 'set-cli[slurm]'"
    if group == "dataset" and Path(option).is_file():
        return (
            f"dataset={option} is a file; write dataset=custom {in_shell('dataset.path=' + quoted_if_needed(option))}"
        )
    return f"{group}={option} is not known: expected one of {names}{option_meant(group, option, error.options)}"


def _composition_error(error: Exception, arguments: list[str]) -> str:
    text = str(error)
    if text.startswith("Could not override"):
        key = text.split("'")[1]
        if key in known_keys():
            return f"{key} has no meaning for this data set, model or method (--cfg job lists the keys that have)"
        return not_a_key(key, known_keys())
    if text.startswith("Could not append to config. An item is already at"):
        key = text.split("'")[1]
        return f"+{key}: the key is there already; write {key}=… without +"
    if text.startswith("Ambiguous value for argument"):
        return f"{text.split(chr(39))[1]} has several values: add -m to sweep over them, or write a list as [a,b]"
    if "missing EQUAL" in text:
        return f"{text.splitlines()[0].removeprefix('Error parsing override ')}: expected key=value"
    return f"the command line cannot be composed: {_lines(error, 2)}"


def _lines(error: Exception, most: int) -> str:
    """The first lines of an error as one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "; ".join(lines[:most]) or type(error).__name__
