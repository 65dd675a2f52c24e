"""`run --on`, and what is wrong with it before anything is read. No torch."""

from __future__ import annotations

from collections.abc import Mapping

from collapse_sim.run.run_place import processes_of


def planned_processes(on: str | None, environment: Mapping[str, str], *, dry_run: bool) -> int:
    """N of "processes:N", which a dry run is about; 0: of anything else.

    Raises RecipeError for a number or an environment with which that cannot be, before anything is read.
    """
    processes = processes_of(on, environment, dry_run=dry_run)
    return processes if processes and dry_run and on != "here" else 0
