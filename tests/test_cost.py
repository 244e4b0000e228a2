"""What evolutions cost: their time, their extra memory, and how both are recorded."""

from __future__ import annotations

import mmap
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from set_cli.report.tables import render
from set_cli.system import peak
from set_cli.system.peak import PROCESS, PeakMemory
from set_cli.training import clock as clock_module
from set_cli.training.clock import Clock
from set_cli.training.cost import EvolutionCost
from tests.builders import finished_run, report


class Ticks:
    """Stands in for the module `time`: moves when it is told to."""

    now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> Ticks:
    found = Ticks()
    monkeypatch.setattr(clock_module, "time", found)
    return found


def test_a_part_pauses_the_one_it_is_within(ticks: Ticks) -> None:
    clock = Clock()
    with clock.part("train"):
        ticks.now += 1
        with clock.part("evolve"):
            ticks.now += 10
            assert (clock.so_far("train"), clock.so_far("evolve")) == (1, 10)
        ticks.now += 2
        with clock.part("evolve"):
            ticks.now += 20
        assert (clock.so_far("train"), clock.so_far("evaluate")) == (3, 0)
    ticks.now += 100
    assert clock.take() == {"train": 3, "evolve": 30}
    assert clock.take() == {}


def test_a_part_that_ends_in_an_error_is_over(ticks: Ticks) -> None:
    clock = Clock()
    with clock.part("train"):
        with suppress(KeyError), clock.part("evolve"):
            ticks.now += 1
            raise KeyError
        ticks.now += 2
    assert clock.take() == {"train": 2, "evolve": 1}


needs_counter = pytest.mark.skipif(not peak.CLEAR.exists(), reason="the system has no counter that can be reset")


def take_up(megabytes: int) -> None:
    """Hold fresh pages of the system for a moment, not such as the allocator still has."""
    with mmap.mmap(-1, megabytes * 10**6) as pages:
        for at in range(0, len(pages), mmap.PAGESIZE):
            pages[at] = 1


@needs_counter
def test_the_rise_of_memory_is_what_is_held_within() -> None:
    with PROCESS.rise() as rise:
        take_up(50)
    assert rise.mb is not None
    assert 40 < rise.mb < 80


@needs_counter
def test_the_largest_memory_is_kept_when_a_rise_is_measured() -> None:
    with PROCESS.rise():  # which notes what this process has had, before another resets the counter
        pass
    memory = PeakMemory()
    with memory.rise() as first:
        take_up(100)
    largest = memory.so_far()
    with memory.rise() as second:
        pass
    assert first.mb is not None
    assert second.mb is not None
    assert second.mb < 20 < 80 < first.mb
    assert memory.so_far() == largest


def test_without_a_counter_the_rise_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(peak, "CLEAR", tmp_path / "none" / "clear_refs")
    with PROCESS.rise() as rise:
        take_up(1)
    assert rise.mb is None


def test_a_cost_passes_through_a_checkpoint() -> None:
    cost = EvolutionCost()
    assert (cost.figures, cost.state) == ({}, {})
    cost.add(None)
    assert cost.figures == {"evolutions": 1}
    cost.add(3.5)
    cost.add(2.0)
    assert cost.figures == {"evolutions": 3, "evolve_memory_mb": 3.5}
    state = {**cost.state, "rows": np.array(7)}
    assert EvolutionCost.of_state(state) == cost
    assert state == {"rows": 7}


COLUMNS = ["s/epoch", "s/evolution", "evolution MB"]


def cells(root: Path) -> list[str]:
    text = render(report(root), "markdown", names=COLUMNS)
    return [cell.strip() for cell in text.splitlines()[-1].split("|")[1:-1]]


def test_the_table_has_the_median_time_and_the_largest_memory_of_the_seeds(tmp_path: Path) -> None:
    for seed, (seconds, memory) in enumerate([(0.1, 30.0), (0.5, 70.0), (0.2, 50.0)]):
        finished_run(tmp_path, seed, 70, 71, seconds_per_evolution=seconds, evolution_memory_mb=memory)
    assert cells(tmp_path) == ["9.00", "0.200", "70"]
    finished_run(tmp_path, 3, 70, 71)  # of an earlier version: no figure of all seeds can be given
    assert cells(tmp_path) == ["9.50"]
    assert "s/evolution" not in render(report(tmp_path), "table", 100)


def test_a_narrow_terminal_leaves_out_the_cost_of_evolutions_first(tmp_path: Path) -> None:
    finished_run(tmp_path, 0, 70, 71, seconds_per_evolution=0.1, evolution_memory_mb=30.0)
    text = " ".join(render(report(tmp_path), "table", 120).split())
    shown, left_out = text.split("left out: ")
    assert left_out.startswith("s/evolution, evolution MB")
    assert "peak MB" in shown
    assert "evolution MB" in render(report(tmp_path), "table", 120, ["all"])
