"""Memory that cannot be had, in the many ways in which libraries say so. Nothing heavy is imported here."""

from __future__ import annotations

import errno

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


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or its name when it has none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
