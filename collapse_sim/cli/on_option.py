"""`run --on WHERE`: which places there are, and what is wrong with a place before anything is read. No torch."""

from __future__ import annotations

import re

from collapse_sim.core.errors import RecipeError

MOST = 10_000  # processes


def processes_of(on: str) -> int:
    """N of "processes:N". Raises RecipeError for anything else."""
    match = re.fullmatch(r"processes:([0-9]{1,9})", on)
    if match is None or not 1 <= int(match[1]) <= MOST:
        raise RecipeError(f"--on {on}: allowed: processes:N, N from 1 to {MOST:,}")
    return int(match[1])


def check_on(on: str | None, *, dry_run: bool, ranks: bool) -> None:
    """Raise RecipeError for what `--on` cannot do, before anything is read."""
    if on is None:
        return
    processes_of(on)
    if not dry_run:
        raise RecipeError(
            f"--on {on}: processes share a run without it: start the same command so many times, with one store; with "
            "--dry-run it shows what they would do"
        )
    if ranks:
        raise RecipeError(f"--on {on}: not with torchrun, whose ranks work as one process")
