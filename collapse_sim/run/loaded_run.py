"""Runs in Python: their figures as data frames, their samples as arrays, and their models.

torch is imported for models, and for the texts of samples.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from collapse_sim.analysis.choices import check_cells, checked_names, chosen_generations, labelled
from collapse_sim.analysis.frames import (
    claims_frame,
    compared_frame,
    costs_frame,
    definitions_frame,
    history_frame,
    rates_frame,
    scores_frame,
)
from collapse_sim.analysis.merged_runs import merge
from collapse_sim.analysis.numbers import with_interval
from collapse_sim.analysis.reached import common, unfinished
from collapse_sim.analysis.results import Results, read_results
from collapse_sim.analysis.table import seeds_over
from collapse_sim.core.errors import DivergedError, RecipeError, StoreError
from collapse_sim.run.loaded_samples import MAKE, Samples, place, stored_columns
from collapse_sim.run.sample_files import TEXT_KINDS, texts_by_row
from collapse_sim.store.run_directory import find_run, read_run
from collapse_sim.ui import formatting
from collapse_sim.ui.run_status import Word, run_status

if TYPE_CHECKING:
    from pandas import DataFrame

    from collapse_sim.analysis.fit_records import FitRecord
    from collapse_sim.run.saved_run import SavedRun, StoredModel

Metrics = str | Sequence[str] | None
SHOWN = 8  # arms in a run's description


class Runs:
    """One run, or several side by side: of several, arms are named "RUN/arm", and equal seeds are paired.

    Figures are those at the time of loading. `runs` has the single runs by name, `results` what all figures come from.
    """

    def __init__(self, runs: Mapping[str, Run], results: Results) -> None:
        self.runs, self.results = dict(runs), results

    @property
    def arms(self) -> tuple[str, ...]:
        return self.results.arms

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.results.seeds

    @property
    def generations(self) -> int:
        """The last generation's number, as planned; generation 0 is fitted to real rows."""
        return self.results.generations

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of all metrics, their parts (such as "class_recall[3]") left out."""
        return tuple(self.results.metrics_without_parts())

    @property
    def baseline(self) -> str:
        """The arm that `compare` compares the others with."""
        return self.results.baseline

    def scores(self, metric: Metrics = None, generation: int | str | None = None) -> DataFrame:
        """A row per score: run, arm, metric, generation, seed, value, theory (NaN without one), as `compare --csv`.

        `metric`: one or several, with their parts; None: all. `generation`: a number, "last" (the last that all arms
        have) or None: all. The value is in the metric's unit (`compare` has it), NaN for a chain that diverged. Raises
        RecipeError for a metric or generation that is not there.
        """
        metrics, chosen = self._chosen(metric, generation)
        return scores_frame({label: run.results for label, run in self.runs.items()}, metrics, chosen)

    def compare(
        self, metric: Metrics = None, generation: int | str | None = "last", baseline: str | None = None
    ) -> DataFrame:
        """A row per arm, metric and generation, with the figures of `compare --json`.

        Over seeds: n, mean, low, high (95 % interval); over held-out rows: rows_n, rows_low, rows_high; theory;
        difference (arm - baseline, paired by seed) with its n and interval; p (two-sided) and p_holm (corrected for all
        arms with this baseline). NaN where there is none. `generation`: a number, "last" or "all". Raises RecipeError
        for a metric, generation or baseline that is not there.
        """
        results = self.results
        if baseline is not None:
            checked_names("baseline", [baseline], list(results.arms), "the arms are")
            results = replace(results, baseline=baseline)
        return compared_frame(results, *self._chosen(metric, generation))

    def claims(self) -> DataFrame:
        """A row per claim of the recipe: what it says, its status (holds, fails, undecided), the reason and the figures
        behind it, as `verify --json`."""
        return self._of_each(lambda run: claims_frame(run.results))

    def definitions(self) -> DataFrame:
        """A row per arm and definition of model collapse: seen, not seen, undecided or not measured, the figures and
        the rule, as `compare --definitions --json`."""
        return definitions_frame(self.results)

    def rates(self, metric: Metrics = None) -> DataFrame:
        """A row per metric and arm: the change per generation, with its 95 % interval, and whether it levels off, as
        `compare --rates --json`. Raises RecipeError for a metric that is not there."""
        return rates_frame(self.results, self._named(metric))

    def history(self) -> DataFrame:
        """A row per evaluation of each fit: the mean loss of the batches since the evaluation before, and of validation
        rows, in the unit of test_loss. A fit that several arms share is listed once: "arms" is a tuple.

        Raises StoreError when the run's store cannot be found.
        """
        return self._of_each(lambda run: history_frame(run.fits()))

    def costs(self) -> DataFrame:
        """A row per fit: seconds of fitting and sampling, rows per second, bytes, device, as `status --costs --json`.

        Raises StoreError when the run's store cannot be found.
        """
        return self._of_each(lambda run: costs_frame(run.fits()))

    def _of_each(self, frame: Callable[[Run], DataFrame]) -> DataFrame:
        """The frames of all runs below each other, with the run's name in the first column."""
        import pandas as pd

        frames = {label: frame(run) for label, run in self.runs.items()}
        for label, own in frames.items():
            own.insert(0, "run", label)
        filled = [own for own in frames.values() if len(own)] or [next(iter(frames.values()))]
        return pd.concat(filled, ignore_index=True)

    def _chosen(self, metric: Metrics, generation: int | str | None) -> tuple[list[str], list[int] | None]:
        names = self._named(metric)
        return self.results.with_parts(names), chosen_generations(generation, self.results, names, "generation")

    def _named(self, metric: Metrics) -> list[str]:
        asked = [metric] if isinstance(metric, str) else metric
        if asked is None:
            return self.results.metrics_without_parts()
        return checked_names("metric", asked, list(self.results.metrics), "the run measures")

    def __repr__(self) -> str:
        return "\n".join([f"{len(self.runs)} runs:", *map(repr, self.runs.values())])

    def _repr_html_(self) -> str:
        return f"<div><p>{'<br>'.join(map(escape, self._lines()))}</p>{self._table()}</div>"

    def _lines(self) -> list[str]:
        return [line for run in self.runs.values() for line in run._lines()[:2]]

    def _table(self) -> str:
        """Arms by metrics at the last generation that all arms have."""
        results, metrics = self.results, self.metrics
        last = common(results, metrics)
        if last is None:
            return ""
        head = "".join(f"<th>{formatting.in_html(metric)}</th>" for metric in metrics)
        body = ""
        for arm in results.arms:
            of_arm = [results.mean(arm, metric, last) for metric in metrics]
            cells = (formatting.in_html(with_interval(m.mean, m.low, m.high)) if m else "-" for m in of_arm)
            body += f"<tr><th>{formatting.in_html(arm)}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        means = [mean for metric in metrics for mean in results.means(metric, last).values()]
        caption = f"generation {last}: mean over {seeds_over(means)}"
        return f"<table><caption>{caption}</caption><tr><th>arm</th>{head}</tr>{body}</table>"


