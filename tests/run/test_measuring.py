"""Measuring a kind of artefacts: growing stretches, and the rate from them."""

from __future__ import annotations

import pytest

from collapse_sim.data.base import Info
from collapse_sim.families.training import Train
from collapse_sim.run import measuring
from collapse_sim.run.measuring import grown, part_of, shortened


class Clock:
    """Work that takes 3 s and 0.5 s per unit, and the first time 20 s more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, warm_s: float = 20.0) -> None:
        self.now, self.taken, self.warm_s = 0.0, [], warm_s
        monkeypatch.setattr(measuring.time, "perf_counter", lambda: self.now)

    def take(self, units: int) -> float:
        took_s = 3.0 + 0.5 * units + (0.0 if self.taken else self.warm_s)
        self.taken.append(units)
        self.now += took_s
        return took_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_measurements_grow_until_one_has_taken_its_share(clock: Clock) -> None:
    """A quarter of 40 s: 16 units take 11 s. The first one warms up, and its 20 s are in no rate."""
    rate, units = grown(clock.take, 10**6, 40.0)
    assert clock.taken == [3, 4, 16]
    assert (rate.unit_s, rate.each_s, units) == (pytest.approx(0.5), pytest.approx(3.0), 16)


@pytest.mark.parametrize(("most", "taken"), [(1, [1]), (2, [1, 2]), (3, [2, 3]), (4, [3, 4]), (9, [3, 4, 9])])
def test_no_more_is_measured_than_there_is(monkeypatch: pytest.MonkeyPatch, most: int, taken: list[int]) -> None:
    """And never the same twice, which the store would not make again."""
    clock = Clock(monkeypatch, warm_s=0.0)
    rate, units = grown(clock.take, most, 1000.0)
    assert (clock.taken, units) == (taken, most)
    assert rate.each_s + most * rate.unit_s == pytest.approx(3.0 + 0.5 * most)


def test_a_warm_up_that_takes_long_is_the_measurement(clock: Clock) -> None:
    rate, units = grown(clock.take, 100, 0.5)
    assert (clock.taken, units) == ([3], 3)
    assert (rate.unit_s, rate.each_s) == (pytest.approx(24.5 / 3), 0)


def test_a_rate_is_never_more_than_proportional(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine the longer measurement may be slower than its units explain, or quicker than the other."""
    for times in ([1.0, 1.0, 100.0], [1.0, 5.0, 4.0]):
        took = iter(times)
        rate, units = grown(lambda _, took=took: next(took), 16, 1000.0)
        assert units == 16
        assert rate.each_s + 16 * rate.unit_s == pytest.approx(times[-1])
        assert rate.unit_s > 0 <= rate.each_s


def test_a_shortened_fit_takes_the_same_updates() -> None:
    train = Train(epochs=5, batch_size=7, warmup_ratio=0.2, keep="best", patience=3, ema=0.9, evaluate="every 2 steps")
    short = shortened(train, 6)
    assert (short.steps, short.epochs, short.evaluate, short.patience) == (6, None, "never", None)
    assert (short.batch_size, short.ema, short.precision) == (7, 0.9, "auto")
    Train.model_validate(short.model_dump())


def test_of_large_data_a_part_is_decoded() -> None:
    info = Info("images", {"image": ((3, 64, 64), "uint8")}, 90_000, 100_000, 5000, validation=30)
    part = part_of(info, 128)
    assert (part.rows, part.pool, part.held_out, part.validation) == (2000, 2000, 2000, 30)
    assert part_of(info, 1500).rows == 3000
    assert part_of(Info("points", {"x": ((2,), "float32")}, 50, 60, 40), 128).pool == 60
