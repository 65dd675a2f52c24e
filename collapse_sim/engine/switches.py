"""Which steps of a fit are compiled: decided once from measured times, recorded, and followed after an interruption."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from collapse_sim.core.hashing import digest_of
from collapse_sim.core.machine import Machine
from collapse_sim.core.plugins import described, name_of
from collapse_sim.core.replays import Record, Replays
from collapse_sim.engine.member import Member
from collapse_sim.engine.objective import KEPT, Groups
from collapse_sim.engine.programs import LONG_EPOCH, Decided, Objective, Programs, tolerance_of
from collapse_sim.remedies.base import TokenWeighting
from collapse_sim.store.records import compiled_before

Compute = Callable[[Groups], Tensor]  # the mean losses, with a backward pass


class Switches:
    """The steps at which fits change from eager to compiled computation and back, for each shape of their batches.

    They change the last digits of results. So they are written into the partial folder of each fit before they take
    effect, and whoever continues the fit makes the same changes at the same steps. So does whoever makes a fit again
    that was pruned, whatever the mode is.
    """

    def __init__(self, programs: Programs, members: Sequence[Member]) -> None:
        """`members`: one fit, or a group."""
        self._programs, self._members = programs, members
        self._machine: Machine = members[0].machine
        self._base = _base_key(members)
        self._keys: dict[Hashable, str] = {}
        self._replayed: dict[str, ReplayedStep] = {}
        self._seen: Counter[str] = Counter()
        record = members[0].checkpoints.switches()
        self._steps: dict[str, list[int]] = {shapes: list(entry["steps"]) for shapes, entry in record.items()}
        self._settled = {shapes for shapes, entry in record.items() if entry["settled"]}  # auto has decided
        before = compiled_before(members[0].context.store.root, members[0].job) if members[0].ranks.world == 1 else None
        self._mode: Decided = programs.mode
        if before is not None:
            self._mode, self._steps = "again", before
        self._measuring, self._current = True, ("", False)
        self._publish()

    @property
    def idle(self) -> bool:
        """Whether no step is compiled, and none ever was."""
        return self._mode in ("off", "again") and not self._steps

    def program(self, name: Hashable, objective: Objective, arguments: Callable[[], Groups]) -> Compute | None:
        """The program of this name, for this architecture and precision, on CUDA replayed. None: it cannot be
        compiled."""
        key, machine, (first, *_) = self._key(name), self._machine, self._members
        if key in self._replayed:
            return self._replayed[key]
        who, emit = name_of(type(first.family)), first.context.emit
        program = self._programs.step(key, who, objective, arguments, machine, emit)
        how = self._programs.recording(key, (who, "its steps"), machine, emit)
        if program is None or how is None or first.ranks.world > 1:
            return program
        self._replayed[key] = ReplayedStep(program, how[0], tolerance_of(machine), how[1])
        return self._replayed[key]

    def _key(self, name: Hashable) -> str:
        if name not in self._keys:
            self._keys[name] = digest_of([self._base, repr(name)])
        return self._keys[name]

    def compiled(self, step: int, shapes: str, prepare: Callable[[], bool]) -> bool:
        """Whether a step whose batches have these shapes is compiled. `prepare` compiles what is not compiled yet, and
        returns whether that was possible."""
        self._seen[shapes] += 1
        before = self._state(shapes)
        steps = self._steps.setdefault(shapes, [])
        if self._mode == "off":
            steps[:] = [at for at in steps if at <= step]
        compiled = sum(at <= step for at in steps) % 2 == 1
        decided = any(at > step for at in steps)  # by the process that was interrupted, which had come further
        wanted = compiled if decided else self._wanted(step, shapes, compiled)
        if wanted and not prepare():
            wanted = False
            self._settled.add(shapes)
        if wanted != compiled:
            steps.append(step)
            compiled = wanted
        if self._state(shapes) != before:
            self._write()
        self._measuring = shapes not in self._settled
        self._current = (shapes, compiled)
        return compiled

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Measures one step, as long as `auto` needs it."""
        if self._mode != "auto":
            yield
            return
        if self._measuring:
            self._machine.synchronize()
        started = time.perf_counter()
        yield
        if self._measuring:
            self._machine.synchronize()
            shapes, compiled = self._current
            self._programs.times(self._key(shapes)).add(time.perf_counter() - started, compiled=compiled)

    def _wanted(self, step: int, shapes: str, compiled: bool) -> bool:
        """Whether the steps from here on should be compiled. `auto` decides once for each shape."""
        if self._mode == "again" or (self._mode == "auto" and shapes in self._settled):
            return compiled
        if self._mode != "auto":
            return self._mode == "on" and (compiled or not self._is_rare(step))
        share = self._seen[shapes] / sum(self._seen.values())
        remaining = share * (self._members[0].length.steps - step)
        times = self._programs.times(self._key(shapes))
        wanted, settled = self._programs.decide(times, remaining, compiled=compiled)
        if settled:
            self._settled.add(shapes)
        return wanted

    def _is_rare(self, step: int) -> bool:
        """Whether a step's batch is the smaller last one of a long epoch. A group's first member speaks for all."""
        first, epoch = self._members[0], self._members[0].length.steps_per_epoch
        smaller = len(first.table) % first.train.batch_size != 0 and (step + 1) % epoch == 0
        return smaller and epoch >= LONG_EPOCH

    def _state(self, shapes: str) -> tuple[tuple[int, ...], bool]:
        return tuple(self._steps.get(shapes, ())), shapes in self._settled

    def _write(self) -> None:
        """Record the changes, before the step that they begin with is taken."""
        record = {s: {"steps": steps, "settled": s in self._settled} for s, steps in self._steps.items()}
        for member in self._members:
            member.checkpoints.write_switches(record)
        self._publish()

    def _publish(self) -> None:
        """For the manifests of the fits."""
        changes = {shapes: list(steps) for shapes, steps in self._steps.items() if steps}
        for member in self._members:
            self._programs.followed[member.spec.digest, member.job.seeds] = changes


