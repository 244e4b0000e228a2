"""A command line as people type it, made into one that Hydra takes.

Hydra 1.3 wants its flags before the words key=value, and answers an unknown flag with its usage. Here flags come first,
values are spelt as its grammar has them (spelling.py), and what is neither flag nor word gets one sentence.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from hydra._internal.utils import get_args_parser

from set_cli.commands.hydra_words import GROUPS, KEYS, in_shell, quoted_if_needed, spelt
from set_cli.config.guesses import NEAR, meaning, nearest
from set_cli.errors import ConfigError

OPTIONS = {option: group for group in reversed(GROUPS) for option in KEYS[f"{group}.name"].choices}
FLAG_WORDS = {"sweep": "-m", "multi": "-m", "usage": "--help", "show_config": "--cfg job", "print_config": "--cfg job"}
PRINTS = ("--cfg", "--info", "--hydra-help", "--shell-completion")
DASHES = "\u2013\u2014\u2212"  # en dash, em dash and minus: what a text processor makes of - and --


@dataclass(frozen=True, slots=True)
class CommandLine:
    """flags  Hydra's, each with its value; words  key=value, as Hydra's grammar has them."""

    flags: list[str]
    words: list[str]
    help: bool
    dry_run: bool

    @property
    def arguments(self) -> list[str]:
        return self.flags + self.words

    @property
    def sweeps(self) -> bool:
        return "--multirun" in self.flags or any(word.startswith("hydra.mode=") for word in self.words)

    @property
    def only_prints(self) -> bool:
        """Whether nothing is to be trained."""
        return self.dry_run or any(flag.partition("=")[0] in PRINTS for flag in self.flags)


def understand(arguments: Sequence[str]) -> CommandLine:
    """What was typed after `set-train`; ConfigError, in one sentence, where nobody could say what is meant."""
    if list(arguments) == ["help"]:
        return CommandLine([], [], help=True, dry_run=False)
    flags, words = _sorted(arguments)
    asked = {"help": flags.pop("help"), "dry_run": flags.pop("dry_run")}
    if not flags.get("shell_completion") and not asked["help"]:  # whose words are Hydra's, or not all there yet
        sweeps = bool(flags["multirun"]) or any(word.startswith(("+", "hydra.mode=")) for word in words)
        _refuse_blanks(words)
        words = [spelt(word, sweeps) for word in words]
        _refuse_twice(words, sweeps)
    return CommandLine(_as_typed(flags), words, help=bool(asked["help"]), dry_run=bool(asked["dry_run"]))


# Hydra 1.4 sorts flags and words itself (PR 3133): `_sorted` then needs to look for unknown flags only.
def _sorted(arguments: Sequence[str]) -> tuple[dict[str, object], list[str]]:
    """Hydra's flags by name, and the words, in whatever order they were typed."""
    parser = get_args_parser()
    parser.add_argument("--dry-run", action="store_true")
    parser.error = _refuse  # type: ignore[method-assign]
    known = [name for action in parser._actions for name in action.option_strings]
    prepared = []
    for argument, following in zip(arguments, [*arguments, ""][1:], strict=True):
        if argument[:1] in DASHES and argument:
            raise ConfigError(f"{argument}: starts with a dash that is not a hyphen; write {_with_hyphens(argument)}")
        if argument.startswith("-") and argument.partition("=")[0] not in known:
            _refuse_key_as_flag(argument, following, known)
        # Its value may be left out: it is then not to take the next word for it.
        takes_none = argument in ("--info", "-i") and ("=" in following or not following)
        prepared.append("--info=all" if takes_none else argument)
    found, unknown = parser.parse_known_intermixed_args(prepared)
    if unknown:
        _refuse_flag(unknown[0], known)
    flags = vars(found)
    return flags, flags.pop("overrides")


def _as_typed(flags: dict[str, object]) -> list[str]:
    given = [(f"--{name.replace('_', '-')}", value) for name, value in flags.items()]
    return [flag if value is True else f"{flag}={value}" for flag, value in given if value not in (None, False)]


