"""hydra/launcher=joblib: several runs of a sweep at once on this machine.

The option and n_jobs are those of Hydra's plugin of that name, which is not needed: it starts processes that compose
and wait for the runs, and that outlive a sweep which is killed. Here the sweep's own process does both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hydra._internal.core_plugins import basic_launcher
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn

from set_cli.errors import ConfigError


class SideBySideLauncher(basic_launcher.BasicLauncher):
    """Composes one run after the other; the task starts each beside those under way, and waits for a free place."""

    __module__ = basic_launcher.__name__  # Hydra takes launchers from packages of its own only

    def __init__(self, n_jobs: int) -> None:
        super().__init__()
        self._n_jobs = n_jobs

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        if self._n_jobs == 0:
            raise ConfigError("hydra.launcher.n_jobs=0: expected a number of runs, or -1 for one on each core")
        return super().launch(job_overrides, initial_job_idx)


@dataclass
class SideBySideConf:
    """The option joblib of the group hydra/launcher."""

    _target_: str = f"{basic_launcher.__name__}.SideBySideLauncher"
    n_jobs: int = -1


def offer_launcher() -> None:
    """Let Hydra know this launcher; in place of the plugin's, where that is installed."""
    basic_launcher.SideBySideLauncher = SideBySideLauncher  # type: ignore[attr-defined]
    Plugins.instance().register(SideBySideLauncher)
    ConfigStore.instance().store(group="hydra/launcher", name="joblib", node=SideBySideConf, provider="set_cli")
