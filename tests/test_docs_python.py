"""Every block of docs/python.md runs, in order, and `expression  # -> value` says what the expression is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
RESULT = re.compile(r"(\S.*?)  # -> (.+)")


def test_the_page_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLLAPSE_SIM_DATA", raising=False)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    names: dict[str, Any] = {}
    shown = 0
    for block in blocks:
        exec(compile(block, "<docs/python.md>", "exec"), names)
        for expression, value in RESULT.findall(block):
            assert repr(eval(expression, names)) == value, expression
            shown += 1
    assert shown >= 15


def test_it_lists_every_argument_and_method() -> None:
    import inspect

    import collapse_sim
    from collapse_sim.run.run_recipe import run_recipe

    page = PAGE.read_text()
    for name in inspect.signature(run_recipe).parameters:
        assert f"`{name}`" in page, name
    for name, member in inspect.getmembers(collapse_sim.Run, inspect.isfunction):
        if not name.startswith("_") and name != "fits":
            assert f"`{name}(" in page or f".{name}(" in page, name
        assert member.__doc__ or name.startswith("_"), name
