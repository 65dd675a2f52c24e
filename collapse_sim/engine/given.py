"""The conditions given to a model: columns of real rows, of held-out rows, or of those that it was fitted to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from collapse_sim.core.machine import open_device
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import conditions_of
from collapse_sim.engine import artefacts
from collapse_sim.plan.specs import FitSpec, SampleSpec
from collapse_sim.store.store import Store

Given = Callable[[int, int], dict[str, Tensor]]  # (first, last) -> columns (last - first, ...); stacked (S, ...)


def given_to(store: Store, spec: SampleSpec, seeds: Sequence[int]) -> Given:
    """The conditions of generated rows first, ..., last - 1, on the CPU; no columns for models without conditions."""
    model, of = spec.model, spec.conditions
    names = conditions_of(model.data.data, model.family)
    if of == "fitted" and names:
        return _fitted(store, model.fitted, names, seeds)
    split: artefacts.Conditioning = "held_out" if of == "held_out" else "real"
    return lambda first, last: artefacts.conditions(
        store, model.data, names, seeds, first, last, of=split, stacked=spec.stacked
    )


def _fitted(store: Store, model: FitSpec, names: Sequence[str], seeds: Sequence[int]) -> Given:
    """Rows that the model was fitted to, in random order: where they outnumber the samples, drawn from all."""
    draws = Draws(seeds or (0,), "prompts", model.generation, stacked=model.stacked)
    if model.stacked:
        columns = artefacts.training_stack(store, model, seeds)
        orders = draws.permutation(next(iter(columns.values())).shape[1])
        each = torch.arange(len(seeds))[:, None]
        return lambda first, last: {name: columns[name][each, orders[:, first:last]] for name in names}
    (seed,) = seeds or (0,)
    table = artefacts.training_table(store, model, seed, open_device("cpu"))
    order = draws.permutation(len(table))

    def rows(first: int, last: int) -> dict[str, Tensor]:
        rows = table.gather(order[first:last])
        return {name: rows[name] for name in names}

    return rows
