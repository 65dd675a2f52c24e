"""Figures over settings as tables, in every form."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any

from collapse_sim.analysis.onset import Limit
from collapse_sim.analysis.over_settings import OverSettings, over_settings
from collapse_sim.analysis.over_settings_tables import (
    over_settings_csv,
    over_settings_document,
    over_settings_tables,
    paper_form,
    words,
)
from collapse_sim.analysis.results import Results, read_results
from collapse_sim.analysis.terminal import rendered
from tests.analysis.conftest import Call, WriteRun
from tests.analysis.grids import arm, grid_run, map_arms, share_of, weight_of

WEIGHT, SHARE = "teacher.weights.output", "data.real"
ARMS = {**{f"distill output={w}": arm(None, w) for w in (0.1, 1.0)}, "replace": arm()}
FIRST = Limit()


def loss(own: dict[str, Any], k: int) -> float:
    """Only above generation 0's value for a weight below 0.5."""
    return 1.0 + k * max(0.0, 0.5 - weight_of(own))


def toy(write_run: WriteRun) -> tuple[Results, OverSettings]:
    of = read_results(grid_run(write_run, ARMS, loss, theory={"replace": {"loss": [1.0, 1.5, 2.0]}}))
    return of, over_settings(of, [WEIGHT], 2, ())


def text(of: Results, over: OverSettings, limit: Limit = FIRST) -> list[str]:
    return str(rendered(over_settings_tables(of, "loss", over, limit, None), None)).splitlines()


def test_means_equal_those_of_compare_json_to_the_digit(call: Call, write_run: WriteRun) -> None:
    of, over = toy(write_run)
    arms = json.loads(call("toy", "--generation", "2", "--json").stdout)["arms"]
    document = over_settings_document(of, ["loss"], over, Limit())
    cells = document["metrics"]["loss"]["cells"]
    assert [cell["arm"] for cell in cells] == list(ARMS)
    for cell in cells:
        (entry,) = arms[cell["arm"]]["loss"]
        assert {key: cell[key] for key in ("n", "mean", "low", "high")} == {
            key: entry[key] for key in ("n", "mean", "low", "high")
        }
    assert json.loads(json.dumps(document)) == document


def test_the_document(write_run: WriteRun) -> None:
    of, over = toy(write_run)
    document = over_settings_document(of, ["loss"], over, Limit())
    assert document["against"] == [WEIGHT]
    assert document["values"] == {WEIGHT: [0.1, 1.0]}
    assert document["generation"] == 2
    states = {
        cell["arm"]: (cell["line"], cell["settings"], cell["collapse"]) for cell in document["metrics"]["loss"]["cells"]
    }
    assert states == {
        "distill output=0.1": ("distill", {WEIGHT: 0.1}, "collapsed"),
        "distill output=1.0": ("distill", {WEIGHT: 1.0}, "unclear"),
        "replace": (None, {WEIGHT: None}, "collapsed"),
    }
    assert document["metrics"]["loss"]["collapse"] == (
        "significantly above generation 0 of the same seeds (5 % over 3 cells together, Holm)"
    )


def test_the_terminals_table_over_one_setting(write_run: WriteRun) -> None:
    of, over = toy(write_run)
    title, head, _, low, high, without, note = text(of, over)
    assert (
        title == "loss (lower is better) over teacher.weights.output at generation 2: mean over 4 seeds ± 95 % interval"
    )
    assert head.split() == [WEIGHT, "distill", "without", WEIGHT, "theory"]
    assert low.split() == ["0.1", "1.8000", "±", "0.0082", "†", "-", "-"]
    assert high.split() == ["1", "1.0000", "±", "0.0082", "?", "-", "-"]
    assert without.split() == ["replace", "-", "2.0000", "±", "0.0082", "†", "2.000"]
    assert note == (
        "† collapsed: significantly above generation 0 of the same seeds (5 % over 3 cells together, Holm); ? unclear"
    )


