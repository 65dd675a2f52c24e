"""The contract test of a CUDA device, for machines that have none.

torch's FakeTensorMode computes shapes, types and devices without data: its tensors may be on a device that is not
there, and an operation on tensors of two devices raises, as on CUDA.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from collapse_sim.core.machine import Machine
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.engine.stacked import StackedObjective
from collapse_sim.engine.stacked_sampling import StackedSampling
from collapse_sim.engine.training_loss import ForwardPass, TrainingLoss
from collapse_sim.families.base import ClosedForm, Conditions, Inputs, ModelFamily
from collapse_sim.families.hooks import (
    Continues,
    Encodes,
    HasConditions,
    HasRowCounts,
    HasTextLikelihood,
    HasTrajectory,
    RowLosses,
    Stacks,
    StacksSampling,
)

SAMPLES = 4  # rows that are generated


def check_device(family: ModelFamily, info: Info, rows: Mapping[str, Tensor]) -> None:
    """Check that a family computes on the device that its model and rows are on; no CUDA device is needed.

    `rows`: a few rows of its columns on the CPU; of a family in closed form, of shape (S, n, ...). Runs `corrupt`,
    `predict`, `loss`, `distillation`, `sample` and what the family offers beside them, also as fits that are computed
    together; not backward passes. Values that are read back (`bool(tensor)`, `equal`, `nonzero`, indexing by a mask,
    `numpy`) are stand-ins: true or 1, true, all, all, zeros. An AssertionError says which function mixes devices.
    """
    size = len(next(iter(rows.values()))) if isinstance(family, ClosedForm) else None
    models = [_build(family, info, size) for _ in range(2)]
    dtype = torch.float64 if size else torch.float32
    draws = Draws(tuple(range(size or 1)), "sample", 0, dtype=dtype, stacked=size is not None)
    with torch.no_grad():  # on the CPU first: tables that a family keeps on the host need values
        family.sample(models[0], _conditions(family, rows, size), draws)
    device = torch.device("cuda", torch.cuda.device_count())  # one that is not there
    with _mode(), _ReadBack(), _Arrays(), torch.no_grad():  # type: ignore[no-untyped-call]
        moved = {name: _empty(column, device) for name, column in rows.items()}
        model, teacher = (_moved(model, device) for model in models)
        _check(family, model, teacher, moved, EmptyDraws(device, dtype, size), size)


class EmptyDraws(Draws):
    """Draws that have only a shape, a type and a device. `size`: the number of seeds of an ensemble, otherwise None."""

    def __init__(self, device: torch.device, dtype: torch.dtype, size: int | None) -> None:
        self.device, self.dtype, self.stacked = device, dtype, size is not None
        self._leading = () if size is None else (size,)

    @property
    def generator(self) -> torch.Generator:
        """None: torch's functions then take the device's own, which draws nothing here."""
        return None  # type: ignore[return-value]

    @contextmanager
    def as_global(self) -> Iterator[None]:
        """Leaves the global generators alone."""
        yield

    def integers(self, high: int, *shape: int) -> Tensor:
        """int64 of this shape."""
        return torch.empty(*self._leading, *shape, dtype=torch.int64, device=self.device)

    def permutation(self, n: int) -> Tensor:
        """int64 (n,)."""
        return self.integers(n, n)

    def _filled(self, fill: Callable[..., Tensor], shape: tuple[int, ...]) -> Tensor:
        return torch.empty(*self._leading, *shape, dtype=self.dtype, device=self.device)


class _ReadBack(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Stand-ins for values that are read from tensors without data."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            if args[0].dtype == torch.bool:
                return True
            return 1.0 if args[0].is_floating_point() else 1
        if func is torch.ops.aten.equal.default:
            return True
        if func is torch.ops.aten.nonzero.default:
            return _all_places(args[0])
        if func is torch.ops.aten.index.Tensor:
            places: list[Tensor | None] = []
            for index in args[1]:
                masked = index is not None and index.dtype == torch.bool
                places.extend(_all_places(index).unbind(1) if masked else [index])
            return func(args[0], places)
        return func(*args, **(kwargs or {}))


def _all_places(tensor: Tensor) -> Tensor:
    return tensor.new_zeros(tensor.numel(), tensor.dim(), dtype=torch.int64)


class _Arrays(TorchFunctionMode):
    """Zeros for the arrays of tensors without data."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.numpy:
            return np.zeros(args[0].shape, str(args[0].dtype).removeprefix("torch."))
        return func(*args, **(kwargs or {}))


@cache
def _mode() -> FakeTensorMode:
    """One for the whole process, since families may keep tensors for each device."""
    return FakeTensorMode(allow_non_fake_inputs=True)


def _build(family: ModelFamily, info: Info, size: int | None) -> nn.Module:
    model = family.build_ensemble(info, size) if size and isinstance(family, ClosedForm) else family.build(info)
    return model.eval()