class Run(Runs):
    """One run directory. `path` is its folder, `recipe` its recipe with all defaults, as a new mapping each time."""

    def __init__(
        self, path: Path, store: Path | None = None, data_dir: Path | None = None, plugins: bool | None = None
    ) -> None:
        self.path = path
        self._store, self._data_dir, self._plugins = store, data_dir or default_data_dir(), plugins
        results = read_results(path)
        for problem in results.problems:
            warnings.warn(problem, stacklevel=3)
        super().__init__({results.name: self}, results)

    @property
    def name(self) -> str:
        return self.results.name

    @property
    def recipe(self) -> dict[str, Any]:
        return dict(read_run(self.path).get("settings", {}))

    @property
    def status(self) -> Word:
        """As it is now: starting, running, finished, interrupted, failed, stopped (its process is gone), unfinished or
        not started."""
        return run_status(self.path).word

    @property
    def diverged(self) -> dict[str, dict[int, int]]:
        """{arm: {seed: generation}} of the chains that ended because a fit or its samples were not finite."""
        return {arm: dict(ends) for arm, ends in self.results.diverged.items()}

    def fits(self) -> list[FitRecord]:
        """What the store recorded of each fit behind the scores. Raises StoreError when it cannot be found."""
        from collapse_sim.analysis.fit_records import fit_records

        records, problems = fit_records(self.path, self._store)
        for problem in problems:
            warnings.warn(problem, stacklevel=3)
        return records

    def samples(self, arm: str | None = None, generation: int | None = None, seed: int | None = None) -> Samples:
        """What a model generated, as the run stored it; by default: first arm, last scored generation, first seed.

        Raises RecipeError for an arm, generation or seed that the run does not have, DivergedError for a chain that
        ended before, StoreError for rows that are not there yet or were not kept.
        """
        arm, k, seed = self._cell(arm, generation, seed)
        if (end := self.results.diverged.get(arm, {}).get(seed)) is not None and end <= k:
            raise DivergedError(f"{place(arm, k, seed)}: no samples, its chain diverged at generation {end}")
        columns = stored_columns(self.path, self._store, arm, k, seed)
        return Samples(arm, k, seed, columns, self._texts)

    def model(self, arm: str | None = None, generation: int | None = None, seed: int | None = None) -> StoredModel:
        """A fitted model: `.module()` is the torch module, `.draw(rows)` draws new rows. Imports torch, reads the data.

        By default of the first arm, last scored generation, first seed. Raises what `samples` raises, and RecipeError
        for a generation whose rows are from files.
        """
        from collapse_sim.run.saved_run import ModelChoice

        arm, k, seed = self._cell(arm, generation, seed)
        try:
            return self._saved.model(ModelChoice(arm, k, seed))
        except StoreError as error:
            raise StoreError(f"{place(arm, k, seed)}: no model: {error}; {MAKE}") from error

    @cached_property
    def _saved(self) -> SavedRun:
        from collapse_sim.run.saved_run import SavedRun

        return SavedRun.open(self.path, self._data_dir, self._store, self._plugins)

    def _cell(self, arm: str | None, generation: int | None, seed: int | None) -> tuple[str, int, int]:
        results = self.results
        for name, value in (("generation", generation), ("seed", seed)):
            if value is not None and not isinstance(value, SupportsIndex):
                raise RecipeError(f"{name}: found {value!r}; allowed: a whole number")
        check_cells(
            results,
            [] if arm is None else [arm],
            [] if generation is None else [generation],
            [] if seed is None else [seed],
            option="",
        )
        arm = results.arms[0] if arm is None else arm
        scored = max((k for metric in results.metrics for k in results.scored(metric, [arm])), default=0)
        return arm, scored if generation is None else generation, results.seeds[0] if seed is None else seed

    def _texts(self, columns: Mapping[str, np.ndarray]) -> list[Any] | None:
        """The decoded rows, if the data is text."""
        kind = read_run(self.path).get("kind")  # not in runs of earlier versions
        if kind not in (*TEXT_KINDS, None):
            return None
        info = self._saved.experiment.info
        if info.kind not in TEXT_KINDS:
            return None
        rows = texts_by_row(columns, info)
        return [row["text"] for row in rows] if info.kind == "text" else rows

    def __repr__(self) -> str:
        return "\n  ".join(self._lines())

    def _lines(self) -> list[str]:
        results = self.results
        arms = [*results.arms[:SHOWN], *([f"and {len(results.arms) - SHOWN} more"] * (len(results.arms) > SHOWN))]
        diverged = sum(map(len, results.diverged.values()))
        note = f"; {formatting.plural(diverged, 'chain')} diverged" if diverged else ""
        missing = unfinished(results)
        lines = [
            f"Run {results.name} ({self.status}{note}) in {self.path}",
            f"arms: {', '.join(arms)}; {formatting.seeds(results.seeds, 2)}; generations 0 to {results.generations}",
            f"metrics: {', '.join(self.metrics)}",
            *([missing] if missing else []),
        ]
        return list(map(formatting.plain, lines))


