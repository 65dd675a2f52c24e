"""Memory that cannot be had, in the many ways in which libraries say so. Nothing heavy is imported here."""

from __future__ import annotations

import errno
import resource

# Of exceptions that have no class of their own: torch's allocators, CUDA, threads, and files that are mapped.
SIGNS = (
    "can't allocate memory",
    "cannot allocate memory",
    "unable to allocate",
    "not enough memory",
    "out of memory",
    "bad_alloc",
    "can't start new thread",
    "failed to map segment",
)


TIGHT = 4 * 2**30  # bytes of address space: 5 GB were enough for a small run with torch 2.15 for CUDA, 3 GB were not


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception, or what it was raised from, is about memory that could not be had."""
    seen: set[int] = set()
    here: BaseException | None = error
    while here is not None and id(here) not in seen:
        seen.add(id(here))
        if isinstance(here, MemoryError) or type(here).__name__ == "OutOfMemoryError":
            return True
        if isinstance(here, OSError) and here.errno == errno.ENOMEM:
            return True
        if isinstance(here, RuntimeError | ImportError | OSError) and any(sign in str(here).lower() for sign in SIGNS):
            return True
        here = here.__cause__ or here.__context__
    return False


def tight_limit() -> str:
    """A warning where `ulimit -v` leaves little room, since OpenBLAS ends the process without a word of ours; or ""."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY or soft >= TIGHT:
        return ""
    return (
        f"this process may use {soft / 2**30:.1f} GiB of address space (ulimit -v), and importing torch for CUDA takes "
        f"about {TIGHT / 2**30:.0f}: if it ends without a word, raise the limit"
    )


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or its name when it has none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
