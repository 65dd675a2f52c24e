"""What flip.py and kill.py share: the command line in forked children, with a limit on time, and what a store holds.

Forking after the imports makes a command cost a fraction of a second.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

torch.set_num_threads(1)

from collapse_sim.cli.app import run_app  # noqa: E402
from collapse_sim.engine import checkpoint, pieces  # noqa: E402
from collapse_sim.store import store  # noqa: E402

LIMIT_S = 120.0
RECIPE = """
name: small
data: {use: digits, rows: 60, held_out_rows: 20, validation_rows: 20}
model: {use: vae, hidden: 4, latent: 2}
train: {steps: 4, batch_size: 32, evaluate: every 2 steps, keep: best, ema: 0.9}
retrain: {keep: last}
samples: 60
sampling: {shard: 25}
generations: 1
seeds: [0, 1]
arms:
  replace: {data: replace}
  accumulate: {data: accumulate}
metrics: [test_loss, {use: fid, features: pixels}]
"""
RUN = ("run", "recipe.yaml", "--checkpoint-seconds", "0", "-q")


class Done(NamedTuple):
    """A command's end: exit code (negative: the signal), None when it hung; what it said."""

    code: int | None
    out: str
    err: str


def start(words: tuple[str, ...], before: Callable[[], None] = lambda: None) -> int:
    """The command in a fork, its output in out.txt and err.txt; returns the process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        for number, name in ((1, "out.txt"), (2, "err.txt")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        sys.argv = ["collapse-sim", *words]
        before()
        code = run_app(list(words))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def warm(words: tuple[str, ...]) -> None:
    """The command in this process: forks then find everything imported."""
    sys.argv = ["collapse-sim", *words]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        assert run_app(list(words)) == 0, words


def finish(pid: int, limit_s: float = LIMIT_S) -> Done:
    """Wait for a command; one that takes too long is killed."""
    deadline, status = time.monotonic() + limit_s, None
    while status is None:
        ended, found = os.waitpid(pid, os.WNOHANG)
        if ended:
            status = os.waitstatus_to_exitcode(found)
        elif time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            break
        else:
            time.sleep(0.002)
    return Done(status, *(Path(name).read_text(errors="replace") for name in ("out.txt", "err.txt")))


def call(*words: str) -> Done:
    """The command, to its end."""
    return finish(start(words))


def kill_at(n: int) -> Callable[[], None]:
    """For `start`: SIGKILL at the n-th boundary of stored work."""
    passed = 0

    def boundary(name: str) -> None:
        nonlocal passed
        if passed == n:
            os.kill(os.getpid(), signal.SIGKILL)
        passed += 1

    def before() -> None:
        for module in (store, checkpoint, pieces):
            module.boundary = boundary

    return before


def contents(root: Path) -> dict[str, str]:
    """{digest/block/file: sha256 of its bytes} of all artefacts, without their manifests, which have times."""
    return {
        "/".join(path.parts[-3:]): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.glob("objects/*/*/*/*"))
        if path.name != "manifest.json" and path.is_file()
    }


def comparison() -> str:
    """What `compare` reads of the run, as JSON."""
    return call("compare", "small", "--json").out


def leftovers(root: Path) -> list[str]:
    """What should not be left lying in a store when a run has ended."""
    return [str(path) for room in ("tmp", "partial", "locks") for path in (root / room).glob("*")]


def fresh(folder: Path) -> None:
    """Be in an empty folder that holds the recipe."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.chdir(folder)
    Path("recipe.yaml").write_text(RECIPE)


def main(run: Callable[..., dict[str, Any]]) -> None:
    """python -m tests.torture.NAME: prints the counts as JSON on its last line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-least", type=int, default=0)
    print(json.dumps(run(**vars(parser.parse_args()))))
