"""`--on`: where the jobs of a run are computed. Importing this module imports neither torch nor Ray."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass

from collapse_sim.core.errors import MissingError, RecipeError

ALLOWED = (
    "here (this process), processes or processes:N (on this machine), ray (a local cluster of all CPUs and GPUs of "
    "this machine), and ray:auto or ray:HOST:PORT (a running cluster)"
)
MOST_STARTED, MOST_PLANNED = 256, 10_000  # processes of a run on one machine, and of a dry run
SENSIBLE = 0  # processes: as many as make sense


@dataclass(frozen=True)
class RayPlace:
    """A Ray cluster; "local": one that the run starts on this machine."""

    address: str
    ranks: int = 1  # processes that make each fit together

    def __str__(self) -> str:
        return "ray" if self.address == "local" else f"ray:{self.address}"


def processes_of(on: str | None, environment: Mapping[str, str], *, dry_run: bool = False) -> int | None:
    """How many processes of this machine compute a run, this one included: 1 for "here", SENSIBLE for "processes", N
    for "processes:N"; None: it is not said, or the place is another one. Raises RecipeError."""
    if on == "here":
        return 1
    if on is None or not re.match("processes($|:)", on):
        return None
    most = MOST_PLANNED if dry_run else MOST_STARTED
    match = re.fullmatch(r"processes(?::([0-9]{1,9}))?", on)
    if match is None or (match[1] is not None and not 1 <= int(match[1]) <= most):
        raise RecipeError(
            f"--on {on}: allowed: processes:N, N from 1 to {most:,}, or processes, which is as many as make sense"
        )
    if environment.get("WORLD_SIZE", "1") not in ("", "1"):
        raise RecipeError(f"--on {on}: not with torchrun (WORLD_SIZE is set), whose ranks work as one process")
    return SENSIBLE if match[1] is None else int(match[1])


def place_of(on: str | None, ranks: int | None, environment: Mapping[str, str]) -> RayPlace | None:
    """What `--on` and `--ranks` mean; None: this process.

    Raises RecipeError for a place that is none, and together with torchrun; MissingError when Ray is not installed.
    """
    if on is None:
        if ranks is not None:
            raise RecipeError("--ranks: it is for --on ray; without it, torchrun starts the ranks")
        return None
    kind, _, address = on.partition(":")
    if kind != "ray" or (":" in on and not address):
        raise RecipeError(f"--on {on}: allowed: {ALLOWED}")
    if address.startswith("ray://"):
        raise RecipeError(
            f"--on {on}: a run is no client of a cluster: start it on one of its nodes, with --on ray:auto"
        )
    if address and address != "auto":
        host, _, port = address.rpartition(":")
        if not host or not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 2**16:
            raise RecipeError(f"--on {on}: HOST:PORT of the cluster's head is needed, as `ray start --head` prints it")
    if environment.get("WORLD_SIZE", "1") not in ("", "1"):
        raise RecipeError(
            f"--on {on}: not under torchrun (WORLD_SIZE is set): use --ranks for fits by several processes"
        )
    if ranks is not None and ranks < 1:
        raise RecipeError(f"--ranks {ranks}: allowed: from 1")
    if importlib.util.find_spec("ray") is None:
        raise MissingError(
            f"--on {on}: the package ray is not installed: pip install 'collapse-sim[ray]', on all nodes"
        )
    return RayPlace(address or "local", ranks or 1)
