"""Another Python process of this run, which a socket connects with it: the end of the connection tells it of its
parent's."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path


def start_child(code: str) -> tuple[subprocess.Popen[bytes], Connection]:
    """Start a process that runs `code`, whose only argument is the descriptor of its socket. Raises OSError.

    It imports what this process would, and has no standard streams: what it prints, it sends. Ctrl-C in a terminal is
    for the run, which ends it.
    """
    ours, theirs = socket.socketpair()
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    connection = Connection(ours.detach())
    with theirs:
        child = subprocess.Popen(
            [sys.executable, "-P", "-c", code, str(theirs.fileno())],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
        )
    return child, connection
