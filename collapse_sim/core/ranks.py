"""The processes that make an artefact together. One process is the simple case, and the engine knows no other.

Rank 0 decides what is made, writes everything, and shows it; the others wait for jobs, and take part in them.
"""

from __future__ import annotations

import contextlib
import json
import pickle
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, NoReturn, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from collapse_sim.core.board import Board
from collapse_sim.core.errors import RanksError, code_of

T = TypeVar("T")
R = TypeVar("R")

PAUSE_S = 0.25  # seconds between the steps at which ranks agree on what a fit does beside its steps
MOST_STEPS = 1000  # between them
APART_S = 30.0  # how long a rank whose job failed waits to hear that it failed on rank 0, too
BUCKET_BYTES = 25 * 2**20  # gradients are summed in pieces of this size


class Pause(NamedTuple):
    """What a fit does between two steps."""

    report: bool = False
    save: bool = False
    signal: int = 0  # of a requested stop; 0: none was requested


class Sums:
    """The gradients of one fit in one process: they are their own sums."""

    def begin(self, parts: int) -> None:
        """Before the backward passes of a step: their number on this rank."""

    def __call__(self, loss: Tensor) -> Tensor:
        """After them: replace the gradients by their sums over ranks, and return the sum of the ranks' losses."""
        return loss


class Ranks:
    """One process alone."""

    rank, world = 0, 1

    @property
    def first(self) -> bool:
        """Whether this process writes and decides."""
        return self.rank == 0

    @property
    def mine(self) -> slice:
        """This rank's rows of a batch."""
        return slice(self.rank, None, self.world)

    def role(self, role: str) -> str:
        """The role of random draws that differ between ranks."""
        return role if self.first else f"{role}/rank {self.rank}"

    def of_first(self, action: Callable[[], T]) -> T:
        """What `action` returns on rank 0, the only one that calls it. Every rank raises what it raises."""
        return action()

    def each(self, tasks: Sequence[T], make: Callable[[T], R], *, long: bool = False) -> list[R]:
        """What `make` returns for each task, on rank 0; [] on the others. Rank r makes every world-th task from the
        r-th on. If one raises, every rank raises what the first such task raised. `long`: once within a call of
        `together`, ranks wait for each other without the time limit of a collective operation."""
        return [make(task) for task in tasks]

    def gradients(self, parameters: Sequence[nn.Parameter]) -> Sums:
        """The sums over ranks of the gradients of one fit's parameters."""
        return Sums()

    def agreed(self, wish: Pause) -> Pause:
        """What all ranks do now, at the same step: a wish of rank 0's, or a stop that any rank was asked for."""
        return wish

    def together(self, task: Mapping[str, Any], action: Callable[[], T]) -> T:
        """On rank 0: have all ranks do a task, which they know by this JSON, and return what `action` returns here."""
        return action()

    def signal(self) -> int:
        """On rank 0: the signal by which another rank was asked to stop; 0: none was."""
        return 0


