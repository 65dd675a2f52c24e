"""Generation 0 from outside: finding, reading and checking a recipe's model before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from collapse_sim.core.errors import MissingError, RecipeError
from collapse_sim.core.hashing import canonical_json
from collapse_sim.core.plugins import described
from collapse_sim.data.base import Info
from collapse_sim.families.imported import GivenModel, find_model, given_model
from collapse_sim.plan.settings import Recipe

KEY = "generation_0.model"


def given_models(recipe: Recipe, info: Info, data_dir: Path) -> Mapping[str, GivenModel]:
    """{arm: the model that is its generation 0}; {} for a recipe whose generation 0 is fitted.

    All arms have the same file or folder, and each reads it as its own model. Raises MissingError when it does not
    exist or is damaged, RecipeError with every way in which it is another model than the recipe's.
    """
    if recipe.generation_0 is None:
        return {}
    name, revision = recipe.generation_0.model, recipe.generation_0.revision
    by_family: dict[str, GivenModel] = {}
    models: dict[str, GivenModel] = {}
    problems: list[str] = []
    for arm in recipe.arms:
        family = recipe.for_arm(arm).model
        key = canonical_json(described(family))
        try:
            if key not in by_family:
                by_family[key] = given_model(name, find_model(name, family, data_dir, revision), family, info)
            models[arm.name] = by_family[key]
        except MissingError as error:
            raise MissingError(f"{recipe.where(KEY)}: {KEY}: {error}") from error
        except ValueError as error:
            of = f" (arm {arm.name!r})" if arm.model else ""
            problems += [f"{recipe.where(KEY)}: {KEY}{of}: {line}" for line in str(error).splitlines()]
    if problems:
        raise RecipeError(*dict.fromkeys(problems))
    return models