def test_a_map_has_the_second_setting_downwards(write_run: WriteRun) -> None:
    arms = map_arms([0.0, 0.5], [0.1, 1.0])
    del arms["mix real=0.5 output=1.0"]
    of = read_results(grid_run(write_run, {**arms, "replace": arm()}, lambda own, k: 1.0 + k * share_of(own)))
    lines = text(of, over_settings(of, [SHARE, WEIGHT], 2, ()))
    assert lines[1].split() == [WEIGHT, "\\", SHARE, "0", "0.5"]
    assert lines[3].split() == ["0.1", "1.0000", "±", "0.0082", "?", "2.0000", "±", "0.0082", "†"]
    assert lines[4].split() == ["1", "1.0000", "±", "0.0082", "?", "-"]
    assert lines[-1] == "not in this map, without one of the settings: replace"


def test_markdown_and_latex(write_run: WriteRun) -> None:
    of, over = toy(write_run)
    markdown = paper_form(of, ["loss"], over, Limit(), "markdown")
    assert (
        "| teacher.weights.output | distill | without teacher.weights.output | "
        "without teacher.weights.output, theory |" in markdown
    )
    assert "| 0.1 | 1.8000 ± 0.0082 † | - | - |" in markdown
    assert "| replace | - | 2.0000 ± 0.0082 † | 2.000 |" in markdown
    latex = paper_form(of, ["loss"], over, Limit(), "latex")
    assert r"0.1 & $1.8000 \pm 0.0082$ $\dagger$ & -- & -- \\" in latex
    (caption,) = re.findall(r"\\caption\{(.*)\}", latex)
    assert r"$\dagger$ collapsed: significantly above generation 0 of the same seeds (5 \% over 3 cells" in caption


def test_csv_has_the_settings_as_columns(write_run: WriteRun) -> None:
    of, over = toy(write_run)
    first, second, third = csv.DictReader(io.StringIO(over_settings_csv(of, ["loss"], over, Limit())))
    assert first[f"arm.{WEIGHT}"] == "0.1"
    assert (second["arm"], second["collapse"], second["theory"]) == ("distill output=1.0", "unclear", "")
    assert (third["line"], third[f"arm.{WEIGHT}"], third["theory"]) == ("", "", "2.0")
    mean = of.mean("replace", "loss", 2)
    assert mean is not None
    assert (float(third["mean"]), float(third["low"]), float(third["high"])) == (mean.mean, mean.low, mean.high)


def test_a_metric_without_a_direction_asks_for_a_limit(write_run: WriteRun) -> None:
    of = read_results(grid_run(write_run, ARMS, loss, better={"loss": None}))
    over = over_settings(of, [WEIGHT], 2, ())
    assert words(of, "loss", over, Limit()) is None
    assert text(of, over)[-1].startswith("loss has no better direction, so where collapse begins has to be stated")
    assert "† collapsed: significantly above 1.5 (5 %" in text(of, over, Limit(1.5, False, "above"))[-1]


def test_one_seed_says_that_nothing_can_be_tested(write_run: WriteRun) -> None:
    of = read_results(grid_run(write_run, ARMS, loss, seeds=[0]))
    assert text(of, over_settings(of, [WEIGHT], 2, ()))[-1] == "where collapse begins needs at least two seeds"


def test_what_is_not_scored_yet_is_a_dash(write_run: WriteRun) -> None:
    run = {name: {"loss": [[1.0, 1.1], [2.0, 2.1]][: 1 if name == "distill output=1.0" else 2]} for name in ARMS}
    of = read_results(write_run(run, seeds=[0, 1], settings={"arms": ARMS}))
    lines = text(of, over_settings(of, [WEIGHT], 1, ()))
    assert lines[4].split() == ["1", "-", "-"]
    assert text(of, over_settings(of, [WEIGHT], 5, ())) == []


def test_many_generations_are_thinned(write_run: WriteRun) -> None:
    of = read_results(grid_run(write_run, ARMS, loss, generations=30))
    over = over_settings(of, ["generation", WEIGHT], None, list(range(31)))
    assert text(of, over)[1].split()[3:] == ["0", "1", "2", "5", "10", "20", "30"]
    cells = over_settings_document(of, ["loss"], over, Limit())["metrics"]["loss"]["cells"]
    assert len(cells) == 2 * 31
    assert {cell["collapse"] for cell in cells if cell["generation"] == 0} == {None}
