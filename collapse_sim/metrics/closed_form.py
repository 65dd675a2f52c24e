"""What the metrics of toys share: fitted parameters and the true ones, in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from collapse_sim.data.base import Info
from collapse_sim.families.base import ClosedForm, ModelFamily
from collapse_sim.metrics.base import Evaluation


def needs_buffers(metric: str, info: Info, family: ModelFamily, *names: str) -> None:
    """Raise ValueError unless the family fits models with these parameters to data whose true ones are known."""
    if info.fingerprint:
        raise ValueError(f"{metric} compares with the true parameters: it needs simulated data, not files")
    if isinstance(family, ClosedForm):
        model = family.build_ensemble(info, 1)
        missing = [name for name in names if not isinstance(getattr(model, name, None), Tensor)]
    else:
        missing = list(names)
    if missing:
        raise ValueError(
            f"{metric} reads a model's {' and '.join(missing)}, and {type(family).__name__} models have none"
        )


def buffers(evaluation: Evaluation, *names: str) -> list[Tensor]:
    """The model's parameters with their leading ensemble axis S, float64 on the CPU."""
    model = evaluation.model()
    return [getattr(model, name).detach().double().cpu() for name in names]


def true(evaluation: Evaluation, name: str) -> Tensor:
    """The data's `true_NAME()`, float64. Raises ValueError when the data does not tell it."""
    tell = getattr(evaluation.data, f"true_{name}", None)
    if tell is None:
        raise ValueError(f"{type(evaluation.data).__name__} does not tell its true {name} (a method true_{name}())")
    return torch.as_tensor(tell()).double().cpu()
