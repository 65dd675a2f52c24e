"""How large an experiment is: operations per update, bytes still to be written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from collapse_sim.data.base import Info
from collapse_sim.families.base import ModelFamily
from collapse_sim.plan.curation_specs import CurationSpec
from collapse_sim.plan.experiment import Experiment
from collapse_sim.plan.score_specs import FeatureSpec
from collapse_sim.plan.specs import DataSpec, ModelSpec, SampleSpec
from collapse_sim.store.spec import Spec

# How much faster a CPU with instructions for bf16 multiplies. With them two threads are worth it for larger steps only:
# table 1's VAE (1.4e9 operations) took 153 updates/s with one thread and 120 with two (AMX, torch 2.15, compiled).
BF16_SPEED = 8.0


def operations_per_step(experiment: Experiment) -> float:
    """Floating-point operations per optimiser update in the most expensive arm: three times a forward pass, counted as
    those in float32 that take as long. 0 for closed forms.
    """
    forward: dict[str, float] = {}
    per_step = [0.0]
    for plan in experiment.arm_plans:
        for train in (plan.recipe.train, plan.recipe.retrain):
            if train is not None:
                family = repr(plan.recipe.model)
                if family not in forward:
                    forward[family] = forward_operations(plan.recipe.model, plan.data.info)
                speed = BF16_SPEED if train.precision == "bf16" else 1.0
                per_step.append(3.0 * train.batch_size * forward[family] / speed)
    return max(per_step)


def forward_operations(family: ModelFamily, info: Info) -> float:
    """Floating-point operations per row of a family's prediction: the matrix products, convolutions and attention that
    torch.utils.flop_counter has formulas for."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    from collapse_sim.core.randomness import Draws

    totals: list[float] = []

    class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
        """flop_counter's own mode would import torch's compiler, which takes seconds, to exclude itself from it."""

        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            return False

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            given = kwargs or {}
            formula = flop_registry.get(getattr(func, "_overloadpacket", func))
            if formula is None and getattr(func, "_can_decompose", bool)():
                with self:
                    return func.decompose(*args, **given)
            result = func(*args, **given)
            if formula:
                totals.append(float(formula(*args, **given, out_val=result)))
            return result

    rows = {
        name: torch.zeros(2, *shape, dtype=getattr(torch, dtype))
        for name, (shape, dtype) in info.columns.items()
        if name in family.columns
    }
    inputs = family.corrupt(rows, Draws((0,), "count", 0))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        model = family.build(info).eval()
        with Counter():  # type: ignore[no-untyped-call]
            family.predict(model, inputs)
    return sum(totals) / len(next(iter(inputs.tensors.values())))


def bytes_to_come(experiment: Experiment, is_missing: Callable[[Spec], int]) -> int:
    """An estimate of the disk space, in bytes, that the missing artefacts will take: rows and weights."""
    size = bytes_of(experiment)
    return sum(is_missing(spec) * size(spec) for spec in experiment.specs())


def bytes_of(experiment: Experiment) -> Callable[[Spec], int]:
    """An estimate of the bytes of an artefact for one seed: its rows and weights."""
    info, row = experiment.info, experiment.info.row_bytes
    weights = {
        spec.digest: experiment.weights_bytes[plan.name]
        for plan in experiment.arm_plans
        for generation in plan.generations
        for spec in (generation.fit, *generation.between)
    }

    def size(spec: Spec) -> int:
        if isinstance(spec, ModelSpec):
            return weights.get(spec.digest, max(weights.values()))
        if isinstance(spec, SampleSpec):
            return spec.rows * row
        if isinstance(spec, CurationSpec):
            return spec.rows * 8
        if isinstance(spec, FeatureSpec) and spec.weights:
            return spec.count * spec.weights.most_numbers * 4
        if isinstance(spec, DataSpec):
            return (info.pool + info.validation + info.held_out) * row
        return 0

    return size
