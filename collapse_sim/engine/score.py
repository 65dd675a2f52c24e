"""Scoring: what metrics read, features kept in the store, and the validation loss during a fit."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from collapse_sim.core.errors import PluginError
from collapse_sim.core.events import Note
from collapse_sim.core.machine import Machine
from collapse_sim.core.plugins import name_of
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Data, Info
from collapse_sim.engine import artefacts
from collapse_sim.engine.pieces import Pieces, in_pieces
from collapse_sim.engine.sample import to_numpy
from collapse_sim.engine.work import JobContext
from collapse_sim.families.base import ModelFamily
from collapse_sim.families.held_out_loss import BATCH_ROWS, HeldOutLoss, role_of_batch
from collapse_sim.metrics.base import (
    ClassifyingMap,
    Evaluation,
    FeatureMap,
    HeldOutRows,
    Need,
    PartsMetric,
    RowMetric,
    WeightedMap,
    Which,
    rows_drawn,
)
from collapse_sim.plan.score_specs import FeatureSpec, ScoreSpec
from collapse_sim.plan.specs import DataSpec, SampleSpec
from collapse_sim.store.blocks import Block
from collapse_sim.store.jobs import Job
from collapse_sim.store.rowfile import INFLUENCE, VALUES_FILE, RowFile
from collapse_sim.store.spec import Spec
from collapse_sim.store.store import Store

FEATURES_FILE, SCORES_FILE = "features.safetensors", "scores.json"
PARTS_FILE = "parts.json"  # the values of a metric's parts: {part: [one value per seed]}
SPLITS: dict[Which, artefacts.Split] = {
    "samples": "samples", "outputs": "samples", "real": "real", "held_out": "held_out",
}  # fmt: skip
PIECE_ROWS = 200  # rows per piece of features: Inception takes 20 s for them on two cores


class StoredEvaluation:
    """metrics.base.Evaluation over the store."""

    def __init__(self, spec: ScoreSpec, seeds: tuple[int, ...], context: JobContext) -> None:
        self.info: Info = spec.data.info
        self.data: Data = spec.data.data
        self.family: ModelFamily = spec.model.family
        self.generation, self.seeds, self.stacked = spec.generation, seeds, spec.stacked
        self.machine: Machine = context.machine_for(spec.model)
        self._spec, self._context = spec, context

    def _allow(self, need: Need) -> None:
        if need not in self._spec.metric.needs:
            raise AssertionError(f"{type(self._spec.metric).__name__} reads {need!r}, which its `needs` does not list")

    def model(self) -> nn.Module:
        self._allow("model")
        return artefacts.model(self._context.store, self._spec.model, self.seeds, self.machine)

    def origin(self) -> nn.Module:
        self._allow("origin")
        return artefacts.model(self._context.store, self._spec.origin, self.seeds, self.machine)

    def rows(self, which: Which) -> Mapping[str, Tensor]:
        self._allow(which)
        return rows(self._context.store, self._spec, self.seeds, which)

    def features(self, feature_map: FeatureMap, which: Which, most: int | None = None) -> Tensor:
        return self._features(feature_map, which, most)["features"]

    def probabilities(self, feature_map: FeatureMap, which: Which) -> Tensor:
        return self._features(feature_map, which)["probabilities"]

    def _features(self, feature_map: FeatureMap, which: Which, most: int | None = None) -> dict[str, Tensor]:
        self._allow(which)
        stored = self._spec.features.get(which)
        if stored is None:
            images = rows(self._context.store, self._spec, self.seeds, which)["image"]
            drawn = rows_drawn(self.draws, which, len(images), most)
            return _finite({"features": feature_map.features(None, images if drawn is None else images[drawn])})
        (seed,) = self.seeds
        columns = RowFile(self._context.store.block(stored, seed).file(FEATURES_FILE)).columns
        picked = _among_described(stored, which, self.draws, most)
        return _finite({name: torch.from_numpy(c if picked is None else c[picked]) for name, c in columns.items()})

    def draws(self, role: str) -> Draws:
        dtype = torch.float64 if self.stacked else torch.float32
        return Draws(self.seeds, role, 0, device=self.machine.device, dtype=dtype, stacked=self.stacked)


def _among_described(
    stored: FeatureSpec, which: Which, draws: Callable[[str], Draws], most: int | None
) -> np.ndarray | None:
    """Which of the stored features belong to the rows that a metric uses; None: all."""
    drawn = rows_drawn(draws, which, stored.available, most)
    described = rows_drawn(draws, which, stored.available, stored.most)
    if described is None or drawn is None:
        assert described is None, f"a metric reads all {which}, and its `most_rows` says {stored.most}"
        return None if drawn is None else drawn.numpy()
    return torch.searchsorted(described, drawn).numpy()


class _NotFiniteError(ArithmeticError):
    """A metric's input has a value that is not finite: its score is nan, whatever the metric would make of it."""


