"""Checks the paths of the layers that a teacher's weights name, on a model without memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from collapse_sim.core.plugins import plugin_errors
from collapse_sim.core.registry import did_you_mean
from collapse_sim.data.base import Info
from collapse_sim.families.base import ModelFamily
from collapse_sim.plan.settings import Arm, Recipe, layer_path

SHOWN = 40  # paths that a message lists


def layer_misfits(recipe: Recipe, arm: Arm, family: ModelFamily, info: Info) -> Iterator[str]:
    """The problems with the layers in an arm's `teacher.weights`."""
    terms = arm.teacher.weights if arm.teacher is not None else {}
    if any(layer_path(term) is not None for term in terms):
        where = f"arms.{arm.name}.teacher.weights"
        for problem in unknown_layers(terms, layer_paths(family, info), "the model"):
            yield f"{recipe.where(where)}: {where}: {problem}"


def unknown_layers(terms: Iterable[str], paths: Sequence[str], whose: str) -> Iterator[str]:
    """The problem with each layer that is not among the paths of `whose` modules."""
    for term in terms:
        path = layer_path(term)
        if path is None or path in paths:
            continue
        near = _near(path, paths)
        yield (
            f"{term!r}: {whose} has no layer {path!r}{did_you_mean(path, list(paths))}; "
            f"allowed{' there' if len(near) < len(paths) else ''}: {', '.join(near[:SHOWN])}"
            f"{', ...' if len(near) > SHOWN else ''}"
        )


def layer_paths(family: ModelFamily, info: Info) -> list[str]:
    """The paths of all modules of a family's model that have a forward pass of their own."""
    import torch
    from torch import nn

    with plugin_errors(family, "build", (ValueError,)), torch.device("meta"):
        model = family.build(info)
    holders = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
    return [path for path, module in model.named_modules() if path and not isinstance(module, holders)]


def _near(path: str, paths: Sequence[str]) -> Sequence[str]:
    """The paths to choose from: all if they are few, else those of the nearest part of the model that exists."""
    while len(paths) > SHOWN and path:
        path = path.rpartition(".")[0]
        below = [other for other in paths if other.startswith(f"{path}.")] if path else list(paths)
        if below:
            depth = min(other.count(".") for other in below)
            return [other for other in below if other.count(".") <= depth + (0 if path else 1)]
    return paths
