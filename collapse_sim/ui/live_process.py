"""The process that writes a run's state: who it is, whether it is still alive, and its memory."""

from __future__ import annotations

import os
import socket
import sys
import time
from typing import Literal

from collapse_sim.ui.state import State

SILENT_S = 30.0  # a process on another machine is considered gone after so long without an update


def sign(state: State) -> None:
    """Record this process as the writer of the state."""
    import psutil

    state.pid, state.host = os.getpid(), socket.gethostname()
    state.process_started = psutil.Process().create_time()


def measure(state: State) -> None:
    """Record the memory of this process, and what torch has reserved on GPUs if it uses them."""
    import psutil

    state.memory_bytes = psutil.Process().memory_info().rss
    torch = sys.modules.get("torch")  # do not import it for this
    if torch is not None and torch.cuda.is_initialized():
        state.gpu_bytes = sum(torch.cuda.memory_reserved(i) for i in range(torch.cuda.device_count()))


def presence(state: State) -> Literal["here", "gone", "ended"]:
    """Whether the writer is alive ("here"), has ended the run ("ended"), or vanished before its end ("gone")."""
    if state.outcome is not None or state.pid is None:
        return "ended"
    if state.host != socket.gethostname():
        return "here" if time.time() - (state.updated or 0.0) < SILENT_S else "gone"
    import psutil

    try:
        process = psutil.Process(state.pid)
        same = state.process_started is None or abs(process.create_time() - state.process_started) < 2.0
        return "here" if same and process.status() != psutil.STATUS_ZOMBIE else "gone"
    except psutil.AccessDenied:
        return "here"
    except psutil.NoSuchProcess:
        return "gone"
