"""The kind of data in docs/data.md works as it stands, and the page names every kind and setting."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from collapse_sim.core import registry
from collapse_sim.core.errors import MissingError
from collapse_sim.data.base import Data

from .making import rows_of

PAGE = Path(__file__).parents[2] / "docs" / "data.md"


def test_the_example_is_a_kind_of_data(tmp_path: Path) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    module: dict[str, Any] = {"__name__": "rings"}
    exec(compile(block, "<docs/data.md>", "exec"), module)
    data = module["Rings"](held_out=4)
    with pytest.raises(MissingError, match=r"rings\.npy: no such file"):
        data.inspect(tmp_path)
    points = np.random.default_rng(0).normal(size=(10, 2))
    np.save(tmp_path / "rings.npy", points)
    info = data.inspect(tmp_path)
    train, held_out = rows_of(data, tmp_path)
    assert (len(train["x"]), len(held_out["x"])) == (info.rows, info.held_out) == (6, 4)
    assert np.array_equal(np.concatenate([train["x"], held_out["x"]]), points)
    np.save(tmp_path / "rings.npy", points.astype(np.float32))
    with pytest.raises(MissingError, match="found float32"):
        data.inspect(tmp_path)
    assert isinstance(data, Data)


@pytest.mark.parametrize("name", sorted(registry.BUILT_IN["data"]))
def test_every_kind_and_setting_is_described(name: str) -> None:
    page = PAGE.read_text()
    assert f"`{name}`" in page
    for setting in registry.load("data", name).model_fields:
        assert f"`{setting}`" in page, setting
