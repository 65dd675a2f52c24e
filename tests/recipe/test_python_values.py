from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from collapse_sim.core.errors import RecipeError
from collapse_sim.recipe import marked
from collapse_sim.recipe.loader import load
from collapse_sim.recipe.marked import Mark, plain
from collapse_sim.recipe.problems import Problems
from collapse_sim.recipe.python_values import marked_value, tree_of
from tests.conftest import TINY

MARK = Mark("recipe")


def test_values_are_what_yaml_would_have_said() -> None:
    problems = Problems()
    value = {
        "a": (1, 2.5, True, None, "x"),
        "b": {"c.d": range(3)},
        "n": [np.int64(4), np.float32(0.5), np.bool_(True)],
        "p": Path("some/where"),
    }
    tree = tree_of(value, MARK, problems)
    assert plain(tree) == {
        "a": [1, 2.5, True, None, "x"], "b": {"c.d": [0, 1, 2]}, "n": [4, 0.5, True], "p": "some/where",
    }  # fmt: skip
    assert type(tree["n"][0]) is int
    assert type(tree["n"][2]) is bool
    assert tree.marks["a"] == tree["a"].marks[0] == MARK
    problems.raise_any()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": {"b": math.nan}}, "recipe: a.b: found nan; allowed: finite numbers"),
        ({"a": [0, {"b": object()}]}, "recipe: a.1.b: found a value of type object; allowed: text, whole and finite"),
        ({"a": {"b": {1, 2}}}, "recipe: a.b: found a value of type set; allowed"),
        ({"a": np.zeros(3)}, "recipe: a: found a value of type ndarray; allowed"),
        ({"a": {3: "x"}}, "recipe: a: found the key 3; allowed: text, '3'"),
        ({"a": 2**63}, "recipe: a: found 9223372036854775808; allowed: whole numbers below 2^63"),
        ({"a": "\ud800"}, r"recipe: a: found '\\ud800', with half of a character"),
    ],
    ids=["nan", "object", "set", "array", "key", "large", "surrogate"],
)
def test_what_yaml_could_not_say_is_named_by_its_key(value: Any, message: str) -> None:
    problems = Problems()
    tree_of(value, MARK, problems)
    (line,) = problems.lines
    assert line.startswith(message.replace("\\\\", "\\"))


def test_what_contains_itself_or_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    loop: dict[str, Any] = {}
    loop["a"] = loop
    with pytest.raises(RecipeError, match="more than 40 nested mappings and lists"):
        tree_of(loop, MARK, Problems())
    monkeypatch.setattr(marked, "VALUES", 100)
    with pytest.raises(RecipeError, match="more than 100 values"):
        marked_value(list(range(101)), MARK, Problems())


def test_a_mapping_loads_as_its_file_does(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    of_file, of_mapping = load(tmp_path / "tiny.yaml"), load(yaml.safe_load(TINY))
    assert of_mapping.document == of_file.document
    assert of_mapping.where("train.steps") == "recipe"


def test_a_mapping_may_extend_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)
    recipe = load({"extends": "tiny.yaml", "name": "more", "train": {"steps": 7}})
    assert (recipe.name, recipe.train.steps, recipe.generations) == ("more", 7, 2)  # type: ignore[union-attr]
    assert load({"extends": "quickstart", "seeds": 1}).name == "quickstart"
    with pytest.raises(
        RecipeError, match=r"^recipe: extends: found 'tinny.yaml'.*; allowed: a file \(relative to reci"
    ):
        load({"extends": "tinny.yaml"})


def test_a_mapping_needs_a_name() -> None:
    recipe = yaml.safe_load(TINY)
    del recipe["name"]
    with pytest.raises(RecipeError, match=r"^recipe: name: missing; it has no default$"):
        load(recipe)
