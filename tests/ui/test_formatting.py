"""Numbers as a person reads them."""

from __future__ import annotations

import math

import pytest

from collapse_sim.ui import formatting


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"),
     (3599.7, "1 h 00 min"), (7500, "2 h 05 min"), (86399, "1 d 00 h"), (273600, "3 d 04 h")],
)  # fmt: skip
def test_duration(seconds, text):
    assert formatting.duration(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(5.4, "0:05"), (724.9, "12:04"), (7510, "2:05:10"), (-1, "0:00")])
def test_clock(seconds, text):
    assert formatting.clock(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "1 s"), (7.2, "8 s"), (33, "35 s"), (88, "90 s"), (93, "2 min"), (7510, "2 h 05 min")]
)
def test_about(seconds, text):
    assert formatting.about(seconds) == text


@pytest.mark.parametrize(
    ("x", "text"),
    [(0, "0.000"), (0.18341, "0.1834"), (12.3456, "12.35"), (-1234.5, "-1234"), (0.0999999, "0.1000"), (99990, "99990"),
     (123456, "1.23e+05"), (0.00012, "1.20e-04"), (0.0012345, "0.001234"), (math.nan, "nan"), (-math.inf, "-inf")],
)  # fmt: skip
def test_value(x, text):
    assert formatting.value(x) == text


@pytest.mark.parametrize(
    ("per_s", "text"), [(12400.4, "12,400 steps/s"), (3.21, "3.2 steps/s"), (0.125, "8.0 s per step"), (0, "0 steps/s")]
)
def test_rate(per_s, text):
    assert formatting.rate(per_s, "steps") == text


def test_size():
    assert (formatting.size(312 * 2**20), formatting.size(1.5 * 2**30)) == ("312 MiB", "1.5 GiB")
    assert formatting.size(77 * 2**10) == "77 KiB"


def test_plain_leaves_nothing_that_moves_the_cursor():
    assert formatting.plain("a\nb\r\x1b[2Jc\td\x85e") == r"a b \x1b[2Jc d e"


def test_seeds_and_arms_are_named_while_few():
    assert formatting.seeds((3,), 5) == "seed 3"
    assert formatting.seeds((0, 2), 5) == "seeds 0, 2"
    assert formatting.seeds(range(200), 200) == "200 seeds"
    assert formatting.seeds((0,), 1) == formatting.seeds((), 5) == ""
    assert formatting.arms(("a", "b"), 2) == "all arms"
    assert formatting.arms(("a",), 1) == "a"
    assert formatting.arms("abcde", 9) == "a, b and 3 more arms"
