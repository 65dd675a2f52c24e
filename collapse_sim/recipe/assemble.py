"""From checked parts to a Recipe, and to the plain document that reads back as the same Recipe."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from collapse_sim.plan.settings import Claim, Recipe, Reference
from collapse_sim.recipe.checks import Names
from collapse_sim.recipe.components import value_name, written
from collapse_sim.recipe.marked import Block, mark_at, plain, split_path
from collapse_sim.recipe.protocols import claims_under, protocols_of, reference_under, under_name
from collapse_sim.recipe.resolve import Parts


def assemble(tree: Block, parts: Parts) -> Recipe:
    """The Recipe of parts without problems. Claims and references that name what is no longer there are left out."""
    assert parts.data is not None
    assert parts.model is not None
    said = parts.plain
    protocols, seeds = protocols_of(tree), said["seeds"]
    seeds = tuple(range(seeds) if isinstance(seeds, int) else seeds)
    there = Names(parts.arms, parts.metrics, said["generations"], seeds)
    claims = [claim for _, written in parts.claims for claim in claims_under(written, protocols, parts.arms)]
    references = [reference_under(said, protocols, parts.arms) for _, said in parts.references]
    recipe = Recipe(
        name=said["name"],
        description=said.get("description", ""),
        data=parts.data,
        model=parts.model,
        train=parts.train,
        retrain=parts.retrain,
        sampling=parts.sampling,
        generations=said["generations"],
        samples=said.get("samples"),
        seeds=seeds,
        arms=tuple(parts.arms.values()),
        metrics=parts.metrics,
        baseline=_baseline(said.get("baseline"), protocols, parts.arms),
        show=_if_in(said.get("show"), parts.metrics),
        claims=tuple(_narrowed(claim, there) for claim in claims if _claim_applies(claim, there)),
        tuned_on=tuple(said["tuned_on"]) if "tuned_on" in said else None,
        references=tuple(_still_applying(references, there)),
        where=partial(_where, tree),
    )
    return replace(recipe, document=_document(tree, parts, recipe))


def _where(tree: Block, path: str) -> str:
    return str(mark_at(tree, split_path(tree, path)))


def _document(tree: Block, parts: Parts, recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain JSON, every default written out, grids expanded."""
    document: dict[str, Any] = {"name": recipe.name, "description": recipe.description}
    document["data"] = written(tree["data"], parts.data)
    document["model"] = written(tree["model"], parts.model)
    if recipe.train is not None:
        document["train"] = recipe.train.model_dump(mode="json")
    if recipe.retrain is not None:
        document["retrain"] = recipe.retrain.model_dump(mode="json")
    document["sampling"] = recipe.sampling.model_dump(mode="json")
    document |= {"samples": recipe.samples, "generations": recipe.generations, "seeds": list(recipe.seeds)}
    document["arms"] = {}
    for arm in recipe.arms:
        line: dict[str, Any] = {"data": written(tree["arms"][arm.name]["data"], arm.strategy)}
        if arm.teacher is not None:
            line["teacher"] = arm.teacher.model_dump(mode="json")
        line |= {"init": arm.init, "protocol": arm.protocol}
        if arm.retrain is not None:
            line["retrain"] = arm.retrain.model_dump(mode="json")
        document["arms"][arm.name] = line
    document["metrics"] = []
    for name, metric in recipe.metrics.items():
        value = tree["metrics"][parts.metric_steps[name][1]]
        entry = written(value, metric)
        if name != value_name(value).rpartition(":")[2]:
            entry["as"] = name
        document["metrics"].append(entry)
    document |= {"baseline": recipe.baseline, "show": recipe.show}
    document["tuned_on"] = None if recipe.tuned_on is None else list(recipe.tuned_on)
    document["claims"] = [claim.model_dump(mode="json", exclude_none=True) for claim in recipe.claims]
    document["reference"] = [reference.model_dump(mode="json") for reference in recipe.references] or None
    return {key: plain(value) for key, value in document.items() if value is not None}


def _baseline(name: str | None, protocols: Sequence[str], arms: Container[str]) -> str | None:
    """The arm that differences are taken to: of an arm under several protocols the first one."""
    names = [] if name is None else [name, *(under_name(name, protocol) for protocol in protocols)]
    return next((name for name in names if name in arms), None)


def _if_in(name: str | None, names: Any) -> str | None:
    return name if name in names else None


def _claim_applies(claim: Claim, there: Names) -> bool:
    """Whether all that a claim names is still there."""
    from collapse_sim.recipe.claims import parse

    expectation = parse(claim.expect)
    generations = [*expectation.generations, claim.generation]
    return (
        there.measured(claim.metric)
        and expectation.arms <= set(there.arms)
        and all(generation <= there.generations for generation in generations if isinstance(generation, int))
        and (claim.seeds is None or not set(claim.seeds).isdisjoint(there.seeds))
    )


def _narrowed(claim: Claim, there: Names) -> Claim:
    """The claim with those of its seeds that are there."""
    if claim.seeds is None:
        return claim
    return claim.model_copy(update={"seeds": tuple(seed for seed in claim.seeds if seed in there.seeds)})


def _still_applying(references: Iterable[Reference], there: Names) -> Iterator[Reference]:
    """The references without the arms that are not there; none of which nothing is left."""
    for reference in references:
        values = {arm: figure for arm, figure in reference.values.items() if arm in there.arms}
        if values and there.measured(reference.metric) and reference.at(there.generations) <= there.generations:
            yield reference.model_copy(update={"values": values})
