from __future__ import annotations

import importlib
import sys

import pytest
import torch
from pydantic import ValidationError

from collapse_sim.core import registry
from collapse_sim.core.errors import PluginError
from collapse_sim.core.plugins import described
from collapse_sim.remedies.luce import Luce
from collapse_sim.remedies.own_functions import row_function, values
from collapse_sim.remedies.verify import Verify

MINE = """
import torch
LIMIT = 3
def first(rows):
    return rows["x"][:, 0]
def bad_shape(rows):
    return rows["x"]
def broken(rows):
    raise RuntimeError("no")
def plain(rows):
    return [0.0]
def greedy(rows):
    rows["x"].zero_()
    return rows["x"].sum(1)
"""
ROWS = {"x": torch.tensor([[1.0], [2.0]])}


@pytest.fixture(autouse=True)
def _mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_rewards.py").write_text(MINE)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    sys.modules.pop("my_rewards", None)
    importlib.invalidate_caches()


def test_a_function_is_called_with_the_rows():
    assert values("my_rewards:first", ROWS).tolist() == [1.0, 2.0]
    values("my_rewards:greedy", ROWS)
    assert ROWS["x"].tolist() == [[1.0], [2.0]]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bad_shape", r"my_rewards:bad_shape gave a tensor of \(2, 1\); needed: a tensor of \(2,\)"),
        ("plain", r"my_rewards:plain gave list; needed: a tensor of \(2,\)"),
        ("broken", "my_rewards:broken raised RuntimeError: no"),
    ],
)
def test_what_a_function_may_do_wrong(name, message):
    with pytest.raises(PluginError, match=message):
        values(f"my_rewards:{name}", ROWS)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_rewards:absent", "cannot import 'my_rewards:absent'"),
        ("no_such_module:f", "cannot import 'no_such_module:f': No module named 'no_such_module'"),
        ("my_rewards:LIMIT", "'my_rewards:LIMIT' is int; needed: a function"),
        ("os:getcwd", "in Python's standard library"),
    ],
)
def test_names_that_are_no_functions_are_errors_of_the_recipe(name, message):
    with pytest.raises(ValidationError, match=message):
        Verify(score=name)
    with pytest.raises(ValidationError, match=message):
        Luce(reward={"kind": name})


def test_a_function_that_may_not_be_imported_is_not(tmp_path):
    with (
        registry.only(registry.Allowed((), "it is somebody else's")),
        pytest.raises(ValueError, match="'my_rewards:first' is not imported: it is somebody else's"),
    ):
        row_function("my_rewards:first")
    assert "my_rewards" not in sys.modules


def test_a_function_s_source_is_in_the_key(tmp_path):
    def keys():
        return described(Verify(score="my_rewards:first")), described(Luce(reward={"kind": "my_rewards:first"}))

    before = keys()
    assert keys() == before
    sys.modules.pop("my_rewards")
    (tmp_path / "my_rewards.py").write_text(MINE + "\n# changed\n")
    importlib.invalidate_caches()
    assert all(now["function"] != then["function"] for now, then in zip(keys(), before, strict=True))
    assert "function" not in described(Verify())
