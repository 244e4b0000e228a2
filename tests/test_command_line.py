"""The command line as people type it: flags in any order, text with any letters, one sentence for what is neither."""

from __future__ import annotations

from pathlib import Path

import pytest

from set_cli.commands.hydra_arguments import understand
from set_cli.commands.hydra_words import spelt
from set_cli.errors import ConfigError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with some files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("a.csv", "b.csv", "wine (1).csv", "wine,v2.csv", "eps=5.csv", "2024", "{x}.csv", "a.csv,b (2).csv"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "arguments"),
    [
        ("dataset=digits -m seed=0,1", "--multirun dataset=digits seed=0,1"),
        ("seed=0,1 --multirun", "--multirun seed=0,1"),
        ("--multi seed=0,1", "--multirun seed=0,1"),
        ("dataset=digits --cfg job seed=3", "--cfg=job dataset=digits seed=3"),
        ("seed=3 --cfg=all --resolve", "--cfg=all --resolve seed=3"),
        ("dataset=digits -cd X epsilon=3", "--config-dir=X dataset=digits epsilon=3"),
        ("seed=1 --info defaults", "--info=defaults seed=1"),
        ("--info seed=1", "--info=all seed=1"),
        ("seed=1 -i", "--info=all seed=1"),
        ("-sc query=bash", "--shell-completion query=bash"),
        ("seed=1 --hydra-help", "--hydra-help seed=1"),
        ("-- seed=1", "seed=1"),
        ("", ""),
    ],
)
def test_flags_come_first_with_their_values(typed: str, arguments: str) -> None:
    assert understand(typed.split()).arguments == arguments.split()


@pytest.mark.parametrize("typed", ["--dry-run seed=1", "seed=1 --dry-run", "--dry seed=1"])
def test_a_dry_run_may_be_asked_for_anywhere(typed: str) -> None:
    found = understand(typed.split())
    assert (found.dry_run, found.arguments) == (True, ["seed=1"])


@pytest.mark.parametrize("typed", ["--help", "-h", "help", "seed=1 --help", "--hel"])
def test_help_may_be_asked_for_anywhere(typed: str) -> None:
    assert understand(typed.split()).help


REFUSED = [
    ("--epochs=3", "--epochs is not an option; write train.epochs=3"),
    ("--epochs 3", "--epochs is not an option; write train.epochs=3"),
    ("--lr 1e-2 seed=1", "--lr is not an option; write train.lr=1e-2"),
    ("-lr 0.1", "-lr is not an option; write train.lr=0.1"),
    ("-momentum=0.5", "-momentum is not an option; write train.momentum=0.5"),
    ("--seed 3", "--seed is not an option; write seed=3"),
    ("--batch-size 64", "--batch-size is not an option; write train.batch_size=64"),
    ("--train.epochs 3", "--train.epochs is not an option; write train.epochs=3"),
    ("--dataset mnist", "--dataset is not an option; write dataset=mnist"),
    ("--nesterov --seed 1", "--nesterov is not an option; write train.nesterov=…"),
    ("--clip 1", "--clip is not an option; write train.clip=1 or data.clip=1"),
    ("--gpu 0", "--gpu is not an option; backend=cuda computes on a GPU, backend=cpu on the CPU"),
    ("--adam", "--adam is not an option; train.optimizer=sgd, adam and adamw are the optimisers"),
    ("--help-me", "--help-me is not an option; did you mean --help?"),
    ("--dryrun", "--dryrun is not an option; did you mean --dry-run?"),
    ("--sweep seed=0,1", "--sweep is not an option; did you mean -m?"),
    ("-e 5", "-e is not an option (set-train --help)"),
    ("--frobnicate", "--frobnicate is not an option (set-train --help)"),
    ("-m5", "--multirun/-m: ignored explicit argument '5'"),
    ("--cfg jobs", "--cfg/-c: invalid choice: 'jobs'"),
    ("--cfg", "--cfg/-c: expected one argument"),
    ("\u2013m seed=0,1", "\u2013m: starts with a dash that is not a hyphen; write -m"),
    ("\u2014dry-run", "\u2014dry-run: starts with a dash that is not a hyphen; write --dry-run"),
    ("digits", "digits: expected key=value; did you mean dataset=digits?"),
    ("mnist mlp", "mnist: expected key=value; did you mean dataset=mnist?"),
    ("mnist,cifar10", "mnist,cifar10: expected key=value; did you mean -m dataset=mnist,cifar10?"),
    ("dataset=mnist rbm", "rbm: expected key=value; did you mean model=rbm?"),
    ("mnsit", "mnsit: expected key=value; did you mean dataset=mnist?"),
    ("a.csv", "a.csv: expected key=value; did you mean dataset=custom 'dataset.path=a.csv'?"),
    ("epsilon", "'epsilon': expected key=value; write epsilon=…"),
    ("epsilon = 5", "epsilon =: expected no blanks around =; write epsilon=5"),
    ("epsilon= 5", "epsilon= 5: expected no blanks around =; write epsilon=5"),
    ("epsilon =5", "epsilon =5: expected no blanks around =; write epsilon=5"),
    ("epsilon:5", "epsilon:5: expected key=value; write epsilon=5"),
    ("nonsense", "'nonsense': expected key=value (set-train --help lists the keys)"),
    ("-m seed=0,1 seed=2", "seed: given twice; write all values of a sweep once, as seed=a,b"),
]


