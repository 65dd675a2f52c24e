"""Measuring the artefacts of an experiment, one kind at a time, in a scratch store.

A fit is measured for more and more updates, samples for more and more rows, an ensemble of a closed form for more and
more seeds, until one of them has taken long enough. Beyond what was measured, costs are taken to be proportional.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from collapse_sim.data.base import Info
from collapse_sim.data.sources import Plan, RowCounts, generation_zero
from collapse_sim.engine import artefacts
from collapse_sim.engine.build import builder
from collapse_sim.engine.groups import group_key, grouping
from collapse_sim.engine.pieces import layout
from collapse_sim.engine.sample import ROWS_FILE
from collapse_sim.engine.score import validation_loss
from collapse_sim.engine.work import JobContext
from collapse_sim.families.training import Train
from collapse_sim.metrics.base import Which
from collapse_sim.plan.costs import Rate, evaluations_of, kind_of_spec, units_of
from collapse_sim.plan.experiment import Experiment
from collapse_sim.plan.score_specs import FeatureSpec, ScoreSpec
from collapse_sim.plan.specs import DataSpec, FitSpec, SampleSpec, data_spec, fit_spec, import_spec, sample_spec
from collapse_sim.store.jobs import Job, Request
from collapse_sim.store.rowfile import RowWriter
from collapse_sim.store.spec import Spec
from collapse_sim.store.store import Build

FEWEST, GROWTH = 4, 4  # updates, rows or seeds of the first measurement, and the factor from one to the next
SHARE = 1 / GROWTH  # of the time to measure for: the next measurement takes GROWTH times as long
FEWEST_SCORED = 64  # rows of the first measurement of a score: metrics need neighbours and variances
WARM = 5  # times the time to measure for: a warm-up that took longer is the measurement
PART_BYTES, PART_ROWS = 2**23, 2000  # so much of each part of the data is decoded, the larger of the two


class NotMeasuredError(Exception):
    """What cannot be made from a part of the rows."""


class Scene:
    """The artefacts in the scratch store: of each kind the largest that was made, with its seeds."""

    def __init__(
        self, experiment: Experiment, missing: Callable[[Spec], int], context: JobContext, seconds: float
    ) -> None:
        """`missing`: for how many seeds an artefact is still to be made; `context` has the scratch store."""
        self.commits_s: list[float] = []  # what hashing, flushing and moving each artefact took
        self._experiment, self._missing, self._context, self._seconds = experiment, missing, context, seconds
        self._built_s: dict[str, float] = {}  # digest -> seconds of its builds
        self._seed = experiment.recipe.seeds[0]
        trains = (generation.fit.train for arm in experiment.arm_plans for generation in arm.generations)
        self._info = part_of(experiment.info, max((train.batch_size for train in trains if train), default=0))
        self._data = data_spec(experiment.recipe.data, self._info)
        self._models: dict[str, tuple[FitSpec, tuple[int, ...], Rate, int]] = {}
        self._samples: dict[str, tuple[SampleSpec, tuple[int, ...], Rate, int]] = {}

    def measure(self, spec: Spec) -> tuple[Rate, int]:
        """The rate of a kind of artefacts, and the most units that were measured at once."""
        if isinstance(spec, DataSpec):
            return Rate(self._make(self._data, (self._seed,)) / units_of(self._data)), units_of(self._data)
        if isinstance(spec, FitSpec):
            return self._model(spec, self._seconds)[2:]
        if isinstance(spec, SampleSpec):
            return self._drawn(spec, self._seconds)[2:]
        if isinstance(spec, FeatureSpec):
            return self._described(spec)
        if isinstance(spec, ScoreSpec):
            return self._scored(spec)
        raise NotMeasuredError("only a run makes it")

    def _make(self, spec: Spec, seeds: tuple[int, ...], build: Build | None = None) -> float:
        """Make an artefact in the scratch store, by the engine or by `build`. Returns the seconds of its build, without
        what the store adds."""
        by_engine = builder(self._context)

        def timed(jobs: Sequence[Job], folders: Sequence[Path]) -> Mapping[int, Exception]:
            started = time.perf_counter()
            failed = (build or by_engine)(jobs, folders)
            self._built_s[spec.digest] = self._built_s.get(spec.digest, 0.0) + time.perf_counter() - started
            return failed

        context = self._context
        started, request = time.perf_counter(), Request(spec, seeds, ("bench",))
        made = context.store.make_all([request], timed, context.emit, partial(grouping, context=context))["made"]
        failures = context.store.failures
        if cause := next((c for seed in seeds if (c := failures.cause(spec, seed))), None):
            if isinstance(spec, (FeatureSpec, ScoreSpec)):
                raise NotMeasuredError(cause.message) from cause.error
            raise cause.error
        built_s = self._built_s.pop(spec.digest, 0.0)
        if made == 1:
            self.commits_s.append(max(0.0, time.perf_counter() - started - built_s))
        return built_s

    # -- fits -----------------------------------------------------------------------------------------------------

    def _model(self, spec: FitSpec, seconds: float = 0.0) -> tuple[FitSpec, tuple[int, ...], Rate, int]:
        """A fit of this kind in the scratch store: (fit, seeds, rate, units); a short one for 0 seconds."""
        kind = kind_of_spec(spec)
        if kind not in self._models:
            make = self._imported if spec.given else self._solved if spec.train is None else self._fitted
            self._models[kind] = make(spec, seconds)
        return self._models[kind]

    def _imported(self, spec: FitSpec, seconds: float) -> tuple[FitSpec, tuple[int, ...], Rate, int]:
        assert spec.given is not None
        seeds: tuple[int, ...] = (self._seed,)
        self._make(self._data, seeds)
        last = import_spec(spec.given, spec.family, spec.train, self._real_rows(), self._data)
        return last, seeds, Rate(self._make(last, seeds)), 1

    def _real_rows(self) -> Plan:
        """What generation 0 is fitted to."""
        return generation_zero(RowCounts(self._info.rows, 0, self._info.pool))

    def _reduced(self, spec: FitSpec, train: Train | None, seeds: tuple[int, ...]) -> FitSpec:
        """A fit to real rows as generation 0's; its teacher is one, too, for the same seeds."""
        self._make(self._data, seeds)
        plan, data, teacher = self._real_rows(), self._data, None
        if (of := spec.teacher) is not None:
            teacher = fit_spec(0, of.family, of.train and shortened(of.train, FEWEST), plan, data, {}, seeded=of.seeded)
            self._make(teacher, seeds)
        return fit_spec(0, spec.family, train, plan, data, {}, teacher, spec.weights, seeded=spec.seeded)

    def _fitted(self, spec: FitSpec, seconds: float) -> tuple[FitSpec, tuple[int, ...], Rate, int]:
        train = spec.train
        assert train is not None
        seeds: tuple[int, ...] = (self._seed,)
        last = self._reduced(spec, shortened(train, FEWEST - 1), seeds)
        if spec.seeded and group_key(Job(last, seeds, ()), self._context) is not None:
            together = min(self._context.group_size, self._most_together(spec))
            seeds = tuple(range(self._seed, self._seed + max(1, together)))

        def fit(updates: int) -> float:
            nonlocal last
            last = self._reduced(spec, shortened(train, updates), seeds)
            return self._make(last, seeds) / len(seeds)

        rate, updates = grown(fit, units_of(spec), seconds)
        if seconds and evaluations_of(spec):
            rate = rate._replace(evaluation_s=self._evaluated(last, seeds[0], spec.data.info))
        return last, seeds, rate, updates

    def _evaluated(self, fit: FitSpec, seed: int, full: Info) -> float:
        """Seconds of one validation loss on all of the rows that it is computed on."""
        context, machine = self._context, self._context.machine_for(fit)
        model = artefacts.model(context.store, fit, fit.seeds((seed,)), machine)
        took_s = 0.0
        for _ in range(2):  # the first one warms up
            started = time.perf_counter()
            validation_loss(context.store, self._data, fit.family, model, seed, machine)
            took_s = time.perf_counter() - started
        of = "validation" if full.validation else "held_out"
        return float(took_s * getattr(full, of) / getattr(self._info, of))

    def _solved(self, spec: FitSpec, seconds: float) -> tuple[FitSpec, tuple[int, ...], Rate, int]:
        """A closed form, for more and more seeds."""
        first, last = 0, spec
        seeds: tuple[int, ...] = ()

        def solve(count: int) -> float:
            nonlocal first, last, seeds
            seeds, first = tuple(range(first, first + count)), first + count
            last = self._reduced(spec, None, seeds)
            return self._make(last, seeds)

        rate, count = grown(solve, len(self._experiment.recipe.seeds), seconds)
        return last, seeds, rate._replace(unit_s=rate.unit_s / last.plan.rows), count

    def _most_together(self, fit: FitSpec) -> int:
        """The most missing fits of one kind in one generation."""
        kind, counts = kind_of_spec(fit), Counter[int]()
        for spec in self._experiment.specs():
            if isinstance(spec, FitSpec) and kind_of_spec(spec) == kind:
                counts[spec.generation] += self._missing(spec)
        return max(counts.values(), default=1)

    # -- samples, features, scores --------------------------------------------------------------------------------

    def _drawn(self, spec: SampleSpec, seconds: float = 0.0) -> tuple[SampleSpec, tuple[int, ...], Rate, int]:
        """Samples of this kind in the scratch store: (samples, seeds, rate, rows)."""
        if spec.imported is not None:
            raise NotMeasuredError("its rows are from files")
        kind = kind_of_spec(spec)
        if kind not in self._samples:
            model, seeds, *_ = self._model(spec.model.fitted)
            if not spec.stacked:
                seeds = seeds[:1]
            available = self._info.held_out if spec.conditions == "held_out" else self._info.rows
            most = min(spec.rows, available) if spec.stacked else min(spec.rows, spec.shard, available)
            last = spec

            def draw(rows: int) -> float:
                nonlocal last
                second = model if spec.auxiliary else None
                last = sample_spec(model, rows, rows, spec.conditions, guidance=spec.guidance, auxiliary=second)
                return self._make(last, seeds) / len(seeds)

            rate, rows = grown(draw, most, seconds)
            self._samples[kind] = (last, seeds, rate, rows)
        return self._samples[kind]

    def _described(self, spec: FeatureSpec) -> tuple[Rate, int]:
        rows = self._drawn(spec.rows)[0] if isinstance(spec.rows, SampleSpec) else self._data
        reduced = self._features(spec, rows)
        return Rate(self._make(reduced, (self._seed,)) / max(1, reduced.count)), reduced.count

    def _features(self, spec: FeatureSpec, rows: SampleSpec | DataSpec) -> FeatureSpec:
        """The same features of other rows."""
        network = self._model(spec.network)[0] if spec.network else None
        return replace(
            spec, description={**spec.description, "rows": [rows.digest, "measured"]}, network=network, rows=rows
        )

    def _scored(self, spec: ScoreSpec) -> tuple[Rate, int]:
        """A score of more and more samples: those that were drawn, repeated.

        Of real and held-out rows only a part was decoded: beyond it, costs are in proportion."""
        drawn, seeds, *_ = self._drawn(spec.samples)
        outputs = None
        if spec.outputs is not None and "outputs" in spec.metric.needs:
            outputs = self._repeated(self._drawn(spec.outputs)[0], self._info.held_out, seeds)
        last = spec

        def score(rows: int) -> float:
            nonlocal last
            last = self._score(spec, drawn if spec.stacked else self._repeated(drawn, rows, seeds), outputs, seeds)
            return self._make(last, seeds) / len(seeds)

        if spec.stacked or "samples" not in spec.metric.needs:
            if not spec.stacked:
                score(drawn.rows + 1)  # warm-up
            took_s = score(drawn.rows)
            return Rate(took_s * _rows_read(spec) / _rows_read(last)), drawn.rows
        rate, rows = grown(score, spec.samples.rows, self._seconds, FEWEST_SCORED)
        took_s = rate.each_s + rate.unit_s * spec.samples.rows
        real = _rows_read(replace(spec, samples=last.samples)) / _rows_read(last)
        return Rate(took_s * real), rows

    def _score(
        self, spec: ScoreSpec, samples: SampleSpec, outputs: SampleSpec | None, seeds: tuple[int, ...]
    ) -> ScoreSpec:
        """The same score of other samples, and of their model."""
        features: dict[Which, FeatureSpec] = {}
        for which, of in spec.features.items():
            features[which] = self._features(of, samples if isinstance(of.rows, SampleSpec) else self._data)
            self._make(features[which], seeds)
        return replace(
            spec,
            description={**spec.description, "samples": [samples.digest, "measured"]},
            model=samples.model,
            samples=samples,
            outputs=outputs,
            origin=samples.model,
            data=self._data,
            network=self._model(spec.network)[0] if spec.network else None,
            features=features,
        )

    def _repeated(self, drawn: SampleSpec, rows: int, seeds: tuple[int, ...]) -> SampleSpec:
        """`rows` samples in the scratch store, which cost no sampling."""
        spec = replace(drawn, rows=rows, description={**drawn.description, "rows": [rows, "repeated"]})

        def repeat(jobs: Sequence[Job], folders: Sequence[Path]) -> Mapping[int, Exception]:
            for job, folder in zip(jobs, folders, strict=True):
                _, columns = artefacts.columns(self._context.store, drawn, job.seeds[0], "samples")
                chosen = {name: column[np.arange(rows) % drawn.rows] for name, column in columns.items()}
                writer = RowWriter(folder / ROWS_FILE, rows, layout(chosen))
                writer.write(0, chosen)
                writer.close()
            return {}

        self._make(spec, seeds, repeat)
        return spec


