from __future__ import annotations

import pytest
import yaml

from collapse_sim.core.errors import RecipeError
from collapse_sim.recipe.beside import IN_PYTHON
from collapse_sim.recipe.loader import load
from tests.conftest import TINY

RECIPE = yaml.safe_load(TINY)


def test_settings_by_path_are_those_of_text() -> None:
    by_path = load(RECIPE, overrides={"train.learning_rate": 1e-5, "model": {"latent": 3}, "samples": None})
    by_text = load(RECIPE, overrides=["train.learning_rate=1e-5", "model={latent: 3}", "samples=null"])
    assert by_path.document == by_text.document
    assert by_path.train.learning_rate == 1e-5  # type: ignore[union-attr]
    assert by_path.model.hidden == 16  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"overrides": {"train.step": 1}}, "settings: train.step: unknown key 'step'"),
        ({"overrides": {"train.steps": {1}}}, "settings: train.steps: found a value of type set"),
        ({"overrides": {"smoke": {}}}, "settings: extends and smoke are for files"),
        ({"overrides": {"": 1}}, "settings: a path is keys with dots between"),
        ({"arms": ["distil"]}, "arms: unknown arm 'distil'; allowed: replace, accumulate+distill"),
        ({"seeds": [0, 0]}, "seeds: seeds: each seed once"),
        ({"generations": 0}, "generations: generations: found 0; allowed: at least 1"),
        ({"smoke": True}, "recipe: this recipe has no `smoke:` block, so it cannot be run with smoke=True"),
        ({"metrics": ["fidd"]}, "metrics fidd: metrics.0.use: unknown 'fidd', did you mean 'fid'"),
    ],
    ids=str,
)
def test_messages_name_the_argument_or_the_option(given: dict, message: str) -> None:
    with pytest.raises(RecipeError) as error:
        load(RECIPE, **given, names=IN_PYTHON)
    assert error.value.problems[0].startswith(message)
    with pytest.raises(RecipeError) as error:
        load(RECIPE, **given)
    assert error.value.problems[0].startswith(("--", "recipe: this recipe"))
