"""Every error a user can meet, with the exit code the command line ends with.

A message says where, what was found, what is allowed and what to do. Any other exception is a bug (exit 1).
"""

from __future__ import annotations

from typing import ClassVar


class CollapseSimError(Exception):
    """Base of all errors that are shown to a user without a traceback."""

    exit_code: ClassVar[int] = 1


class RecipeError(CollapseSimError):
    """The command or the recipe is wrong; `problems` has one line per problem found.

    Long lines are cut, and only the first lines of very many are kept: a recipe may contain anything.
    """

    exit_code = 2
    longest: ClassVar[int] = 1200  # characters per line: a list of all metrics fits
    most: ClassVar[int] = 50  # lines

    def __init__(self, *problems: str) -> None:
        lines = [p if len(p) <= self.longest else p[: self.longest - 3] + "..." for p in problems[: self.most]]
        if len(problems) > self.most:
            lines.append(f"and {len(problems) - self.most:,} more")
        self.problems = tuple(lines)
        super().__init__("\n".join(lines))


class PluginError(CollapseSimError):
    """A user's own module raised an exception, or is not what it must be; the message names it."""

    exit_code = 2


class MissingError(CollapseSimError):
    """Data, a device or a package that the recipe needs is missing or unreadable."""

    exit_code = 3


class OutOfMemoryError(CollapseSimError):
    """The request needs more memory than is available."""

    exit_code = 2


class DivergedError(CollapseSimError):
    """A loss, weights or samples became non-finite. `seeds`: the affected seeds of a batch; (): all."""

    exit_code = 4

    def __init__(self, message: str, seeds: tuple[int, ...] = ()) -> None:
        self.seeds = seeds
        super().__init__(message)


class StoreError(CollapseSimError):
    """The store or a run directory is damaged, locked, of a newer schema, unwritable or full."""

    exit_code = 5


class RemadeDifferentlyError(CollapseSimError):
    """An artefact that was pruned and is made again has another hash than before."""

    exit_code = 5


class ClaimsFailedError(CollapseSimError):
    """At least one claim of a recipe fails."""

    exit_code = 6


class UnderWayElsewhereError(CollapseSimError):
    """Everything that this process could begin is being made by others, and it was not asked to wait for them."""

    exit_code = 7


class InterruptedRunError(CollapseSimError):
    """Ctrl-C (130), SIGTERM (143) or SIGHUP (129): a checkpoint was saved; the same command continues the run."""

    exit_code = 130

    def __init__(self, message: str, signal_number: int = 2) -> None:
        self.code = 128 + signal_number
        super().__init__(message)


class RanksError(CollapseSimError):
    """A process of a run of several processes was lost, cannot be reached, or failed where the others did not: all of
    them end. `code`: the exit code, that of the process's own error if it is known."""

    exit_code = 3

    def __init__(self, message: str, code: int = 3) -> None:
        self.code = code
        super().__init__(message)


ENDS_RUN = (InterruptedRunError, StoreError, RanksError)  # errors of a job after which no other job is tried


def code_of(error: BaseException) -> int:
    """The exit code for an exception that ends the program."""
    if isinstance(error, InterruptedRunError | RanksError):
        return error.code
    if isinstance(error, KeyboardInterrupt):
        return InterruptedRunError.exit_code
    return error.exit_code if isinstance(error, CollapseSimError) else 1
