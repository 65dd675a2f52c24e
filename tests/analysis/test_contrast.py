"""p values: how often verdicts are wrong where the truth is known (benchmarks/studies/false_alarms.py: many more)."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from collapse_sim.analysis.contrast import adjusted, p_values
from collapse_sim.analysis.evidence import ALPHA
from collapse_sim.analysis.results import RecordedClaim, Results
from collapse_sim.analysis.scale import Scale
from collapse_sim.analysis.verdicts import decide_all

SEEDS = (2, 3, 5, 10, 1000)
ONE = ALPHA / 2  # of one-sided p values
POSITIVE = Scale((0.0, None))
Array = NDArray[np.float64]


def experiments(n: int) -> int:
    return 400 if n > 100 else 1500


def near(ratios: Array, theory: float, part: float, looks: int = 1) -> tuple[Array, Array]:
    """One-sided p values of "= theory within part": that it holds, and that it fails."""
    low = p_values(ratios, theory * (1 - part), POSITIVE, looks=looks)
    high = p_values(ratios, theory * (1 + part), POSITIVE, looks=looks)
    return np.maximum(low[1], high[0]), np.minimum(low[0], high[1])


@pytest.mark.parametrize("n", SEEDS)
def test_directional_and_equivalent_claims_on_their_border(n: int) -> None:
    rng = np.random.default_rng(n)
    common, left, right = rng.standard_normal((3, experiments(n), n))
    a, b = 5 + common + left / 2, 5 + common + right / 2
    below, above = p_values(a, b)
    low, high = p_values(a + 1, 0.8 * b), p_values(a + 1, 1.2 * b)  # in truth at the upper end of the band
    inside, outside = np.maximum(low[1], high[0]), np.minimum(low[0], high[1])
    rates = [float((p <= ONE).mean()) for p in (below, above, inside, outside)]
    assert max(rates) < 0.05, rates
    assert min(rates[:2]) > 0


@pytest.mark.parametrize("rows", [10, 100])
@pytest.mark.parametrize("n", SEEDS)
def test_theory_at_one_generation(n: int, rows: int) -> None:
    """Gaussian chains, E[variance ratio] = (1 - 1/N)^t after t fits: true, on the ends of the band, wrong by half."""
    rng = np.random.default_rng([n, rows])
    ratios = np.ones((experiments(n), n))
    for fits in range(1, 52):
        ratios *= rng.chisquare(rows - 1, ratios.shape) / rows
        expected = (1 - 1 / rows) ** fits
        if fits not in (1, 11, 51):
            continue
        assert (near(ratios, expected, 0.1)[1] <= ONE).mean() < 0.05
        for factor in (1 / 1.25, 1 / 0.75):
            for p in near(ratios, factor * expected, 0.25):
                assert (p <= ONE).mean() < 0.05
        assert (near(ratios, 1.5 * expected, 0.1)[0] <= ONE).mean() < 0.003


@pytest.mark.parametrize("fits", [10, 51])
@pytest.mark.parametrize("n", SEEDS)
def test_theory_at_every_generation(n: int, fits: int) -> None:
    """N = 10, the most skewed: by three standard errors, as it was, half of the true claims fail, or more."""
    rng = np.random.default_rng([n, fits])
    repeats = experiments(n) // 5
    ratios = np.ones((repeats, n))
    holds, fails = np.zeros(repeats), np.ones(repeats)
    off = np.zeros(repeats, dtype=np.bool_)
    for k in range(fits):
        ratios *= rng.chisquare(9, (repeats, n)) / 10
        expected = 0.9 ** (k + 1)
        fails = np.minimum(fails, fits * near(ratios, expected, 0.1, fits)[1])
        holds = np.maximum(holds, near(ratios, 1.5 * expected, 0.1, fits)[0])
        off |= np.abs(ratios.mean(1) - expected) > 3 * ratios.std(1, ddof=1) / math.sqrt(n)
    assert (fails <= ONE).mean() < 0.05
    assert (holds <= ONE).mean() == 0.0
    assert fits == 10 or off.mean() > 0.5


@pytest.mark.parametrize("n", SEEDS)
def test_choices_and_families(n: int) -> None:
    """The least of four equal arms against a fifth, and four against one: uncorrected, more than 5 % would hold."""
    rng = np.random.default_rng([n, 7])
    repeats = experiments(n)
    arms = 5 + rng.standard_normal((repeats, n)) + rng.standard_normal((5, repeats, n)) / 2
    below, above = (np.stack(p) for p in zip(*(p_values(arm, arms[0]) for arm in arms[1:]), strict=True))
    chosen = 4 * below.min(0) <= ONE
    holm = np.array([adjusted(list(p)) for p in 2 * np.minimum(below, above).T]).T
    together = ((holm <= ALPHA) & (below < above)).any(0)
    assert max(chosen.mean(), together.mean()) < 0.05
    assert (below <= ONE).any(0).mean() > 0.05


def test_these_are_the_p_values_that_claims_are_decided_by() -> None:
    """`every`: the greatest of holding, the least of failing times the generations; min of four: the least times 4."""
    rng = np.random.default_rng(0)
    ratios = np.cumprod(rng.chisquare(99, (3, 40)) / 100, axis=0)
    theory = [0.99 ** (k + 1) for k in range(3)]
    values = {"a": {"m": {k: dict(enumerate(row)) for k, row in enumerate(ratios.tolist())}}}
    arms = 5 + rng.standard_normal((5, 40))
    values |= {name: {"n": {2: dict(enumerate(row))}} for name, row in zip("bcdef", arms.tolist(), strict=True)}
    fixed: dict[str, Any] = {"theory": {"a": {"m": theory}}, "bounds": {"m": (0.0, None)}}
    run = Results("toy", tuple("abcdef"), tuple(range(40)), {"m": None, "n": None}, 2, "f", values, **fixed)
    claims = [
        RecordedClaim("", "m", "every", "a = theory within 9 %"),
        RecordedClaim("", "n", 2, "min(b, c, d, e) < f"),
    ]
    every, least = decide_all(claims, run)
    each = [near(row, value, 0.09, 3) for row, value in zip(ratios, theory, strict=True)]
    likely = min(2 * max(float(p[0]) for p in each), 3 * 2 * min(float(p[1]) for p in each))
    assert every.p == pytest.approx(min(1.0, likely))
    below, above = zip(*(p_values(arm, arms[4]) for arm in arms[:4]), strict=True)
    assert least.p == pytest.approx(min(1.0, 2 * 4 * min(map(float, below)), 2 * max(map(float, above))))
