"""Curations: chooses what later fits take from generated rows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from collapse_sim.core.errors import PluginError, RecipeError
from collapse_sim.core.plugins import name_of
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import conditions_of
from collapse_sim.engine import artefacts
from collapse_sim.engine.pieces import layout
from collapse_sim.engine.sample import ROWS_FILE, fitted_model, to_numpy
from collapse_sim.engine.work import JobContext
from collapse_sim.families.held_out_loss import BATCH_ROWS, HeldOutLoss
from collapse_sim.families.hooks import HasTextLikelihood, RowsAtOnce, check_row_weights, conditioning_of
from collapse_sim.plan.curation_specs import CurationSpec, PoolSpec
from collapse_sim.plan.specs import ModelSpec
from collapse_sim.remedies.base import Choice, Judge, Pool, Reading
from collapse_sim.store.jobs import Job, where
from collapse_sim.store.rowfile import RowWriter
from collapse_sim.store.store import Store

OWN_FIGURES = ("accept_rate", "duplicates")  # in every report, beside a curation's own


def curate(job: Job, folder: Path, context: JobContext) -> None:
    """Choose among the candidates of each seed; write curation.safetensors, report.json and, where rows are changed,
    samples.safetensors.

    Raises RecipeError when the curation cannot keep as many rows as the next fit takes.
    """
    spec = job.spec
    assert isinstance(spec, CurationSpec)
    candidates = Candidates(context, spec, job.seeds or (0,))
    choices: list[Choice] = []
    for slot, seed in enumerate(candidates.seeds):
        context.stop.check()
        pool = candidates.pool(slot)
        try:
            choice = spec.curation.choose(pool, spec.rows, Draws((seed,), "curation", spec.generation))
        except ValueError as error:
            raise RecipeError(f"{where(job, (seed,))}: curation: {error}") from error
        check_choice(spec, choice, pool)
        choices.append(choice)
    _write(folder / artefacts.CURATION_FILE, [_index(choice) for choice in choices], spec.stacked)
    if choices[0].columns is not None:
        _write(folder / ROWS_FILE, [choice.columns or {} for choice in choices], spec.stacked)
    (folder / artefacts.REPORT_FILE).write_text(json.dumps(_report(spec, choices)))


class Candidates:
    """The candidates of some seeds, and what a curation may ask about them. Losses are computed once for all seeds."""

    def __init__(self, context: JobContext, spec: PoolSpec, seeds: tuple[int, ...]) -> None:
        self.seeds = seeds
        self._context, self._spec, self._store = context, spec, context.store
        if spec.stacked:
            self._columns = artefacts.candidates_stack(self._store, spec, seeds)
        else:
            self._columns = artefacts.candidates(self._store, spec, seeds[0], context.device)
        self._columns = {name: column.cpu() for name, column in self._columns.items()}
        self._known: dict[Judge, Tensor] = {}
        family, of_real = spec.model.family, spec.offer is None and conditioning_of(spec.model.family) == "real"
        self._have_targets = of_real and bool(conditions_of(spec.model.data.data, family))

    def pool(self, slot: int) -> Pool:
        """The candidates of one seed, by its place among the seeds."""
        spec, seed = self._spec, self.seeds[slot]
        data, info, family = spec.model.data.data, spec.model.data.info, spec.model.family
        verified_by = spec.verified_by if isinstance(spec, CurationSpec) else None
        return Pool(
            columns={name: column[slot] if spec.stacked else column for name, column in self._columns.items()},
            rows=spec.draws[0].rows if spec.draws else spec.candidates,
            data=data,
            info=info,
            family=family,
            real=lambda: artefacts.conditions(self._store, spec.model.data, tuple(info.columns), (seed,), 0, info.rows),
            losses=lambda judge: self.losses(judge)[slot],
            targets=(lambda: self._targets(seed)) if self._have_targets else None,
            evaluated=None if spec.stacked else self._evaluated,
            verifier=partial(artefacts.verifier, self._store, verified_by, seed) if verified_by else None,
            generation=spec.generation if spec.offer is None else 0,
        )

    def _targets(self, seed: int) -> dict[str, Tensor]:
        data, rows = self._spec.model.data, self._spec.draws[0].rows
        return artefacts.conditions(self._store, data, tuple(data.info.columns), (seed,), 0, rows)

    def losses(self, judge: Judge) -> Tensor:
        """(S, N) float64 on the CPU."""
        if judge not in self._known:
            repeats = range(self._spec.loss_draws)
            draws = torch.stack([self._losses(self._fit_of(judge), repeat) for repeat in repeats])
            self._known[judge] = draws.mean(0).reshape(len(self.seeds), -1)
        return self._known[judge]

    def _evaluated(self, judge: Judge, rows: Mapping[str, Tensor], read: Reading) -> Tensor:
        """What `read` makes of rows and a network, (n, ...) on the CPU."""
        fit, n, parts = self._fit_of(judge), len(next(iter(rows.values()))), []
        with fitted_model(self._context, fit, self.seeds) as (model, machine):
            size = fit.family.rows_at_once(model, rows) if isinstance(fit.family, RowsAtOnce) else BATCH_ROWS
            for piece, first in enumerate(range(0, n, size)):
                role, k = f"curation reading/{judge}", self._spec.generation
                draws = Draws(self.seeds, role, k, piece, device=machine.device)
                part = {name: machine.put(column[first : first + size]) for name, column in rows.items()}
                parts.append(read(model, part, draws).cpu())
        return torch.cat(parts)

    def _fit_of(self, judge: Judge) -> ModelSpec:
        return self._spec.model if judge == "model" else self._spec.origin

    def _losses(self, fit: ModelSpec, repeat: int) -> Tensor:
        spec, family = self._spec, fit.family
        with fitted_model(self._context, fit, self.seeds) as (model, machine):
            if isinstance(family, HasTextLikelihood):
                nats, tokens = family.nats(model, self._columns)
                return nats / tokens.clamp(min=1)

            def draws_for(batch: int) -> Draws:
                return Draws(
                    self.seeds, f"curation loss/{batch}", spec.generation, repeat, device=machine.device,
                    dtype=torch.float64 if spec.stacked else torch.float32, stacked=spec.stacked,
                )  # fmt: skip

            columns = HeldOutLoss(
                family, model, self._columns, draws_for, BATCH_ROWS, machine, stacked=spec.stacked
            ).by_row()
        return columns["loss"].double() / columns.get("count", torch.ones(1)).clamp(min=1)


def check_choice(spec: CurationSpec, choice: object, pool: Pool) -> None:
    """Raise PluginError unless a curation returned what it must: `rows` candidates, and weights and changed rows of
    the same number."""

    def wrong(what: str, needed: str) -> PluginError:
        return PluginError(f"{name_of(type(spec.curation))}: `choose` gave {what}; needed: {needed}")

    n = spec.rows
    if not isinstance(choice, Choice):
        raise wrong(type(choice).__name__, "a Choice")
    index = choice.index
    if not isinstance(index, Tensor) or index.shape != (n,) or index.dtype != torch.int64:
        description = f"{tuple(index.shape)} of {index.dtype}" if isinstance(index, Tensor) else type(index).__name__
        raise wrong(f"an index of {description}", f"({n},) of torch.int64")
    if n and not 0 <= int(index.min()) <= int(index.max()) < len(pool):
        raise wrong(f"an index from {int(index.min())} to {int(index.max())}", f"candidates, 0 to {len(pool) - 1}")
    weights = choice.weights
    if weights is not None and (weights.shape != (n,) or weights.dtype != torch.float32):
        raise wrong(f"weights of {tuple(weights.shape)} and {weights.dtype}", f"({n},) of torch.float32")
    if weights is not None and not bool(((weights >= 0) & weights.isfinite()).all() and weights.any()):
        raise wrong("weights that are negative, not finite, or all 0", "finite numbers from 0")
    if weights is not None:
        try:
            check_row_weights(spec.model.family)
        except ValueError as error:
            raise PluginError(f"{name_of(type(spec.curation))}: `choose` gave weights: {error}") from error
    changed = choice.columns
    if changed is not None and set(changed) != set(pool.columns):
        raise wrong(f"changed columns {', '.join(changed)}", ", ".join(pool.columns))
    for name, column in (changed or {}).items():
        like = pool.columns[name]
        if column.shape != (n, *like.shape[1:]) or column.dtype != like.dtype:
            raise wrong(f"{name} of {tuple(column.shape)} and {column.dtype}", f"{(n, *like.shape[1:])}, {like.dtype}")
        if column.is_floating_point() and not bool(column.isfinite().all()):
            raise wrong(f"{name} that is not finite", "finite numbers")


def _index(choice: Choice) -> dict[str, Tensor]:
    weights = {} if choice.weights is None else {"weights": choice.weights}
    return {"index": choice.index, **weights}


def _write(path: Path, each: Sequence[Mapping[str, Tensor]], stacked: bool) -> None:
    """One seed's columns (n, ...), or those of all seeds as (S, n, ...)."""
    names = each[0]
    columns = {name: to_numpy(torch.stack([one[name] for one in each]) if stacked else each[0][name]) for name in names}
    writer = RowWriter(path, len(next(iter(columns.values()))), layout(columns))
    writer.write(0, columns)
    writer.close()


