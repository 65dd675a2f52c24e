"""What torch.compile has compiled: which programs a process has, what they took to make, and how fast they are."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal, Protocol, TypeVar, cast

import torch
from torch import Tensor
from torch.fx import GraphModule

from collapse_sim.core.errors import ENDS_RUN, MissingError, RecipeError
from collapse_sim.core.events import Emit, Note
from collapse_sim.core.machine import Device, Machine
from collapse_sim.core.memory_errors import first_line
from collapse_sim.core.replays import Outputs, Record, Recorded, record_of
from collapse_sim.engine.objective import Groups

Mode = Literal["auto", "on", "off"]
Decided = Literal["auto", "on", "off", "again"]  # by what; "again": as the record of what was pruned says
Objective = Callable[..., Tensor]
Backend = str | Callable[..., Any]

# By how much a compiled batch may differ from an eager one: losses relative to their size, gradients relative to the
# steepest of them.
TOLERANCE = {"fp32": 1e-3, "bf16": 5e-2, "fp16": 5e-2}
TF32_TOLERANCE = 1e-2

EXPECTED_COMPILE_S = 30.0  # until a program has been compiled in this process
# What `auto` goes by.
LEAST_REMAINING_S = 60.0  # shorter work is never compiled, so that its bytes do not depend on measured times
ASSUMED_GAIN = 0.1  # of a step's time, before a compiled one was measured
LEAST_GAIN = 0.03  # a program that saves less is given up
WARM_STEPS = 5  # the first ones are slower
TIMED_STEPS = 20
LONG_EPOCH = 20  # steps, from which on `on` leaves the smaller last batch of an epoch as it is


def compile_mode(setting: str) -> Mode:
    """The setting of `run --compile`. Raises RecipeError for anything but auto, on or off."""
    if setting not in ("auto", "on", "off"):
        raise RecipeError(f"--compile {setting}: allowed: auto, on, off")
    return cast(Mode, setting)


def check_compiler(mode: Mode, device: Device) -> None:
    """Raise MissingError when steps are to be compiled and there is no compiler for the device."""
    problem = device.compiler_problem() if mode == "on" else None
    if problem:
        raise MissingError(f"--compile on: {problem}; or use --compile auto or off")


class NotCompiledError(Exception):
    """Why something is not compiled, for people."""


class Compiled(Protocol):
    """What is compiled once for a process."""

    compile_s: float


Made = TypeVar("Made", bound=Compiled)


class Program:
    """An objective's value and gradients for tensors of fixed shapes, traced once and compiled.

    It is traced by running it on tensors without values, so whatever Python code it has is gone afterwards. Parameters,
    buffers, batches and weights are arguments; other tensors of a model, and anything random, are refused.
    """

    def __init__(self, objective: Objective, arguments: Groups, machine: Machine, backend: Backend) -> None:
        """Raises NotCompiledError when that is impossible, or when the program computes something else."""
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the compiler, about the machine
            self._run: Callable[..., Tensor] = compiled_graph(_traced(objective, arguments), backend)
            own = _with_gradients(self, arguments)
        self.compile_s = time.perf_counter() - started
        _check(own, _with_gradients(lambda groups: objective(**groups), arguments), machine)

    def __call__(self, arguments: Groups) -> Tensor:
        """The objective of arguments of the same names and shapes, with a backward pass."""
        return self._run(*_flat(arguments))


def _traced(objective: Objective, arguments: Groups) -> GraphModule:
    """The objective as a graph of operations on `_flat(arguments)`."""
    names = {group: list(tensors) for group, tensors in arguments.items()}

    def on_tensors(*tensors: Tensor) -> Tensor:
        left = iter(tensors)
        return objective(**{group: {name: next(left) for name in own} for group, own in names.items()})

    return traced(on_tensors, _flat(arguments))


def traced(function: Callable[..., Any], tensors: Sequence[Tensor]) -> GraphModule:
    """A function of tensors as a graph of operations, found by running it on tensors without values.

    Raises NotCompiledError when it draws random numbers; errors of its own code and of the tracer as they are.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    graph: GraphModule = make_fx(function, tracing_mode="fake")(*tensors)
    if any(map(_draws, graph.graph.nodes)):
        raise NotCompiledError("the network draws random numbers, as dropout does; compiled, they would be others")
    return graph


