"""Which of several GPUs a process takes when it is not told: one with the most free memory, and another one than the
processes that start at the same moment.

Among GPUs whose free memory is about equal, the first counts that no other process of this user has just taken: each
holds a lock, named after its GPU, until it ends. The search begins with the number that a launcher gave this process on
its machine, or with its process id, which is all there is where processes do not share a folder for temporary files.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

LOCAL_NUMBERS = ("LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "PALS_LOCAL_RANKID")
TIE = 0.05  # of a GPU's memory: a process that has just started takes less
ASK_S = 120.0  # torch is imported for it, which takes minutes on a busy file system
ASK = "from collapse_sim.core.gpu_choice import report; print(report())"

_taken: list[int] = []  # locks, held until this process ends


def choose_gpu(count: int, environment: Mapping[str, str]) -> int:
    """The index of the GPU to take, of `count`."""
    memory = free_memory()
    first = _local_number(environment)
    best = max((free for free, _ in memory), default=0)
    near = [index for index, (free, total) in enumerate(memory[:count]) if best - free <= TIE * total]
    near = near or list(range(count))
    # a process that already sees less memory on the GPUs of others still takes the one with its own number
    start = near.index(first % count) if first % count in near else first % len(near)
    in_turn = near[start:] + near[:start]
    return next((index for index in in_turn if _take(index)), in_turn[0])


def free_memory() -> list[tuple[int, int]]:
    """Bytes of each GPU, (free, all); [] where that cannot be found out.

    In a process of its own: to ask a GPU for its memory creates a context on it, which takes hundreds of megabytes
    until the process ends.
    """
    try:
        done = subprocess.run((sys.executable, "-c", ASK), capture_output=True, text=True, timeout=ASK_S, check=True)
        return [(int(free), int(total)) for free, total in json.loads(done.stdout.splitlines()[-1])]
    except (OSError, subprocess.SubprocessError, ValueError, TypeError, IndexError):
        return []


def report() -> str:
    """The memory of all GPUs as JSON, [[free, all], ...]."""
    return json.dumps([torch.cuda.mem_get_info(index) for index in range(torch.cuda.device_count())])


def _local_number(environment: Mapping[str, str]) -> int:
    """This process's number on its machine, if a launcher says it."""
    numbers = (environment.get(name, "") for name in LOCAL_NUMBERS)
    return next((int(number) for number in numbers if number.isascii() and number.isdigit()), os.getpid())


def _take(index: int) -> bool:
    """Lock a GPU until this process ends. False if another process has."""
    folder = Path(tempfile.gettempdir()) / f"collapse-sim-gpus-{os.getuid()}"
    name = getattr(torch.cuda.get_device_properties(index), "uuid", index)
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(folder / f"{name}.lock", flags, 0o600)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return False
    _taken.append(handle)
    return True
