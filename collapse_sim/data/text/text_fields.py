"""What readers of files of texts have in common: the fields that are wanted, and what is said when one is not there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from collapse_sim.core.errors import MissingError
from collapse_sim.core.registry import did_you_mean

NAMED = 20  # fields of a file that are named when one is not there

At = Callable[[int], None]  # told how far a file is read: its bytes, or rows of Parquet


class Field(NamedTuple):
    """Where a column's texts are."""

    name: str  # in the file; txt files have one field without a name
    setting: str = ""  # that names it, as in "data.field"; "" when none does


def find_field(where: str, field: Field, names: Sequence[str]) -> int:
    """Which of the columns `names` a field is. Raises MissingError when it is none, or more than one."""
    if names.count(field.name) > 1:
        raise MissingError(
            f"{where}: two columns called {field.name!r}: rename one, so that it is clear which is meant"
        )
    if field.name not in names:
        raise no_field(where, field, names)
    return names.index(field.name)


def no_field(where: str, field: Field, names: Sequence[str]) -> MissingError:
    """The error of a field that is not among those there are."""
    hint = f": set `{field.setting}` to one of them" if field.setting else ""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    listed = ", ".join(names[:NAMED]) + more
    return MissingError(
        f"{where}: no field {field.name!r}{did_you_mean(field.name, [*names])}; there are {listed or 'none'}{hint}"
    )
