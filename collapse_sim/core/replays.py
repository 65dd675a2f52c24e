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
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

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
        with torch.cuda.stream(side):
            for _ in range(WARM):
                outputs: Outputs = ()
                for stage in stages:
                    outputs = stage(*outputs)
            outputs = ()
            torch.cuda.synchronize(device)
            with _without_collection():
                recorded = _captured(stages)
        current.wait_stream(side)
        return recorded

    return record


def _captured(stages: Sequence[Callable[..., Outputs]]) -> list[Recorded]:
    """The kernels that stages launch on the current stream, without running them; all in one pool of memory."""
    recorded, pool = list[Recorded](), dict[str, Any]()
    outputs: Outputs = ()
    for stage in stages:
        graph = torch.cuda.CUDAGraph()
        graph.capture_begin(**pool, capture_error_mode="thread_local")  # other threads may allocate meanwhile
        try:
            outputs = stage(*outputs)
        finally:
            graph.capture_end()
        pool = {"pool": graph.pool()}
        recorded.append(Recorded(graph.replay, outputs))
    return recorded


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

    def __init__(
        self,
        function: Function,
        record: Record,
        tolerance: float,
        say: Callable[[str], None],
        largest: float = LARGEST,
    ) -> None:
        """`tolerance`: by how much a replay may differ from a call, relative to the largest value. `say` is given the
        reason when there is no recording; with more weights than `largest` there is none."""
        self._largest = largest
        self._function, self._record, self._tolerance, self._say = function, record, tolerance, say
        self._places: tuple[int, ...] | None = None
        self._inputs: list[Tensor] = []
        self._stages: list[Recorded] = []
        self._gradients = Tensor()  # of the output, for the second stage
        self._replayed, self._poor, self._given_up = FEWEST, 0, False

    def __call__(self, weights: Sequence[Tensor], inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """The outputs. With gradients enabled the function has one, and weights that require gradients get them."""
        if not self._given_up and tuple(tensor.data_ptr() for tensor in weights) != self._places:
            self._make(weights, inputs)
        if self._given_up:
            return self._function(weights, inputs)
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

    def _make(self, weights: Sequence[Tensor], inputs: Sequence[Tensor]) -> None:
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
            self._try_to_make(weights, inputs)
        except ENDS_RUN:
            raise
        except Exception as error:  # of the driver, of a library that cannot be recorded, or no memory for it
            self._give_up(f"{type(error).__name__}: {first_line(error)}")

    def _try_to_make(self, weights: Sequence[Tensor], inputs: Sequence[Tensor]) -> None:
        # Gradients end at these: parts of stacked parameters are computed from them.
        own = [t if t.is_leaf else t.detach().requires_grad_(t.requires_grad) for t in weights]
        self._inputs = [tensor.detach().clone() for tensor in inputs]
        learned = _learned(own) if torch.is_grad_enabled() else []
        outputs = list(self._function(own, self._inputs))
        expected: list[Outputs] = [[tensor.detach().clone() for tensor in outputs]]
        stages: list[Callable[..., Outputs]] = [lambda: self._function(own, self._inputs)]
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
        ctx.replays = replays
        return replays.forward()[0]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        return None, *ctx.replays.backward(gradient)


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