@pytest.mark.parametrize(("typed", "sentence"), REFUSED)
def test_what_is_neither_flag_nor_word_is_refused_in_one_sentence(typed: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        understand(typed.split())
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("dataset.path=wine (1).csv", 'dataset.path="wine (1).csv"'),
        ("dataset.path=wine,v2.csv", 'dataset.path="wine,v2.csv"'),
        ("dataset.path=eps=5.csv", 'dataset.path="eps=5.csv"'),
        ("dataset.path={x}.csv", 'dataset.path="{x}.csv"'),
        ("dataset.path=2024", 'dataset.path="2024"'),
        ("dataset.path=a.csv", "dataset.path=a.csv"),
        ('dataset.path="wine (1).csv"', 'dataset.path="wine (1).csv"'),
        ("dataset.test_path=not there (yet).csv", 'dataset.test_path="not there (yet).csv"'),
        ("dataset.path=zürich.csv", 'dataset.path="zürich.csv"'),
        ('dataset.path=sa"id.csv', 'dataset.path="sa\\"id.csv"'),
        ("data.dir=C:\\data", "data.dir=C:\\data"),
        ("runs_dir=1e5", 'runs_dir="1e5"'),
        ("runs_dir=a = b", 'runs_dir="a = b"'),
        ("data.dir=null", "data.dir=null"),
        ("dataset.label=sepal length (cm)", 'dataset.label="sepal length (cm)"'),
        ("dataset.label=5", 'dataset.label="5"'),
        ("dataset.label=true", 'dataset.label="true"'),
        ("dataset.drop=id", "dataset.drop=[id]"),
        ("dataset.drop=[id,width (cm),3]", 'dataset.drop=[id,"width (cm)","3"]'),
        ("model.hidden=[300,300]", "model.hidden=[300,300]"),
        ("epsilon=5 ", "epsilon=5 "),
        ("lr=(", "lr=("),  # no key: what there is to say of it, the composition knows
    ],
)
def test_a_value_is_spelt_as_hydras_grammar_has_it(typed: str, wanted: str) -> None:
    assert spelt(typed, sweeps=False) == wanted


def test_a_path_at_home_is_found_there(folder: Path) -> None:
    assert spelt("dataset.path=~/x.csv", sweeps=False) == f"dataset.path={folder}/x.csv"
    assert spelt("dataset.path=~nobody-here/x.csv", sweeps=False) == 'dataset.path="~nobody-here/x.csv"'
    assert spelt("dataset.path=~/a.csv,~/b (1).csv", sweeps=True) == f'dataset.path={folder}/a.csv,"{folder}/b (1).csv"'


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("dataset.path=a.csv,b.csv", "dataset.path=a.csv,b.csv"),
        ("dataset.path=wine (1).csv,eps=5.csv", 'dataset.path="wine (1).csv","eps=5.csv"'),
        ("dataset.path=a.csv,b (2).csv", 'dataset.path="a.csv,b (2).csv"'),  # there is a file of exactly this name
        ("model.hidden=[100],[200,100]", "model.hidden=[100],[200,100]"),
        ("train.class_weights=null,balanced", "train.class_weights=null,balanced"),
        ("train.class_weights=[1,2.5],balanced", "train.class_weights=[1,2.5],balanced"),
        ("seed=range(0,3)", "seed=range(0,3)"),
        ("dataset.label=1,b", 'dataset.label="1",b'),
    ],
)
def test_a_sweep_over_text_stays_one_unless_there_is_such_a_file(typed: str, wanted: str) -> None:
    assert spelt(typed, sweeps=True) == wanted


@pytest.mark.parametrize(
    ("typed", "sweeps", "sentence"),
    [
        (
            "dataset.path=nope,v2.csv",
            False,
            "dataset.path=nope,v2.csv has several values: add -m to sweep over them; a name with a comma is "
            "'dataset.path=\"nope,v2.csv\"'",
        ),
        ("model.hidden=100,100", False, "model.hidden=100,100: a list is written in brackets, model.hidden=[100,100]"),
        (
            "model.hidden=100,50",
            True,
            "model.hidden=100,50: write model.hidden=[100,50] for one list, or model.hidden=[100],[50] to sweep",
        ),
        ("train.class_weights=1,2", False, "train.class_weights=1,2: a list is written in brackets, train.cl"),
        ("train.class_weights=1,balanced", True, "train.class_weights=1,balanced: write train.class_weights=[1,bal"),
        ("train.class_weights=null,balanced", False, "train.class_weights=null,balanced has several values: add -m"),
        ("model.hidden=100x50", False, "model.hidden=100x50: expected a list of whole numbers ≥ 1 (neurons); write"),
        ("model.hidden=(100, 50)", False, "model.hidden=(100, 50): expected a list of whole numbers ≥ 1 (neurons)"),
        ("model.hidden=[100,", False, "model.hidden=[100,: expected a list of whole numbers ≥ 1 (neurons), such"),
        ("dataset.drop=id,name", False, "dataset.drop=id,name: a list is written in brackets, dataset.drop=[id,name]"),
        ("epsilon=5,", True, "epsilon=5,: expected a number > 0; several, for a sweep with -m, are epsilon=a,b"),
        ("epsilon=0,5", False, "epsilon=0,5 has several values: add -m to sweep over them; a decimal number has"),
        ("train.epochs=3)", False, "train.epochs=3): expected a whole number ≥ 1 (epochs)"),
        ("dataset=mnist,cifar10", False, "dataset=mnist,cifar10 has several values: add -m to sweep over them"),
        ("model=[300,300]", False, "model=[300,300]: expected one of mlp, cnn, rbm"),
        ("seed=range(0,3)", False, "seed=range(0,3) has several values: add -m to sweep over them"),
        ("dataset.name=mnist", False, "dataset.name=mnist would keep the settings of another dataset; write d"),
    ],
)  # fmt: skip
def test_a_value_that_means_nothing_is_refused_in_one_sentence(typed: str, sweeps: bool, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        spelt(typed, sweeps=sweeps)
    assert str(caught.value).startswith(sentence)
