"""Does it level off? Against chains whose expected curves are known, and how often the answer is wrong."""

import math
from collections import Counter

import numpy as np
import pytest

from collapse_sim.analysis.level_off import LevelOff, level_off
from collapse_sim.analysis.rates import slopes_of
from tests.analysis.curves import Curves, gaussian, noise, regression

EXPERIMENTS = 150


def shape(curve: Curves) -> LevelOff:
    generations = np.arange(curve.shape[1], dtype=np.float64)
    positive = bool((curve > 0).all())
    slopes = slopes_of(np.log(curve) if positive else curve, generations)
    moves = abs(slopes.mean()) > 3 * slopes.std() / math.sqrt(len(slopes))
    return level_off(curve, generations, positive=positive, alpha=0.05, moves=bool(moves))


def test_accumulated_regression_levels_off_at_pi_squared_over_six() -> None:
    own = shape(regression(np.random.default_rng(0), 2_000, 20, accumulate=True))
    assert own.shape == "levels off"
    # logarithms of the errors: their mean is that of a chi-square's, digamma(d / 2) + log(2 / d), off log of the mean
    ratio = own.limit / np.exp(np.log(regression(np.random.default_rng(1), 2_000, 0, accumulate=True)).mean())
    assert ratio == pytest.approx(math.pi**2 / 6, rel=0.08)


def test_replaced_chains_keep_going() -> None:
    rng = np.random.default_rng(2)
    assert shape(regression(rng, 2_000, 20, accumulate=False)).shape == "keeps going"
    assert shape(gaussian(rng, 2_000, 20, 20)).shape == "keeps going"


def test_exact_curves_are_told_apart_by_three_seeds() -> None:
    rng, k = np.random.default_rng(3), np.arange(11)
    jitter = 0.001 * rng.normal(size=(3, 11))
    assert shape(1 + 0.1 * k + jitter).shape == "keeps going"
    assert shape(-1 - 0.1 * k + jitter).shape == "keeps going"
    saturated = shape(2 - np.exp(-k / 2) + jitter)
    assert (saturated.shape, saturated.limit) == ("levels off", pytest.approx(2.0, abs=0.01))


@pytest.mark.parametrize("seeds", [3, 10])
@pytest.mark.parametrize("generations", [5, 12])
def test_what_keeps_going_is_rarely_said_to_level_off(seeds: int, generations: int) -> None:
    """Chains whose errors add up bend by chance, all of a seed's later values together."""
    rng = np.random.default_rng(4)
    wrong = Counter(
        name
        for _ in range(EXPERIMENTS)
        for name, curve in {
            "regression": regression(rng, seeds, generations, accumulate=False),
            "gaussian": gaussian(rng, seeds, generations, 50),
            "walk": 5 + np.cumsum(0.1 + 0.1 * rng.normal(size=(seeds, generations + 1)), 1),
            "noise": noise(rng, seeds, generations),
        }.items()
        if shape(curve).shape == "levels off"
    )
    assert max(wrong.values(), default=0) <= 0.085 * EXPERIMENTS  # 5 % and two standard errors


def test_what_levels_off_is_rarely_said_to_keep_going() -> None:
    rng = np.random.default_rng(5)
    curves = [regression(rng, 5, 10, accumulate=True) for _ in range(EXPERIMENTS)]
    assert sum(shape(curve).shape == "keeps going" for curve in curves) <= 0.085 * EXPERIMENTS


def test_too_little_is_undecided() -> None:
    assert shape(np.ones((2, 10))) == LevelOff("undecided")
    assert shape(np.ones((5, 4))) == LevelOff("undecided")
    assert shape(np.ones((5, 10))) == LevelOff("undecided", 1.0)
