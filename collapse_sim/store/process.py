"""The host of this process, and the versions of the packages that it uses."""

from __future__ import annotations

import socket
from functools import cache


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


@cache
def host() -> str:
    return "".join(c for c in socket.gethostname() if c.isalnum() or c == ".") or "host"