class Group(Ranks):
    """Some processes, over torch.distributed's default group (core/joining.py starts it)."""

    def __init__(self, board: Board) -> None:
        self.rank, self.world = board.rank, board.world
        self.board = board
        self._task = 0  # the number of the next one
        self._read: list[str] = []  # notes of the last one, which another rank may be reading
        self._restart()

    def _restart(self) -> None:
        self._notes: list[str] = []  # of this task, which are no outcomes
        self._steps = self._next = 0
        self._paused = (0, time.perf_counter())

    # -- collective operations: every rank calls them in the same order -------------------------------------------

    def of_first(self, action: Callable[[], T]) -> T:
        outcome = _tried(action) if self.first else (None, None)
        content = [pickle.dumps(portable(outcome))]
        with self.connected():
            dist.broadcast_object_list(content, src=0, device=torch.device("cpu"))
        received: tuple[T | None, Exception | None] = outcome if self.first else pickle.loads(content[0])
        return _result(received)

    def each(self, tasks: Sequence[T], make: Callable[[T], R], *, long: bool = False) -> list[R]:
        own = [portable(_tried(partial(make, task))) for task in tasks[self.mine]]
        if long:
            self._meet()
        gathered: list[Any] | None = [None] * self.world if self.first else None
        with self.connected():
            dist.gather_object(own, gathered, dst=0)
        outcomes = [(gathered or [])[i % self.world][i // self.world] for i in range(len(tasks) if self.first else 0)]
        failed = self.of_first(lambda: next((error for _, error in outcomes if error is not None), None))
        if failed is not None:
            raise failed
        return [result for result, _ in outcomes]

    def _meet(self) -> None:
        """Wait until all ranks are here."""
        notes = [f"met/{self._task}/{rank}" for rank in range(self.world)]
        self.board.put(notes[self.rank], b"")
        for rank, note in enumerate(notes):
            if rank != self.rank:
                self.board.get(note, None, rank)
        self._notes += notes

    def gradients(self, parameters: Sequence[nn.Parameter]) -> Sums:
        # on a CPU, sums compete with the backward pass for its cores: benchmarks/studies/gradient_overlap.py
        on_gpus = any(parameter.device.type == "cuda" for parameter in parameters)
        return GradientSums(self, parameters, overlapped=on_gpus)

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums over ranks."""
        buckets = [torch.cat([tensor.reshape(-1) for tensor in bucket]) for bucket in _buckets(tensors)]
        with self.connected():
            works = [dist.all_reduce(bucket, async_op=True) for bucket in buckets]
            for work in works:
                work.wait()
        for bucket, flat in zip(_buckets(tensors), buckets, strict=True):
            for tensor, summed in zip(bucket, torch.split(flat, [tensor.numel() for tensor in bucket]), strict=True):
                tensor.copy_(summed.view_as(tensor))

    def most(self, values: Sequence[int], device: torch.device | str = "cpu") -> list[int]:
        """The largest of the ranks' values at each place."""
        tensor = torch.tensor(list(values), dtype=torch.int64, device=device)
        with self.connected():
            dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return [int(value) for value in tensor]

    def agreed(self, wish: Pause) -> Pause:
        self._steps += 1
        if self._steps < self._next:
            return Pause()
        (before, at), now = self._paused, time.perf_counter()
        step_s = (now - at) / (self._steps - before)
        ahead = max(1, min(MOST_STEPS, int(PAUSE_S / max(step_s, 1e-9))))
        wishes = (wish.report, wish.save, ahead) if self.first else (0, 0, 0)
        report, save, ahead, signal = self.most([*map(int, wishes), wish.signal])
        self._paused, self._next = (self._steps, now), self._steps + ahead
        return Pause(bool(report), bool(save), signal)

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # all of torch.distributed's are, and no computation runs here
            raise self.lost(error) from error

    def lost(self, error: Exception) -> RanksError:
        """What an error of torch.distributed means."""
        return RanksError(
            f"{self.board.name}: lost the connection to another rank, which was killed, failed or does not answer; "
            f"finished work is kept, and the same command continues the run ({str(error).splitlines()[0]:.200})"
        )

    # -- jobs -----------------------------------------------------------------------------------------------------

    def together(self, task: Mapping[str, Any], action: Callable[[], T]) -> T:
        self._restart()
        number, self._task = self._task, self._task + 1
        self.board.put(f"task/{number}", json.dumps(task).encode())
        outcome = _tried(action)
        error = outcome[1]
        if isinstance(error, RanksError):
            raise error
        self.board.put(f"outcome/{number}/0", b"")
        others = []
        for rank in range(1, self.world):
            try:
                content = self.board.get(f"outcome/{number}/{rank}", APART_S if error else None, rank)
            except RanksError:
                if error is None:
                    raise
                raise RanksError(f"{self.board.name}: {error}", code_of(error)) from error
            others.append(pickle.loads(content))
        self.board.forget(*self._read)
        outcomes = (f"outcome/{number}/{rank}" for rank in range(self.world))
        self._read = [f"task/{number}", *outcomes, *self._notes]
        for failed in (error, *others):
            if failed is not None:
                raise failed
        return _result(outcome)

    def signal(self) -> int:
        return self.board.signal()

    def end(self, code: int, *, wait: bool = True) -> None:
        """On rank 0: end the others, too, with this exit code, and `wait` until they know."""
        self.board.end(code, self._task, wait=wait)

    def follow(self, work: Callable[[Mapping[str, Any]], None]) -> NoReturn:
        """On the other ranks: take part in the tasks of rank 0 until it ends.

        Raises EndedError then, with its exit code; RanksError when this rank fails alone, or rank 0 is lost.
        """
        while True:
            number, self._task = self._task, self._task + 1
            task = json.loads(self.board.get(f"task/{number}", None, 0))
            if not task:
                self.board.ended()
            self._restart()
            _, error = _tried(partial(work, task))
            if isinstance(error, RanksError):
                self.board.ended()  # raises what rank 0 has ended with, if it could say so
                raise error
            self.board.put(f"outcome/{number}/{self.rank}", pickle.dumps(portable((None, error))[1]))
            if error is not None:
                try:
                    self.board.get(f"outcome/{number}/0", APART_S, 0)
                except RanksError:
                    raise RanksError(f"{self.board.name}: {error}", code_of(error)) from error


class GradientSums(Sums):
    """The gradients of one fit, summed over ranks with the loss: in buckets, from the last parameter to the first.

    Backward passes compute them in about this order. With `overlapped`, a bucket is sent as soon as it is complete,
    while others are computed; the sums are the same.
    """

    def __init__(self, group: Group, parameters: Sequence[nn.Parameter], *, overlapped: bool) -> None:
        self._group, self._overlapped = group, overlapped
        self._all = [parameter for parameter in parameters if parameter.requires_grad]
        self._used: list[bool] | None = None
        self._summed: list[nn.Parameter] = []
        self._early: list[list[nn.Parameter]] = []  # buckets that may be sent before the loss is known
        self._bucket_of: dict[Tensor, int] = {}
        self._parts = 0  # micro-batches of this step; 0: unknown
        self._left: list[int] = []  # gradients that each bucket lacks
        self._sent: list[tuple[Tensor, dist.Work]] = []

    def begin(self, parts: int) -> None:
        self._parts = parts
        self._left = [parts * len(bucket) for bucket in self._early]

    def __call__(self, loss: Tensor) -> Tensor:
        """The sum of the ranks' losses. A parameter without a gradient on all ranks keeps none.

        Raises RuntimeError when a parameter gets its first gradient after the first step: other ranks do not know.
        """
        if self._used is None:  # once for each fit: the answer is read back from the device
            own = [int(parameter.grad is not None) for parameter in self._all]
            self._used = [bool(value) for value in self._group.most(own, loss.device)]
            self._lay_out(loss)
        for parameter, used in zip(self._all, self._used, strict=True):
            if used and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            elif not used and parameter.grad is not None:
                raise RuntimeError("a parameter gets its first gradient after the first step: not with several ranks")
        total = loss.clone()
        buckets = self._buckets(total)
        for bucket in buckets[len(self._sent) :]:
            self._send(bucket)
        with self._group.connected():
            for _, work in self._sent:
                work.wait()
        for bucket, (flat, _) in zip(buckets, self._sent, strict=True):
            for tensor, part in zip(bucket, torch.split(flat, [tensor.numel() for tensor in bucket]), strict=True):
                tensor.copy_(part.view_as(tensor))
        self._sent, self._parts = [], 0
        return total

    def _lay_out(self, loss: Tensor) -> None:
        """Note which bucket each parameter is in, except for the last ones, which wait for the loss."""
        assert self._used is not None
        self._summed = [p for p, used in zip(reversed(self._all), reversed(self._used), strict=True) if used]
        buckets = _buckets([*self._summed, loss])
        before = next(i for i, bucket in enumerate(buckets) if any(tensor is loss for tensor in bucket))
        if self._overlapped and before:
            self._early = [[p for p in bucket if isinstance(p, nn.Parameter)] for bucket in buckets[:before]]
            self._bucket_of = {p: number for number, bucket in enumerate(self._early) for p in bucket}
            for parameter in self._bucket_of:
                parameter.register_post_accumulate_grad_hook(self._ready)  # type: ignore[no-untyped-call]

    def _ready(self, parameter: Tensor) -> None:
        """A micro-batch has added to this gradient: send the buckets that are complete, in the order of all ranks."""
        if not self._parts:
            return
        self._left[self._bucket_of[parameter]] -= 1
        while len(self._sent) < len(self._left) and not self._left[len(self._sent)]:
            self._send([p.grad for p in self._early[len(self._sent)] if p.grad is not None])

    def _buckets(self, total: Tensor) -> list[list[Tensor]]:
        return _buckets([*(p.grad for p in self._summed if p.grad is not None), total])

    def _send(self, bucket: Sequence[Tensor]) -> None:
        flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
        with self._group.connected():
            work = dist.all_reduce(flat, async_op=True)
        assert work is not None
        self._sent.append((flat, work))


def _buckets(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Tensors of one dtype in their order, some BUCKET_BYTES together."""
    buckets: list[list[Tensor]] = []
    sizes: dict[torch.dtype, tuple[list[Tensor], int]] = {}
    for tensor in tensors:
        bucket, size = sizes.get(tensor.dtype, ([], BUCKET_BYTES))
        if size >= BUCKET_BYTES:
            bucket, size = [], 0
            buckets.append(bucket)
        bucket.append(tensor)
        sizes[tensor.dtype] = (bucket, size + tensor.nbytes)
    return buckets


def _tried(action: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """(What it returns, what it raises)."""
    try:
        return action(), None
    except Exception as error:
        return None, error


def portable(outcome: tuple[T | None, Exception | None]) -> tuple[T | None, Exception | None]:
    """An outcome whose exception another process can read: many exceptions of libraries cannot be copied."""
    error = outcome[1]
    if error is None:
        return outcome
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return None, RuntimeError(f"{type(error).__name__}: {error}")
    return None, error


def _result(outcome: tuple[T | None, Exception | None]) -> T:
    result, error = outcome
    if error is not None:
        raise error
    return cast(T, result)
