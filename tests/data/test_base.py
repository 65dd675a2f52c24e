"""What is known of data before any row is read: sizes, the tokenizer, and what samples are conditioned on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from collapse_sim.data.base import Info, conditions_of
from collapse_sim.data.images.digits import Digits
from collapse_sim.data.text.tokens import Tokenizer
from collapse_sim.data.toys.linear_data import LinearData

from .making import draws, rows_of


def test_bytes_of_a_row_are_those_that_rows_take(tmp_path: Path) -> None:
    digits, linear = Digits(size=9), LinearData(dimensions=3)
    for columns in rows_of(digits, tmp_path):
        assert digits.inspect(tmp_path).row_bytes * len(columns["image"]) == sum(c.nbytes for c in columns.values())
    rows = linear.simulate(7, draws(0))
    assert linear.inspect(tmp_path).row_bytes * 7 == sum(column.numpy().nbytes for column in rows.values())


def test_only_texts_have_a_tokenizer() -> None:
    tokenizer = Tokenizer.of_words(["a"])
    given: dict[str, Any] = {"columns": {"tokens": ((4,), "int16")}, "rows": 3, "pool": 3, "held_out": 1}
    info = Info("text", tokenizer=tokenizer, **given)
    assert info.text() is tokenizer
    assert info.shape("tokens") == (4,)
    with pytest.raises(ValueError, match="the data is of the kind points, which has no tokenizer"):
        Info("points", **given).text()


@pytest.mark.parametrize(
    ("data", "family", "expected"),
    [
        ((), (), ()),
        (("x",), (), ("x",)),
        ((), ("source",), ("source",)),
        (("x", "label"), ("source", "x"), ("x", "label", "source")),  # the data's first, each once
        (None, None, ()),
    ],
)
def test_conditions_are_the_datas_and_the_familys(data: Any, family: Any, expected: tuple[str, ...]) -> None:
    both = [SimpleNamespace() if names is None else SimpleNamespace(conditions=names) for names in (data, family)]
    assert conditions_of(*both) == expected  # type: ignore[arg-type]
