"""Busy neighbours end with the process that started them, however it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import psutil

CODE = """
import time
from benchmarks.cases.busy import neighbours
with neighbours(1):
    print("ready", flush=True)
    time.sleep(60)
"""


def test_no_neighbour_survives_a_kill():
    with subprocess.Popen((sys.executable, "-c", CODE), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        (neighbour,) = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 30
        while neighbour.is_running() and neighbour.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not neighbour.is_running() or neighbour.status() == psutil.STATUS_ZOMBIE
