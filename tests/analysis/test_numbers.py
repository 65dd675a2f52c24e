"""Figures are rounded to what their interval supports."""

import math

import pytest

from collapse_sim.analysis.numbers import (
    aligned,
    figure,
    finite,
    percent,
    share_with_interval,
    with_half,
    with_interval,
)


@pytest.mark.parametrize(
    ("mean", "half", "text"),
    [
        (0.123456, 0.0012345, "0.1235 ± 0.0012"),
        (0.123456, 0.0996, "0.12 ± 0.10"),
        (12.3456, 0.94, "12.35 ± 0.94"),
        (123.456, 12.3, "123 ± 12"),
        (12345.6, 1234.0, "12346 ± 1234"),
        (-0.5, 0.25, "-0.50 ± 0.25"),
        (0.001, 2.0, "0.0 ± 2.0"),
        (0.1, 0.0, "0.1000 ± 0"),
        (0.1, None, "0.1000"),
        (1.23456e-5, 1.2e-7, "(1.235 ± 0.012)e-05"),
        (1.23456e7, 1.2e6, "(1.23 ± 0.12)e+07"),
        (math.nan, None, "nan"),
        (math.inf, None, "inf"),
    ],
)
def test_mean_with_half_width(mean: float, half: float | None, text: str) -> None:
    assert with_half(mean, half) == text


def test_differences_carry_their_sign() -> None:
    assert with_half(0.5, 0.25, signed=True) == "+0.50 ± 0.25"
    assert with_half(-0.5, 0.25, signed=True) == "-0.50 ± 0.25"
    assert with_half(0.5, None, signed=True) == "+0.5000"
    assert with_half(0.5, 0, signed=True) == "+0.5000 ± 0"
    assert with_half(2e-5, 1e-6, signed=True) == "(+2.00 ± 0.10)e-05"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.05739, "0.05739"),
        (1234.5678, "1235"),
        (0, "0"),
        (1.23456e-5, "1.235e-05"),
        (-2.5, "-2.500"),
        (3e7, "3.000e+07"),
    ],
)
def test_four_significant_digits(value: float, text: str) -> None:
    assert figure(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0213, "+2.1 %"), (-0.00213, "-0.21 %"), (1.5, "+150 %"), (0.0, "+0.00 %"), (math.inf, "inf")],
)
def test_relative(share: float, text: str) -> None:
    assert percent(share) == text


def test_points_and_signs_stand_below_each_other() -> None:
    assert aligned(["0.12 ± 0.10", "12.3456 ± 0.0012", "7.5"]) == [
        " 0.12   ± 0.10  ",
        "12.3456 ± 0.0012",
        " 7.5            ",
    ]
    assert aligned([]) == []
    assert aligned(["nan", "1.5"]) == ["nan  ", "  1.5"]


@pytest.mark.parametrize(
    ("mean", "low", "high", "text"),
    [
        (0.123456, 0.122222, 0.12469, "0.1235 ± 0.0012"),
        (0.0037, 0.0, 0.0077, "0.0037 [0, 0.0077]"),
        (0.98, 0.91, 1.0, "0.980 [0.910, 1]"),
        (99.5, 98.2, 100.0, "99.5 [98.2, 100]"),
        (2e-5, 0.0, 5.2e-5, "(2.0 [0, 5.2])e-05"),
        (0.5, None, None, "0.5000"),
        (math.nan, None, None, "nan"),
        (1.0, 1.0, 1.0, "1.000 ± 0"),
    ],
)
def test_an_interval_that_a_bound_cuts_has_its_ends(
    mean: float, low: float | None, high: float | None, text: str
) -> None:
    assert with_interval(mean, low, high) == text


def test_cut_intervals_stand_below_others() -> None:
    assert aligned(["0.4 ± 0.1", "12.25 [0, 30]", "3"]) == [" 0.4  ± 0.1  ", "12.25 [0, 30]", " 3           "]


def test_shares_with_their_intervals_are_in_per_cent() -> None:
    assert share_with_interval(0.021, 0.018, 0.024) == "+2.10 ± 0.30"
    assert share_with_interval(-0.5, None, None) == "-50.00"


def test_only_finite_numbers_are_numbers_in_json() -> None:
    assert [finite(value) for value in (1.5, 0.0, None, math.nan, -math.inf)] == [1.5, 0.0, None, None, None]
