"""Seconds of the command itself: to its first line, to its first update, and of the whole quickstart."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.harness import Case, Setting, Ways

DEADLINE_S = 120.0
POLL_S = 0.01
RECIPE = """
name: startup
data: {use: digits}
model: {use: vae, hidden: 128, latent: 8}
train: {steps: 1000000, batch_size: 128, evaluate: never}
generations: 1
seeds: [0]
arms: {replace: {data: replace}}
metrics: [test_loss]
"""


@contextlib.contextmanager
def command(folder: Path, device: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """`collapse-sim run` in a new process that is killed at the end."""
    places = ("--out", str(folder / "run"), "--store", str(folder / "store"), "--device", device)
    process = subprocess.Popen(
        (sys.executable, "-m", "collapse_sim", "run", *arguments, *places),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def first_line(folder: Path, device: str, recipe: Path) -> float:
    started = time.perf_counter()
    with command(folder, device, str(recipe)) as process:
        assert process.stderr is not None
        if not process.stderr.readline():
            raise RuntimeError("the command ended without a line")
        return time.perf_counter() - started


def first_update(folder: Path, device: str, recipe: Path) -> float:
    """The first update has been taken once a checkpoint is there, which --checkpoint-seconds 0 asks for."""
    started = time.perf_counter()
    with command(folder, device, str(recipe), "--checkpoint-seconds", "0") as process:
        while not any((folder / "store" / "partial").glob("*/step-*.json")):
            if process.poll() is not None or time.perf_counter() - started > DEADLINE_S:
                raise RuntimeError("the command ended, or took too long, before the first update")
            time.sleep(POLL_S)
        return time.perf_counter() - started


def whole(folder: Path, device: str, *arguments: str) -> float:
    started = time.perf_counter()
    with command(folder, device, *arguments) as process:
        assert process.stderr is not None
        messages = process.stderr.read()  # until the command ends
        if process.wait():
            raise RuntimeError(messages.decode(errors="replace").strip().splitlines()[-1])
        return time.perf_counter() - started


def prepare(which: str, setting: Setting) -> Ways:
    recipe = setting.folder / "startup.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    device, numbers = str(setting.device.device), itertools.count()

    def ours() -> float:
        folder = setting.folder / str(next(numbers))
        folder.mkdir()
        if which == "line":
            return first_line(folder, device, recipe)
        if which == "update":
            return first_update(folder, device, recipe)
        return whole(folder, device, "quickstart", "--quiet", *(("--smoke",) if setting.tiny else ()))

    return Ways({"collapse-sim": ours}, setting.device.with_precision("auto").precision)


CASES = (
    Case(
        "first-line",
        "from the command to its first line on the screen",
        "s",
        partial(prepare, "line"),
        better="lower",
        at_most={"cpu": 1, "cuda": 1},
    ),
    Case(
        "first-update",
        "from the command to the first update of its first fit, files in the page cache",
        "s",
        partial(prepare, "update"),
        better="lower",
        at_most={"cpu": 5, "cuda": 5},
    ),
    Case(
        "quickstart",
        "`collapse-sim run quickstart` from nothing",
        "s",
        partial(prepare, "whole"),
        better="lower",
        at_most={"cpu": 20, "cuda": 15},
        warm_up=False,
    ),
)
