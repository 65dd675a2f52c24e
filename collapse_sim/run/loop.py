"""The generation loop: fit, sample, score, journal; generation by generation over all arms and seeds."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable

from collapse_sim.core.events import GenerationFinished, Scored
from collapse_sim.engine.build import builder
from collapse_sim.engine.fit import updates_of
from collapse_sim.engine.score import read_parts, read_scores
from collapse_sim.engine.work import JobContext
from collapse_sim.metrics.base import HeldOutRows
from collapse_sim.metrics.names import part_name
from collapse_sim.plan.experiment import ArmPlan, Experiment
from collapse_sim.run.figures import draw_denoising, draw_pictures
from collapse_sim.run.text_samples import text_samples
from collapse_sim.store.jobs import Request
from collapse_sim.store.run_writer import RunWriter
from collapse_sim.store.spec import Spec


def run_generations(experiment: Experiment, run: RunWriter, work: JobContext) -> Counter[str]:
    """Make what is missing of the experiment, in the order that shares most. Returns artefacts made and reused.

    What cannot be made is in `work.store.failures` afterwards, and all else is there.
    """
    recipe, lines, seeds = experiment.recipe, experiment.lines, experiment.recipe.seeds
    names = tuple(line.arm.name for line in lines)
    build = builder(work)
    total: Counter[str] = Counter()

    def make(specs: Callable[[ArmPlan], Iterable[Spec]]) -> Counter[str]:
        wants = [Request(spec, seeds, (line.arm.name,)) for line in lines for spec in specs(line)]
        return work.store.make_all(wants, build, work.emit)

    for spec in experiment.shared:
        total += work.store.make_all([Request(spec, seeds, names)], build, work.emit)
    for k in range(recipe.generations + 1):
        started = time.perf_counter()
        counts = {
            "fit": make(lambda line: [line.fits[k]]),  # noqa: B023
            "samples": make(lambda line: line.generated(k)),  # noqa: B023
            "features": make(lambda line: line.features[k]),  # noqa: B023
            "scores": make(lambda line: line.scores[k].values()),  # noqa: B023
        }
        for line in lines:
            _record(line, k, seeds, run, work)
        for told in text_samples(experiment, k, work.store):
            work.emit(told)
        pictures = draw_pictures(experiment, k, work, run.pictures)
        pictures += draw_denoising(experiment, k, work, run.pictures)
        made = {kind: count["made"] for kind, count in counts.items()}
        reused = {kind: count["reused"] for kind, count in counts.items()}
        wall_s = time.perf_counter() - started
        run.record_generation(k, made, reused, wall_s)
        work.emit(GenerationFinished(k, made, reused, wall_s, tuple(map(str, pictures))))
        for count in counts.values():
            total += count
        if all(_stopped(line, k, seed, work) for line in lines for seed in seeds):
            break
    return total


def _record(line: ArmPlan, k: int, seeds: tuple[int, ...], run: RunWriter, work: JobContext) -> None:
    """Into the journal: where chains ended, and the scores of generation k, with nan for what has diverged.

    A metric that could not be computed for some seeds has a line of its own.
    """
    for seed in seeds:
        cause = work.store.failures.cause(line.samples[k], seed)
        if cause is not None and cause.diverged:
            run.record_diverged(line.arm.name, cause.generation, seed, cause.message)
    groups: dict[tuple[int, ...], dict[str, list[float]]] = {}
    for name, spec in line.scores[k].items():
        found = read_scores(work.store, spec, seeds)
        group = groups.setdefault(tuple(found), {})
        group[name] = list(found.values())
        for part, values in read_parts(work.store, spec, tuple(found)).items():
            group[part_name(name, part)] = values
    for those, found_of in groups.items():
        if those:
            fit = line.fits[k]
            early = fit.train is not None and fit.train.patience is not None
            updates = [updates_of(work.store, fit, seed) for seed in those] if early else None
            specs = {name: spec for name, spec in line.scores[k].items() if name in found_of and not spec.stacked}
            rows = {name: spec.digest for name, spec in specs.items() if isinstance(spec.metric, HeldOutRows)}
            run.record_scores(k, line.arm.name, those, found_of, fit.digest, line.samples[k].digest, rows, updates)
            scores = {name: tuple(v) for name, v in found_of.items() if name in line.scores[k]}
            work.emit(Scored(k, line.arm.name, those, scores, complete=len(scores) == len(line.scores[k])))


def _stopped(line: ArmPlan, k: int, seed: int, work: JobContext) -> bool:
    """Whether a chain goes no further, and is not worth a line a generation: it failed, and did not diverge."""
    cause = work.store.failures.cause(line.samples[k], seed)
    return cause is not None and not cause.diverged