def _finite(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise _NotFiniteError
    return tensors


def rows(store: Store, spec: ScoreSpec, seeds: tuple[int, ...], which: Which) -> dict[str, Tensor]:
    """Columns of a set of rows on the CPU: (n, ...), for an ensemble (S, n, ...). `real`: those of generation 0."""
    source = _source(spec, which)
    if spec.stacked:
        stacked, info = artefacts.stacked_columns(store, source, seeds, SPLITS[which]), spec.data.info
        if which != "real" or info.rows == info.pool:
            return stacked
        return artefacts.ordered(stacked, spec.data, seeds, [slice(info.rows)] * len(seeds), real=True)
    (seed,) = seeds
    _, columns = artefacts.columns(store, source, seed, SPLITS[which])
    index = _part(source, which, seed)
    return {name: torch.from_numpy(column if index is None else column[index]) for name, column in columns.items()}


def _source(spec: ScoreSpec, which: Which) -> SampleSpec | DataSpec:
    """The spec that holds a set of rows."""
    if which == "outputs":
        assert spec.outputs is not None
        return spec.outputs
    return spec.samples if which == "samples" else spec.data


def _part(source: Spec, which: Which, seed: int) -> np.ndarray | None:
    """Which real rows generation 0 of a seed is fitted to; None: all, as for rows that are not real."""
    return artefacts.part(source, seed) if which == "real" and isinstance(source, DataSpec) else None


def score(job: Job, folder: Path, context: JobContext) -> None:
    """Compute one metric and write scores.json: one value per seed. A value that is not finite is stored as text.

    The score of features that are not finite is nan.
    """
    spec = job.spec
    assert isinstance(spec, ScoreSpec)
    evaluation, metric, many = StoredEvaluation(spec, job.seeds, context), spec.metric, len(job.seeds)
    value: float | Tensor | list[float]
    with evaluation.machine.seeded(0), context.interruptible():
        try:
            columns = metric.score_rows(evaluation) if isinstance(metric, RowMetric) else None
            if isinstance(metric, RowMetric) and columns is not None:
                value = metric.sum_up(columns)
                (folder / VALUES_FILE).write_bytes(save(_kept(metric, columns, evaluation)))
            elif isinstance(metric, PartsMetric):
                parts = _parts(spec, metric, metric.score_parts(evaluation), many)
                _write_parts(folder, parts)
                value = [metric.sum_up({name: of[i] for name, of in parts.items()}) for i in range(many)]
            else:
                value = metric.score(evaluation)
        except _NotFiniteError:
            value = [math.nan] * many
            if isinstance(metric, PartsMetric):
                _write_parts(folder, dict.fromkeys(metric.parts(spec.data.info), [math.nan] * many))
    values = _values(spec, value, many)
    (folder / SCORES_FILE).write_text(json.dumps(_spelt(values)))


def _spelt(values: Sequence[float]) -> list[float | str]:
    return [v if math.isfinite(v) else str(v) for v in values]


def _write_parts(folder: Path, parts: Mapping[str, Sequence[float]]) -> None:
    (folder / PARTS_FILE).write_text(json.dumps({name: _spelt(values) for name, values in parts.items()}))


def _parts(spec: ScoreSpec, metric: PartsMetric, parts: object, seeds: int) -> dict[str, list[float]]:
    """The values of the parts, one per seed, in the metric's order. Raises PluginError for anything else."""
    names = metric.parts(spec.data.info)
    if not isinstance(parts, Mapping) or set(parts) != set(names):
        description = f"parts {', '.join(map(str, parts))}" if isinstance(parts, Mapping) else type(parts).__name__
        raise PluginError(
            f"{name_of(type(metric))}: `score_parts` gave {description:.80}; needed: its `parts`, {', '.join(names)}"
        )
    return {name: _values(spec, parts[name], seeds) for name in names}


def _kept(metric: RowMetric, columns: Mapping[str, Tensor], evaluation: Evaluation) -> dict[str, Tensor]:
    """The values of rows as they are stored, with float32 influences of held-out rows where the metric gives them."""
    kept = {name: column.contiguous() for name, column in columns.items()}
    influence = metric.influence(columns, evaluation) if isinstance(metric, HeldOutRows) else None
    return kept if influence is None else {**kept, INFLUENCE: influence.float().contiguous()}


def _values(spec: ScoreSpec, value: object, seeds: int) -> list[float]:
    """A score as one number per seed. Raises PluginError for anything else."""
    metric = f"{name_of(type(spec.metric))}: `score`"
    plain: object = value.tolist() if isinstance(value, Tensor) else value
    listed: list[object] = plain if isinstance(plain, list) else [plain]
    numbers = [one for one in listed if isinstance(one, Real) and not isinstance(one, bool)]
    if len(listed) != seeds or len(numbers) != seeds:
        description = f"{type(value).__name__} {value!r:.80}"
        raise PluginError(f"{metric} gave {description}; needed: one number for each of {seeds} seeds")
    try:
        return [float(one) for one in numbers]
    except OverflowError:
        raise PluginError(f"{metric} gave a number that is too large for a float") from None


def _blocks(store: Store, spec: ScoreSpec, seeds: Sequence[int]) -> list[Block]:
    """The existing artefacts of these seeds, each once."""
    stored_seeds = set(seeds) - set(store.missing(spec, seeds))
    return list({block.folder: block for block in (store.block(spec, seed) for seed in stored_seeds)}.values())


def read_scores(store: Store, spec: ScoreSpec, seeds: tuple[int, ...]) -> dict[int, float]:
    """The value of every seed that has one, in the order of `seeds`; nan where the chain has diverged."""
    values: dict[int, float] = {}
    for block in _blocks(store, spec, seeds):
        values.update(zip(block.seeds, map(float, json.loads(block.file(SCORES_FILE).read_text())), strict=True))
    for seed in set(seeds) - values.keys():
        cause = store.failures.cause(spec, seed)
        if cause is not None and cause.diverged:
            values[seed] = math.nan
    return {seed: values[seed] for seed in seeds if seed in values}


def read_parts(store: Store, spec: ScoreSpec, seeds: Sequence[int]) -> dict[str, list[float]]:
    """{part: one value for each of these seeds} of a metric with parts; nan where the chain has diverged, {} without
    parts."""
    if not isinstance(spec.metric, PartsMetric):
        return {}
    names = spec.metric.parts(spec.data.info)
    by_seed: dict[int, dict[str, float]] = {}
    for block in _blocks(store, spec, seeds):
        parts = json.loads(block.file(PARTS_FILE).read_text())
        for i, seed in enumerate(block.seeds):
            by_seed[seed] = {name: float(parts[name][i]) for name in names}
    return {name: [by_seed[seed][name] if seed in by_seed else math.nan for seed in seeds] for name in names}


def features(job: Job, folder: Path, context: JobContext) -> None:
    """Compute the features of one set of rows and write features.safetensors. Resuming repeats at most one piece."""
    spec = job.spec
    assert isinstance(spec, FeatureSpec)
    seed = job.seeds[0] if job.seeds else 0
    file, stored = artefacts.columns(context.store, spec.rows, seed, SPLITS[spec.which])
    index = _part(spec.rows, spec.which, seed)
    if isinstance(spec.rows, SampleSpec):
        device = context.machine_for(spec.rows.model).device
        drawn = rows_drawn(lambda role: Draws((seed,), role, 0, device=device), spec.which, spec.available, spec.most)
        index = None if drawn is None else drawn.numpy()
    rows = len(stored["image"]) if index is None else len(index)
    feature_map, machine = spec.feature_map, context.device.with_precision("fp32")
    if spec.network is not None:
        model = artefacts.model(context.store, spec.network, spec.network.seeds(job.seeds), machine)
    else:
        assert isinstance(feature_map, WeightedMap)
        assert spec.weights is not None
        model = feature_map.load(spec.weights).to(machine.device)

    bad = False

    def make(piece: int, first: int, last: int) -> dict[str, np.ndarray]:
        images = torch.from_numpy(stored["image"][slice(first, last) if index is None else index[first:last]])
        with torch.no_grad(), machine.autocast():
            if isinstance(feature_map, ClassifyingMap):
                tensors = dict(zip(("features", "probabilities"), feature_map.classified(model, images), strict=True))
            else:
                tensors = {"features": feature_map.features(model, images)}
        file.release()
        nonlocal bad
        columns = {name: to_numpy(tensor.float()) for name, tensor in tensors.items()}
        bad = bad or not all(np.isfinite(column).all() for column in columns.values())
        return columns

    # A network from a file needs much work, however small the models of this run are.
    with machine.limit_threads(math.inf) if spec.weights else contextlib.nullcontext():
        in_pieces(job, folder, context, Pieces(FEATURES_FILE, rows, PIECE_ROWS, make))
    if any(context.ranks.each(range(context.ranks.world), lambda _: bad)):
        network = spec.weights.label if spec.weights else getattr(feature_map, "label", type(feature_map).__name__)
        context.emit(
            Note(
                f"{network}: the features of some rows are not finite ({' / '.join(job.arms)}, {spec.which} rows of "
                f"generation {spec.generation}): every metric that reads them is nan there"
            )
        )


def validation_loss(
    store: Store, data: DataSpec, family: ModelFamily, model: nn.Module, seed: int, machine: Machine
) -> float:
    """The family's own loss per row on the validation rows, or on held-out rows if there are none; in eval mode, with
    the same draws on every call."""
    file, stored = artefacts.columns(store, data, seed, "validation" if data.info.validation else "held_out")
    columns = {name: torch.from_numpy(np.asarray(stored[name])) for name in family.columns if name in stored}

    def draws_for(batch: int) -> Draws:
        return Draws((seed,), role_of_batch(batch), 0, device=machine.device)

    loss = HeldOutLoss(family, model, columns, draws_for, BATCH_ROWS, machine).mean()
    file.release()
    return float(loss)
