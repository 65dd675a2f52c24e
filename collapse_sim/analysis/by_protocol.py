"""Comparisons by training protocol: tables for each protocol, and the length of every fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from rich.console import RenderableType
from rich.text import Text

from collapse_sim.analysis.results import Results
from collapse_sim.analysis.wrapped_tables import TableColumn, blocks

T = TypeVar("T")


def by_protocol(results: Results) -> dict[str | None, Results]:
    """The results split by protocol, in the order of the arms, each with its own baseline.

    None is the protocol of arms that are solved, or of a run that does not record it.
    """
    protocols = dict.fromkeys(results.protocol_of(arm) for arm in results.arms)
    return {protocol: under(results, protocol) if len(protocols) > 1 else results for protocol in protocols}


def heading_of(protocol: str | None) -> str:
    """The heading above the tables of a protocol's arms."""
    return f"protocol: {protocol}" if protocol else "no protocol: solved, not trained"


def baselines(results: Results) -> dict[str, str]:
    """{arm: its baseline}, an arm of the same protocol."""
    return {arm: group.baseline for group in by_protocol(results).values() for arm in group.arms}


def under(results: Results, protocol: str | None) -> Results:
    """The results of the arms of one protocol."""
    arms = tuple(arm for arm in results.arms if results.protocol_of(arm) == protocol)
    return replace(results, arms=arms, baseline=baseline_of(results, arms))


def panels(results: Results) -> dict[str | None, Results]:
    """`by_protocol` with arm names as in the recipe, for drawings that name the protocol once."""
    groups = by_protocol(results)
    if len(groups) < 2:
        return groups
    return {
        protocol: _renamed(group, {arm: _stem(group, arm) for arm in group.arms}) for protocol, group in groups.items()
    }


def _stem(results: Results, arm: str) -> str:
    return arm.removesuffix(f".{results.protocol_of(arm)}")


def _renamed(results: Results, names: Mapping[str, str]) -> Results:
    """The results with arms renamed by `names`; others are dropped."""

    def by_arm(values: Mapping[str, T]) -> dict[str, T]:
        return {names[arm]: value for arm, value in values.items() if arm in names}

    return replace(
        results,
        arms=tuple(names.values()),
        baseline=names[results.baseline],
        values=by_arm(results.values),
        theory=by_arm(results.theory),
        references=tuple(replace(reference, values=by_arm(reference.values)) for reference in results.references),
        diverged=by_arm(results.diverged),
        planned=by_arm(results.planned),
        settings=by_arm(results.settings),
        training=by_arm(results.training),
    )


def baseline_of(results: Results, arms: Sequence[str]) -> str:
    """The baseline of `arms`: the results' own, its counterpart under their protocol, their run's, or the first arm."""
    if results.baseline in arms:
        return results.baseline
    stem = _stem(results, results.baseline)
    counterparts = (arm for arm in arms if arm == f"{stem}.{results.protocol_of(arm)}")
    return next(counterparts, next((arm for arm in arms if arm in results.merged_baselines), arms[0]))


def training_table(results: Results, generations: Sequence[int], width: int | None) -> list[RenderableType]:
    """Arms by generations: updates per fit, and epochs of its own rows; [] if nothing is trained."""
    trained = [arm for arm in results.arms if arm in results.training]
    if not trained:
        return []
    columns = []
    for k in generations:
        cells = []
        for arm in trained:
            training = results.training[arm]
            available = k < len(training.updates)
            cells.append(Text(f"{training.updates[k]:,.0f} ({training.epochs[k]:.3g})" if available else "-"))
        columns.append(TableColumn(str(k), cells))
    names = TableColumn("arm \\ generation", [Text(arm) for arm in trained])
    protocols = ", ".join(dict.fromkeys(results.training[arm].protocol for arm in trained))
    title = Text.assemble(
        ("training", "bold"), f" (protocol: {protocols}): updates of a fit, and (epochs of its own rows)"
    )
    return [title, *blocks(names, columns, width)]
