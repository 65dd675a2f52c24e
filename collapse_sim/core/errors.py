"""Every error a user can meet, with the exit code the command line ends with.

A message says where, what was found, what is allowed and what to do. Anything else that is raised is a bug (exit 1).
"""

from __future__ import annotations

from typing import ClassVar


class CollapseSimError(Exception):
    """Base of all errors that are shown to a user without a traceback."""

    exit_code: ClassVar[int] = 1


class RecipeError(CollapseSimError):
    """The command or the recipe is wrong; `problems` holds one line each, all that were found.

    Long lines are cut, and of very many the first are kept: a recipe may have anything in it.
    """

    exit_code = 2
    longest: ClassVar[int] = 1200  # characters of a line: a list of all metrics fits
    most: ClassVar[int] = 50  # lines

    def __init__(self, *problems: str) -> None:
        lines = [p if len(p) <= self.longest else p[: self.longest - 3] + "..." for p in problems[: self.most]]
        if len(problems) > self.most:
            lines.append(f"and {len(problems) - self.most:,} more")
        self.problems = tuple(lines)
        super().__init__("\n".join(lines))


class PluginError(CollapseSimError):
    """A module of the user's own raised something, or is not what it should be; the message names it."""

    exit_code = 2


class MissingError(CollapseSimError):
    """Data, a device or a package that the recipe needs is not there, or is unreadable."""

    exit_code = 3


class OutOfMemoryError(CollapseSimError):
    """What is asked for needs more memory than there is."""

    exit_code = 2


class DivergedError(CollapseSimError):
    """A loss, weights or samples became non-finite. `seeds`: of a batch of seeds, those it happened to; (): all."""

    exit_code = 4

    def __init__(self, message: str, seeds: tuple[int, ...] = ()) -> None:
        self.seeds = seeds
        super().__init__(message)


class StoreError(CollapseSimError):
    """The store or a run directory is damaged, locked, of a newer schema, unwritable or full."""

    exit_code = 5


class ClaimsFailedError(CollapseSimError):
    """At least one claim of a recipe fails."""

    exit_code = 6


class InterruptedRunError(CollapseSimError):
    """Ctrl-C (130), SIGTERM (143) or SIGHUP (129): a checkpoint was taken; the same command continues."""

    exit_code = 130

    def __init__(self, message: str, signal_number: int = 2) -> None:
        self.code = 128 + signal_number
        super().__init__(message)
