"""Grids: which arms they become, and what those are called."""

from __future__ import annotations

import pytest

from collapse_sim.plan.settings import Recipe
from collapse_sim.recipe.loader import load

from .helpers import changed, problems, write

ARM = "    teacher: {generation: 0, weights: {output: 0.5}}\n"


def grid(text: str, weights: str = "{output: 0.5}", arm: str = "") -> str:
    lines = f"    teacher: {{generation: 0, weights: {weights}}}\n{arm}    grid: {text}\n"
    return changed((ARM, lines), ("expect: distill < replace", "expect: mixed < replace"), (", distill: 1.25", ""))


def arms(text: str, **options: str) -> dict[str, dict[str, float]]:
    """{arm: the teacher's weights} of the points of the grid."""
    return {arm.name: arm.teacher.weights for arm in loaded(text, **options).arms if arm.teacher}


def loaded(text: str, **options: str) -> Recipe:
    return load(write(grid(text, **options)))


def test_one_key() -> None:
    assert arms("{teacher.weights.output: [0.25, 0.5, 1]}") == {
        "distill output=0.25": {"output": 0.25},
        "distill output=0.5": {"output": 0.5},
        "distill output=1": {"output": 1.0},
    }


def test_a_product_in_the_order_of_the_keys() -> None:
    found = arms("{teacher.weights.output: [0.25, 1e-4], teacher.weights.hidden: [0, 2]}")
    assert list(found) == [
        "distill output=0.25 hidden=0",
        "distill output=0.25 hidden=2",
        "distill output=0.0001 hidden=0",
        "distill output=0.0001 hidden=2",
    ]
    assert found["distill output=0.0001 hidden=2"] == {"output": 1e-4, "hidden": 2.0}


def test_a_union_names_every_key_that_varies_and_drops_duplicates() -> None:
    found = arms(
        "[{teacher.weights.output: [1.0, 0.5]}, {teacher.weights.hidden: [2.0, 1.0, 0.0]}]",
        weights="{output: 0.5, hidden: 1.0}",
    )
    assert found == {
        "distill output=1.0 hidden=1.0": {"output": 1.0, "hidden": 1.0},
        "distill output=0.5 hidden=1.0": {"output": 0.5, "hidden": 1.0},
        "distill output=0.5 hidden=2.0": {"output": 0.5, "hidden": 2.0},
        "distill output=0.5 hidden=0.0": {"output": 0.5, "hidden": 0.0},
    }


def test_equal_numbers_are_one_point() -> None:
    assert list(arms("{teacher.weights.output: [1, 1.0, 0.5, 0.5]}")) == ["distill output=1", "distill output=0.5"]


def test_strategies_inits_and_settings_of_strategies() -> None:
    recipe = loaded("{data: [replace, {use: mix, real: 0.5}], init: [fresh, previous]}")
    assert [(arm.name, type(arm.strategy).__name__, arm.init) for arm in recipe.arms[1:5]] == [
        ("distill data=replace init=fresh", "Replace", "fresh"),
        ("distill data=replace init=previous", "Replace", "previous"),
        ("distill data=mix init=fresh", "Mix", "fresh"),
        ("distill data=mix init=previous", "Mix", "previous"),
    ]
    text = changed(("    init: previous\n", "    grid: {data.synthetic: [0.5, 1.0], data.real: [0.0]}\n"))
    names = [arm.name for arm in load(write(text)).arms]
    assert names == ["replace", "distill", "mixed synthetic=0.5 real=0.0", "mixed synthetic=1.0 real=0.0"]


def test_ends_of_paths_that_are_alike_are_told_apart() -> None:
    text = changed(("    init: previous\n", "    grid: {data.real: [0.5], a.real: [1]}\n"))
    assert problems(text) == [
        "r.yaml:19: arms.mixed.a: unknown key 'a'; allowed: curation, data, grid, guidance, init, merge, model, "
        "protocol, retrain, rows, rows_from, samples, sampling, teacher, train, weighting"
    ]
    names = list(arms("{teacher.generation: [0, previous], teacher.weights.output: [1]}"))
    assert names == ["distill generation=0 output=1", "distill generation=previous output=1"]


def test_arms_keep_their_place_and_claims_name_points() -> None:
    text = grid("{teacher.weights.output: [0.25, 1]}").replace(
        "expect: mixed < replace", "expect: '\"distill output=0.25\" < replace'"
    )
    recipe = load(write(text))
    assert [arm.name for arm in recipe.arms] == ["replace", "distill output=0.25", "distill output=1", "mixed"]
    assert recipe.claims
    assert load(write(text), arms=["replace", "distill output=1"]).claims == ()


def test_an_arms_own_name_stands_for_all_its_points() -> None:
    path = write(grid("{teacher.weights.output: [0.25, 1]}"))
    assert [arm.name for arm in load(path, arms=["distill"]).arms] == ["distill output=0.25", "distill output=1"]
    assert [arm.name for arm in load(path, arms=["distill output=1"]).arms] == ["distill output=1"]


def test_the_document_has_the_points_and_no_grid() -> None:
    recipe = loaded("{teacher.weights.output: [0.25, 1]}")
    assert list(recipe.document["arms"]) == ["replace", "distill output=0.25", "distill output=1", "mixed"]
    assert "grid" not in str(recipe.document)
    assert recipe.where("arms.distill output=0.25.teacher.weights.output") == "r.yaml:17"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3", "r.yaml:17: arms.distill.grid: found 3; allowed: a mapping of paths to lists of values"),
        ("{}", "r.yaml:17: arms.distill.grid: found {}; allowed: a mapping of paths"),
        ("[3]", "r.yaml:17: arms.distill.grid.0: found 3; allowed: a mapping of paths"),
        (
            "{teacher.weights.output: 0.5}",
            "r.yaml:17: arms.distill.grid.teacher.weights.output: found 0.5; allowed: a list",
        ),
        (
            "{teacher.weights.output: []}",
            "r.yaml:17: arms.distill.grid.teacher.weights.output: found []; allowed: a list",
        ),
        (
            "{teacher.weights.outptu: [1, 2]}",
            "r.yaml:17: arms.distill.teacher.weights.outptu: unknown term 'outptu', did",
        ),
        (
            "{teacher.weights.output: [1, -2]}",
            "r.yaml:17: arms.distill.teacher.weights.output: found -2; allowed: at least 0",
        ),
        ("{init.x: [1]}", "r.yaml:17: arms.distill.init: found"),
        (
            "{data: [{use: mix, real: 0.5}, {use: mix}]}",
            "r.yaml:17: arms.distill.grid: two points are both named 'distill d",
        ),
    ],
)
def test_wrong_grids(text: str, message: str) -> None:
    found = problems(grid(text))
    assert len(found) == 1, found
    assert found[0].startswith(message)


def test_one_mistake_of_a_gridded_arm_is_one_problem() -> None:
    found = problems(grid("{teacher.weights.output: [0.25, 0.5, 1]}", arm="    init: frsh\n"))
    assert found == ["r.yaml:17: arms.distill.init: found 'frsh', did you mean 'fresh'?; allowed: 'fresh', 'previous'"]


def test_a_point_may_not_take_another_arms_name() -> None:
    text = (
        grid("{teacher.weights.output: [1]}")
        .replace("  mixed:\n", "  distill output=1:\n")
        .replace("mixed <", "replace@0 <")
    )
    assert problems(text)[0].startswith(
        "r.yaml:18: arms.distill output=1: a second arm 'distill output=1' (the first is on l"
    )
