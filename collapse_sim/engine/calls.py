"""A network's calls while rows are drawn, compiled where that pays: one program for all steps of a sampler, and for all
models of an architecture."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from collapse_sim.core.events import Emit
from collapse_sim.core.files import explain_write_errors, write_atomic
from collapse_sim.core.hashing import digest_of
from collapse_sim.core.machine import Machine
from collapse_sim.core.plugins import described, name_of
from collapse_sim.core.replays import Replays
from collapse_sim.engine.pieces import finished_pieces
from collapse_sim.engine.programs import (
    Backend,
    Decided,
    NotCompiledError,
    Programs,
    Times,
    compiled_graph,
    tolerance_of,
    traced,
)
from collapse_sim.engine.work import JobContext
from collapse_sim.families.base import ModelFamily
from collapse_sim.families.hooks import RepeatsCalls
from collapse_sim.plan.specs import SampleSpec
from collapse_sim.store import sealed
from collapse_sim.store.jobs import Job
from collapse_sim.store.records import compiled_before
from collapse_sim.store.rowfile import SAMPLES_FILE

PIECES_FILE = "compiled.json"  # in the folder of unfinished rows
Forward = Callable[..., Sequence[Tensor]]
Given = tuple[Tensor | None, ...]  # the inputs of a call, by position
Shapes = tuple[tuple[tuple[int, ...], str] | None, ...]  # of these, with their types
Record = tuple[list[int], bool, bool]  # pieces at which it changes; auto has decided; some calls have no program
Converted = dict[tuple[int, torch.dtype], Tensor]  # weights by their number and type


class Call:
    """What a network returns for inputs of fixed shapes, traced once and compiled; weights are arguments.

    Autocast converts a network's weights in every call. Here such conversions are taken out of the program and made
    once for each model.
    """

    def __init__(self, model: nn.Module, forward: Forward, inputs: Given, machine: Machine, backend: Backend) -> None:
        """`forward`: what the model computes, as a function of the inputs. Raises NotCompiledError when it cannot be
        compiled, or when the program computes something else."""
        started, self._kind = time.perf_counter(), machine.device.type
        given = [tensor for tensor in inputs if tensor is not None]
        own = _tensors(model)

        def on_tensors(*tensors: Tensor) -> Sequence[Tensor]:
            left = iter(tensors[len(own) :])
            with torch.autocast(machine.device.type, cache_enabled=False, **_precision(machine)):
                parts = [None if tensor is None else next(left) for tensor in inputs]
                outputs: Sequence[Tensor] = functional_call(
                    _Calling(model, forward), _named(own, tensors), tuple(parts)
                )
                return outputs

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the compiler, about the machine
            graph = traced(on_tensors, [*own.values(), *given])
            self._converted = _without_conversions(graph, len(own))
            self._run = compiled_graph(graph, backend)
            outputs = self(self.weights(list(own.values()), {}), inputs)
        _check(outputs, forward(*inputs), machine)
        self.compile_s = time.perf_counter() - started  # with the eager call, which is no part of the piece

    def weights(self, own: Sequence[Tensor], converted: Converted) -> list[Tensor]:
        """A model's tensors as the program is given them. `converted` is what other programs have converted of them,
        and gets the rest."""
        for i, dtype in self._converted:
            if (i, dtype) not in converted:
                converted[i, dtype] = own[i].to(dtype)
        return [*own, *(converted[key] for key in self._converted)]

    def __call__(self, weights: Sequence[Tensor], inputs: Given) -> Sequence[Tensor]:
        """The outputs for inputs of the same shapes."""
        given = [tensor.contiguous() for tensor in inputs if tensor is not None]
        count = len(weights) - len(self._converted)
        with torch.autocast(self._kind, enabled=False):  # what it converts is in the program
            outputs: Sequence[Tensor] = self._run(*weights[:count], *given, *weights[count:])
        return outputs


class _Calling(nn.Module):
    """A model as part of another module, so that a call of the model reaches `forward` with other weights."""

    def __init__(self, model: nn.Module, forward: Forward) -> None:
        super().__init__()
        self.model, self._forward = model, forward

    def forward(self, *inputs: Tensor | None) -> Sequence[Tensor]:
        return self._forward(*inputs)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers without gradients, by their names; tied ones once."""
    return {name: tensor.detach() for name, tensor in (*model.named_parameters(), *model.named_buffers())}