def default_data_dir() -> Path:
    """COLLAPSE_SIM_DATA, or the folder "data"."""
    return Path(os.environ.get("COLLAPSE_SIM_DATA") or "data")


def load_run(
    path: str | Path,
    *,
    store: str | Path | None = None,
    data_dir: str | Path | None = None,
    plugins: bool | None = None,
) -> Run:
    """The run in a run directory, or of this name below ./runs, as far as it is.

    `store`: the folder of its artefacts, by default the run's own. `data_dir`: the folder of data sets, read for models
    and texts, by default COLLAPSE_SIM_DATA or "data". `plugins`: as `run --plugins`. Raises RecipeError when there is
    no run, StoreError when it is damaged or of a newer version. Problems of its journal are warnings.
    """
    folder = find_run(os.fspath(path))
    return Run(folder, None if store is None else Path(store), None if data_dir is None else Path(data_dir), plugins)


def load_runs(paths: Iterable[str | Path], *, data_dir: str | Path | None = None, plugins: bool | None = None) -> Runs:
    """Several runs side by side, as `compare RUN RUN` has them. Raises what `load_run` raises; RecipeError for none."""
    folders = dict.fromkeys(find_run(os.fspath(path)) for path in ([paths] if isinstance(paths, str | Path) else paths))
    if not folders:
        raise RecipeError("load_runs: no run is named; give one or more run directories")
    runs = {folder: load_run(folder, data_dir=data_dir, plugins=plugins) for folder in folders}
    if len(runs) == 1:
        return next(iter(runs.values()))
    by_label = {label: runs[folder] for label, folder in labelled({f: r.results for f, r in runs.items()}).items()}
    return Runs(by_label, merge({label: run.results for label, run in by_label.items()}))
