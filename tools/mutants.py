"""Change the code in one place after another, and see that tests notice.

    python tools/mutants.py [NAME ...] [--list] [--part K/N] [--tests "ARGUMENTS OF PYTEST"]

A mutant is a copy of the package with one small fault: a rule, a count, a column of the report, a refusal. It is
caught where at least one of its tests fails, and survives where all pass. The repository itself is not touched.

--part   every N-th of them from the K-th on, so that several processes share the work
--tests  these tests instead of the mutant's own, to find some that catch it

Exit code 0: every mutant was caught.
"""

from __future__ import annotations

import argparse
import compileall
import importlib
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parent.parent
COPIED = (
    "set_cli",
    "tests",
    "tools",
    "conf",
    "docs",
    "datasets",
    "pyproject.toml",
    "setup.py",
    "README.md",
    "Makefile",
)
FAILED, NO_ANSWER = 1, 70  # pytest's exit code where tests failed, and what stands for a fault of this tool
SECONDS = 300
# What the tests need beside the package: imported once, before the first mutant.
IMPORTED = (
    "torch", "torch.distributed", "scipy.stats", "scipy.sparse", "sklearn.datasets", "sklearn.neural_network", "pandas",
    "pydantic.main", "annotated_types", "omegaconf", "hydra.core.plugins", "rich.progress", "click",
    "hypothesis.strategies",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mutant:
    """A fault.

    file      in the package
    old, new  what stands there once, and what the fault makes of it
    tests     arguments of pytest: the tests that are there to notice it
    """

    name: str
    file: str
    old: str
    new: str
    tests: str


MUTANTS = (
    Mutant(
        "steps in one call: the rate of the first for all",
        "training/together.py",
        "rate_of(train, done + i, one_pass.steps)",
        "rate_of(train, done, one_pass.steps)",
        "tests/test_native_steps.py",
    ),
    Mutant(
        "steps in one call: past an evolution",
        "training/together.py",
        "left = min(left, every - done % every)",
        "left = min(left, every)",
        "tests/test_native_steps.py",
    ),
    Mutant(
        "steps in one call: rows of the first call for all",
        "training/together.py",
        "self._rows, one_pass.done)",
        "self._rows, 0)",
        "tests/test_native_steps.py",
    ),
    Mutant(
        "steps in one call: masks of the first call for all",
        "training/native_steps.py",
        "activation.draw(steps)",
        "activation.draw(0)",
        "tests/test_native_steps.py",
    ),
    Mutant(
        "steps in one call: output layer not written back",
        "training/native_steps.py",
        "            whole.copy_(ours.view(whole.shape[1], whole.shape[0]).t())\n",
        "            pass\n",
        "tests/test_native_steps.py",
    ),
    Mutant(
        "steps in one call: beside a gradient that is clipped",
        "training/together.py",
        "train.clip is not None or ",
        "",
        "tests/test_native_steps.py",
    ),
    Mutant(
        "steps in one call: hooks of parameters unseen",
        "training/together.py",
        "p._backward_hooks or p._post_accumulate_grad_hooks or ",
        "",
        "tests/test_native_steps.py",
    ),
    Mutant(
        "steps in one call: random steps of one batch for all",
        "training/contrastive.py",
        "        self._batches += batches\n",
        "        self._batches += 1\n",
        "tests/test_native_steps.py",
    ),
    Mutant(
        "pace: the slower number of threads",
        "training/pace.py",
        "is_faster = of_more < WORTH * of_fewer",
        "is_faster = of_more > WORTH * of_fewer",
        "tests/test_pace.py",
    ),
    Mutant(
        "pace: never compared again",
        "training/pace.py",
        "            if self._held > max(self._holds, self._spent / SHARE):\n",
        "            if False:\n",
        "tests/test_pace.py",
    ),
    Mutant(
        "evolution: same draws in every epoch",
        "training/evolution.py",
        '"evolve", epoch, i, *within)',
        '"evolve", 1, i, *within)',
        "tests/test_draws.py::test_connections_grow_elsewhere_in_every_layer_epoch_and_seed",
    ),
    Mutant(
        "evolution: same draws in every layer",
        "training/evolution.py",
        '"evolve", epoch, i, *within)',
        '"evolve", epoch, 0, *within)',
        "tests/test_draws.py::test_connections_grow_elsewhere_in_every_layer_epoch_and_seed",
    ),
    Mutant(
        "evolution: same draws for every seed",
        "training/evolution.py",
        'generator(config.seed, "evolve"',
        'generator(0, "evolve"',
        "tests/test_draws.py::test_connections_grow_elsewhere_in_every_layer_epoch_and_seed",
    ),
    Mutant(
        "evolution: last removal refilled",
        "training/evolution.py",
        "refill=due.refill",
        "refill=True",
        "tests/test_run.py::test_counts_before_and_after_the_last_removal",
    ),
    Mutant(
        "evolution: rule of the configuration ignored",
        "training/evolution.py",
        "= [method.removal] * len(turns)",
        '= ["signed"] * len(turns)',
        "tests/test_draws.py::test_the_rule_that_removes_is_the_configurations",
    ),
    Mutant(
        "evolution: regrowth of the configuration ignored",
        "training/evolution.py",
        "regrowth=method.regrowth,",
        'regrowth="random",',
        "tests/test_methods.py::test_a_method_keeps_the_number_of_connections_or_comes_to_it",
    ),
    Mutant(
        "evolution: what was removed is not in a checkpoint",
        "training/contents.py",
        'if f"{REMOVED}{name}/cells" in tensors:',
        "if not tensors:",
        "tests/test_methods.py::test_a_method_resumes_within_an_epoch_bit_for_bit",
    ),
    Mutant(
        "evolution: a method without a last removal has one",
        "training/schedules.py",
        'if is_final and evolve.final == "none":',
        'if is_final and evolve.final == "never":',
        "tests/test_methods.py::test_a_method_keeps_the_number_of_connections_or_comes_to_it",
    ),
    Mutant(
        "samples: an earlier batch counts as much as the latest",
        "training/samples.py",
        "MOMENTUM = 0.9",
        "MOMENTUM = 1.0",
        "tests/test_samples.py::test_gradients_are_those_of_the_loss",
    ),
    Mutant(
        "across: neurons that nothing reaches keep their connections",
        "sparse/across.py",
        "for at in range(1, len(views)):",
        "for at in range(1, 1):",
        "tests/test_across.py::test_a_neuron_that_reaches_nothing_loses_its_connections",
    ),
    Mutant(
        "evolution: counts of one layer only",
        "training/evolution.py",
        "pruned += evolution.pruned",
        "pruned = evolution.pruned",
        "tests/test_training.py::test_evolution_moves_the_momentum_of_every_layer",
    ),
    Mutant(
        "evolution: zeros not counted",
        "training/evolution.py",
        "zeros += evolution.zeros",
        "zeros += 0",
        "tests/test_draws.py::test_weights_of_zero_are_counted",
    ),
    Mutant(
        "evolution: connections counted after it",
        "training/evolution.py",
        "return Change(connections, pruned",
        "return Change(count_connections(model), pruned",
        "tests/test_run.py::test_counts_before_and_after_the_last_removal",
    ),
    Mutant(
        "removal: rounded instead of floored",
        "sparse/rules/removal.py",
        "math.floor(zeta * len(candidates))",
        "round(zeta * len(candidates))",
        "tests/test_evolve.py::test_a_seed_gives_the_same_topology_with_and_without_the_kernels",
    ),
    Mutant(
        "removal: the largest positive weights",
        "sparse/rules/removal.py",
        "for side in (weights > 0, weights < 0):",
        "for side in (weights > 0, weights > 0):",
        "tests/test_evolve.py::test_evolve_of_an_almost_full_layer_ends_with_the_exact_count",
    ),
    Mutant(
        "removal: zeros stay",
        "sparse/rules/removal.py",
        "keep = weights != 0",
        "keep = weights == weights",
        "tests/test_evolve.py::test_a_seed_gives_the_same_topology_with_and_without_the_kernels",
    ),
    Mutant(
        "regrowth: emptied cells never filled again",
        "sparse/rules/regrowth.py",
        "empty = view.cells - int(keep.sum())",
        "empty = view.cells - view.nnz",
        "tests/test_evolve.py::test_evolve_agrees_with_the_oracle",
    ),
    Mutant(
        "wiring: epsilon counts inputs only",
        "sparse/rules/wiring.py",
        "return epsilon * (n_in + n_out) / (n_in * n_out)",
        "return epsilon * n_in / (n_in * n_out)",
        "tests/test_sparse_linear.py::test_random_regrowth_is_normal_with_a_tenth",
    ),
    Mutant(
        "wiring: number of connections not random",
        "sparse/rules/wiring.py",
        "count = int(rng.binomial(site.n_in * site.n_out, site.density))",
        "count = round(site.n_in * site.n_out * site.density)",
        "tests/test_evolve.py::test_erdos_renyi_count_is_binomial_around_equation_1",
    ),
    Mutant(
        "evolution: momentum of removed connections inherited",
        "sparse/holders.py",
        "torch.where(source < 0, fresh, gather(whole(value), source))",
        "gather(whole(value), source)",
        "tests/test_sparse_linear.py::test_optimizer_state_follows_its_connections",
    ),
    Mutant(
        "age: a new connection is as old as the training",
        "sparse/holders.py",
        'fresh = state["step"].to(value) if name == BORN else 0',
        "fresh = 0",
        "tests/test_age.py",
    ),
    Mutant(
        "age: moments corrected by one step too many",
        "sparse/age.py",
        "age = step - state[BORN]",
        "age = step - state[BORN] + 1",
        "tests/test_age.py",
    ),
    Mutant(
        "age: old connections corrected as well",
        "sparse/age.py",
        "torch.where(state[BORN] > 0, wrong - right, 0)",
        "wrong - right * (1 + 1e-6)",
        "tests/test_age.py",
    ),
    Mutant(
        "schedule: the warm-up begins with a step of rate 0",
        "training/schedules.py",
        "train.lr * (step + 1) / warmup",
        "train.lr * step / warmup",
        "tests/test_rates.py",
    ),
    Mutant(
        "schedule: the warm-up is a part of the cosine",
        "training/schedules.py",
        "progress = (step - warmup) / (steps - warmup)",
        "progress = step / steps",
        "tests/test_rates.py",
    ),
    Mutant(
        "schedule: the rate of a pass that is resumed at its end",
        "training/schedules.py",
        "min(one_pass.steps_done, one_pass.steps - 1)",
        "one_pass.steps_done",
        "tests/test_rates.py",
    ),
    Mutant(
        "schedule: the rate by the steps of this start",
        "training/schedules.py",
        "(epoch - 1) * one_pass.steps + step",
        "step",
        "tests/test_rates.py",
    ),
    Mutant(
        "schedule: zeta is 0 one evolution too soon",
        "training/schedules.py",
        "min(1.0, before / last)",
        "min(1.0, done / last)",
        "tests/test_rates.py",
    ),
    Mutant(
        "evolution within an epoch: the counts of before a resume forgotten",
        "training/session.py",
        "Change.of_numbers(record.resume_from[EVOLVED]) if EVOLVED in record.resume_from else Change()",
        "Change()",
        "tests/test_rates.py",
    ),
    Mutant(
        "evolution within an epoch: the RBM computes with the connections of before",
        "training/contrastive.py",
        "            divergence.follow()\n",
        "",
        "tests/test_rates.py",
    ),
    Mutant(
        "density: connections fewer than zeta says are regrown",
        "sparse/evolve.py",
        "kept = min((1 - zeta) * connections, connections - LEAST_CONNECTIONS)",
        "kept = connections - LEAST_CONNECTIONS",
        "tests/test_density.py",
    ),
    Mutant(
        "average: a new connection's starts at 0",
        "training/averaging.py",
        "torch.where(source < 0, weight.detach(), state[AVERAGE])",
        "torch.where(source < 0, 0, state[AVERAGE])",
        "tests/test_averaging.py",
    ),
    Mutant(
        "average: its share by the steps of this epoch",
        "training/supervised.py",
        "averaging.begin_step((epoch - 1) * one_pass.steps + one_pass.steps_done)",
        "averaging.begin_step(one_pass.steps_done)",
        "tests/test_averaging.py",
    ),
    Mutant(
        "norm: a batch of a single row has a variance",
        "models/normalization.py",
        "records.BY_BATCH if self.training and n_batch > 1 else",
        "records.BY_BATCH if self.training else",
        "tests/test_native_normalization.py",
    ),
    Mutant(
        "norm: second derivatives without it",
        "models/stack.py",
        "        if step.norm.kind:\n",
        "        if False and step.norm.kind:\n",
        "tests/test_native_normalization.py",
    ),
    Mutant(
        "average: moving means of the weights themselves",
        "training/averaging.py",
        "        if isinstance(module, BatchNorm):\n",
        "        if False and isinstance(module, BatchNorm):\n",
        "tests/test_normalization.py",
    ),
    Mutant(
        "schedule: the early final removal is regrown",
        "training/schedules.py",
        'if evolve.final == "until" else epochs * steps',
        'if evolve.final == "never" else epochs * steps',
        "tests/test_rates.py",
    ),
    Mutant(
        "schedule: connections evolve after the end",
        "training/schedules.py",
        "done > last or done % every",
        "done % every",
        "tests/test_rates.py",
    ),
    Mutant(
        "evolution: random values are not small",
        "sparse/linear.py",
        "drawn = np.float32(regrow_deviation) *",
        "drawn = np.float32(1) *",
        "tests/test_sparse_linear.py::test_random_regrowth_is_normal_with_a_tenth",
    ),
    Mutant(
        "summary: best is the validation rows'",
        "runs/summary.py",
        '"best": best[f"test_{metric}"]',
        '"best": best[f"{best_on}_{metric}"]',
        "tests/test_summary.py::test_best_is_the_test_accuracy_of_the_epoch_that_is_best_on_validation_rows",
    ),
    Mutant(
        "summary: best epoch chosen on the test rows",
        "runs/summary.py",
        'best_on = "valid" if f"valid_{metric}" in rows[-1] else "test"',
        'best_on = "test"',
        "tests/test_summary.py::test_best_is_the_test_accuracy_of_the_epoch_that_is_best_on_validation_rows",
    ),
    Mutant(
        "summary: last is the first epoch's",
        "runs/summary.py",
        '"last": rows[-1][f"test_{metric}"]',
        '"last": rows[0][f"test_{metric}"]',
        "tests/test_summary.py::test_best_is_the_test_accuracy_of_the_epoch_that_is_best_on_validation_rows",
    ),
    Mutant(
        "summary: paused epochs are timed",
        "runs/summary.py",
        'timed = [row for row in timing if "paused" not in row] or timing',
        "timed = timing",
        "tests/test_summary.py::test_time_is_the_median_of_training_and_evolution_in_epochs_that_were_not_paused",
    ),
    Mutant(
        "summary: evolution not timed",
        "runs/summary.py",
        'row["train_seconds"] + row["evolve_seconds"]',
        'row["train_seconds"]',
        "tests/test_summary.py::test_time_is_the_median_of_training_and_evolution_in_epochs_that_were_not_paused",
    ),
    Mutant(
        "summary: memory of the last epoch",
        "runs/summary.py",
        'max(row["peak_memory_mb"] for row in timing)',
        'timing[-1]["peak_memory_mb"] / 2',
        "tests/test_summary.py::test_memory_is_the_largest_of_all_epochs",
    ),
    Mutant(
        "report: population deviation",
        "report/rows.py",
        "values.std(ddof=1)",
        "values.std(ddof=0)",
        "tests/test_report.py::test_means_deviations_and_the_difference_to_the_paper",
    ),
    Mutant(
        "report: mean of best under last",
        "report/rows.py",
        '"last_mean": float(frame["last"].mean())',
        '"last_mean": best_mean',
        "tests/test_report.py::test_means_deviations_and_the_difference_to_the_paper",
    ),
    Mutant(
        "report: deviation of best under last",
        "report/rows.py",
        '"last_std": _deviation(frame["last"])',
        '"last_std": _deviation(frame["best"])',
        "tests/test_report.py::test_means_deviations_and_the_difference_to_the_paper",
    ),
    Mutant(
        "report: connections after the end as those at the start",
        "report/rows.py",
        '"connections": round(frame["connections"].mean())',
        '"connections": round(frame["connections_final"].mean())',
        "tests/test_report.py::test_means_deviations_and_the_difference_to_the_paper",
    ),
    Mutant(
        "report: connections at the start as those after the end",
        "report/rows.py",
        'round(frame["connections_final"].mean())',
        'round(frame["connections"].mean())',
        "tests/test_report.py::test_means_deviations_and_the_difference_to_the_paper",
    ),
    Mutant(
        "report: mean of the times",
        "report/rows.py",
        'frame["seconds_per_epoch"].median()',
        'frame["seconds_per_epoch"].mean()',
        "tests/test_report.py::test_means_deviations_and_the_difference_to_the_paper",
    ),
    Mutant(
        "report: least memory",
        "report/rows.py",
        'frame["peak_memory_mb"].max()',
        'frame["peak_memory_mb"].min()',
        "tests/test_report.py::test_means_deviations_and_the_difference_to_the_paper",
    ),
    Mutant(
        "report: difference from the last epoch",
        "report/rows.py",
        "best_mean - paper.value",
        'float(frame["last"].mean()) - paper.value',
        "tests/test_report.py::test_means_deviations_and_the_difference_to_the_paper",
    ),
    Mutant(
        "report: repeated runs counted twice",
        "report/rows.py",
        'key = (run.group, run.summary["seed"])',
        'key = (str(run.path), run.summary["seed"])',
        "tests/test_report.py::test_a_seed_counts_once_and_the_copy_is_named",
    ),
    Mutant(
        "report: doubts not said",
        "report/rows.py",
        "    yield from map(str, doubts if isinstance(doubts, list) else [])\n",
        "",
        "tests/test_report.py::test_a_doubt_that_runs_share_is_said_once",
    ),
    Mutant(
        "report: parameters of the dense network",
        "report/rows.py",
        'round(frame["parameters"].mean())',
        'round(frame["dense_parameters"].mean())',
        "tests/test_report.py::test_means_deviations_and_the_difference_to_the_paper",
    ),
    Mutant(
        "training: same dropout mask in every layer",
        "training/supervised.py",
        '"dropout", epoch, i, *of_process',
        '"dropout", epoch, 0, *of_process',
        "tests/test_draws.py::test_dropout_masks_differ_between_layers_and_epochs",
    ),
    Mutant(
        "training: same dropout masks in every epoch",
        "training/supervised.py",
        '"dropout", epoch, i, *of_process',
        '"dropout", 1, i, *of_process',
        "tests/test_draws.py::test_dropout_masks_differ_between_layers_and_epochs",
    ),
    Mutant(
        "training: same augmentation in every epoch",
        "data/augment.py",
        'streams.generator(seed, "augment", epoch)',
        'streams.generator(seed, "augment", 1)',
        "tests/test_settings_act.py::test_rows_are_moved_anew_in_every_epoch",
    ),
    Mutant(
        "training: test rows augmented",
        "training/supervised.py",
        ("        x, y = inputs.batch(torch.arange(start, min(start + rows, len(inputs))))\n        logits = model(x)"),
        (
            "        numbers = torch.arange(start, min(start + rows, len(inputs)))\n"
            "        from set_cli.config import Augment\n"
            "        from set_cli.data.augment import draw_changes\n"
            "        augment = Augment(rotation=10, shift=0.1, flip=len(inputs.shape) > 1)\n"
            "        changes = draw_changes(augment, len(inputs), inputs.shape, 0, 1).of(numbers)\n"
            "        x, y = inputs.batch(numbers, changes)\n"
            "        logits = model(x)"
        ),
        "tests/test_draws.py::test_rows_are_measured_as_they_are",
    ),
    Mutant(
        "training: dropout on when measured",
        "training/supervised.py",
        ("    model.eval()\n    loss, hits"),
        ("    model.train()\n    loss, hits"),
        "tests/test_draws.py::test_rows_are_measured_as_they_are",
    ),
    Mutant(
        "training: L1 ignored",
        "training/supervised.py",
        ("        if train.l1:\n            add_l1"),
        ("        if False:\n            add_l1"),
        "tests/test_settings_act.py::test_it_changes_the_weights",
    ),
    Mutant(
        "training: weights of batches ignored in the loss",
        "training/supervised.py",
        "one_pass.add(loss.detach() * (len(rows) if share else 0))",
        "one_pass.add(loss.detach() * train.batch_size)",
        "tests/test_training.py::test_every_row_counts_once_in_the_loss",
    ),
    Mutant(
        "training: rows not shuffled",
        "training/passes.py",
        'torch.from_numpy(streams.generator(seed, "data", epoch).permutation(rows))',
        "torch.arange(rows)",
        "tests/test_draws.py::test_rows_come_in_another_order_in_every_epoch_and_seed",
    ),
    Mutant(
        "training: same order in every epoch",
        "training/passes.py",
        'streams.generator(seed, "data", epoch)',
        'streams.generator(seed, "data", 1)',
        "tests/test_draws.py::test_rows_come_in_another_order_in_every_epoch_and_seed",
    ),
    Mutant(
        "training: last partial batch dropped",
        "training/passes.py",
        "while self.done < len(self):",
        "while self.done + self._batch_size <= len(self):",
        "tests/test_training.py::test_last_partial_batch_is_used",
    ),
    Mutant(
        "optimiser: biases decayed",
        "training/optimizer.py",
        '{"params": others, "weight_decay": 0.0}',
        '{"params": others, "weight_decay": config.weight_decay}',
        "tests/test_training.py::test_weight_decay_is_on_connection_weights_only",
    ),
    Mutant(
        "optimiser: convolutions not decayed",
        "training/optimizer.py",
        "for layer in (*layers, *convolutions(model))",
        "for layer in layers",
        "tests/test_cnn.py::test_weight_decay_is_on_convolutions_and_connections_only",
    ),
    Mutant(
        "optimiser: nesterov ignored",
        "training/optimizer.py",
        "        nesterov=bool(config.nesterov),\n",
        "        nesterov=False,\n",
        "tests/test_settings_act.py::test_it_changes_the_weights",
    ),
    Mutant(
        "extend: from after the final removal",
        "runs/extend.py",
        "file = run.path / PREVIOUS",
        'file = run.path / "checkpoint.npz"',
        "tests/test_extend.py::test_an_extended_run_has_the_bits_of_a_long_one",
    ),
    Mutant(
        "extend: a schedule goes unnoticed",
        "config/length.py",
        'if train.schedule != "constant":',
        "if False:",
        "tests/test_extend.py::test_what_no_run_is_the_start_of_is_refused",
    ),
    Mutant(
        "extend: any shorter run",
        "runs/extend.py",
        "if _but_for_epochs(found) == _but_for_epochs(scientific(config)) and asked",
        "if asked",
        "tests/test_extend.py::test_only_a_shorter_run_that_is_equal_otherwise_is_extended",
    ),
    Mutant(
        "patience: as good is better",
        "training/patience.py",
        "if score > self._best:",
        "if score >= self._best:",
        "tests/test_patience.py::test_it_ends_when_no_score_was_better",
    ),
    Mutant(
        "patience: an early end is refilled",
        "training/session.py",
        "ends=self.ends and step == self._steps,",
        "ends=False,",
        "tests/test_patience.py::test_a_run_ends_early_in_order",
    ),
    Mutant(
        "patience: an RBM's last epoch is measured as any other",
        "training/session.py",
        "is_last=self._patience.is_due(epoch)",
        "is_last=False",
        "tests/test_patience.py::test_an_rbms_last_epoch_is_estimated_as_the_last_one",
    ),
    Mutant(
        "optimiser: AdamW is Adam",
        "training/optimizer.py",
        'decoupled_weight_decay=config.optimizer == "adamw"',
        "decoupled_weight_decay=False",
        "tests/test_optimizers.py::test_updates_are_torchs_with_decay_on_connections_only",
    ),
    Mutant(
        "optimiser: Adam's ages forgotten",
        "training/optimizer.py",
        "if config.has_ages and weights:",
        "if False:",
        "tests/test_settings_act.py::test_it_changes_the_weights_with_adam",
    ),
    Mutant(
        "optimiser: Adam at the rate of SGD",
        "config/keys.py",
        '"adam": {"lr": 0.001}',
        '"adam": {"lr": 0.01}',
        "tests/test_optimizers.py::test_each_optimiser_has_values_of_its_own",
    ),
    Mutant(
        "RBM: visible biases start at 0",
        "models/rbm.py",
        "return RBM(layer, log_odds(mean, rows),",
        "return RBM(layer, 0 * log_odds(mean, rows),",
        "tests/test_rbm.py::test_visible_biases_start_at_the_log_odds_of_the_training_rows",
    ),
    Mutant(
        "RBM: log-odds of raw means",
        "models/rbm.py",
        "(mean.astype(np.float64) * rows + SMOOTHING / 2) / (rows + SMOOTHING)",
        "mean.astype(np.float64).clip(1e-6, 1 - 1e-6)",
        "tests/test_rbm.py::test_log_odds_of_what_never_happens_are_finite",
    ),
    Mutant(
        "RBM: same draws in every epoch",
        "training/contrastive.py",
        'streams.torch_seed(config.seed, "rbm", epoch)',
        'streams.torch_seed(config.seed, "rbm", 1)',
        "tests/test_rbm.py::test_persistent_chains_learn_and_are_kept",
    ),
    Mutant(
        "RBM: chains not kept",
        "training/contrastive.py",
        "            model.chains.copy_(h)\n",
        "            pass\n",
        "tests/test_rbm.py::test_contrastive_divergence_goes_from_side_to_side_as_written_down",
    ),
    Mutant(
        "RBM: values not drawn anew",
        "training/contrastive.py",
        "x if inputs.is_binary else divergence.sampler.values(x)",
        "x if inputs.is_binary else x.round()",
        "tests/test_rbm.py::test_persistent_chains_learn_and_are_kept",
    ),
    Mutant(
        "RBM: best epoch not estimated again",
        "training/trainers.py",
        '-scores[self._best_on]["free_energy"] - partition.log_z > self._best',
        "False",
        "tests/test_rbm.py::test_an_epoch_that_seems_the_best_is_estimated_as_the_last_one_is",
    ),
    Mutant(
        "data: constant features divided by a small number",
        "data/scaling.py",
        "where=spread.deviation > 0)",
        "where=spread.deviation >= 0)",
        "tests/test_data.py::test_digits_are_bundled",
    ),
    Mutant(
        "data: sample deviation",
        "data/scaling.py",
        "return _Spread(mean, np.sqrt(variance / len(train)), furthest)",
        "return _Spread(mean, np.sqrt(variance / (len(train) - 1)), furthest)",
        "tests/test_scaling.py::test_the_spread_is_that_of_numpy_on_ordinary_values",
    ),
    Mutant(
        "augmentation: every row flipped",
        "data/augment.py",
        "rng.random(rows) < 0.5",
        "rng.random(rows) < 1.5",
        "tests/test_augment.py::test_flip_mirrors_left_to_right",
    ),
    Mutant(
        "augmentation: shift in pixels",
        "data/augment.py",
        "2 * right * width / (width - 1)",
        "2 * right / (width - 1)",
        "tests/test_augment.py::test_draws_stay_within_what_was_asked",
    ),
    Mutant(
        "augmentation: the edge of a reflected border repeated",
        "data/augment.py",
        "return (size - 1) - ((size - 1) - at.abs()).abs()",
        "return (at.abs() - (at < 0).long()).clamp(max=size - 1)",
        "tests/test_augment.py::test_a_crop_is_a_part_of_torchs_reflected_image",
    ),
    Mutant(
        "augmentation: squares within the image only",
        "data/augment.py",
        "rng.integers(0, size, (rows, 2)) - side // 2",
        "rng.integers(0, size - side + 1, (rows, 2))",
        "tests/test_augment.py::test_cutout_blanks_a_square_around_any_pixel",
    ),
    Mutant(
        "augmentation: never ends",
        "training/augmentation.py",
        "return max(1, math.floor(until * epochs + ROUNDING))",
        "return epochs",
        "tests/test_augmented_runs.py::test_augmentation_ends_where_it_is_asked_to",
    ),
    Mutant(
        "mixup: labels as they were",
        "training/augmentation.py",
        "MixedLabels(y[places], shares)",
        "MixedLabels(y, shares)",
        "tests/test_augmented_runs.py::test_parts_of_a_batch_are_mixed_as_the_whole_is",
    ),
    Mutant(
        "loss: labels smoothed when measured",
        "training/supervised.py",
        "loss += cross_entropy(logits, y).item()",
        "loss += cross_entropy(logits, y, 0.2).item()",
        "tests/test_augmented_runs.py::test_the_training_loss_is_what_is_minimised_and_others_are_plain",
    ),
    Mutant(
        "class weights: rows drawn in the order of the file",
        "training/class_weights.py",
        "rng.permutation(len(labels))",
        "np.arange(len(labels))",
        "tests/test_class_weights.py::test_all_rows_of_a_class_have_their_turn_in_company_that_changes",
    ),
    Mutant(
        "split: held-out rows trained on too",
        "data/split.py",
        "    return part[~taken], part[taken]\n",
        "    return part, part[taken]\n",
        "tests/test_split.py::test_rows_stay_in_the_order_of_the_file_and_none_is_lost",
    ),
    Mutant(
        "split: drawn with the run's time",
        "data/split.py",
        "np.random.default_rng([SPLIT_SEED, STREAMS[key]])",
        "np.random.default_rng()",
        "tests/test_split.py::test_the_draw_is_the_same_every_time_and_whatever_the_validation_rows",
    ),
    Mutant(
        "split: first rows as the last",
        "data/split.py",
        "return part[:-count], part[-count:]",
        "return part[count:], part[:count]",
        "tests/test_split.py::test_last_is_a_cut_from_the_end",
    ),
    Mutant(
        "counts: convolutions without biases",
        "models/counts.py",
        'layer["convolution_weights"] + layer["biases"] for layer',
        'layer["convolution_weights"] for layer',
        "tests/test_cnn.py::test_the_dense_network_has_exactly_the_papers_parameters",
    ),
    Mutant(
        "counts: SReLU's parameters left out",
        "models/counts.py",
        'extra = sums["biases"] + sums["activation_parameters"]',
        'extra = sums["biases"]',
        "tests/test_models.py::test_connections_are_the_papers",
    ),
    Mutant(
        "counts: indices left out",
        "models/counts.py",
        "sum(buffer.numel() * buffer.element_size() for buffer in layer.buffers())",
        "0",
        "tests/test_run.py::test_bytes_are_those_of_weights_indices_and_momentum",
    ),
    Mutant(
        "record: other data accepted",
        "runs/starts.py",
        "    if before != checksums:\n",
        "    if False:\n",
        "tests/test_data_command.py::test_an_interrupted_run_does_not_go_on_with_other_data",
    ),
    Mutant(
        "record: other scaling accepted",
        "runs/starts.py",
        "if before is not None and not before.agrees_with(inputs):",
        "if False:",
        "tests/test_trained.py::test_a_run_that_resumes_must_scale_its_rows_as_before",
    ),
    Mutant(
        "record: checkpoint of the epoch before",
        "training/record.py",
        ("        epoch = self.epoch + 1\n        self._checkpoint(epoch)"),
        ("        epoch = self.epoch + 1\n        self._checkpoint(self.epoch)"),
        "tests/test_run.py::test_checkpoints_within_epochs_come_in_their_time",
    ),
    Mutant(
        "table: last under best",
        "report/tables.py",
        '_column("best", lambda row: _with_deviation(row, "best")',
        '_column("best", lambda row: _with_deviation(row, "last")',
        "tests/test_report.py::test_means_deviations_and_the_difference_to_the_paper",
    ),
    Mutant(
        "table: connections at the start under final",
        "report/tables.py",
        '_column("final", lambda row: f"{row[\'connections_final\']:,}"',
        '_column("final", lambda row: f"{row[\'connections\']:,}"',
        "tests/test_report.py::test_means_deviations_and_the_difference_to_the_paper",
    ),
    Mutant(
        "table: connections in place of parameters",
        "report/tables.py",
        "100 * row['parameters'] / row['dense_parameters']",
        "100 * row['connections'] / row['dense_parameters']",
        "tests/test_report.py::test_means_deviations_and_the_difference_to_the_paper",
    ),
    Mutant(
        "table: paper's value under difference",
        "report/tables.py",
        "f\"{row['difference']:+.2f}\"",
        "f\"{row['paper']:+.2f}\"",
        "tests/test_report.py::test_formats_hold_the_same_numbers",
    ),
    Mutant(
        "table: deviation of best beside last",
        "report/tables.py",
        "f\" ± {row[f'{name}_std']:.2f}\"",
        "f\" ± {row['best_std']:.2f}\"",
        "tests/test_report.py::test_means_deviations_and_the_difference_to_the_paper",
    ),
    Mutant(
        "refusal: real values for an RBM",
        "training/pairs.py",
        'if model.facts.needs_probabilities and card.kind == "real":',
        "if False:",
        "tests/test_config.py::test_every_pair_has_settings_or_is_refused",
    ),
    Mutant(
        "refusal: standardised values for an RBM",
        "training/pairs.py",
        'if config.data.scaling != "unit":',
        "if False:",
        "tests/test_config.py::test_inputs_of_an_rbm_that_are_no_probabilities_are_refused",
    ),
    Mutant(
        "refusal: a test file and a hold-out",
        "training/pairs.py",
        "    if config.data.holdout:\n",
        "    if False:\n",
        "tests/test_config.py::test_test_rows_come_from_one_place",
    ),
    Mutant(
        "refusal: a file with another checksum",
        "training/pairs.py",
        "if expected is not None and found != expected:",
        "if False:",
        "tests/test_custom_reading.py::test_both_checksums_are_pinned_and_compared",
    ),
    Mutant(
        "refusal: no images for a CNN",
        "training/pairs.py",
        "if model.facts.needs_images and card.shape is None:",
        "if False:",
        "tests/test_cnn.py::test_data_without_images_is_refused",
    ),
    Mutant(
        "refusal: a loss far above guessing",
        "training/divergence.py",
        "elif train_loss > self._largest_loss:",
        "elif False:",
        "tests/test_stability.py::test_a_training_loss_beyond_any_sense_is_divergence",
    ),
    Mutant(
        "refusal: infinite scores",
        "training/divergence.py",
        "numbers = [value for score in (scores or {}).values() for value in score.values()]",
        "numbers = list[float]()",
        "tests/test_run.py::test_a_loss_that_only_the_test_rows_show_is_divergence",
    ),
    Mutant(
        "refusal: interpolations",
        "config/check.py",
        ("    _refuse_interpolation(mapping)\n    try"),
        "    try",
        "tests/test_config.py::test_bad_values_are_refused_in_one_sentence",
    ),
    Mutant(
        "doubt: a batch larger than the data",
        "training/doubts.py",
        "if config.train.batch_size > rows:",
        "if False:",
        "tests/test_stability.py::test_what_makes_a_run_doubtful_is_said_logged_and_kept",
    ),
    Mutant(
        "doubt: neurons without connections",
        "training/doubts.py",
        "elif unconnected > MOST_UNCONNECTED:",
        "elif False:",
        "tests/test_stability.py::test_what_makes_a_run_doubtful_is_said_logged_and_kept",
    ),
    Mutant(
        "refusal: weights that are not finite",
        "sparse/linear.py",
        "if not torch.isfinite(weight).all():",
        "if False:",
        "tests/test_sparse_linear.py::test_evolve_refuses_weights_that_are_not_finite",
    ),
    Mutant(
        "refusal: a zeta of 1",
        "sparse/linear.py",
        "if not 0 <= zeta < 1:",
        "if not 0 <= zeta <= 1:",
        "tests/test_sparse_linear.py::test_evolve_refuses_bad_arguments",
    ),
    Mutant(
        "refusal: a momentum of other connections",
        "training/optimizer.py",
        "if buffer.shape != p.shape or",
        "if False and buffer.shape != p.shape or",
        "tests/test_sparse_linear.py tests/test_training.py tests/test_native.py",
    ),
    Mutant(
        "refusal: units of another width",
        "models/rbm.py",
        "if x.ndim != 2 or x.shape[1] != units or",
        "if x.ndim != 2 or",
        "tests/test_rbm.py::test_units_of_another_type_or_width_are_refused",
    ),
    Mutant(
        "refusal: more rows held out than there are",
        "data/split.py",
        "    cut = check_split(name, data, len(train), len(valid))",
        "    cut = data.valid if not len(valid) else 0",
        "tests/test_split.py::test_a_split_leaves_a_row_to_train_on",
    ),
    Mutant(
        "vouched: appended files not compared",
        "runs/written.py",
        "if expected is not None and appended.digest.hexdigest() != expected:",
        "if False:",
        "tests/test_vouched.py::test_damage_from_before_both_checkpoints_is_refused_by_name_and_nothing_is_written",
    ),
    Mutant(
        "vouched: snapshots not compared",
        "runs/written.py",
        "if sha256(self._path / name, follow=False) != expected:",
        "if False:",
        "tests/test_vouched.py",
    ),
    Mutant(
        "vouched: a damaged checkpoint kept",
        "runs/checkpoint.py",
        "    if checkpoint.damage is not None:\n",
        "    if False:\n",
        "tests/test_vouched.py::test_a_damaged_checkpoint_never_takes_the_place_of_the_good_one",
    ),
    Mutant(
        "vouched: the summary's digest not compared",
        "runs/summary.py",
        "[] if summary.get(DIGEST) == digest_of(summary) else [SUMMARY]",
        "[]",
        "tests/test_vouched.py::test_a_figure_changed_in_the_summary_is_noticed",
    ),
    Mutant(
        "vouched: a checkpoint's digest not compared",
        "runs/checkpoint.py",
        'if meta.get("sha256") != _digest(meta, arrays):',
        "if False:",
        "tests/faults/test_damage.py::test_an_array_changed_with_its_checksum_is_noticed",
    ),
    Mutant(
        "received: a checkpoint names any file",
        "runs/checkpoint.py",
        "if lengths.keys() not in (set(APPENDED), set(APPENDED_BEFORE)):",
        "if False:",
        "tests/hostile/test_unfinished.py",
    ),
    Mutant(
        "received: links are followed where a run appends",
        "system/plain_files.py",
        "flags | os.O_NOFOLLOW | os.O_NONBLOCK",
        "flags | os.O_NONBLOCK",
        "tests/hostile/test_unfinished.py",
    ),
)


def copy_package(target: Path) -> None:
    """A copy of what the tests need; the configuration lies in the package, as in a wheel."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__", "src"))
        else:
            shutil.copy(source, target / name)
    (target / "set_cli" / "conf").symlink_to(target / "conf")
    # Compiled once, and each file anew where its content is another, whatever its time stamp.
    compileall.compile_dir(target / "set_cli", quiet=2, invalidation_mode=PycInvalidationMode.CHECKED_HASH)


def apply(mutant: Mutant, package: Path) -> str:
    """Put the fault in; return the text that was there. ValueError where its place is not there exactly once."""
    path = package / mutant.file
    text = path.read_text()
    if (found := text.count(mutant.old)) != 1:
        raise ValueError(f"{mutant.name}: expected once in {mutant.file}, found {found} times: {mutant.old}")
    path.write_text(text.replace(mutant.old, mutant.new))
    return text


def catch(mutant: Mutant, folder: Path, tests: str) -> str | None:
    """The first test that fails in this copy, in which the fault is; None where all pass.

    The tests run in a fork of this process, which has imported what they need beside the package: that takes longer
    than most of them. RuntimeError where they did not run.
    """
    said = folder / "said.txt"
    child = os.fork()
    if not child:
        run_tests(folder, tests.split(), said)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == 0:
        return None
    if code < 0:
        return f"ended by signal {-code}"
    lines = said.read_text(errors="replace").splitlines()
    failed = [line.split()[1] for line in lines if line.startswith("FAILED ")]
    if code != FAILED or not failed:
        raise RuntimeError("\n".join([f"{mutant.name}: pytest ended with {code}", *lines[-30:]]))
    return failed[0]


def run_tests(folder: Path, tests: Sequence[str], said: Path) -> NoReturn:
    """Run these tests of the copy, and end this process with pytest's exit code."""
    code = NO_ANSWER
    try:
        signal.alarm(SECONDS)
        with said.open("w") as stream:
            for number in (1, 2):
                os.dup2(stream.fileno(), number)
        os.chdir(folder)
        os.environ["PYTHONPATH"] = str(folder)
        sys.path[0] = str(folder)
        # Whether an assertion fails is asked, not why: so it need not be rewritten.
        code = int(pytest.main(["-q", "-x", "-rf", "--assert=plain", "-p", "no:cacheprovider", *tests]))
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)  # nothing of the parent's is to be ended here


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Change the code, see that tests notice; more at the head of this file."
    )
    parser.add_argument("names", nargs="*")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--part", default="1/1")
    parser.add_argument("--tests")
    options = parser.parse_args(arguments)
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in IMPORTED:
        importlib.import_module(name)
    known = {mutant.name: mutant for mutant in MUTANTS}
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"no mutant is called {unknown[0]}; --list shows them")
    if options.list:
        for mutant in MUTANTS:
            print(f"{mutant.name:45} {mutant.file:35} {mutant.tests}")
        return 0
    first, step = map(int, options.part.split("/"))
    survived = 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        package = Path(folder, "set_cli")
        copy_package(Path(folder))
        for mutant in ([known[name] for name in options.names] or MUTANTS)[first - 1 :: step]:
            text = apply(mutant, package)
            try:
                caught_by = catch(mutant, Path(folder), options.tests or mutant.tests)
            finally:
                (package / mutant.file).write_text(text)
            survived += caught_by is None
            print(f"{'SURVIVED' if caught_by is None else 'caught':9} {mutant.name:55} {caught_by or ''}", flush=True)
    print(f"{survived} survived")
    return int(survived > 0)


if __name__ == "__main__":
    sys.exit(main())
