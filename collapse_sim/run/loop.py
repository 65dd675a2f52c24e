"""The generation loop: fit, sample, curate, score, journal; generation by generation over all arms and seeds."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from collapse_sim.core.events import Emit, GenerationFinished, Scored
from collapse_sim.engine.curate import read_report
from collapse_sim.engine.fit import updates_of
from collapse_sim.engine.score import read_parts, read_scores
from collapse_sim.engine.work import JobContext
from collapse_sim.metrics.base import HeldOutRows
from collapse_sim.metrics.names import part_name
from collapse_sim.plan.experiment import Experiment
from collapse_sim.plan.generations import GenerationPlan
from collapse_sim.run.ahead import Ahead
from collapse_sim.run.executing import Executor, Here
from collapse_sim.run.housekeeping import Housekeeper
from collapse_sim.run.scoring_process import ScoringProcess
from collapse_sim.store.jobs import Request
from collapse_sim.store.run_writer import RunWriter
from collapse_sim.store.spec import Spec

Observer = Callable[[int], Iterable[Path]]  # called with the number of each finished generation; returns files


@dataclass
class _Made:
    """A generation whose rows and features are made, and some of its scores."""

    k: int
    arms: Mapping[str, GenerationPlan]
    counts: dict[str, Counter[str]]
    apart: Sequence[Request]  # the scores that are left
    seconds: float  # spent on it


def run_generations(
    experiment: Experiment,
    run: RunWriter,
    context: JobContext,
    observers: Sequence[Observer] = (),
    overlap: str = "off",
    executor: Executor | None = None,
    *,
    leads: bool = True,
) -> Counter[str]:
    """Make what the experiment still lacks, in the order that shares most. Returns counts of artefacts made and reused.

    With `overlap`, another process may make a generation's scores while the next one is fitted and sampled; it is
    recorded after that. `executor`: who computes everything else; None: this process. Without `leads` another process
    records, draws and prunes. Afterwards, failures are in `context.store.failures` and everything else is in the store.
    """
    recipe, seeds = experiment.recipe, experiment.recipe.seeds
    executor = executor or Here(context)
    housekeeper = Housekeeper(experiment, run.folder, context)
    total: Counter[str] = Counter()
    unfinished: list[_Made] = []  # at most one generation, before the newest

    def make_now(requests: Sequence[Request], emit: Emit) -> Counter[str]:
        """Without what other processes are making."""
        counts = executor.make_all(requests, emit, None)
        housekeeper.made(counts["made"])
        return counts

    ahead = Ahead(experiment, context.store, context.emit, make_now)

    def make(requests: Iterable[Request], emit: Emit = context.emit) -> Counter[str]:
        wanted, early = ahead.taken(requests)
        counts = early + executor.make_all(housekeeper.wanted(wanted), emit, ahead.work)
        _, meanwhile = ahead.taken(wanted)  # made while others were awaited, and then found
        counts = counts + Counter(made=meanwhile["made"]) - Counter(reused=meanwhile["made"])
        housekeeper.made(counts["made"])
        return counts

    def finish(made: _Made) -> None:
        started, k = time.perf_counter(), made.k
        made.counts["scores"] += process.finish(partial(make, made.apart))
        ahead.elsewhere.clear()
        total.update(sum(made.counts.values(), Counter()))
        if not leads:
            return
        for name, plan in made.arms.items():
            _record(name, k, plan, seeds, run, context)
        files = [str(path) for observe in observers for path in observe(k)]
        created, reused = ({kind: count[of] for kind, count in made.counts.items()} for of in ("made", "reused"))
        wall_s = made.seconds + time.perf_counter() - started
        run.record_generation(k, created, reused, wall_s)
        context.emit(GenerationFinished(k, created, reused, wall_s, tuple(files)))
        housekeeper.tidy(k)

    with ScoringProcess(experiment, context, overlap) as process:
        context.store.patience = replace(context.store.patience, working=process.working)
        for spec in experiment.shared:
            total.update(make([Request(spec, seeds, tuple(plan.name for plan in experiment.arm_plans))]))
        for k in range(recipe.generations + 1):
            started, ahead.generation = time.perf_counter(), k
            arms = {plan.name: plan.generations[k] for plan in experiment.arm_plans}
            counts = _rows_and_features(arms, seeds, make)
            seconds = time.perf_counter() - started
            if unfinished:
                finish(unfinished.pop())
            started = time.perf_counter()
            apart, here = process.split(_requests(arms, seeds, lambda plan: plan.scores.values()))
            begun = process.begin(apart, recipe.generations - k)
            ahead.elsewhere.update(request.spec.digest for request in apart if begun)
            counts["scores"] = make(here)
            made = _Made(k, arms, counts, apart, seconds + time.perf_counter() - started)
            if begun:
                unfinished.append(made)
            else:
                finish(made)
            if all(_stopped(plan, seed, context) for plan in arms.values() for seed in seeds):
                break
        if unfinished:
            finish(unfinished.pop())
    return total


def _requests(
    arms: Mapping[str, GenerationPlan], seeds: tuple[int, ...], specs: Callable[[GenerationPlan], Iterable[Spec]]
) -> list[Request]:
    return [Request(spec, seeds, (name,)) for name, plan in arms.items() for spec in specs(plan)]


def _rows_and_features(
    arms: Mapping[str, GenerationPlan], seeds: tuple[int, ...], make: Callable[[list[Request]], Counter[str]]
) -> dict[str, Counter[str]]:
    """Make everything of a generation but its scores. Returns the counts by kind."""
    requests = partial(_requests, arms, seeds)
    counts = {
        next(iter(arms.values())).fit.kind: make(requests(lambda plan: plan.fits)),  # an imported model is no fit
        **_between(arms.values(), lambda stage: make(requests(lambda plan: plan.between[stage : stage + 1]))),
        "samples": make(requests(lambda plan: plan.generated())),
    }
    if fitted := requests(lambda plan: plan.verifiers()):
        counts["verifier"] = make(fitted)
    if chosen := requests(lambda plan: plan.curations()):
        counts["curation"] = make(chosen)
    counts["features"] = make(requests(lambda plan: plan.features))
    return counts


def _between(plans: Iterable[GenerationPlan], make: Callable[[int], Counter[str]]) -> dict[str, Counter[str]]:
    """Make what remedies need between fit and samples, one after the other; {} if there is nothing."""
    stages = max(len(plan.between) for plan in plans)
    return {"remedies": sum((make(stage) for stage in range(stages)), Counter())} if stages else {}


def _record(
    arm: str, k: int, plan: GenerationPlan, seeds: tuple[int, ...], run: RunWriter, context: JobContext
) -> None:
    """Write to the journal where chains ended, and the scores of generation k, with nan for diverged chains.

    A metric that could not be computed for some seeds gets its own line.
    """
    store = context.store
    for seed in seeds:
        cause = store.failures.cause(plan.samples, seed)
        if cause is not None and cause.diverged:
            run.record_diverged(arm, cause.generation, seed, cause.message)
    if plan.curation is not None:
        figures = read_report(store, plan.curation, seeds)
        if figures:
            run.record_curation(k, arm, seeds, figures, plan.curation.digest)
    by_seeds: dict[tuple[int, ...], dict[str, list[float]]] = {}  # metrics, grouped by the seeds that have scores
    for name, spec in plan.scores.items():
        values = read_scores(store, spec, seeds)
        scores = by_seeds.setdefault(tuple(values), {})
        scores[name] = list(values.values())
        for part, part_values in read_parts(store, spec, tuple(values)).items():
            scores[part_name(name, part)] = part_values
    for scored_seeds, scores in by_seeds.items():
        if not scored_seeds:
            continue
        ends_early = plan.fitted and plan.fit.train is not None and plan.fit.train.patience is not None
        updates = [updates_of(store, plan.fit, seed) for seed in scored_seeds] if ends_early else None
        single = {name: spec for name, spec in plan.scores.items() if name in scores and not spec.stacked}
        rows = {name: spec.digest for name, spec in single.items() if isinstance(spec.metric, HeldOutRows)}
        run.record_scores(k, arm, scored_seeds, scores, plan.fit.digest, plan.samples.digest, rows, updates)
        whole = {name: tuple(values) for name, values in scores.items() if name in plan.scores}
        context.emit(Scored(k, arm, scored_seeds, whole, complete=len(whole) == len(plan.scores)))


def _stopped(plan: GenerationPlan, seed: int, context: JobContext) -> bool:
    """Whether a chain ended and needs no line per generation: it failed without diverging."""
    cause = context.store.failures.cause(plan.samples, seed)
    return cause is not None and not cause.diverged
