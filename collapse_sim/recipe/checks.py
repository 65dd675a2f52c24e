"""Checks that a recipe's parts fit together; all of them run before any data is read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from collapse_sim.core.registry import did_you_mean
from collapse_sim.families.base import ClosedForm, ModelFamily
from collapse_sim.families.elsewhere import Elsewhere
from collapse_sim.metrics.names import part_of
from collapse_sim.plan.settings import Arm, Claim, Reference, Teacher, layer_path
from collapse_sim.recipe.components import Resolver, value_name
from collapse_sim.recipe.marked import Steps
from collapse_sim.recipe.outside import check_generations, check_without_model
from collapse_sim.recipe.resolve import ResolvedParts

SHOWN = 10  # seeds that a message names


@dataclass(frozen=True)
class Names:
    """The arms, metrics, last generation and seeds that a claim, a baseline or a reference may name."""

    arms: Collection[str]
    metrics: Collection[str]
    generations: int
    seeds: Collection[int]

    def measured(self, name: str) -> bool:
        """Whether a metric has this name, or may have a part of this name; the data determine the parts."""
        part = part_of(name)
        return name in self.metrics or (part is not None and part[0] in self.metrics)


def check_components(resolver: Resolver, parts: ResolvedParts) -> None:
    """Model and metrics fit the data; `train` is given exactly when it is used; teachers exist."""
    kind = None if parts.data is None else parts.data.kind
    data = value_name(resolver.root["data"]) if kind is not None else ""
    modelled = parts.model is not None and not isinstance(parts.model, Elsewhere)
    misfit = kind is not None and parts.model is not None and modelled and kind not in parts.model.kinds
    if misfit and parts.model is not None:
        model = value_name(resolver.root["model"])
        resolver.problem(
            ("model",), f"{model!r} is for {_kinds(parts.model.kinds)}, but the data {data!r} is of {kind}"
        )
    for name, metric in parts.metrics.items():
        if misfit and int(parts.metric_steps[name][1]) >= parts.written:
            continue  # a default metric of the model, which is itself the mistake
        if kind is not None and metric.kinds is not None and kind not in metric.kinds:
            message = f"{name!r} is for {_kinds(metric.kinds)}, but the data {data!r} is of {kind}"
            resolver.problem(parts.metric_steps[name], message)
    if isinstance(parts.model, Elsewhere):
        needs = {name: (parts.metric_steps[name], metric.needs) for name, metric in parts.metrics.items()}
        check_without_model(resolver, needs)
        return
    if parts.model is None:
        return
    closed = isinstance(parts.model, ClosedForm)
    model = value_name(resolver.root["model"])
    if closed and resolver.root.get("train") is not None:
        resolver.problem(
            ("train",), f"{model!r} is solved in closed form, so there is nothing to train; remove `train`"
        )
    if not closed and resolver.root.get("train") is None:
        resolver.problem(("train",), f"missing; {model!r} is trained: give a length, as in `train: {{epochs: 10}}`")
    if closed and resolver.root.get("retrain") is not None:
        resolver.problem(
            ("retrain",), f"{model!r} is solved in closed form, so there is nothing to train; remove `retrain`"
        )
    for arm in parts.arms.values():
        _check_arm(resolver, arm, parts.model, model, closed)
        _check_protocol(resolver, parts, arm, model, closed)


CLOSED_WITHOUT = {
    "model": "so its layers and terms have no other sizes",
    "untrained": "so it has no weights before it is fitted",
}


def _check_arm(resolver: Resolver, arm: Arm, family: ModelFamily, model: str, closed: bool) -> None:
    steps: Steps = ("arms", arm.name)
    if closed and arm.init == "previous":
        message = f"{model!r} is solved in closed form, so initial weights change nothing; allowed: fresh"
        resolver.problem((*steps, "init"), message)
    teacher = arm.teacher
    if teacher is None:
        return
    if teacher.generation not in (0, "previous", "ema"):
        message = (
            f"generation {teacher.generation} does not exist yet when generation 1 is fitted; allowed: 0, previous, ema"
            if int(teacher.generation) > 0
            else f"found {teacher.generation}; allowed: 0, previous, ema"
        )
        resolver.problem((*steps, "teacher", "generation"), message)
    for setting in teacher.own_fit:
        if closed and setting in CLOSED_WITHOUT:
            resolver.problem(
                (*steps, "teacher", setting),
                f"{model!r} is solved in closed form, {CLOSED_WITHOUT[setting]}; remove it",
            )
        elif teacher.generation != 0:
            message = f"a teacher with `{setting}` is a fit to generation 0's rows: set `generation: 0`, or remove it"
            resolver.problem((*steps, "teacher", setting), message)
    if teacher.untrained and teacher.rows is not None:
        message = "an untrained teacher is fitted to no rows: remove `rows` or `untrained`"
        resolver.problem((*steps, "teacher", "rows"), message)
    _check_terms(resolver, (*steps, "teacher"), teacher, family, model, closed)


def _check_terms(
    resolver: Resolver, steps: Steps, teacher: Teacher, family: ModelFamily, model: str, closed: bool
) -> None:
    """The terms of a teacher exist, and its settings change something."""
    terms = list(family.terms)
    offered = f"the terms of {model!r}: {', '.join(terms)}" if terms else f"none, {model!r} has no distillation terms"
    if not closed:
        offered += ', or "layer PATH" for the output of a module'
    for term in teacher.weights:
        if term in terms or (not closed and layer_path(term) is not None):
            continue
        message = f"unknown term {term!r}{did_you_mean(term, terms)}; allowed: {offered}"
        if layer_path(term) is not None:
            message = f"{model!r} is solved in closed form and has no layers, found {term!r}; allowed: {offered}"
        resolver.problem((*steps, "weights", term), message)
    if not teacher.weights:
        resolver.problem((*steps, "weights"), f"found no weights; allowed: {offered}")
    default = {name: field.default for name, field in Teacher.model_fields.items()}
    if teacher.criterion != default["criterion"] and not any(layer_path(term) for term in teacher.weights):
        message = (
            f"{teacher.criterion!r} changes nothing: it compares outputs of layers, and no weight is of one; remove it"
        )
        resolver.problem((*steps, "criterion"), message)
    if teacher.rate != default["rate"] and teacher.generation != "ema":
        message = (
            f"{teacher.rate:g} changes nothing: it is for `generation: ema`, found {teacher.generation}; remove it"
        )
        resolver.problem((*steps, "rate"), message)


def _check_protocol(resolver: Resolver, parts: ResolvedParts, arm: Arm, model: str, closed: bool) -> None:
    """`protocol` and an arm's `retrain` need training; `converged` needs evaluations and a constant schedule."""
    steps: Steps = ("arms", arm.name)
    for key, value in (("protocol", arm.protocol), ("train", arm.train), ("retrain", arm.retrain)):
        if closed and value is not None:
            resolver.problem((*steps, key), f"{model!r} is solved in closed form, so there is nothing to train; remove")
    if closed or arm.protocol != "converged":
        return
    first = arm.train or parts.train
    for train in (first, arm.retrain or (None if arm.train else parts.retrain)):
        if train is None:
            continue
        if train.evaluate == "never":
            message = "converged needs the loss on validation rows; set train.evaluate, for instance to: every epoch"
            resolver.problem((*steps, "protocol"), message)
        if train.schedule != "constant":
            message = (
                f"converged has no fixed end, which a {train.schedule} schedule needs; set train.schedule: constant"
            )
            resolver.problem((*steps, "protocol"), message)


