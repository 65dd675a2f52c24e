"""One recipe laid over another."""

from __future__ import annotations

import pytest

from collapse_sim.core.errors import RecipeError
from collapse_sim.plan.settings import Recipe
from collapse_sim.recipe.loader import load

from .helpers import FAKE, GOOD, write


def over(text: str, name: str = "child.yaml") -> Recipe:
    write(GOOD, "base.yaml")
    return load(write(text, name))


def failing(text: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        over(text)
    return list(caught.value.problems)


def test_mappings_merge_and_the_rest_replaces() -> None:
    recipe = over("extends: base.yaml\ntrain: {learning_rate: 0.5}\nseeds: [5]\narms: {mixed: {data: {real: 0.25}}}\n")
    assert recipe.train is not None
    assert (recipe.train.epochs, recipe.train.learning_rate) == (3, 0.5)
    assert recipe.seeds == (5,)
    assert [arm.name for arm in recipe.arms] == ["replace", "distill", "mixed"]
    assert recipe.arms[2].strategy.model_dump() == {"real": 0.25, "synthetic": 0.5, "redraw": False}  # type: ignore[attr-defined]
    assert recipe.arms[2].init == "previous"


def test_another_component_brings_none_of_the_old_settings() -> None:
    recipe = over(f"extends: base.yaml\nmodel: {{use: {FAKE}:FakeFamily, shape: square}}\n")
    assert (recipe.model.width, recipe.model.shape) == (8, "square")  # type: ignore[attr-defined]


def test_settings_go_over_a_component_that_is_only_named() -> None:
    recipe = over("extends: base.yaml\narms: {replace: {data: mix}}\nsmoke: {arms.replace.data.real: 0.5}\n")
    assert recipe.arms[0].strategy.model_dump() == {"real": 1.0, "synthetic": 1.0, "redraw": False}  # type: ignore[attr-defined]
    small = load("child.yaml", smoke=True)
    assert small.arms[0].strategy.model_dump() == {"real": 0.5, "synthetic": 1.0, "redraw": False}  # type: ignore[attr-defined]


def test_null_removes() -> None:
    recipe = over(
        "extends: base.yaml\narms: {mixed: null}\nclaims: null\ntrain: {epochs: null, steps: 9}\nsamples: null\n"
    )
    assert [arm.name for arm in recipe.arms] == ["replace", "distill"]
    assert recipe.claims == ()
    assert recipe.train is not None
    assert recipe.train.steps == 9
    assert recipe.samples is None


def test_null_for_what_is_not_there_is_found() -> None:
    assert failing("extends: base.yaml\narms: {mixt: null}\n") == [
        "child.yaml:2: arms.mixt: found null; allowed: a mapping of curation, data, grid, guidance, init, "
        "merge, model, protocol, retrain, rows, rows_from, samples, sampling, teacher, train, weighting"
    ]


def test_names_are_not_inherited_and_smoke_is() -> None:
    assert over("extends: base.yaml\n").name == "child"
    assert over("extends: base.yaml\nname: other\n").name == "other"
    write(GOOD, "base.yaml")
    small = load(write("extends: base.yaml\nsmoke: {seeds: [8]}\n", "child.yaml"), smoke=True)
    assert (small.generations, small.seeds) == (2, (8,))


def test_lines_name_the_file_they_are_in() -> None:
    found = failing("extends: base.yaml\n\ntrain:\n  batch_size: 0\narms:\n  distill: {inti: fresh}\nbaseline: mixt\n")
    assert [line.split(": ")[0] for line in found] == ["child.yaml:4", "child.yaml:6", "child.yaml:7"]
    write(GOOD.replace("epochs: 3", "epochs: 0"), "base.yaml")
    with pytest.raises(RecipeError, match=r"^base.yaml:7: train.epochs: found 0; allowed: above 0$"):
        load(write("extends: base.yaml\n", "child.yaml"))


def test_paths_are_relative_to_the_file_that_extends() -> None:
    write(GOOD, "shared/base.yaml")
    write("extends: base.yaml\nseeds: [4]\n", "shared/middle.yaml")
    assert load(write("extends: ../shared/middle.yaml\n", "mine/child.yaml")).seeds == (4,)


def test_a_shipped_recipe_is_named() -> None:
    recipe = load(write("extends: gaussian-strategies\nseeds: 3\n", "mine.yaml"))
    assert recipe.name == "mine"
    assert recipe.seeds == (0, 1, 2)
    assert recipe.generations == 50


def test_a_file_wins_over_a_shipped_name() -> None:
    write(GOOD, "quickstart")
    assert load("quickstart").name == "good"
    assert load(write("extends: quickstart\n", "mine.yaml")).samples == 60_000


@pytest.mark.parametrize("target", ["nothing.yaml", "[a]", "3", "''"])
def test_nothing_to_extend(target: str) -> None:
    found = failing(f"seeds: 3\nextends: {target}\n")
    assert len(found) == 1
    assert found[0].startswith("child.yaml:2: extends: found ")


def test_a_misspelt_shipped_recipe() -> None:
    found = failing("extends: gaussian-strategy\n")
    assert "found 'gaussian-strategy', did you mean 'gaussian-strategies'?; allowed: a file" in found[0]


def test_circles() -> None:
    write("extends: b.yaml\n", "a.yaml")
    write("extends: c.yaml\n", "b.yaml")
    write("extends: b.yaml\n", "c.yaml")
    with pytest.raises(RecipeError, match=r"^c.yaml:1: extends: is circular: b.yaml -> c.yaml -> b.yaml$"):
        load("a.yaml")
    with pytest.raises(RecipeError, match=r"self.yaml -> self.yaml$"):
        load(write("extends: self.yaml\n", "self.yaml"))


def test_claims_go_with_what_the_extending_recipe_removes() -> None:
    assert over("extends: base.yaml\n").claims
    assert over("extends: base.yaml\narms: {distill: null}\n").claims == ()
    assert over("extends: base.yaml\ngenerations: 3\n").claims == ()
    assert over("extends: base.yaml\nmetrics: [latent_std]\nshow: latent_std\n").claims == ()
    assert over("extends: base.yaml\narms: {replace: null}\n").baseline is None


def test_a_base_may_leave_generations_to_others() -> None:
    write(GOOD.replace("generations: 5\n", ""), "base.yaml")
    assert load(write("extends: base.yaml\ngenerations: 4\n", "child.yaml")).claims
    with pytest.raises(
        RecipeError, match=r"^base.yaml:25: claims.0.generation: there is no generation 4; allowed: 0 to 3$"
    ):
        load(write("extends: base.yaml\ngenerations: 3\n", "child.yaml"))
