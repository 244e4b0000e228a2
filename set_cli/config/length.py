"""What of a run depends on how many epochs it has, so that a longer run differs from its first epochs on."""

from __future__ import annotations

from set_cli.config.keys import Config


def epochs_between_estimates(ais_every: int | None, epochs: int) -> int:
    """Epochs between two estimates of log Z: as configured, else as many as make about 50 estimates in the run."""
    return ais_every or max(1, round(epochs / 50))


def tied_to_length(config: Config, epochs: int) -> list[str]:
    """Settings, as one types them, with which a run of so many epochs is no start of this one."""
    train, evolve, found = config.train, config.evolve, []
    if train.schedule != "constant":
        found.append(f"train.schedule={train.schedule}")
    if config.method.evolves and evolve.schedule != "constant":
        found.append(f"evolve.schedule={evolve.schedule}")
    if config.method.evolves and evolve.until < 1:
        found.append(f"evolve.until={evolve.until:g}")
    if config.method.evolves and evolve.epsilon_start is not None:
        found.append(f"evolve.epsilon_start={evolve.epsilon_start:g}")
    if config.method.evolves and evolve.density_start is not None:
        found.append(f"evolve.density_start={evolve.density_start:g}")
    if config.method.evolves and config.method.removal in ("soft", "relative_soft"):  # less at random towards the end
        found.append(f"method.removal={config.method.removal}")
    if config.data.augment.is_on and config.data.augment.until < 1:
        found.append(f"data.augment.until={config.data.augment.until:g}")
    ours, theirs = (epochs_between_estimates(config.model.ais_every, n) for n in (train.epochs, epochs))
    if "ais" in config.model.facts.keys and ours != theirs:
        found.append("model.ais_every=null")
    return found