def _named(own: dict[str, Tensor], tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    return {f"model.{name}": tensor for name, tensor in zip(own, tensors, strict=False)}


def _precision(machine: Machine) -> dict[str, Any]:
    """Autocast's settings, as they are here."""
    kind = machine.device.type
    return {"enabled": torch.is_autocast_enabled(kind), "dtype": torch.get_autocast_dtype(kind)}


def _without_conversions(graph: torch.fx.GraphModule, weights: int) -> list[tuple[int, torch.dtype]]:
    """Make conversions of the first `weights` arguments to another type arguments themselves, after all others.

    Returns which argument is converted to what, in the order of the new arguments.
    """
    inputs = [node for node in graph.graph.nodes if node.op == "placeholder"]
    last, converted = inputs[-1], dict[tuple[int, torch.dtype], torch.fx.Node]()
    for i, node in enumerate(inputs[:weights]):
        for user in list(node.users):
            if user.target is not torch.ops.aten._to_copy.default or set(user.kwargs) != {"dtype"}:
                continue
            key = (i, user.kwargs["dtype"])
            if key not in converted:
                with graph.graph.inserting_after(last):
                    last = converted[key] = graph.graph.placeholder(f"converted_{len(converted)}")
                last.meta = dict(user.meta)
            user.replace_all_uses_with(converted[key])
            graph.graph.erase_node(user)
    graph.recompile()
    return list(converted)


def _check(own: Sequence[Tensor], eager: Sequence[Tensor], machine: Machine) -> None:
    """Raise NotCompiledError unless outputs equal the eager ones. Those that are not finite show nothing."""
    if len(own) != len(eager):
        raise NotCompiledError(f"compiled, it has {len(own)} outputs instead of {len(eager)}")
    for one, other in zip(own, eager, strict=True):
        if not bool(other.isfinite().all()):
            continue
        difference, largest = float((one.float() - other.float()).abs().max()), float(other.abs().max())
        if one.dtype != other.dtype or not difference <= tolerance_of(machine) * largest:
            raise NotCompiledError(f"compiled, an output differs by {difference:.1e}; the largest is {largest:.1e}")


class CompiledCalls:
    """The calls of one model: within `compiled`, those with tensors alone are computed by programs."""

    def __init__(self, programs: Programs, family: ModelFamily, model: nn.Module, key: str, machine: Machine) -> None:
        """`key`: what the program depends on beside the shapes of the inputs."""
        self._programs, self._family, self._model, self._machine = programs, family, model, machine
        self._base = key
        self._forward: Forward = model.forward
        self._ready: dict[Shapes, Callable[[Given], Sequence[Tensor]] | None] = {}
        self._converted: Converted = {}
        self._making = False
        self._emit: Emit = lambda event: None
        self.used = self.refused = False  # whether a call had a program, and whether one has none

    @contextmanager
    def compiled(self, emit: Emit) -> Iterator[None]:
        own = self._model.__dict__.get("forward")
        self._emit, self.used, self.refused = emit, False, False
        self._model.forward = self._call
        try:
            yield
        finally:
            del self._model.forward
            if own is not None:
                self._model.forward = own

    def _call(self, *inputs: Any, **named: Any) -> Sequence[Tensor]:
        plain = not named and all(tensor is None or isinstance(tensor, Tensor) for tensor in inputs)
        if self._making or not plain:
            return self._forward(*inputs, **named)
        shapes = tuple(None if tensor is None else (tuple(tensor.shape), str(tensor.dtype)) for tensor in inputs)
        if shapes not in self._ready:
            self._ready[shapes] = self._prepared(shapes, inputs)
        ready = self._ready[shapes]
        if ready is None:
            self.refused = True
            return self._forward(*inputs)
        self.used = True
        return ready(inputs)

    def _prepared(self, shapes: Shapes, inputs: Given) -> Callable[[Given], Sequence[Tensor]] | None:
        """The program of calls with these shapes and this model's weights, on CUDA replayed; None: there is none."""
        key, who, what = digest_of([self._base, shapes]), name_of(type(self._family)), "the calls of its sampler"
        program = self._programs.get(
            key,
            (who, what, "models"),
            lambda backend: self._made(inputs, backend),
            self._machine,
            self._emit,
        )
        if program is None:
            return None
        weights = program.weights(list(_tensors(self._model).values()), self._converted)
        how = self._programs.recording(key, (who, what), self._machine, self._emit)
        if how is None:
            return partial(program, weights)
        empty = [tensor is None for tensor in inputs]

        def called(own: Sequence[Tensor], given: Sequence[Tensor]) -> Sequence[Tensor]:
            left = iter(given)
            return program(own, tuple(None if none else next(left) for none in empty))

        replays = Replays(how[0], tolerance_of(self._machine), how[1])
        return lambda given: replays(called, weights, [tensor.contiguous() for tensor in given if tensor is not None])

    def _made(self, inputs: Given, backend: Backend) -> Call:
        self._making = True
        try:
            return Call(self._model, self._forward, inputs, self._machine, backend)
        finally:
            self._making = False
            torch.clear_autocast_cache()  # the weights that the eager call has had converted


class CompiledPieces:
    """Which pieces of a job's rows are drawn with compiled calls.

    They change the last digits. So changes are written into the job's unfinished folder before they take effect, and
    whoever continues it makes the same ones, and so does whoever draws pruned rows again (as engine/switches.py has it
    for fits). With several ranks no piece is compiled.
    """

    def __init__(
        self, context: JobContext, job: Job, spec: SampleSpec, family: ModelFamily, model: nn.Module, machine: Machine
    ) -> None:
        self._context, self._job, self._spec, self._programs = context, job, spec, context.programs
        self._mode: Decided = context.programs.mode
        self._several = context.ranks.world > 1
        self._changes, self._settled, self._refused = list[int](), False, False
        if isinstance(family, RepeatsCalls) and family.repeats_calls and not spec.stacked:
            self._file, record = context.ranks.of_first(self._begun)
            self._changes, self._settled, self._refused = record
            before = None if self._several else compiled_before(context.store.root, job)
            if before is not None:
                self._mode, self._changes = "again", before.get(self._name, [])
        else:
            self._mode = "off"
        self._key = "" if self._idle else digest_of(_key(spec, machine))
        self._calls = CompiledCalls(self._programs, family, model, self._key, machine)
        self._machine = machine
        self._publish()

    def _begun(self) -> tuple[Path, Record]:
        """The file, and what it says; with several ranks, that pieces are eager from the first one that is not made."""
        folder = self._context.store.partial(self._job)
        changes, settled, refused = recorded(folder / PIECES_FILE)
        if self._several and changes:
            made = finished_pieces(folder, SAMPLES_FILE)
            changes = [at for at in changes if at < made]
            changes += [made] * (len(changes) % 2)
            _write(folder / PIECES_FILE, (changes, settled, refused))
        return folder / PIECES_FILE, (changes, settled, refused)

    @property
    def _idle(self) -> bool:
        """Whether no call is compiled from now on, and none ever was."""
        return self._several or (self._mode in ("off", "again") and not self._changes)

    @contextmanager
    def piece(self, number: int, rows: int) -> Iterator[None]:
        """Within it the piece with this number is drawn."""
        if self._idle:
            yield
            return
        started, before = time.perf_counter(), self._programs.compile_s
        compiled = self._decided(number, rows)
        with self._calls.compiled(self._context.emit) if compiled else nullcontext():
            yield
        if compiled and self._calls.refused:
            self._give_up(number)
            return
        self._machine.synchronize()
        seconds = time.perf_counter() - started - (self._programs.compile_s - before)
        if rows == self._spec.shard:
            self._times.add(seconds / rows, compiled=compiled)

    @property
    def _times(self) -> Times:
        return self._programs.times(f"{self._key} pieces of {self._spec.shard}", warm=0, timed=1)

    def _decided(self, number: int, rows: int) -> bool:
        before = (list(self._changes), self._settled)
        if self._mode == "off":
            self._changes = [at for at in self._changes if at <= number]
        compiled = sum(at <= number for at in self._changes) % 2 == 1
        ahead = any(at > number for at in self._changes)  # by the process that was interrupted, which had come further
        wanted = compiled if ahead else self._wanted(number, rows, compiled)
        if wanted != compiled:
            self._changes.append(number)
        if before != (self._changes, self._settled):
            self._write()
        return wanted

    def _wanted(self, number: int, rows: int, compiled: bool) -> bool:
        """Whether pieces from here on should be compiled. `auto` decides once; a smaller last piece, whose shapes are
        others, it leaves as it is without a program."""
        if self._refused or self._mode == "again":
            return compiled
        if self._mode != "auto":
            return self._mode == "on"
        if rows != self._spec.shard:
            return False
        if self._settled:
            return compiled
        remaining = self._spec.rows - number * self._spec.shard
        wanted, self._settled = self._programs.decide(self._times, remaining, compiled=compiled)
        return wanted

    def _give_up(self, number: int) -> None:
        """Record, before its rows are written, that calls of this piece could not be compiled: later pieces are not
        either, by whoever draws them."""
        self._refused = True
        if self._calls.used:
            self._changes.append(number + 1)
        elif self._changes[-1] == number:
            self._changes.pop()
        else:
            self._changes.append(number)
        self._write()

    def _write(self) -> None:
        """Record the changes, before the piece that they begin with is drawn."""
        _write(self._file, (self._changes, self._settled, self._refused))
        self._publish()

    @property
    def _name(self) -> str:
        return f"pieces of {self._spec.shard} rows"

    def _publish(self) -> None:
        """For the manifest."""
        changes = {self._name: list(self._changes)} if self._changes else {}
        self._programs.followed[self._spec.digest, self._job.seeds] = changes


def _write(file: Path, record: Record) -> None:
    with explain_write_errors(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, sealed.text(dict(zip(("pieces", "settled", "refused"), record, strict=True))))


def recorded(file: Path) -> Record:
    """What a process before this one has recorded."""
    try:
        kept = sealed.read(file)
        return [int(at) for at in kept["pieces"]], bool(kept["settled"]), bool(kept["refused"])
    except (OSError, ValueError, KeyError, TypeError):
        return [], False, False


def _key(spec: SampleSpec, machine: Machine) -> dict[str, Any]:
    """Everything that the program of a call depends on, except the shapes of its inputs."""
    return {
        "family": described(spec.model.family),
        "guidance": described(spec.guidance) if spec.guidance else None,
        "auxiliary": described(spec.auxiliary.family) if spec.auxiliary else None,
        "data": spec.model.data.digest,
        "device": str(machine.device),
        "precision": machine.describe_precision(),
        "threads": torch.get_num_threads(),
    }
