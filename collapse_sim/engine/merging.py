"""Combined weights: sum of coefficient x theta over the models of a MergeSpec, all tensors of floating point alike."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from collapse_sim.core.errors import DivergedError
from collapse_sim.core.events import Note
from collapse_sim.core.machine import open_device
from collapse_sim.engine import artefacts
from collapse_sim.engine.work import JobContext
from collapse_sim.families.base import ClosedForm
from collapse_sim.families.hooks import Combinable
from collapse_sim.plan.merges import MergeSpec
from collapse_sim.store.jobs import Job, where


def merge(job: Job, folder: Path, context: JobContext) -> None:
    """Write model.safetensors: parameters and buffers of floating point, combined in float64; others, such as counters,
    are those of the first model.

    Raises DivergedError for the seeds whose weights are not finite, or not those of a model and not to be projected.
    """
    spec, cpu = job.spec, open_device("cpu")
    assert isinstance(spec, MergeSpec)
    models = [artefacts.model(context.store, model, job.seeds, cpu) for model in spec.models]
    model = models[0]
    with torch.no_grad():
        model.load_state_dict(combined([each.state_dict() for each in models], spec.coefficients))
        _check_finite(job, model)
        if isinstance(spec.family, ClosedForm) and isinstance(spec.family, Combinable):
            model = _feasible(job, spec.family, model, context)
        state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    (folder / artefacts.MODEL_FILE).write_bytes(save(state))


def combined(states: list[dict[str, Tensor]], coefficients: tuple[float, ...]) -> dict[str, Tensor]:
    """The linear combination of states with the same names and shapes, in their own precision."""
    result = dict(states[0])
    for name, first in result.items():
        if first.is_floating_point():
            terms = (c * state[name].double() for c, state in zip(coefficients, states, strict=True))
            result[name] = torch.stack(list(terms)).sum(0).to(first.dtype)
    return result


def _feasible(job: Job, family: Combinable, model: nn.Module, context: JobContext) -> nn.Module:
    spec = job.spec
    assert isinstance(spec, MergeSpec)
    good = family.feasible(model).tolist()
    bad = tuple(seed for seed, fine in zip(job.seeds, good, strict=True) if not fine)
    if not bad:
        return model
    what = f"{where(job, bad)}: the combined parameters are not those of a {type(family).__name__}"
    if spec.infeasible == "refuse":
        raise DivergedError(
            f"{what}, such as a covariance that is singular or negative; the chain ends there: use a w nearer to 0, "
            "more rows, or infeasible: project",
            bad,
        )
    context.emit(Note(f"{what}; the nearest ones are taken (infeasible: project)"))
    projected = family.projected(model).state_dict()
    chosen = torch.tensor(good)
    state = {
        name: torch.where(chosen.view(-1, *[1] * (tensor.dim() - 1)), tensor, projected[name])
        for name, tensor in model.state_dict().items()
    }
    model.load_state_dict(state)
    return model


def _check_finite(job: Job, model: nn.Module) -> None:
    bad = [name for name, tensor in model.state_dict().items() if not bool(tensor.isfinite().all())]
    if bad:
        raise DivergedError(f"{where(job, job.seeds)}: the combined {bad[0]} is not finite; the chain ends there")
