"""Computations replayed as CUDA graphs: recorded once, and then launched as one.

A step of a small model has hundreds of kernels, each of which a GPU computes in less time than Python and the driver
take to launch it. A recording launches all of them at once. It reads and writes fixed places in memory: weights are
read where they are, a batch is copied to where the recording reads it, and results are copied from where it writes
them.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from collapse_sim.core.errors import ENDS_RUN
from collapse_sim.core.memory_errors import first_line

LARGEST = 50_000_000  # weights, beyond which kernels take longer than their launches
WARM = 3  # runs before a recording, in which libraries allocate and kernels are loaded
FEWEST = 10  # replays that a recording should serve
TRIES = 3  # recordings in a row that serve fewer, after which no more are made

Outputs = Sequence[Tensor | None]
Function = Callable[[Sequence[Tensor], Sequence[Tensor]], Sequence[Tensor]]  # (weights, inputs) -> outputs


class Recorded(NamedTuple):
    """A stage of a recording, and where it writes its outputs."""

    replay: Callable[[], None]
    outputs: Outputs


class Record(Protocol):
    """Records stages, the first of which has no arguments; each other one is given the outputs of the one before."""

    def __call__(self, *stages: Callable[..., Outputs]) -> list[Recorded]: ...


def record_of(device: torch.device) -> Record | None:
    """How computations are recorded on a device; None where they cannot be."""
    if device.type != "cuda" or (device.index or 0) >= torch.cuda.device_count():
        return None

    def record(*stages: Callable[..., Outputs]) -> list[Recorded]:
        current = torch.cuda.current_stream(device)
        side: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        side.wait_stream(current)
        try:
            with torch.cuda.stream(side):
                for _ in range(WARM):
                    outputs: Outputs = ()
                    for stage in stages:
                        outputs = stage(*outputs)
                outputs = ()
                torch.cuda.synchronize(device)
                torch.cuda.empty_cache()  # cached memory cannot be given back while kernels are recorded
                with _without_collection(), _own_workspaces():
                    return _captured(stages, device)
        finally:
            current.wait_stream(side)

    return record


def _captured(stages: Sequence[Callable[..., Outputs]], device: torch.device) -> list[Recorded]:
    """The kernels that stages launch on the current stream, without running them; all in one pool of memory."""
    recorded, pool = list[Recorded](), torch.cuda.graph_pool_handle()
    outputs: Outputs = ()
    for stage in stages:
        graph = torch.cuda.CUDAGraph()
        graph.capture_begin(pool=pool, capture_error_mode="thread_local")  # other threads may allocate meanwhile
        try:
            outputs = stage(*outputs)
            graph.capture_end()
        except BaseException:
            _abandon(graph, pool, device)
            raise
        # Without their graph of gradients, which would keep weights, and the stream that they were used on.
        recorded.append(Recorded(graph.replay, [None if tensor is None else tensor.detach() for tensor in outputs]))
    return recorded


def _abandon(graph: Any, pool: Any, device: torch.device) -> None:
    """End a recording that has failed. Before about torch 2.13 the allocator and the random generator would go on as if
    kernels were still recorded: the one is told, the other hears of the end of the next recording."""
    with suppress(Exception):
        graph.capture_end()
        return
    with suppress(Exception):
        torch._C._cuda_endAllocateToPool(torch.cuda.current_device() if device.index is None else device.index, pool)
    with suppress(Exception):
        again = torch.cuda.CUDAGraph()
        again.capture_begin()
        torch.zeros(1, device=device)
        again.capture_end()


@contextmanager
def _own_workspaces() -> Iterator[None]:
    """Within it cuBLAS has no workspaces from before, which other recordings may use, and none of these afterwards."""
    clear: Callable[[], None] = torch._C._cuda_clearCublasWorkspaces
    clear()
    try:
        yield
    finally:
        clear()


@contextmanager
def _without_collection() -> Iterator[None]:
    """Within it Python collects no garbage: what it would free may have recordings of its own."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Replays:
    """A function of weights and inputs, replayed from a recording as long as its weights stay where they are.

    Where it cannot be recorded, or a replay computes something else, it is called as it is, with one remark.
    """

    def __init__(self, record: Record, tolerance: float, say: Callable[[str], None], largest: float = LARGEST) -> None:
        """`tolerance`: by how much a replay may differ from a call, relative to the largest value. `say` is given the
        reason when there is no recording; with more weights than `largest` there is none."""
        self._largest = largest
        self._record, self._tolerance, self._say = record, tolerance, say
        self._places: tuple[int, ...] | None = None
        self._inputs: list[Tensor] = []
        self._stages: list[Recorded] = []
        self._gradients = Tensor()  # of the output, for the second stage
        self._replayed, self._poor, self._given_up = FEWEST, 0, False
        self.number = 0  # of the last replay

    def __call__(self, function: Function, weights: Sequence[Tensor], inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """The outputs of the function, the same in every call. With gradients enabled it has one, and weights that
        require gradients get them."""
        if not self._given_up and tuple(tensor.data_ptr() for tensor in weights) != self._places:
            self._make(function, weights, inputs)
        if self._given_up:
            return function(weights, inputs)
        self._replayed += 1
        return self._replay(weights, inputs)

    def _replay(self, weights: Sequence[Tensor], inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        if self._inputs:
            torch._foreach_copy_(self._inputs, list(inputs))
        if len(self._stages) > 1:
            return [_Differentiable.apply(self, *_learned(weights))]
        return self.forward()

    def forward(self) -> list[Tensor]:
        """Replay the first stage."""
        self.number += 1
        self._stages[0].replay()
        return [tensor.detach().clone() for tensor in self._stages[0].outputs if tensor is not None]

    def backward(self, gradient: Tensor) -> list[Tensor | None]:
        """Replay the second stage: the gradients of the learned weights from that of the output, in tensors that no
        other replay writes to."""
        self._gradients.copy_(gradient)
        self._stages[1].replay()
        found = [tensor for tensor in self._stages[1].outputs if tensor is not None]
        copies = iter(torch._foreach_mul(found, 1.0))
        return [None if tensor is None else next(copies) for tensor in self._stages[1].outputs]

    def _make(self, function: Function, weights: Sequence[Tensor], inputs: Sequence[Tensor]) -> None:
        """Record the function for weights at these places, or give up."""
        self._poor = self._poor + 1 if self._replayed < FEWEST else 0
        self._places, self._stages, self._replayed = tuple(tensor.data_ptr() for tensor in weights), [], 0
        if sum(tensor.numel() for tensor in weights) > self._largest:
            self._given_up = True  # as it should be: nothing to say
            return
        if self._poor >= TRIES:
            self._give_up("its weights are in other places in every call")
            return
        try:
            self._try_to_make(function, weights, inputs)
        except ENDS_RUN:
            raise
        except Exception as error:  # of the driver, of a library that cannot be recorded, or no memory for it
            self._give_up(f"{type(error).__name__}: {first_line(error)}")

    def _try_to_make(self, function: Function, weights: Sequence[Tensor], inputs: Sequence[Tensor]) -> None:
        own = [_leaf(tensor) for tensor in weights]
        self._inputs = [tensor.detach().clone() for tensor in inputs]
        learned = _learned(own) if torch.is_grad_enabled() else []
        outputs = list(function(own, self._inputs))
        expected: list[Outputs] = [[tensor.detach().clone() for tensor in outputs]]
        stages: list[Callable[..., Outputs]] = [lambda: function(own, self._inputs)]
        if learned:
            self._gradients = torch.ones_like(outputs[0])

            def gradients(output: Tensor) -> Outputs:
                return torch.autograd.grad(output, learned, self._gradients, allow_unused=True)

            expected.append(gradients(outputs[0]))
            stages.append(gradients)
        del outputs
        self._stages = self._record(*stages)
        found: list[Outputs] = [self.forward()]
        if learned:
            found.append(self.backward(torch.ones_like(self._gradients)))
        if not all(_alike(*both, self._tolerance) for both in zip(found, expected, strict=True)):
            self._give_up("its replay computes something else")

    def _give_up(self, reason: str) -> None:
        self._given_up, self._stages, self._inputs = True, [], []
        self._say(f"not recorded as a CUDA graph: {reason}")


class _Differentiable(torch.autograd.Function):
    """A replay as a differentiable function of the learned weights."""

    @staticmethod
    def forward(ctx: Any, replays: Replays, *learned: Tensor) -> Tensor:
        output = replays.forward()[0]
        ctx.replays, ctx.number = replays, replays.number
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        if ctx.number != ctx.replays.number:
            raise RuntimeError("a backward pass of a recording belongs to its last forward pass")
        return None, *ctx.replays.backward(gradient)


def _leaf(tensor: Tensor) -> Tensor:
    """The same numbers, of the same type (compiled programs ask for it), where gradients end: weights may be computed,
    as parts of stacked ones are, or have a place in graphs of gradients already."""
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(tensor.detach(), tensor.requires_grad)
    return tensor.detach().requires_grad_(tensor.requires_grad)


def _learned(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor for tensor in tensors if tensor.requires_grad]


def _alike(found: Outputs, expected: Outputs, tolerance: float) -> bool:
    """Whether tensors are equal up to a tolerance relative to the largest value of all. Values that are not finite show
    nothing."""
    largest = max(
        (float(tensor.abs().max()) for tensor in expected if tensor is not None and tensor.numel()), default=0
    )
    if not math.isfinite(largest):
        return True
    for one, other in zip(found, expected, strict=True):
        if one is None or other is None:
            if one is not other:
                return False
        elif one.numel() and not float((one.double() - other.double()).abs().max()) <= tolerance * largest:
            return False
    return True
