"""Fields of text files: which column it is, and what is said of one that is not there."""

from __future__ import annotations

import pytest

from collapse_sim.core.errors import MissingError
from collapse_sim.data.text.text_fields import Field, find_field, no_field


def test_a_field_is_found_by_its_name_alone() -> None:
    names = ["id", "Text", "text", "text "]
    assert [find_field("f", Field(name), names) for name in names] == [0, 1, 2, 3]
    with pytest.raises(MissingError, match=r"^f: two columns called 'id': rename one of them$"):
        find_field("f", Field("id"), ["id", "text", "id"])


@pytest.mark.parametrize("number", [0, 1, 20, 21, 500])
def test_twenty_names_are_listed_and_the_rest_counted(number: int) -> None:
    names = [f"column{i}" for i in range(number)]
    said = str(no_field("f:1", Field("zzz", "data.field"), names))
    assert said.startswith("f:1: no field 'zzz'; there are ")
    assert said.endswith(": set `data.field` to one of them")
    assert [name for name in names if name in said.replace(",", " ").split() or f"{name}:" in said] == names[:20]
    assert (f" and {number - 20} more" in said) == (number > 20)
    assert ("there are none" in said) == (number == 0)


def test_a_published_set_has_no_setting_for_it() -> None:
    assert str(no_field("f", Field("text"), ["txt"])) == "f: no field 'text', did you mean 'txt'?; there are txt"
