"""Commands in processes of their own, none of which outlives its test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
Start = Callable[..., subprocess.Popen]


@contextmanager
def commands(folder: Path, *before: str) -> Iterator[Start]:
    """start(word, ..., NAME=value, ...): Python with these words, after `before`, in a folder, with the package of
    these tests and further variables of the environment."""
    started: list[subprocess.Popen] = []
    fixed = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLLAPSE_SIM_CACHE": str(folder / "cache")}

    def start(*words: object, **environment: object) -> subprocess.Popen:
        own = {name: str(value) for name, value in environment.items()}
        process = subprocess.Popen(
            [sys.executable, *before, *map(str, words)], cwd=folder, env={**os.environ, **fixed, **own},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    try:
        yield start
    finally:
        for process in started:
            if process.poll() is None:
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
                process.kill()
            process.communicate()