def _conditions(family: ModelFamily, rows: Mapping[str, Tensor], size: int | None) -> Conditions:
    """What samples are generated for. Closed forms get all columns: their data says which are conditions."""
    names = family.conditions if isinstance(family, HasConditions) else rows if size else ()
    return Conditions(SAMPLES, {name: rows[name][:, :SAMPLES] if size else rows[name][:SAMPLES] for name in names})


def _empty(tensor: Tensor, device: torch.device) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=device)


def _moved(model: nn.Module, device: torch.device) -> nn.Module:
    """The model with its parameters and buffers on the device, as `model.to` moves them; other tensors stay."""
    moved: dict[int, Tensor] = {}
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is None:
                    continue
                if id(tensor) not in moved:  # tied weights stay tied
                    empty = _empty(tensor, device)
                    moved[id(tensor)] = nn.Parameter(empty) if isinstance(tensor, nn.Parameter) else empty
                tensors[name] = moved[id(tensor)]  # type: ignore[assignment]
    return model


def _check(
    family: ModelFamily,
    model: nn.Module,
    teacher: nn.Module,
    rows: Mapping[str, Tensor],
    draws: Draws,
    size: int | None,
) -> None:
    device = draws.device
    columns = {name: column for name, column in rows.items() if name in family.columns}
    with _computing("corrupt"):
        inputs = family.corrupt(columns, draws)
        _assert_on(device, dict(inputs.tensors), "corrupt")
    with _computing("predict"):
        student, target = family.predict(model, inputs), family.predict(teacher, inputs)
        _assert_on(device, student, "predict")
    with _computing("loss"):
        _assert_on(device, family.loss(student, inputs) / inputs.count, "loss")
    if family.terms:
        with _computing("distillation"):
            _assert_on(device, family.distillation(student, target, inputs), "distillation")
    with _computing("sample"):
        _assert_on(device, family.sample(model, _conditions(family, rows, size), draws), "sample")
    if isinstance(family, StacksSampling) and family.stacks_sampling:
        with _computing("samples drawn together"):
            conditions = _conditions(family, rows, size)
            given = {name: torch.stack([column, column]) for name, column in conditions.columns.items()}
            together = StackedSampling(family, [model, teacher], Machine(device, "fp32"))
            drawn = together.sample(conditions.rows, given, EmptyDraws(device, draws.dtype, 2))
            _assert_on(device, drawn, "samples drawn together")
    _check_hooks(family, model, columns, student, inputs, draws)
    if isinstance(family, Stacks) and family.stacks:
        with _computing("fits computed together"):
            _check_stacked(family, model.train(), inputs, target if family.terms else None, device)


def _check_hooks(
    family: ModelFamily, model: nn.Module, columns: Mapping[str, Tensor], student: Any, inputs: Inputs, draws: Draws
) -> None:
    """What a family offers beside its contract and computes on the device (families/hooks.py)."""
    device, first = draws.device, next(iter(columns.values()))
    if isinstance(family, RowLosses):
        with _computing("row_losses"):
            _assert_on(device, family.row_losses(student, inputs), "row_losses")
    if isinstance(family, HasRowCounts):
        with _computing("row_counts"):
            _assert_on(device, family.row_counts(inputs), "row_counts")
    if isinstance(family, Encodes):
        with _computing("encode"):
            _assert_on(device, family.encode(model, columns), "encode")
    if isinstance(family, HasTextLikelihood):
        with _computing("nats"):
            _assert_on(torch.device("cpu"), family.nats(model, columns), "nats")
    if isinstance(family, Continues):
        with _computing("continuations"):
            _assert_on(device, family.continuations(model, first[:SAMPLES, :3], draws), "continuations")
    if isinstance(family, HasTrajectory):
        with _computing("trajectory"):
            _assert_on(device, family.trajectory(model, _conditions(family, columns, None), 3, draws), "trajectory")


def _check_stacked(family: ModelFamily, model: nn.Module, inputs: Inputs, target: Any, device: torch.device) -> None:
    parameters = {name: torch.stack([p, p]) for name, p in model.named_parameters()}
    weights = {name: torch.ones(2, device=device) for name in family.terms}
    objective = StackedObjective(TrainingLoss(family), model, Machine(device, "fp32"))
    losses = objective(parameters, [inputs] * 2, None if target is None else [ForwardPass(target, {})] * 2, weights)
    _assert_on(device, losses, "the losses")


@contextmanager
def _computing(name: str) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise AssertionError(f"{name} does not work on a CUDA device: {error}") from error


def _assert_on(device: torch.device, result: Any, name: str) -> None:
    """Raise AssertionError unless all tensors of a result are on the device."""
    for tensor in pytree.tree_leaves(result):
        if isinstance(tensor, Tensor):
            assert tensor.device == device, f"{name} gives a tensor on {tensor.device}, needed: {device}"