def _refuse(message: str) -> NoReturn:
    raise ConfigError(f"{message.removeprefix('argument ')} (set-train --help, --hydra-help)")


def _with_hyphens(argument: str) -> str:
    name = argument.lstrip(DASHES + "-")
    return f"-{name}" if len(name) < 2 else f"--{name}"


def _refuse_key_as_flag(argument: str, following: str, known: Sequence[str]) -> None:
    """ConfigError for `--epochs 3`: other programs have flags for what are keys here."""
    flag, equals, value = argument.partition("=")
    name = flag.lstrip("-").replace("-", "_")
    if len(name) < 2 or any(len(flag) > 3 and option.startswith(flag) for option in known):
        return
    value = value if equals else following if following and "=" not in following[1:] and following[0] != "-" else "…"
    if name in FLAG_WORDS:
        raise ConfigError(f"{flag} is not an option; did you mean {FLAG_WORDS[name]}?")
    near = nearest(flag, [option for option in known if option.startswith("--")], NEAR)
    meant = meaning(name, KEYS)
    if meant and " " in meant[0]:
        raise ConfigError(f"{flag} is not an option; {meant[0]}")
    if meant and (near is None or name in {key.rpartition(".")[2] for key in meant} | set(meant)):
        raise ConfigError(f"{flag} is not an option; write {' or '.join(f'{key}={value}' for key in meant)}")


def _refuse_flag(argument: str, known: Sequence[str]) -> NoReturn:
    flag = argument.partition("=")[0]
    near = nearest(flag, [option for option in known if option.startswith("--")], NEAR - 0.1)
    raise ConfigError(f"{flag} is not an option" + (f"; did you mean {near}?" if near else " (set-train --help)"))


def _refuse_blanks(words: Sequence[str]) -> None:
    """ConfigError for `epsilon = 5`, and for other words that are not key=value."""
    for number, word in enumerate(words):
        before, after = (words[i] if 0 <= i < len(words) else "" for i in (number - 1, number + 1))
        if ("=" not in word and after.startswith("=")) or (word.endswith("=") and after and "=" not in after):
            value = after.removeprefix("=") or (words[number + 2] if number + 2 < len(words) else "…")
            raise ConfigError(f"{word} {after}: expected no blanks around =; write {word.rstrip('=')}={value}")
        if word.startswith("=") or ("=" not in word and not word.startswith("~") and not before.endswith("=")):
            raise ConfigError(_about_bare(word))


def _about_bare(word: str) -> str:
    """The sentence for a word without key: `set-train digits`, `set-train wine.csv`."""
    name, colon, value = word.partition(":")
    if colon and (name in KEYS or name in GROUPS):
        return f"{word}: expected key=value; write {name}={value.strip() or '…'}"
    if word in KEYS or word in GROUPS:
        return f"{word!r}: expected key=value; write {word}=…"
    groups = {OPTIONS.get(option) for option in word.split(",")}
    if len(groups) == 1 and (group := groups.pop()):
        return f"{word}: expected key=value; did you mean {'-m ' if ',' in word else ''}{group}={word}?"
    if word and os.path.exists(word):
        value = f"dataset=custom {in_shell(f'dataset.path={quoted_if_needed(word)}')}" if os.path.isfile(word) else ""
        return f"{word}: expected key=value; did you mean {value or f'runs_dir={word}'}?"
    if option := nearest(word, OPTIONS, NEAR):
        return f"{word}: expected key=value; did you mean {OPTIONS[option]}={option}?"
    return f"{word!r}: expected key=value (set-train --help lists the keys)"


def _refuse_twice(words: Sequence[str], sweeps: bool) -> None:
    names = [word.partition("=")[0] for word in words]
    for name in names:
        if sweeps and names.count(name) > 1 and (name in KEYS or name in GROUPS):
            raise ConfigError(f"{name}: given twice; write all values of a sweep once, as {name}=a,b")
