"""The host of this process, the versions of the packages that it uses, the git revision of this one, and when a
process began."""

from __future__ import annotations

import socket
import subprocess
from functools import cache
from pathlib import Path

GIT_TIMEOUT_S = 5.0


def environment() -> dict[str, str]:
    """Package versions that an artefact is made with."""
    return dict(_environment())


@cache
def _environment() -> tuple[tuple[str, str], ...]:
    import platform
    from importlib.metadata import version

    from collapse_sim import __version__

    names = ("torch", "numpy", "scipy", "scikit-learn", "diffusers", "transformers", "tokenizers")
    versions = {"collapse-sim": __version__, "python": platform.python_version(), **{n: version(n) for n in names}}
    return tuple(versions.items())


def revision(root: Path | None = None) -> str:
    """The git revision of the checkout that this package is imported from (or of `root`), with "-dirty" if files are
    changed; "" without a checkout or git."""
    root = root or Path(__file__).parents[2]
    if not (root / ".git").exists():  # installed, perhaps inside of another repository
        return ""
    command = ["git", "--no-optional-locks", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run([*command, "--exclude=*"], capture_output=True, text=True, timeout=GIT_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


@cache
def host() -> str:
    return "".join(c for c in socket.gethostname() if c.isalnum() or c == ".") or "host"


def started(pid: int) -> str:
    """When a process of this process namespace began, in the kernel's ticks; "" if it has ended, or cannot be seen."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        state, *rest = stat.rpartition(")")[2].split()
    except (OSError, ValueError):
        return ""
    return "" if state in "XZ" else rest[18]
