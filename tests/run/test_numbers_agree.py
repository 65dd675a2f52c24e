"""All formats in which a run's figures leave the program agree to the digit.

A new format is one more function in FORMATS: from a run to its figures, each a number, or the text that stands for one.
"""

from __future__ import annotations

import csv
import json
import re
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import collapse_sim
from collapse_sim.analysis.numbers import with_interval
from collapse_sim.analysis.report.report import build
from collapse_sim.analysis.report.report_pages import html
from collapse_sim.recipe.beside import IN_PYTHON
from collapse_sim.run.preparing import RunOptions
from collapse_sim.run.text_samples import file_name
from tests.run.test_track_tensorboard import points_in

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
    return of_document(json.loads(command(run, "--json")))


def of_document(document: Mapping[str, Any]) -> Figures:
    """What `compare --json` has."""
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


def as_report(run: collapse_sim.Run) -> Figures:
    """The numbers in the page, and the cells of its first table."""
    page = html(build([run.path]))
    numbers = re.search(r'id="numbers">(.*?)</script>', page, re.DOTALL)
    section = re.search(r'<section id="comparison">(.*?)</section>', page, re.DOTALL)
    assert numbers is not None
    assert section is not None
    figures = dict(of_document(json.loads(numbers[1])))
    metrics = [
        head.partition("<br>")[0].split(" ")[0] for head in re.findall(r'<th scope="col">(.*?)</th>', section[1])
    ][1:]
    for row in re.findall(r'<tr>(<th scope="row".*?)</tr>', section[1]):
        texts = (re.sub("<.*?>", "", cell) for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row))
        arm, *cells = (" ".join(text.removesuffix("*").split()) for text in texts)
        figures |= {
            Figure("cell", arm, metric, run.generations): text for metric, text in zip(metrics, cells, strict=True)
        }
    return figures


def as_tensorboard(run: collapse_sim.Run) -> Figures:
    """What a finished run sends when it is run again with a tracker, read back by TensorBoard's own reader."""
    options = RunOptions(RECIPE, out=run.path, data_dir=run.path.parent, trackers=["tensorboard"], names=IN_PYTHON)
    with options.session(called=True) as session:
        session.run(quiet=True)
    arms = {file_name(arm): arm for arm in run.arms}
    figures: dict[Figure, float | str] = {}
    for curve, points in points_in(run.path / "tensorboard").items():
        metric, _, of = curve.partition("/")
        arm, _, label = of.partition("/")
        for k, value in points.items() if metric in run.metrics else ():
            seed = int(label.removeprefix("seed-")) if label.startswith("seed-") else None
            figures[Figure("mean" if seed is None else "score", arms[arm], metric, k, seed)] = value
    return figures


def single(value: float | str) -> float | str:
    """A number in 32 bits."""
    return value if isinstance(value, str) else float(struct.unpack("f", struct.pack("f", value))[0])


FORMATS: Mapping[str, Callable[[collapse_sim.Run], Figures]] = {
    "json": as_json,
    "csv": as_csv,
    "frames": as_frames,
    "markdown": as_markdown,
    "latex": as_latex,
    "report": as_report,
    "tensorboard": as_tensorboard,
}
IN_32_BITS = ("tensorboard",)
OF_JSON = 3 * 2 * 3 * 7 + 2 * 2 * 3 * 3
LEAST = {  # figures of each
    "json": OF_JSON, "csv": 72, "frames": 162, "markdown": 6, "latex": 6, "report": OF_JSON + 6, "tensorboard": 90,
}  # fmt: skip


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
    stored = single if name in IN_32_BITS else lambda value: value
    assert compared == {figure: stored(of_results[figure]) for figure in compared}
    others = {figure.kind for figure in figures if figure not in of_results}
    assert others <= {"difference", "p", "p_holm"}


def test_differences_and_p_values_are_the_same_in_all_that_have_them(finished: collapse_sim.Run) -> None:
    from_json, from_frames = as_json(finished), as_frames(finished)
    kinds = ("difference", "p", "p_holm")
    assert {f: v for f, v in from_json.items() if f.kind in kinds} == {
        f: v for f, v in from_frames.items() if f.kind in kinds
    }
