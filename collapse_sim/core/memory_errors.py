"""Recognises out-of-memory errors, which libraries report in many ways. Nothing heavy is imported here."""

from __future__ import annotations

import errno
import resource

# Texts of exceptions without a class of their own: torch's allocators, CUDA, threads, and memory-mapped files.
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
    """Whether an exception, or one that it was raised from, says that memory could not be allocated."""
    seen: set[int] = set()
    exc: BaseException | None = error
    while exc is not None and id(exc) not in seen:
        seen.add(id(exc))
        if isinstance(exc, MemoryError) or type(exc).__name__ == "OutOfMemoryError":
            return True
        if isinstance(exc, OSError) and exc.errno == errno.ENOMEM:
            return True
        if isinstance(exc, RuntimeError | ImportError | OSError) and any(sign in str(exc).lower() for sign in SIGNS):
            return True
        exc = exc.__cause__ or exc.__context__
    return False


def tight_limit() -> str:
    """A warning where `ulimit -v` leaves little room, since OpenBLAS then ends the process without a message; or ""."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY or soft >= TIGHT:
        return ""
    return (
        f"this process may use {soft / 2**30:.1f} GiB of address space (ulimit -v), and importing torch for CUDA takes "
        f"about {TIGHT / 2**30:.0f}: if it ends without a message, raise the limit"
    )


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or the name of its type when it has none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