def _report(spec: CurationSpec, choices: Sequence[Choice]) -> dict[str, object]:
    """Numbers of candidates and of kept rows, and figures with one value per seed; a value that is not finite is
    text."""
    figures: dict[str, list[float | str]] = {}
    for slot, choice in enumerate(choices):
        duplicates = len(choice.index) - len(torch.unique(choice.index))
        own = {"accept_rate": spec.rows / max(1, spec.candidates), "duplicates": duplicates, **choice.report}
        for name, value in own.items():
            values = figures.setdefault(name, ["nan"] * len(choices))
            values[slot] = float(value) if math.isfinite(value) else str(float(value))
    return {"candidates": spec.candidates, "kept": spec.rows, "figures": figures}


def read_report(store: Store, spec: CurationSpec, seeds: Sequence[int]) -> dict[str, list[float]]:
    """{figure: a value for each of these seeds}, "candidates" and "kept" included; nan where there is none."""
    by_seed: dict[int, dict[str, float]] = {}
    blocks = (store.whole_or_record(spec, seed) for seed in seeds)
    for block in {block.folder: block for block in blocks if block is not None}.values():
        report = json.loads(block.file(artefacts.REPORT_FILE).read_text())
        shared = {name: float(report[name]) for name in ("candidates", "kept")}
        for slot, seed in enumerate(block.seeds):
            by_seed[seed] = shared | {name: float(values[slot]) for name, values in report["figures"].items()}
    names = dict.fromkeys(name for figures in by_seed.values() for name in figures)
    return {name: [by_seed.get(seed, {}).get(name, math.nan) for seed in seeds] for name in names}