def grown(take: Callable[[int], float], most: int, seconds: float, fewest: int = FEWEST) -> tuple[Rate, int]:
    """The rate from the last two of growing measurements, and the units of the last. `take(n)`: seconds for n units.

    They end with `most` units, or when one has taken its share of `seconds`. A first one with fewer units warms up: it
    imports libraries, which then choose their kernels.
    """
    units = min(fewest, most)
    if units > 1:
        started = time.perf_counter()
        warm_s = take(units - 1)
        if time.perf_counter() - started > WARM * seconds:
            return Rate(warm_s / (units - 1)), units - 1
    before: tuple[int, float] = (0, 0.0)
    while True:
        started = time.perf_counter()
        took_s = take(units)
        if units == most or time.perf_counter() - started >= SHARE * seconds:
            break
        before, units = (units, took_s), min(most, units * GROWTH)
    slope = min((took_s - before[1]) / (units - before[0]), took_s / units)  # on a busy machine, times vary
    if slope <= 0:
        return Rate(took_s / units), units
    return Rate(slope, max(0.0, took_s - units * slope)), units


def shortened(train: Train, updates: int) -> Train:
    """The same updates, but only so many, and without evaluations."""
    changes: dict[str, object] = {"steps": updates, "epochs": None, "warmup_steps": 0, "warmup_ratio": 0.0}
    return train.model_copy(update=changes | {"evaluate": "never", "keep": "last", "patience": None})


def part_of(info: Info, batch_rows: int) -> Info:
    """As much of each part of the data as is decoded: enough for two batches."""
    most = max(PART_ROWS, PART_BYTES // max(1, info.row_bytes), 2 * batch_rows)
    counts = {name: min(most, getattr(info, name)) for name in ("rows", "pool", "held_out", "validation")}
    return replace(info, **counts)


def _rows_read(spec: ScoreSpec) -> int:
    rows = {"samples": spec.samples.rows, "real": spec.data.info.rows, "held_out": spec.data.info.held_out}
    rows |= {"outputs": spec.outputs.rows} if spec.outputs else {}
    return sum(count for name, count in rows.items() if name in spec.metric.needs) or 1