def compiled_graph(graph: GraphModule, backend: Backend) -> Callable[..., Any]:
    """A graph compiled for the shapes that it was traced with, when it is called for the first time."""
    return torch.compile(graph.forward, fullgraph=True, dynamic=False, backend=backend)  # no module: it has no hooks


def _draws(node: torch.fx.Node) -> bool:
    """Whether an operation draws random numbers. Attention is one that can, and does not without dropout."""
    if torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ()):
        return False
    schema: Any = node.target._schema  # type: ignore[union-attr]
    for i, argument in enumerate(schema.arguments):
        if argument.name == "dropout_p":
            given = node.args[i] if i < len(node.args) else node.kwargs.get(argument.name, argument.default_value)
            return bool(given != 0)
    return True


def _flat(arguments: Groups) -> list[Tensor]:
    return [tensor for group in arguments.values() for tensor in group.values()]


def _with_gradients(function: Callable[[Groups], Tensor], arguments: Groups) -> tuple[Tensor, list[Tensor | None]]:
    """A function's value, and the gradients of its sum; no argument's own gradient changes."""
    learned = [tensor for tensor in _flat(arguments) if tensor.requires_grad]
    value = function(arguments)
    return value.detach(), list(torch.autograd.grad(value.sum(), learned, allow_unused=True))


def _check(
    own: tuple[Tensor, list[Tensor | None]], eager: tuple[Tensor, list[Tensor | None]], machine: Machine
) -> None:
    """Raise NotCompiledError unless a compiled batch equals the eager one. One that is not finite shows nothing."""
    tolerance = tolerance_of(machine)
    (loss, gradients), (eager_loss, eager_gradients) = own, eager
    if not bool(eager_loss.isfinite().all()):
        return
    if not torch.allclose(loss, eager_loss, rtol=tolerance, atol=tolerance):
        raise NotCompiledError(f"compiled, its loss is {loss.tolist()} instead of {eager_loss.tolist()}")
    zero = torch.zeros((), device=loss.device)
    steepest = max((float(g.abs().max()) for g in eager_gradients if g is not None), default=0.0)
    for one, other in zip(gradients, eager_gradients, strict=True):
        difference = float(((zero if one is None else one) - (zero if other is None else other)).abs().max())
        if not difference <= tolerance * steepest:
            raise NotCompiledError(f"compiled, a gradient differs by {difference:.1e}; the steepest is {steepest:.1e}")


def tolerance_of(machine: Machine) -> float:
    """By how much what is compiled may differ from what is not, relative to its size."""
    return max(TOLERANCE[machine.precision], TF32_TOLERANCE if machine.tf32 else 0.0)


@dataclass
class Times:
    """Seconds of the steps of one kind, the first ones excluded."""

    warm: int = WARM_STEPS
    timed: int = TIMED_STEPS
    eager: list[float] = field(default_factory=list)
    compiled: list[float] = field(default_factory=list)

    def of(self, *, compiled: bool) -> float | None:
        """The median; None as long as fewer than `timed` were measured."""
        seconds = (self.compiled if compiled else self.eager)[self.warm :]
        return median(seconds) if len(seconds) >= self.timed else None

    def add(self, seconds: float, *, compiled: bool) -> None:
        known = self.compiled if compiled else self.eager
        if len(known) < self.warm + self.timed:
            known.append(seconds)


