"""All formats in which a run's figures leave the program agree to the digit.

A new format is one more function in FORMATS: from a run to its figures, each a number, or the text that stands for one.
"""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

import collapse_sim
from collapse_sim.analysis.numbers import bare_probability, with_interval
from collapse_sim.analysis.paired_tests import paired_tests
from collapse_sim.analysis.report.report import build
from collapse_sim.run.text_samples import file_name
from tests.run.event_files import in_32_bits, points_in
from tests.run.shown_tables import ShownTable, html_tables, markdown_tables

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
    """Where a figure belongs, and what it is: "score" (of a seed), "mean", "low", "high", "difference" (to the
    baseline), "p" and "p_holm" are numbers; "mean cell", "difference cell", "p cell", "p_holm cell" are texts."""

    kind: str
    arm: str
    metric: str
    generation: int
    seed: int | None = None


Figures = Mapping[Figure, float | str]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> collapse_sim.Run:
    folder = tmp_path_factory.mktemp("agreed")
    recipe = folder / "recipe.yaml"
    recipe.write_text(json.dumps(RECIPE))  # which is YAML, too
    options = ("--out", folder / "run", "--data-dir", folder, "--track", "tensorboard", "--quiet")
    command("run", recipe, *options)
    return collapse_sim.load_run(folder / "run")


def command(*words: str | Path) -> str:
    """What a command prints."""
    argv = [sys.executable, "-m", "collapse_sim", *map(str, words)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=True).stdout


def as_json(run: collapse_sim.Run) -> Figures:
    document = json.loads(command("compare", run.path, "--json"))
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
    rows = csv.DictReader(command("compare", run.path, "--csv").splitlines())
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
    printed = command("compare", run.path, option).splitlines()
    lines = [line for line in printed if re.search(bar, line) and "---" not in line]
    head, *rows = ([cell.strip() for cell in re.split(bar, line.strip().strip("|"))] for line in lines)
    figures: dict[Figure, float | str] = {}
    for arm, *texts in rows:
        for column, text in zip(head[1:], texts, strict=True):
            metric = column.replace("\\", "").split(" ")[0]
            if column and "theory" not in column:
                figures[Figure("mean cell", arm, metric, run.generations)] = plain(text)
    return figures


def as_report(run: collapse_sim.Run) -> Figures:
    return in_tables(html_tables(build([run.path])), run.generations)


def as_report_in_markdown(run: collapse_sim.Run) -> Figures:
    return in_tables(markdown_tables(build([run.path])), run.generations)


def in_tables(tables: Sequence[ShownTable], last: int) -> Figures:
    """The cells of the comparison and of each metric's tables; a figure that is shown twice must be the same."""
    figures: dict[Figure, float | str] = {}
    for table in tables:
        for arm, *texts in table.rows:
            for header, text in zip(table.headers[1:], texts, strict=True):
                figure = figure_of(table, header, arm, last)
                if figure is not None and arm != "theory" and text != "-":
                    plain = text.removesuffix("*").strip()  # the star of the best
                    assert figures.setdefault(figure, plain) == plain, figure
    return figures


def figure_of(table: ShownTable, header: str, arm: str, last: int) -> Figure | None:
    """What a column of a report has; None for other tables and columns."""
    if table.section == "Comparison":
        return Figure("mean cell", arm, header.split(" ")[0], last)
    if table.section != "Curves and figures of each metric":
        return None
    if table.headers[0] == r"arm \ generation":
        return Figure("mean cell", arm, table.heading, int(header))
    kinds = {"mean": "mean", "minus replace": "difference", "p": "p", "p (Holm)": "p_holm"}
    return Figure(f"{kinds[header]} cell", arm, table.heading, last) if header in kinds else None


def as_tensorboard(run: collapse_sim.Run) -> Figures:
    labels = {f"seed-{seed}": seed for seed in run.seeds} | {f"mean-of-{len(run.seeds)}-seeds": None}
    curves = {
        f"{metric}/{file_name(arm)}/{label}": Figure("mean" if seed is None else "score", arm, metric, 0, seed)
        for metric in run.metrics
        for arm in run.arms
        for label, seed in labels.items()
    }
    points = points_in(run.path / "tensorboard")
    return {of._replace(generation=k): value for path, of in curves.items() for k, value in points[path].items()}


FORMATS: Mapping[str, Callable[[collapse_sim.Run], Figures]] = {
    "json": as_json,
    "csv": as_csv,
    "frames": as_frames,
    "markdown": as_markdown,
    "latex": as_latex,
    "report": as_report,
    "report in markdown": as_report_in_markdown,
    "tensorboard": as_tensorboard,
}
# Figures of each: 3 arms x 2 metrics x 3 generations, 4 seeds; 2 arms have differences to the baseline.
NUMBERS, CELLS = 3 * 2 * 3 * (4 + 3) + 2 * 2 * 3 * 3, 3 * 2 * 3 + 2 * 2 * 3
COUNTS = {
    "json": NUMBERS,
    "csv": 72,
    "frames": NUMBERS,
    "markdown": 6,
    "latex": 6,
    "report": CELLS,
    "report in markdown": CELLS,
    "tensorboard": 72 + 18,
}
KEPT = {"tensorboard": in_32_bits}  # what a format keeps of a number; the others keep all of it


def agreed(run: collapse_sim.Run) -> Figures:
    """What every format must show, from the results themselves."""
    results = run.results
    figures: dict[Figure, float | str | None] = {}
    for metric in results.metrics:
        for k in range(results.generations + 1):
            others = [arm for arm in results.arms if arm != results.baseline]
            differences = {arm: results.paired_difference(arm, results.baseline, metric, k) for arm in others}
            tests = paired_tests(results, metric, k, differences)
            for arm in results.arms:
                mean, difference, test = results.mean(arm, metric, k), differences.get(arm), tests.get(arm)
                assert mean is not None
                shown: dict[str, float | str | None] = {"mean": mean.mean, "low": mean.low, "high": mean.high}
                shown["mean cell"] = with_interval(mean.mean, mean.low, mean.high)
                if difference is not None and test is not None:
                    ends = difference.low, difference.high
                    shown |= {"difference": difference.mean, "p": test.p, "p_holm": test.holm}
                    shown["difference cell"] = with_interval(difference.mean, *ends, signed=True)
                    shown |= {"p cell": bare_probability(test.p), "p_holm cell": bare_probability(test.holm)}
                figures |= {Figure(kind, arm, metric, k): value for kind, value in shown.items()}
                scores = results.scores(arm, metric, k)
                figures |= {Figure("score", arm, metric, k, seed): value for seed, value in scores.items()}
    return {figure: value for figure, value in figures.items() if value is not None}


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_shows_the_figures_of_the_results(finished: collapse_sim.Run, name: str) -> None:
    figures, of_results = FORMATS[name](finished), agreed(finished)
    assert len(figures) == COUNTS[name]
    expected = {figure: of_results[figure] for figure in figures}
    if kept := KEPT.get(name):
        expected = {figure: kept(float(value)) for figure, value in expected.items()}
    assert figures == expected
