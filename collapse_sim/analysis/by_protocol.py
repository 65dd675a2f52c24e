"""Comparisons by the protocol that arms are trained under: tables for each, and how long every fit was."""

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
    """The arms of each protocol, in their order, as results of their own, with their own baseline.

    None is that of arms that are solved, or of a run that does not say.
    """
    found = dict.fromkeys(results.protocol_of(arm) for arm in results.arms)
    return {protocol: under(results, protocol) if len(found) > 1 else results for protocol in found}


def baselines(results: Results) -> dict[str, str]:
    """{arm: the arm that its differences are taken to}, of the same protocol."""
    return {arm: group.baseline for group in by_protocol(results).values() for arm in group.arms}


def under(results: Results, protocol: str | None) -> Results:
    """Only the arms of one protocol."""
    arms = tuple(arm for arm in results.arms if results.protocol_of(arm) == protocol)
    return replace(results, arms=arms, baseline=baseline_of(results, arms))


def panels(results: Results) -> dict[str | None, Results]:
    """`by_protocol`, arms called as they are written, for drawings that say the protocol once."""
    found = by_protocol(results)
    if len(found) < 2:
        return found
    return {
        protocol: _called(group, {arm: _stem(group, arm) for arm in group.arms}) for protocol, group in found.items()
    }


def _stem(results: Results, arm: str) -> str:
    return arm.removesuffix(f".{results.protocol_of(arm)}")


def _called(results: Results, names: Mapping[str, str]) -> Results:
    """The same results with other names of arms."""

    def by_arm(found: Mapping[str, T]) -> dict[str, T]:
        return {names[arm]: value for arm, value in found.items() if arm in names}

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
    """The baseline, or the arm that it is called among these, or that of a run they are of, or else the first one."""
    if results.baseline in arms:
        return results.baseline
    stem = _stem(results, results.baseline)
    alike = (arm for arm in arms if arm == f"{stem}.{results.protocol_of(arm)}")
    return next(alike, next((arm for arm in arms if arm in results.merged_baselines), arms[0]))


def training_table(results: Results, generations: Sequence[int], width: int | None) -> list[RenderableType]:
    """Arms by generations: updates of a fit, and how often it saw each of its rows; [] where nothing is trained."""
    trained = [arm for arm in results.arms if arm in results.training]
    if not trained:
        return []
    columns = []
    for k in generations:
        cells = []
        for arm in trained:
            found = results.training[arm]
            known = k < len(found.updates)
            cells.append(Text(f"{found.updates[k]:,.0f} ({found.epochs[k]:.3g})" if known else "-"))
        columns.append(TableColumn(str(k), cells))
    names = TableColumn("arm \\ generation", [Text(arm) for arm in trained])
    said = ", ".join(dict.fromkeys(results.training[arm].protocol for arm in trained))
    title = Text.assemble(("training", "bold"), f" (protocol: {said}): updates of a fit, and (epochs of its own rows)")
    return [title, *blocks(names, columns, width)]
