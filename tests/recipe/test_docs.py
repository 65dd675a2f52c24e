"""The examples in docs/recipes.md are true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import collapse_sim
from collapse_sim.core.errors import RecipeError
from collapse_sim.families.training import Train
from collapse_sim.recipe.loader import load
from collapse_sim.recipe.resolve import ArmLayout, RecipeKeys

from .helpers import write

PAGE = Path(collapse_sim.__file__).parents[1] / "docs" / "recipes.md"
TEXT = PAGE.read_text(encoding="utf-8")
FIRST, *_ = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)


def block(containing: str) -> str:
    (found,) = [code for code in re.findall(r"```\w+\n(.*?)```", TEXT, flags=re.DOTALL) if containing in code]
    return str(found)


def test_the_first_recipe_loads() -> None:
    assert load(write(FIRST)).name == "my-experiment"


@pytest.mark.parametrize("piece", ["as: fid_pixels", "grid: {teacher", "- {teacher.weights.mean: [0.0"])
def test_pieces_load_in_it(piece: str) -> None:
    code = block(piece)
    if code.startswith("metrics"):
        text = re.sub(r"^metrics:.*\n", code, FIRST, flags=re.MULTILINE)
    elif code.startswith("arms"):
        text = re.sub(r"^arms:\n(?: .*\n)*", code, FIRST, flags=re.MULTILINE)
    else:
        arm = block("grid: {teacher")
        text = re.sub(r"^arms:\n(?: .*\n)*", arm[: arm.index("    grid")] + code, FIRST, flags=re.MULTILINE)
    recipe = load(write(text))
    names = [arm.name for arm in recipe.arms] + list(recipe.metrics)
    assert {
        "as: fid_pixels": {"test_loss", "fid", "fid_pixels"},
        "grid: {teacher": {"distill output=0.25 generation=0", "distill output=0.25 generation=previous"},
        "- {teacher.weights.mean: [0.0": {
            "distill output=0.25 mean=1.0",
            "distill output=0.5 mean=1.0",
            "distill output=0.5 mean=0.0",
        },
    }[piece] <= set(names)


def test_the_recipe_that_extends_loads() -> None:
    recipe = load(write(block("extends: vae-mnist-strategies")))
    assert recipe.seeds == (0, 1, 2, 3, 4)
    names = [arm.name for arm in recipe.arms]
    assert not any(name.startswith("mix") for name in names)
    assert names[-1] == "replace+warm.epochs"


def test_the_strategy_of_ones_own_works() -> None:
    write(block("class EveryOther"), "my_strategies.py")
    arms = block("mine: {data:")
    recipe = load(write(re.sub(r"^arms:\n(?: .*\n)*", arms, FIRST, flags=re.MULTILINE)))
    assert [type(arm.strategy).__name__ for arm in recipe.arms] == ["EveryOther"]


def test_the_messages_are_the_real_ones() -> None:
    text = FIRST.replace("steps: 300", "epoch: 3")
    messages = block("my.yaml:4").splitlines()
    with pytest.raises(RecipeError) as caught:
        load(write(text, "my.yaml"))
    assert caught.value.problems[0].startswith(messages[0].removesuffix("..."))
    with pytest.raises(RecipeError) as caught:
        load(write(FIRST.replace("generation: 0", "generation: 3"), "my.yaml"))
    assert caught.value.problems == (messages[1],)


def test_every_key_is_documented() -> None:
    for key in (*RecipeKeys.model_fields, *ArmLayout.model_fields, *Train.model_fields):
        assert f"`{key}`" in TEXT, key
