"""Two real processes that make a run together, started once for all tests: functions are called in both."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

WORLD = 2
LIMIT_S = 120.0  # a test that waits for longer has a rank that hangs


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


class Pool:
    """`both(function, ...)` calls `function(ranks, ...)` in both processes: a module's function, found by its name."""

    def __init__(self) -> None:
        context, port = multiprocessing.get_context("spawn"), free_port()
        self._pipes: list[Connection] = []
        self._processes = []
        for rank in range(WORLD):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(rank, port, there, dict(os.environ)), daemon=True)
            process.start()
            self._pipes.append(here)
            self._processes.append(process)

    def outcomes(self, function: Callable[..., Any], *args: object) -> list[tuple[Any, Exception | None]]:
        """(What each rank returned, what it raised)."""
        for pipe in self._pipes:
            pipe.send((function, args))
        received = []
        for pipe in self._pipes:
            assert pipe.poll(LIMIT_S), f"{function.__name__}: a rank hangs"
            received.append(pipe.recv())
        return received

    def both(self, function: Callable[..., Any], *args: object) -> list[Any]:
        """What each rank returned."""
        outcomes = self.outcomes(function, *args)
        for _, error in outcomes:
            if error is not None:
                raise error
        return [result for result, _ in outcomes]

    def close(self) -> None:
        for pipe in self._pipes:
            with contextlib.suppress(OSError):
                pipe.send(None)
        for process in self._processes:
            process.join(10)
            process.kill()


def _serve(rank: int, port: int, pipe: Connection, environment: Mapping[str, str]) -> None:
    os.environ.update(environment)
    import torch
    import torch.distributed as dist

    from collapse_sim.core import joining, machine
    from collapse_sim.core.board import Board
    from collapse_sim.core.launch import Launch
    from collapse_sim.core.ranks import Group

    torch.set_num_threads(1)
    machine.native_bf16 = lambda: False
    launch = Launch(rank, WORLD, rank, "127.0.0.1", port)
    store = joining._open(launch, LIMIT_S)
    board = Board(launch, store)
    joining._meet(board, LIMIT_S)
    joining._connect(board, torch.device("cpu"))
    for number in range(10**9):
        call = pipe.recv()
        if call is None:
            dist.destroy_process_group()
            return
        function, args = call
        own = Board(launch, dist.PrefixStore(f"call/{number}", store))  # as if the processes had just started
        own.sign()
        try:
            pipe.send((function(Group(own), *args), None))
        except Exception as error:
            try:
                pipe.send((None, error))
            except Exception:
                pipe.send((None, RuntimeError(f"{type(error).__name__}: {error}")))


def run_together(ranks: Any, recipe: Path, root: Path) -> int:
    """Run a recipe as the command line does, with both ranks. Returns this rank's exit code."""
    from collapse_sim.core.board import EndedError
    from collapse_sim.core.errors import CollapseSimError, code_of
    from collapse_sim.core.joining import first_before_others
    from collapse_sim.core.machine import open_device
    from collapse_sim.plan.experiment import prepare
    from collapse_sim.recipe.loader import load
    from collapse_sim.run.session import Session, check_diverged

    try:
        experiment = first_before_others(ranks, lambda: prepare(load(recipe), root / "data"))
        places = root / "run", root / ".store", root / "data"
        session = Session(experiment, open_device("cpu"), *places, ranks=ranks)
        if not ranks.first:
            session.follow(ranks)
        check_diverged(session.run(quiet=True))
    except EndedError as ended:
        return ended.code
    except Exception as error:
        if ranks.first:
            ranks.end(code_of(error))
        if not isinstance(error, CollapseSimError):
            raise
        return code_of(error)
    ranks.end(0)
    return 0


@contextlib.contextmanager
def changed_method(owner: Any, name: str, change: Callable[[Any], Any]) -> Iterator[None]:
    """Within it a method is what `change` makes of it."""
    before = getattr(owner, name)
    setattr(owner, name, change(before))
    try:
        yield
    finally:
        setattr(owner, name, before)


def spoilt(inputs: Any) -> Any:
    """A batch whose values are not numbers."""
    return dataclasses.replace(inputs, tensors={name: tensor * float("nan") for name, tensor in inputs.tensors.items()})
