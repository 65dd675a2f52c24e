"""The scale on which means are tested, against derivatives, SciPy's transforms and the skewness of lognormal means."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special, stats

from collapse_sim.analysis.scale import SKEWED, Bounds, Scale

BOUNDS: list[Bounds] = [(None, None), (0.0, None), (-2.0, None), (None, 1.0), (0.0, 1.0), (0.0, 100.0), (-1.0, 3.0)]
DICE = np.random.default_rng(0)


def inner(bounds: Bounds, n: int = 200) -> np.ndarray:
    """Values strictly within the bounds, some of them near an end."""
    least, greatest = bounds
    share = DICE.uniform(0.01, 0.99, n)
    if least is None and greatest is None:
        return DICE.normal(size=n) * 10
    if greatest is None:
        return (least or 0.0) + 10 * share**2
    if least is None:
        return greatest - 10 * share**2
    return least + (greatest - least) * share


@pytest.mark.parametrize("bounds", BOUNDS)
def test_the_slope_is_the_derivative(bounds: Bounds) -> None:
    scale, x = Scale(bounds), inner(bounds)
    step = 1e-7 * scale.slope(x) ** -1
    np.testing.assert_allclose(scale.slope(x), (scale.g(x + step) - scale.g(x - step)) / (2 * step), rtol=1e-4)


@pytest.mark.parametrize("bounds", BOUNDS)
def test_the_ends_are_as_far_on_the_scale_as_the_half_width_is_at_the_mean(bounds: Bounds) -> None:
    scale = Scale(bounds)
    for mean in inner(bounds, 50):
        for half in (0.0, 0.01, 0.3):
            reach = half * float(scale.slope(mean))
            if reach > 10:
                continue
            low, high = scale.ends(float(mean), half)
            assert float(scale.g(low)) == pytest.approx(float(scale.g(mean)) - reach, abs=1e-6)
            assert float(scale.g(high)) == pytest.approx(float(scale.g(mean)) + reach, abs=1e-6)


@pytest.mark.parametrize("bounds", BOUNDS)
def test_no_interval_leaves_the_bounds(bounds: Bounds) -> None:
    scale = Scale(bounds)
    least, greatest = (-math.inf if bounds[0] is None else bounds[0]), (math.inf if bounds[1] is None else bounds[1])
    for mean in inner(bounds, 50):
        for half in (1.0, 1e3, 1e9):
            low, high = scale.ends(float(mean), half)
            assert least <= low <= mean <= high <= greatest
    for outside in (least - 1, greatest + 1):
        if math.isfinite(outside):
            assert scale.ends(outside, 0.5) == (outside - 0.5, outside + 0.5)  # a metric whose bounds are wrong


def test_scales_are_logarithm_and_logit() -> None:
    x = inner((0.0, 1.0))
    np.testing.assert_allclose(Scale((0.0, 1.0)).g(x), special.logit(x))
    np.testing.assert_allclose(Scale((0.0, None)).g(x), np.log(x))
    np.testing.assert_allclose(Scale((None, 1.0)).g(x), -np.log1p(-x))
    np.testing.assert_allclose(Scale().g(x), x)
    said = [Scale(bounds).words for bounds in ((None, None), (0.0, None), (None, 1.0), (0.0, 1.0))]
    logarithm = "t test of the mean's logarithm"
    assert said == ["t test", logarithm, logarithm, "t test of the mean's logit"]


def test_values_on_a_bound_are_not_inside() -> None:
    assert Scale((0.0, 1.0)).inside(np.array([-1, 0, 1e-300, 0.5, 1, 2])).tolist() == [
        False, False, True, True, False, False,
    ]  # fmt: skip
    assert Scale().inside(np.array([-1e300, 0.0, 1e300])).all()
    assert not Scale().inside(np.array([math.nan, math.inf, -math.inf])).any()


@pytest.mark.parametrize(
    ("sigma", "n", "trusted"),
    [
        (0.05, 5, True),
        (0.05, 100, True),
        (0.3, 100, True),
        (1.0, 5, False),
        (1.0, 20, False),
        (2.0, 5, False),
        (2.0, 20, False),
        (2.0, 100, False),
    ],
)
def test_means_that_few_large_values_carry_are_not_trusted(sigma: float, n: int, trusted: bool) -> None:
    """Lognormal values, where SciPy's skewness of such a mean is far from the limit: nearly every sample shows it."""
    skewness = float(stats.lognorm(sigma).stats("s")) / math.sqrt(n)
    assert skewness < SKEWED / 2 if trusted else skewness > 2 * SKEWED
    values = np.exp(np.random.default_rng(1).normal(0, sigma, (400, n)))
    assert (Scale((0.0, None)).trusts(values) == trusted).mean() > 0.9


def test_only_metrics_with_one_bound_are_asked_and_zeros_are_no_logarithms() -> None:
    wild = np.exp(DICE.normal(0, 4, (10, 6)))
    assert Scale().trusts(wild).all()
    assert Scale((0.0, 1e9)).trusts(wild).all()
    assert not Scale((0.0, None)).trusts(wild).any()
    np.testing.assert_array_equal(Scale((None, 5.0)).trusts(5.0 - wild), Scale((0.0, None)).trusts(wild))
    assert Scale((0.0, None)).trusts(np.array([[0.0, 0.0, 0.0], [0.0, 1.0, 1.0], [2.0, 2.0, 2.0]])).tolist() == [
        True, False, True,
    ]  # fmt: skip


def test_more_generations_that_are_looked_at_are_more_doubt() -> None:
    values = np.exp(np.random.default_rng(2).normal(0, 0.25, (400, 6)))
    shares = [Scale((0.0, None)).trusts(values, looks).mean() for looks in (1, 5, 50)]
    assert shares[0] > shares[1] > shares[2]
