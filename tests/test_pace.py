"""How many steps and threads a call gets, from made-up times of the calls before it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from set_cli.training import pace as module
from set_cli.training.pace import HOLDS, LONGEST_CALL, Pace


class Clock:
    """Time that passes when somebody computes."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(module, "time", found)
    return found


def train(pace: Pace, clock: Clock, seconds: Callable[[int], float], calls: int) -> list[tuple[int, int]]:
    """Steps and threads of so many calls, a step taking `seconds` of its threads."""
    done = []
    for _ in range(calls):
        steps = pace.steps(10**9)
        done.append((steps, pace.threads))
        with pace.call(steps):
            clock.now += steps * seconds(pace.threads)
    return done


@pytest.mark.parametrize("seconds", [1e-5, 3e-4, 0.004, 0.02, 0.5])
def test_a_call_takes_no_longer_than_others_can_wait_or_one_step(seconds: float, clock: Clock) -> None:
    pace = Pace(1, tried=True)
    done = train(pace, clock, lambda threads: seconds, 5)
    assert done[0] == (1, 1)
    assert all(0.9 < steps * seconds / LONGEST_CALL < 1.001 or steps == 1 for steps, _ in done[1:])
    assert done[1][0] > 1 or seconds > LONGEST_CALL / 2


@pytest.mark.parametrize(
    ("most", "seconds", "expected"),
    [
        (2, {1: 1.0, 2: 0.6}, 2),
        (2, {1: 1.0, 2: 0.97}, 1),
        (2, {1: 1.0, 2: 5.0}, 1),
        (8, {1: 1.0, 2: 0.6, 4: 0.4, 8: 0.5}, 4),
        (8, {1: 1.0, 2: 0.6, 4: 0.4, 8: 0.2}, 8),
        (6, {1: 1.0, 2: 0.6, 4: 0.4, 6: 0.3}, 6),
        (1, {1: 1.0}, 1),
    ],
)
def test_the_fastest_number_of_threads_is_kept(
    most: int, seconds: dict[int, float], expected: int, clock: Clock
) -> None:
    pace = Pace(most, tried=True)
    train(pace, clock, lambda threads: 1e-3 * seconds[threads], 80)
    assert {threads for _, threads in train(pace, clock, lambda threads: 1e-3 * seconds[threads], 20)} == {expected}


def test_a_single_slow_call_decides_nothing(clock: Clock) -> None:
    pace, slow = Pace(2, tried=True), iter([1e-3] * 6 + [9e-3] + [1e-3] * 100)
    train(pace, clock, lambda threads: next(slow) * (0.6 if threads == 2 else 1.0), 20)
    assert pace.threads == 2


def test_it_is_tried_again_when_others_may_have_come_or_gone(clock: Clock) -> None:
    pace, share = Pace(2, tried=True), {1: 1e-3, 2: 6e-4}
    train(pace, clock, share.__getitem__, 20)
    assert pace.threads == 2
    share[2] = 5e-3
    while clock.now < 2 * HOLDS:
        train(pace, clock, share.__getitem__, 1)
    train(pace, clock, share.__getitem__, 20)
    assert pace.threads == 1


def test_a_number_that_was_asked_for_is_not_questioned(clock: Clock) -> None:
    pace = Pace(3, tried=False)
    assert {threads for _, threads in train(pace, clock, lambda threads: 1e-3 * threads, 30)} == {3}


def test_it_finds_its_way_down_as_well(clock: Clock) -> None:
    pace, busy = Pace(16, tried=True), {n: 1e-3 / n for n in (1, 2, 4, 8, 16)}
    train(pace, clock, busy.__getitem__, 200)
    assert pace.chosen == 16
    busy.update({n: 1e-3 * n for n in busy})
    while pace.chosen != 1:
        assert clock.now < 20 * HOLDS
        train(pace, clock, busy.__getitem__, 1)


def test_comparing_takes_a_small_part_of_a_training_with_long_steps(clock: Clock) -> None:
    pace, counts = Pace(32, tried=True), {n: 0 for n in (1, 2, 4, 8, 16, 32)}
    while clock.now < 3600:
        ((steps, threads),) = train(pace, clock, lambda threads: 2.0 / threads, 1)
        counts[threads] += steps
    fastest = counts[32] * 2.0 / 32
    assert fastest > 0.9 * 3600
    assert pace.chosen == 32


def test_no_number_is_chosen_before_two_were_compared(clock: Clock) -> None:
    pace = Pace(2, tried=True)
    found = []
    for calls in (0, 3, 20):
        train(pace, clock, lambda threads: 1e-3, calls)
        found.append((pace.chosen, pace.is_settled))
    assert found == [(None, False), (None, False), (1, True)]
    fixed = Pace(2, tried=False)
    train(fixed, clock, lambda threads: 1e-3, 3)
    assert fixed.chosen is None
    assert fixed.is_settled


def test_after_a_change_a_call_is_no_longer_than_before(clock: Clock) -> None:
    pace = Pace(16, tried=True)
    lengths = []
    for _ in range(400):
        before = clock.now
        train(pace, clock, lambda threads: 4e-3 / threads, 1)
        lengths.append(clock.now - before)
    assert max(lengths) <= LONGEST_CALL * 1.001
