"""Starting the ranks of a run: how they reach each other, their devices, and whether they agree on what to do."""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from collapse_sim.core.board import Board, EndedError
from collapse_sim.core.errors import MissingError, RanksError, RecipeError, StoreError, code_of
from collapse_sim.core.launch import Launch
from collapse_sim.core.memory_errors import first_line
from collapse_sim.core.ranks import Group, Ranks

T = TypeVar("T")

JOIN_S = 300.0  # until all ranks are there: on a busy file system importing torch takes minutes
SILENT_S = 1800.0  # until a rank that takes no part in a collective operation counts as lost
VISIBLE_S = 60.0  # until a file that rank 0 has written is seen by the others: network file systems cache folders


def device_of(launch: Launch | None, device: str) -> str:
    """The name of this rank's device: of several GPUs the one with its local rank.

    Raises RecipeError for one GPU that all ranks would share, MissingError when a machine has more ranks than GPUs.
    """
    if launch is None or device == "cpu":
        return device
    if device.startswith("cuda:"):
        raise RecipeError(f"--device {device}: {launch.world} ranks would share it; use --device cuda, or cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device not in ("auto", "cuda") or (device == "auto" and not count):
        return device
    if launch.local_rank >= count:
        raise MissingError(
            f"{launch.name}: number {launch.local_rank} on its machine, which has {count} CUDA "
            f"device{'' if count == 1 else 's'}: start as many ranks there (--nproc_per_node), or use --device cpu"
        )
    return f"cuda:{launch.local_rank}"


@contextlib.contextmanager
def joined(launch: Launch | None, device: str, join_s: float = JOIN_S) -> Iterator[Ranks]:
    """The ranks of this run, connected. When rank 0 leaves the context, the others end with its exit code.

    Raises RanksError when ranks are missing after `join_s` seconds.
    """
    if launch is None:
        yield Ranks()
        return
    board = Board(launch, _open(launch, join_s))
    _meet(board, join_s)
    group = Group(board)
    try:
        _connect(board, torch.device(device if device.startswith("cuda") else "cpu"))
        yield group
    except BaseException as error:
        if isinstance(error, EndedError):
            if not error.code:
                dist.destroy_process_group()
        else:
            with contextlib.suppress(RanksError):
                _say_goodbye(group, error)
        raise
    else:
        if group.first:
            group.end(0)
        dist.destroy_process_group()


def _connect(board: Board, device: torch.device) -> None:
    """Start torch.distributed's default group: gloo for what is on the CPU, nccl for gradients on GPUs."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            store=dist.PrefixStore("group", board.store),  # type: ignore[attr-defined]
            rank=board.rank,
            world_size=board.world,
            timeout=timedelta(seconds=SILENT_S),
        )
    except RuntimeError as error:
        raise RanksError(
            f"{board.name}: cannot connect to the other ranks, though all reach {board.launch.address}: where "
            "machines have several networks, GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME name the one to use "
            f"({first_line(error)})"
        ) from error


def _say_goodbye(group: Group, error: BaseException) -> None:
    """Tell the other ranks why this one ends, in case they hear it: after a loss, torchrun ends all within a second."""
    if group.first:
        group.end(code_of(error), wait=not isinstance(error, RanksError))
    else:
        group.board.fail(code_of(error), first_line(error))


def _open(launch: Launch, join_s: float) -> Any:
    """The key-value store on rank 0's machine."""
    serves = launch.rank == 0 and not launch.hosted
    try:
        store = dist.TCPStore(  # type: ignore[attr-defined]
            launch.address,
            launch.port,
            launch.world,
            is_master=serves,
            timeout=timedelta(seconds=join_s),
            wait_for_workers=False,
        )
    except (RuntimeError, ValueError) as error:
        what = "cannot serve" if serves else f"reached nobody in {join_s:.0f} s at"
        raise RanksError(
            f"{launch.name}: {what} {launch.address}:{launch.port} (MASTER_ADDR, MASTER_PORT): check the name, the "
            f"port, firewalls, and that rank 0 was started ({first_line(error)})"
        ) from error
    return dist.PrefixStore(f"collapse-sim/{launch.attempt}", store)  # type: ignore[attr-defined]


def _meet(board: Board, join_s: float) -> None:
    """Wait for all ranks. Raises RanksError that names the missing ones."""
    board.sign()
    deadline = time.monotonic() + join_s
    missing = list(range(board.world))
    while missing := [rank for rank in missing if not board.has(f"host/{rank}")]:
        if time.monotonic() > deadline:
            names = ", ".join(map(str, missing))
            raise RanksError(
                f"{board.name}: rank{'s' * (len(missing) > 1)} {names} of {board.world} did not come to "
                f"{board.launch.address}:{board.launch.port} in {join_s:.0f} s: start all of them, with the same "
                "WORLD_SIZE, MASTER_ADDR and MASTER_PORT"
            )
        time.sleep(0.05)


def first_before_others(ranks: Ranks, action: Callable[[], T]) -> T:
    """What `action` returns, on rank 0 before it is called on the others: it may download or cache what they use."""
    if not isinstance(ranks, Group):
        return action()
    if not ranks.first:
        ranks.board.get("prepared", None, 0)
    result = action()
    if ranks.first:
        ranks.board.put("prepared", b"")
    return result


def compare(ranks: Ranks, facts_of: Callable[[], Mapping[str, str]]) -> None:
    """Check that all ranks have the same facts: recipe, plan, versions. Raises RecipeError on rank 0, which names the
    first rank and fact that differ; the others end with it."""
    if not isinstance(ranks, Group):
        return
    board, facts = ranks.board, facts_of()
    board.put(f"facts/{ranks.rank}", json.dumps(dict(facts)).encode())
    for rank in range(1, ranks.world) if ranks.first else ():
        others = json.loads(board.get(f"facts/{rank}", None, rank))
        for name, own in facts.items():
            if others.get(name) != own:
                raise RecipeError(
                    f"{board.name_of(rank)} has another {name} than rank 0: {others.get(name)} there, {own} here; "
                    "all ranks need the same command, recipe, data and program"
                )


def check_visible(ranks: Ranks, folder: Path, limit_s: float = VISIBLE_S) -> None:
    """Check that all ranks see this folder's files. Raises StoreError on rank 0, which names those that do not."""
    if not isinstance(ranks, Group):
        return
    board = ranks.board
    if not ranks.first:
        nonce = board.get("nonce", None, 0).decode()
        board.put(
            f"seen/{ranks.rank}", json.dumps([_read(folder / f"ranks-{nonce}", nonce, limit_s), str(folder)]).encode()
        )
        return
    nonce = secrets.token_hex(8)
    path = folder / f"ranks-{nonce}"
    path.write_text(nonce)
    try:
        board.put("nonce", nonce.encode())
        for rank in range(1, ranks.world):
            seen, where = json.loads(board.get(f"seen/{rank}", None, rank))
            if not seen:
                raise StoreError(
                    f"{folder.absolute()}: {board.name_of(rank)} does not see it (there: {where}): all ranks need the "
                    "same store; put it on a file system that they share, with --store"
                )
    finally:
        path.unlink(missing_ok=True)


def _read(path: Path, content: str, limit_s: float) -> bool:
    """Whether a file has this content, within some seconds."""
    deadline = time.monotonic() + limit_s
    while True:
        with contextlib.suppress(OSError):
            if path.read_text() == content:
                return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