class Programs:
    """The programs of this process: fits, and samplers, of one architecture, shape and precision share one."""

    def __init__(
        self,
        mode: Mode = "off",
        backend: Backend = "inductor",
        record_of: Callable[[torch.device], Record | None] = record_of,
    ) -> None:
        """For tests: `backend`, torch.compile's, where another one traces without compiling, and `record_of`, how
        programs are recorded on a device."""
        self.mode, self._backend, self._record_of = mode, backend, record_of
        self._unrecorded: set[str] = set()
        self._recording_s = 0.0
        self._made: dict[str, Compiled | str] = {}  # or why there is none
        self._times: dict[str, Times] = {}
        self._noted: set[tuple[str, str]] = set()
        self.followed: dict[tuple[str, tuple[int, ...]], Mapping[str, Any]] = {}  # artefact -> what its manifest says

    @property
    def count(self) -> int:
        """How many programs were compiled."""
        return sum(not isinstance(made, str) for made in self._made.values())

    @property
    def compile_s(self) -> float:
        """Seconds that all of them took to compile, and to record."""
        compiled = (made.compile_s for made in self._made.values() if not isinstance(made, str))
        return sum(compiled, self._recording_s)

    def times(self, key: str, warm: int = WARM_STEPS, timed: int = TIMED_STEPS) -> Times:
        """What steps under this key took in this process: `timed` of them, after the first `warm` ones."""
        return self._times.setdefault(key, Times(warm, timed))

    def decide(self, times: Times, remaining: float, *, compiled: bool) -> tuple[bool, bool]:
        """What `auto` does from here on, from `times` of steps and how many of them remain: whether they are compiled,
        and whether that is settled. `compiled`: whether they are so far."""
        eager_s, compiled_s = times.of(compiled=False), times.of(compiled=True)
        if eager_s is not None and compiled_s is not None:
            return compiled_s <= (1 - LEAST_GAIN) * eager_s, True
        if compiled or eager_s is None:
            return compiled, False
        remaining_s = eager_s * remaining
        worth = remaining_s >= LEAST_REMAINING_S and remaining_s * ASSUMED_GAIN >= self.expected_s()
        return worth, not worth

    def expected_s(self) -> float:
        """How long compiling is expected to take, in seconds: the longest time so far."""
        known = (made.compile_s for made in self._made.values() if not isinstance(made, str))
        return max(known, default=EXPECTED_COMPILE_S)

    def step(
        self, key: str, who: str, objective: Objective, arguments: Callable[[], Groups], machine: Machine, emit: Emit
    ) -> Program | None:
        """The program of steps with this key. None when that is impossible; `who` is the family's name."""
        words = (who, "its steps", "fits")
        return self.get(key, words, lambda backend: Program(objective, arguments(), machine, backend), machine, emit)

    def get(
        self, key: str, words: tuple[str, str, str], make: Callable[[Backend], Made], machine: Machine, emit: Emit
    ) -> Made | None:
        """The program with this key, made when it is asked for the first time. None when that is impossible, with one
        note for each reason. `words` for people: whose it is, what is compiled, and what else it serves."""
        who, what, serves = words
        if key not in self._made:
            emit(Note(f"{who}: compiling {what}, once for all {serves} like this one", "info"))
            self._made[key] = self._make(make, machine)
        made = self._made[key]
        if not isinstance(made, str):
            return cast(Made, made)
        if (who, made) not in self._noted:
            self._noted.add((who, made))
            emit(Note(f"{who}: {what} are not compiled: {made}"))
        return None

    def recording(
        self, key: str, words: tuple[str, str], machine: Machine, emit: Emit
    ) -> tuple[Record, Callable[[str], None]] | None:
        """How the program with this key is recorded, and what is told why it cannot be. None where none is.

        `words` for people: whose it is, and what is recorded.
        """
        record, (who, what) = self._record_of(machine.device), words
        if record is None or key in self._unrecorded:
            return None

        def say(reason: str) -> None:
            self._unrecorded.add(key)
            if (who, reason) not in self._noted:
                self._noted.add((who, reason))
                emit(Note(f"{who}: {what} are {reason}", "info"))

        def timed(*stages: Callable[..., Outputs]) -> list[Recorded]:
            started = time.perf_counter()
            try:
                return record(*stages)
            finally:
                self._recording_s += time.perf_counter() - started

        return timed, say

    def _make(self, make: Callable[[Backend], Compiled], machine: Machine) -> Compiled | str:
        if problem := machine.compiler_problem():
            return problem
        try:
            return make(self._backend)
        except ENDS_RUN:  # a requested stop is heard in every forward pass
            raise
        except NotCompiledError as error:
            return str(error)
        except Exception as error:  # of a family's code, the tracer or the compiler; the eager step shows its own
            return f"{type(error).__name__}: {first_line(error)}"