def _kinds(kinds: Collection[str]) -> str:
    return f"data of {' or '.join(kinds)}"


def check_names(resolver: Resolver, parts: ResolvedParts, known: Names) -> None:
    """Baseline, show, claims, reference and `rows_from` name existing arms, metrics, generations and seeds."""
    last, modelled = parts.plain.get("generations", 0), not isinstance(parts.model, Elsewhere)
    for name, rows in ((arm.name, arm.rows_from) for arm in parts.arms.values() if arm.rows_from is not None):
        check_generations(resolver, name, rows, last, known.generations, model=modelled)
    for key, names, noun in (("baseline", known.arms, "arm"), ("show", known.metrics, "metric")):
        if key in parts.plain and parts.plain[key] not in names:
            resolver.problem((key,), _unknown(noun, parts.plain[key], names))
    for steps, claim in parts.claims:
        _check_claim(resolver, steps, claim, known)
    places: set[tuple[str, int]] = set()
    for steps, reference in parts.references:
        _check_place(resolver, steps, reference, known)
        for arm in reference.values:
            if arm not in known.arms:
                resolver.problem((*steps, "values", arm), _unknown("arm", arm, known.arms))
        place = (reference.metric, reference.at(known.generations))
        if place in places:
            resolver.problem(steps, f"second figures of {place[0]!r} at generation {place[1]}; give each place once")
        places.add(place)


def _check_claim(resolver: Resolver, steps: Steps, claim: Claim, known: Names) -> None:
    from collapse_sim.recipe.claims import parse

    _check_place(resolver, steps, claim, known)
    try:
        expectation = parse(claim.expect)
    except ValueError as error:
        resolver.problem((*steps, "expect"), str(error))
        return
    for arm in sorted(expectation.arms):
        if arm not in known.arms:
            resolver.problem((*steps, "expect"), _unknown("arm", arm, known.arms))
    absent = [seed for seed in claim.seeds or () if seed not in known.seeds]
    if absent:
        some = ", ".join(map(str, sorted(known.seeds)[:SHOWN])) + ", ..." * (len(known.seeds) > SHOWN)
        resolver.problem((*steps, "seeds"), f"found {absent[0]}, which is not a seed of the recipe; allowed: {some}")
    for generation in sorted(expectation.generations):
        if generation > known.generations:
            resolver.problem((*steps, "expect"), _no_generation(generation, known))


def _check_place(resolver: Resolver, steps: Steps, entry: Claim | Reference, known: Names) -> None:
    if not known.measured(entry.metric):
        resolver.problem((*steps, "metric"), _unknown("metric", entry.metric, known.metrics))
    if isinstance(entry.generation, int) and not 0 <= entry.generation <= known.generations:
        resolver.problem((*steps, "generation"), _no_generation(entry.generation, known))


def _unknown(noun: str, name: str, names: Collection[str]) -> str:
    return f"unknown {noun} {name!r}{did_you_mean(name, list(names))}; allowed: {', '.join(names)}"


def _no_generation(generation: int, known: Names) -> str:
    return f"there is no generation {generation}; allowed: 0 to {known.generations}"
