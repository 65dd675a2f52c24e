"""Which process of a run this is, as torchrun and other launchers say in the environment. No torch."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from collapse_sim.core.errors import RecipeError

ADVICE = "start the run with torchrun, or remove WORLD_SIZE from the environment for a run of one process"


@dataclass(frozen=True)
class Launch:
    """One of `world` processes that run the same command: number `rank` of all, `local_rank` of those here."""

    rank: int
    world: int
    local_rank: int
    address: str  # of rank 0's machine
    port: int
    hosted: bool = False  # whether the launcher serves the port, as torchrun does; otherwise rank 0
    host: str = field(default_factory=socket.gethostname)
    attempt: int = 0  # how often torchrun has restarted the processes: its store keeps the notes of those before

    @property
    def name(self) -> str:
        """For messages: "rank 1 of 2 on node7"."""
        return f"rank {self.rank} of {self.world} on {self.host}"


def launched(environment: Mapping[str, str]) -> Launch | None:
    """This process's place, from WORLD_SIZE, RANK, LOCAL_RANK, MASTER_ADDR and MASTER_PORT; None for a run of one
    process.

    Raises RecipeError for values that contradict each other.
    """
    world = _number(environment, "WORLD_SIZE", 1)
    if world <= 1:
        return None
    rank = _number(environment, "RANK", None)
    if rank >= world:
        raise RecipeError(f"RANK={rank}: WORLD_SIZE={world} allows 0 to {world - 1}; {ADVICE}")
    local_rank = _number(environment, "LOCAL_RANK", rank)
    address, port = environment.get("MASTER_ADDR", ""), _number(environment, "MASTER_PORT", None)
    if not address:
        raise RecipeError(f"WORLD_SIZE={world}, but MASTER_ADDR, the machine of rank 0, is not set; {ADVICE}")
    if not 0 < port < 2**16:
        raise RecipeError(f"MASTER_PORT={port}: allowed: 1 to 65535")
    hosted = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    attempt = _number(environment, "TORCHELASTIC_RESTART_COUNT", 0) if hosted else 0
    return Launch(rank, world, local_rank, address, port, hosted, attempt=attempt)


def _number(environment: Mapping[str, str], name: str, default: int | None) -> int:
    """A variable's number from 0; its default if it is not set, where it has one."""
    text = environment.get(name, "")
    if not text and default is not None:
        return default
    if not text:
        raise RecipeError(f"WORLD_SIZE={environment.get('WORLD_SIZE')}, but {name} is not set; {ADVICE}")
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise RecipeError(f"{name}={text}: needed: a whole number from 0; {ADVICE}")
    return int(text)
