"""A shared machine: an update of table 1's VAE beside two busy processes, for two ways in which threads wait."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.engine import Fits, environment_without, image_rows
from benchmarks.harness import Case, Setting, Ways
from collapse_sim.__main__ import WAITING
from collapse_sim.core.machine import open_device

BUSY = "import os\nwhile os.getppid() == {}: sum(range(10_000))"  # with the number of this process
SPIN = "GNU OpenMP's own waiting"


def update_ms(steps: int, batch: int, rows: int) -> float:
    """Milliseconds per update of a fit on the CPU; for a process of its own."""
    from benchmarks.cases.vae import FAMILY

    with tempfile.TemporaryDirectory() as scratch:
        setting = Setting(open_device("cpu"), Path(scratch))
        data, _ = image_rows(setting.folder, rows, (32, 32))
        return 1e3 / Fits(setting, FAMILY, data, steps=steps, batch_size=batch).rates().steps


def in_process(sizes: tuple[int, int, int], as_the_command: bool) -> float:
    """`update_ms` in a new process, with threads that wait as in the command, or as they do by themselves."""
    code = "from benchmarks.cases.busy import update_ms; print(update_ms({}, {}, {}))".format(*sizes)
    if as_the_command:
        code = "import os; from collapse_sim.__main__ import share_cores; share_cores(os.environ); " + code
    done = subprocess.run(
        (sys.executable, "-c", code),
        env=environment_without(*WAITING),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return float(done.stdout.split()[-1])


@contextlib.contextmanager
def neighbours(count: int) -> Iterator[None]:
    """That many processes that compute all the time; they end with this one, even if it is killed."""
    busy = [subprocess.Popen((sys.executable, "-c", BUSY.format(os.getpid()))) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def prepare(count: int, setting: Setting) -> Ways:
    sizes = (1, 16, 32) if setting.tiny else (20 if count else 100, 256, 5000)

    def ms(as_the_command: bool) -> float:
        with neighbours(count):
            return in_process(sizes, as_the_command)

    return Ways(
        {"collapse-sim": lambda: ms(True), SPIN: lambda: ms(False)},
        facts={"busy processes": count, "updates": sizes[0], "batch": sizes[1]},
    )


CASES = (
    Case(
        "busy",
        "an update of table 1's VAE beside two busy processes, the second half of a fit",
        "ms per update",
        partial(prepare, 2),
        better="lower",
        targets={SPIN: {"cpu": 1}},
        warm_up=False,
        devices=("cpu",),
    ),
    Case(
        "idle",
        "the same on an otherwise idle machine: what considerate waiting costs",
        "ms per update",
        partial(prepare, 0),
        better="lower",
        warm_up=False,
        devices=("cpu",),
    ),
)
