"""What the readers of text files share: the fields to read, and the error when a field is missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from collapse_sim.core.errors import MissingError
from collapse_sim.core.registry import did_you_mean

NAMED = 20  # fields of a file that the message on a missing field lists

At = Callable[[int], None]  # called with the progress in a file: bytes read, or rows of Parquet


class Field(NamedTuple):
    """The field of a file that contains a column's texts."""

    name: str  # in the file; txt files have one field without a name
    setting: str = ""  # the setting that names it, such as "data.field"; "" if there is none


def find_field(where: str, field: Field, names: Sequence[str]) -> int:
    """The index of a field among the columns `names`. Raises MissingError when it is missing or not unique."""
    if names.count(field.name) > 1:
        raise MissingError(f"{where}: two columns called {field.name!r}: rename one of them")
    if field.name not in names:
        raise no_field(where, field, names)
    return names.index(field.name)


def no_field(where: str, field: Field, names: Sequence[str]) -> MissingError:
    """The error for a field that does not exist, which lists the existing ones."""
    hint = f": set `{field.setting}` to one of them" if field.setting else ""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    listed = ", ".join(names[:NAMED]) + more
    return MissingError(
        f"{where}: no field {field.name!r}{did_you_mean(field.name, [*names])}; there are {listed or 'none'}{hint}"
    )