def _base_key(members: Sequence[Member]) -> dict[str, Any]:
    """Everything that a program of these fits depends on, except the shapes of batches."""
    first = members[0]
    weighting = first.spec.weighting
    return {
        "family": first.spec.description["family"],
        "teachers": [m.spec.teacher.fitted.description["family"] if m.spec.teacher else None for m in members],
        "layers": [first.spec.layers, first.spec.criterion],
        "token weights": described(weighting) if isinstance(weighting, TokenWeighting) else None,
        "row weights": first.row_weights is not None,
        "data": first.spec.data.digest,  # with the tokenizer, whose ids are constants
        "device": str(first.machine.device),
        "precision": first.machine.describe_precision(),
        "threads": torch.get_num_threads(),
    }


class ReplayedStep:
    """A program of a fit's steps (engine/programs.py), replayed."""

    def __init__(
        self, program: Callable[[Groups], Tensor], record: Record, tolerance: float, say: Callable[[str], None]
    ) -> None:
        self._program, self._names = program, dict[str, list[str]]()
        self._replays = Replays(record, tolerance, say)

    def __call__(self, arguments: Groups) -> Tensor:
        """What the program returns, with a backward pass."""
        self._names = {group: list(tensors) for group, tensors in arguments.items()}
        kept, given = (
            [t for group, own in arguments.items() if (group in KEPT) is fixed for t in own.values()]
            for fixed in (True, False)
        )
        (value,) = self._replays(self._called, kept, given)
        return value

    def _called(self, kept: Sequence[Tensor], given: Sequence[Tensor]) -> Sequence[Tensor]:
        tensors = {True: iter(kept), False: iter(given)}
        return [
            self._program(
                {group: {name: next(tensors[group in KEPT]) for name in own} for group, own in self._names.items()}
            )
        ]
