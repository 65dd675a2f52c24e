"""The generation at which a part of a metric dies, and what `compare` shows of parts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from scipy.stats import binom
from typer.testing import Result

from collapse_sim.analysis.deaths import Death, Life, death, life
from collapse_sim.analysis.merged_runs import merge
from collapse_sim.analysis.results import read_results
from tests.analysis.conftest import WriteRun

INF = math.inf


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 0.5, 0.05, 0.0], Life(2, 3)),
        ([1.0, 0.05, 0.5, 0.0], Life(3, 3)),  # it came back
        ([1.0, 0.05, 0.5, 0.5], Life(None, 3)),
        ([0.0, 0.0], Life(0, 1)),
        ([1.0, 0.1], Life(None, 1)),  # on the threshold it lives
        ([1.0, 0.05, math.nan, math.nan], Life(1, 1)),  # diverged
        ([1.0, math.nan], Life(None, 0)),
        ([math.nan], None),
        ([], None),
    ],
)
def test_life(values: list[float], expected: Life | None) -> None:
    assert life(dict(enumerate(values)), 0.1) == expected


def test_median_over_seeds() -> None:
    lived = Life(None, 9)
    assert death([Life(2, 9), Life(5, 9), Life(3, 9)]) == Death(3, 3, 3, None, None)
    assert death([Life(2, 9), lived, Life(3, 9)]) == Death(3, 2, 3, None, None)
    assert death([Life(2, 9), lived, lived]).median == INF
    assert death([Life(2, 9), lived]).median == 2  # half have lost it
    assert death([lived]) == Death(1, 0, INF, None, None)
    with pytest.raises(ValueError, match="no seeds"):
        death([])


@pytest.mark.parametrize("n", [5, 6, 8, 9, 12, 30])
def test_interval_covers_the_median_with_95_percent(n: int) -> None:
    """The order statistics l and n + 1 - l miss it with P(Bin(n, 1/2) < l) on either side: the narrowest that do not
    more often than in 5 %."""
    found = death([Life(k, 99) for k in range(1, n + 1)])
    if n == 5:
        assert (found.low, found.high) == (None, None)
        return
    assert found.low is not None
    assert found.high == n + 1 - found.low
    assert 2 * binom.cdf(found.low - 1, n, 0.5) <= 0.05 < 2 * binom.cdf(found.low, n, 0.5)


def test_interval_of_the_censored() -> None:
    found = death([Life(k, 9) for k in (1, 2, 3, 4)] + [Life(None, 9)] * 4)
    assert (found.low, found.median, found.high) == (1, 4, INF)


def test_chains_that_end_early_count_while_they_are_there() -> None:
    """Kaplan and Meier by hand: of 4 at risk one dies at 1 (3/4); one is censored at 1; of 2 one dies at 3 (3/8)."""
    found = death([Life(1, 9), Life(None, 1), Life(3, 9), Life(None, 9)])
    assert found == Death(4, 2, 3, None, None)


def test_json_has_every_part(parts_run: Path, call: Callable[..., Result]) -> None:
    found = json.loads(call("toy", "--json").stdout)
    assert list(found["metrics"]) == ["shares", "shares[0]", "shares[1]"]
    assert found["metrics"]["shares[1]"] == {
        "better": None, "unit": "of the real share", "bounds": [0.0, None], "note": "100 samples", "warning": None,
    }  # fmt: skip
    assert found["arms"]["replace"]["shares[1]"][2]["values"] == [0.05, 0.2]
    deaths = found["deaths"]["replace"]["shares"]
    assert [entry["part"] for entry in deaths] == ["shares[0]", "shares[1]"]
    assert deaths[1] == {
        "part": "shares[1]", "n": 2, "died": 2, "median": 2, "low": None, "high": None, "generations": [2, 3],
        "seen": [3, 3],
    }  # fmt: skip
    living = found["deaths"]["accumulate"]["shares"][1]
    assert (living["died"], living["median"], living["generations"]) == (0, None, [None, None])


def test_merged_runs_keep_their_parts(parts_run: Path, write_run: WriteRun) -> None:
    other = write_run({"replace": {"loss": [[1.0], [2.0]]}}, folder="other", seeds=(0,))
    both = merge({"a": read_results(parts_run), "b": read_results(other)})
    assert both.metrics_without_parts() == ["shares", "loss"]
    assert both.parts["shares"].metrics("shares") == ["shares[0]", "shares[1]"]


def test_plots_have_parts_when_their_metric_is_asked_for(
    parts_run: Path, call: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[list[str]] = []
    monkeypatch.setattr("collapse_sim.analysis.plots.plot", lambda results, metrics, *_: drawn.append(metrics))
    call("toy", "--plot", "a.png")
    call("toy", "--metric", "shares", "--plot", "a.png")
    assert drawn == [["shares"], ["shares", "shares[0]", "shares[1]"]]
