"""How ranks hold the modules of a fit: each of them whole, or each a part of every parameter (fully sharded data
parallelism: Zhao et al. 2023, arXiv 2304.11277; torch.distributed.fsdp.fully_shard).

Parameters, gradients, optimiser states and averages are divided along their first axis. A forward pass gathers what it
needs, unit by unit. State is gathered and divided here, too, so that files are those of one process.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from collapse_sim.core.errors import RanksError
from collapse_sim.core.machine import Device, Machine
from collapse_sim.core.ranks import Group, Ranks, Sums
from collapse_sim.families.base import Inputs
from collapse_sim.families.hooks import blocks_of
from collapse_sim.families.training import Train

T = TypeVar("T")
CPU = torch.device("cpu")


def holding(train: Train, ranks: Ranks, machine: Machine) -> Whole:
    """How the ranks hold a fit with these settings."""
    if train.shard and isinstance(ranks, Group):
        return Sharded(ranks, machine.device)
    return Whole(ranks, machine.device)


class Whole:
    """Every rank holds all of every module, and calls it directly."""

    def __init__(self, ranks: Ranks, device: torch.device = CPU) -> None:
        self.ranks, self.device = ranks, device

    @property
    def loads_on(self) -> Device:
        """Where models are read or built, before `place`."""
        return Device(self.device)

    def place(self, family: object, model: nn.Module, *others: nn.Module) -> None:
        """Put a model, and what is used with it in the same forward passes, where it is computed."""
        for module in (model, *others):
            module.to(self.device)

    def call(self, model: nn.Module, action: Callable[[], T]) -> T:
        """What `action`, which runs forward passes of `model`, returns."""
        return action()

    def evaluated(self, model: nn.Module, action: Callable[[], T]) -> T:
        """What `action`, which runs forward passes of `model` without gradients, returns on rank 0."""
        return self.ranks.of_first(action)

    def shares(self, batch: Inputs, parts: int) -> tuple[Inputs, list[Inputs]]:
        """This rank's rows of a batch, which it splits in `parts`, and micro-batches that it computes without counting
        them."""
        return batch.part(self.ranks.mine), []

    @contextlib.contextmanager
    def backward(self, model: nn.Module, *, last: bool) -> Iterator[None]:
        """The forward and backward pass of a micro-batch; `last` of its step."""
        yield

    def end_step(self, *models: nn.Module) -> None:
        """After the forward and backward passes of a step."""

    def gradients(self, parameters: Sequence[nn.Parameter]) -> Sums:
        """As `Ranks.gradients`."""
        return self.ranks.gradients(parameters)

    def finite(self, model: nn.Module) -> bool:
        """Whether all stored numbers of a model are finite, on every rank."""
        tensors = (tensor for tensor in model.state_dict().values() if tensor.is_floating_point())
        return all(bool(tensor.isfinite().all()) for tensor in tensors)

    def gathered(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Whole tensors, on rank 0 at least."""
        return dict(state)

    def spread(self, state: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Whole tensors as the ranks hold those of the same name in `like`."""
        return dict(state)


class _Root(nn.Module):
    """The outermost unit of a sharded model: the parameters of no other unit are gathered while an action runs."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.held = nn.ModuleList(modules)

    def forward(self, action: Callable[[], T]) -> T:
        return action()


class _LossSum(Sums):
    """Backward passes have summed the gradients; only the loss is left."""

    def __init__(self, group: Group) -> None:
        self._group = group

    def __call__(self, loss: Tensor) -> Tensor:
        total = loss.clone()
        self._group.sum_([total])
        return total


class Sharded(Whole):
    """Every rank holds a part of every parameter.

    A unit is one of the family's blocks (hooks.HasBlocks) or all the rest. All ranks run the same number of forward and
    backward passes.
    """

    def __init__(self, ranks: Group, device: torch.device) -> None:
        from torch.distributed.device_mesh import DeviceMesh

        super().__init__(ranks, device)
        self._group = ranks
        self._mesh = DeviceMesh.from_group(dist.group.WORLD, device.type)  # type: ignore[arg-type]
        self._roots: dict[nn.Module, Any] = {}
        self._single: set[nn.Module] = set()  # models without blocks

    @property
    def loads_on(self) -> Device:
        """The CPU: the device may be too small for a whole model."""
        return Device(CPU)

    def place(self, family: object, model: nn.Module, *others: nn.Module) -> None:
        from torch.distributed.fsdp import FSDPModule, fully_shard

        root: Any = _Root([model, *others])
        blocks = blocks_of(family, model)
        units = [*blocks, root]
        for module in units:
            fully_shard(module, mesh=self._mesh)
        for module in units:
            assert isinstance(module, FSDPModule)
            module.set_gradient_divide_factor(1.0)  # losses are divided by the whole batch's count
            module.set_force_sum_reduction_for_comms(True)  # gloo has no other
        self._roots[model] = root
        if not blocks:
            self._single.add(model)

    def call(self, model: nn.Module, action: Callable[[], T]) -> T:
        with lost_connections(self._group):
            return cast(T, self._roots[model](action))

    def evaluated(self, model: nn.Module, action: Callable[[], T]) -> T:
        """All ranks run the passes, since each holds a part only."""
        with torch.no_grad():
            result = self.call(model, action)
        self.end_step(model)
        return self.ranks.of_first(lambda: result)

    def shares(self, batch: Inputs, parts: int) -> tuple[Inputs, list[Inputs]]:
        """A rank with fewer micro-batches than another computes the batch's first row, without counting it."""
        own, _ = super().shares(batch, parts)
        world = self.ranks.world
        most = max(pieces(-(-(batch.rows - rank) // world), parts) for rank in range(world))
        return own, [batch.part(slice(1))] * (most - pieces(own.rows, parts))

    @contextlib.contextmanager
    def backward(self, model: nn.Module, *, last: bool) -> Iterator[None]:
        """A model without blocks is in memory as a whole in every pass, so it stays there until the step ends, and its
        gradients are summed once. With blocks, both would take the memory that sharding saves."""
        if model in self._single:
            root = self._roots[model]
            root.set_requires_gradient_sync(last)
            root.set_is_last_backward(last)
            root.set_reshard_after_backward(last)
        with lost_connections(self._group):
            yield

    def end_step(self, *models: nn.Module) -> None:
        """Free what forward passes left gathered."""
        for model in models:
            self._roots[model].reshard()

    def gradients(self, parameters: Sequence[nn.Parameter]) -> Sums:
        return _LossSum(self._group)

    def finite(self, model: nn.Module) -> bool:
        tensors = (_local(tensor) for tensor in model.state_dict().values() if tensor.is_floating_point())
        own = all(bool(tensor.isfinite().all()) for tensor in tensors)
        return self._group.most([int(not own)]) == [0]

    def gathered(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """One tensor after the other, on the CPU of rank 0; {} on the others."""
        whole: dict[str, Tensor] = {}
        with lost_connections(self._group):
            for name, tensor in state.items():
                full = tensor.detach().full_tensor() if _is_divided(tensor) else tensor  # type: ignore[attr-defined]
                if self.ranks.first:
                    whole[name] = full.detach().cpu()
        return whole

    def spread(self, state: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        from torch.distributed.tensor import DTensor, distribute_tensor

        parts: dict[str, Tensor] = {}
        for name, tensor in state.items():
            target = like.get(name)
            if isinstance(target, DTensor) and tensor.shape == target.shape:
                moved = tensor.to(self.device)
                tensor = distribute_tensor(moved, self._mesh, target.placements, src_data_rank=None)
            parts[name] = tensor
        return parts


@contextlib.contextmanager
def lost_connections(group: Group) -> Iterator[None]:
    """Turn what torch.distributed raises within forward and backward passes into a RanksError."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if isinstance(error, RanksError) or not (isinstance(error, dist.DistError) or "gloo/" in text):
            raise
        raise group.lost(error) from error


def pieces(rows: int, parts: int) -> int:
    """How many micro-batches `Inputs.split` makes of some rows."""
    return -(-rows // -(-rows // parts)) if rows > 0 else 0


def _is_divided(tensor: Tensor) -> bool:
    return hasattr(tensor, "full_tensor")


def _local(tensor: Tensor) -> Tensor:
    """This rank's part of a tensor."""
    return cast(Tensor, tensor.to_local()) if hasattr(tensor, "to_local") else tensor
