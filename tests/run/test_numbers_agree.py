"""All formats in which a run's figures leave the program agree to the digit.

A new format is one more function in FORMATS: from a run to its figures, each a number, or the text that stands for one.
"""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

import collapse_sim
from collapse_sim.analysis.numbers import with_interval

RECIPE = {
    "name": "agreed",
    "data": {"use": "gaussian", "dimensions": 2, "rows": 30},
    "model": {"use": "gaussian"},
    "generations": 2,
    "seeds": 4,
    "arms": {
        "replace": {"data": "replace"},
        "accumulate": {"data": "accumulate"},
        "half real": {"data": {"use": "mix", "synthetic": 0.5}},
    },
    "metrics": ["variance_ratio", "w2"],
}
ROOT = Path(collapse_sim.__file__).parents[1]


class Figure(NamedTuple):
    """Where a figure belongs, and what it is: "score" (of a seed), "mean", "low", "high", "difference", "p", "cell"."""

    kind: str
    arm: str
    metric: str
    generation: int
    seed: int | None = None


Figures = Mapping[Figure, float | str]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> collapse_sim.Run:
    folder = tmp_path_factory.mktemp("agreed")
    return collapse_sim.run(RECIPE, out=folder / "run", data_dir=folder, quiet=True)


def command(run: collapse_sim.Run, *options: str) -> str:
    """What `compare` prints."""
    argv = [sys.executable, "-m", "collapse_sim", "compare", str(run.path), *options]
    return subprocess.run(argv, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True).stdout


def as_json(run: collapse_sim.Run) -> Figures:
    document = json.loads(command(run, "--json"))
    figures: dict[Figure, float | str] = {}
    for arm, by_metric in document["arms"].items():
        for metric, entries in by_metric.items():
            for entry in entries:
                k = entry["generation"]
                figures |= {Figure(kind, arm, metric, k): entry[kind] for kind in ("mean", "low", "high")}
                scores = zip(document["seeds"], entry["values"], strict=True)
                figures |= {Figure("score", arm, metric, k, seed): value for seed, value in scores}
    for arm, by_metric in document["differences"].items():
        for metric, entries in by_metric.items():
            for entry in entries:
                names = {"difference": "mean", "p": "p", "p_holm": "p_holm"}
                k = entry["generation"]
                figures |= {Figure(kind, arm, metric, k): entry[name] for kind, name in names.items()}
    return figures


def as_csv(run: collapse_sim.Run) -> Figures:
    rows = csv.DictReader(command(run, "--csv").splitlines())
    return {
        Figure("score", row["arm"], row["metric"], int(row["generation"]), int(row["seed"])): float(row["value"])
        for row in rows
    }


def as_frames(run: collapse_sim.Run) -> Figures:
    figures: dict[Figure, float | str] = {
        Figure("score", row.arm, row.metric, row.generation, row.seed): row.value for row in run.scores().itertuples()
    }
    for row in run.compare(generation="all").itertuples():
        kinds = ("mean", "low", "high", *(("difference", "p", "p_holm") if row.arm != row.baseline else ()))
        figures |= {Figure(kind, row.arm, row.metric, row.generation): getattr(row, kind) for kind in kinds}
    return figures


def as_markdown(run: collapse_sim.Run) -> Figures:
    return cells(run, "--markdown", r"\|", lambda cell: cell.replace("**", ""))


def as_latex(run: collapse_sim.Run) -> Figures:
    def plain(cell: str) -> str:
        cell = re.sub(r"\\mathbf\{(.*?)\}", r"\1", cell.strip("$"))
        cell = re.sub(r" \\times 10\^\{(-?\d+)\}", lambda power: f"e{int(power[1]):+03d}", cell)
        return cell.replace(r" \pm ", " ± ").replace(r"\ [", " [")

    return cells(run, "--latex", r"&|\\\\", plain)


def cells(run: collapse_sim.Run, option: str, bar: str, plain: Callable[[str], str]) -> Figures:
    """The table's cells of the last generation; `bar` separates columns, `plain` takes the markup off."""
    lines = [line for line in command(run, option).splitlines() if re.search(bar, line) and "---" not in line]
    head, *rows = ([cell.strip() for cell in re.split(bar, line.strip().strip("|"))] for line in lines)
    figures: dict[Figure, float | str] = {}
    for arm, *texts in rows:
        for column, text in zip(head[1:], texts, strict=True):
            metric = column.replace("\\", "").split(" ")[0]
            if column and "theory" not in column:
                figures[Figure("cell", arm, metric, run.generations)] = plain(text)
    return figures


FORMATS: Mapping[str, Callable[[collapse_sim.Run], Figures]] = {
    "json": as_json,
    "csv": as_csv,
    "frames": as_frames,
    "markdown": as_markdown,
    "latex": as_latex,
}
LEAST = {"json": 3 * 2 * 3 * 7 + 2 * 2 * 3 * 3, "csv": 72, "frames": 162, "markdown": 6, "latex": 6}  # figures of each


def agreed(run: collapse_sim.Run) -> Figures:
    """What every format must show, from the results themselves."""
    results = run.results
    figures: dict[Figure, float | str] = {}
    for arm in results.arms:
        for metric in results.metrics:
            for k in range(results.generations + 1):
                mean = results.mean(arm, metric, k)
                assert mean is not None
                ends = {"mean": mean.mean, "low": mean.low, "high": mean.high}
                figures |= {Figure(kind, arm, metric, k): value for kind, value in ends.items() if value is not None}
                scores = results.scores(arm, metric, k)
                figures |= {Figure("score", arm, metric, k, seed): value for seed, value in scores.items()}
                figures[Figure("cell", arm, metric, k)] = with_interval(mean.mean, mean.low, mean.high)
    return figures


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_shows_the_figures_of_the_results(finished: collapse_sim.Run, name: str) -> None:
    figures, of_results = FORMATS[name](finished), agreed(finished)
    assert len(figures) >= LEAST[name]
    compared = {figure: value for figure, value in figures.items() if figure in of_results}
    assert compared == {figure: of_results[figure] for figure in compared}
    others = {figure.kind for figure in figures if figure not in of_results}
    assert others <= {"difference", "p", "p_holm"}


def test_differences_and_p_values_are_the_same_in_all_that_have_them(finished: collapse_sim.Run) -> None:
    from_json, from_frames = as_json(finished), as_frames(finished)
    kinds = ("difference", "p", "p_holm")
    assert {f: v for f, v in from_json.items() if f.kind in kinds} == {
        f: v for f, v in from_frames.items() if f.kind in kinds
    }
