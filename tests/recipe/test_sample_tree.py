"""Folders ARM/GENERATION/SEED become a recipe; anything that is named otherwise is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from collapse_sim.core.errors import RecipeError
from collapse_sim.data.toys.gaussian_points import GaussianPoints
from collapse_sim.recipe.sample_tree import tree_recipe

DATA = "{use: gaussian, rows: 30}"
METRICS = ["sample_variance_ratio"]


def grow(root: Path, *places: str) -> Path:
    for place in places:
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if not path.suffix else path.write_bytes(b"")
    return root


def cells(arms=("a",), generations=("generation-000", "generation-001"), seeds=("seed-0", "seed-3")) -> list[str]:
    return [f"{arm}/{generation}/{seed}" for arm in arms for generation in generations for seed in seeds]


def recipe(tree: Path, **options):
    return tree_recipe(tree, DATA, METRICS, **options)


def refusal(tree: Path) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        recipe(tree)
    return list(caught.value.problems)


def test_what_export_writes(tmp_path: Path) -> None:
    tree = grow(
        tmp_path / "my samples", *cells(("00-replace", "01-mix 2")), "reference/real.npz", ".hidden/x", "log.txt"
    )
    composed = recipe(tree, rows=7)
    assert (composed.name, composed.generations, composed.seeds, composed.samples) == ("my-samples", 1, (0, 3), 7)
    assert composed.data == GaussianPoints(rows=30)
    assert not composed.has_model
    assert [arm.name for arm in composed.arms] == ["replace", "mix 2"]
    rows_from = composed.arms[1].rows_from
    assert rows_from is not None
    paths = [rows_from.of(k).format(seed=3) for k in (0, 1)]  # type: ignore[union-attr]
    assert paths == [str(tree / f"01-mix 2/generation-00{k}/seed-3") for k in (0, 1)]


@pytest.mark.parametrize(
    ("generations", "seeds"),
    [
        (("0", "1"), ("0.npz", "1.npz")),
        (("gen0", "gen1"), ("s08", "s09", "s10")),
        (("00", "01"), ("{0}.npy", "{1}.npy")),
    ],
)
def test_other_names(tmp_path: Path, generations, seeds) -> None:
    if seeds[0].startswith("{"):  # a brace in a name is no place in a path
        seeds = tuple(f"{{x}}{name[1]}.npy" for name in seeds)
    tree = grow(tmp_path / "t", *cells(("b", "a"), generations, seeds))
    composed = recipe(tree)
    assert [arm.name for arm in composed.arms] == ["a", "b"]
    rows_from = composed.arms[0].rows_from
    assert rows_from is not None
    names = [rows_from.of(1).format(seed=seed) for seed in composed.seeds]  # type: ignore[union-attr]
    assert names == [str(tree / "a" / generations[1] / name) for name in seeds]


def test_arms_whose_names_without_numbers_are_equal_keep_them(tmp_path: Path) -> None:
    composed = recipe(grow(tmp_path / "t", *cells(("00-a", "01-a"))))
    assert [arm.name for arm in composed.arms] == ["00-a", "01-a"]


def test_what_is_named_otherwise(tmp_path: Path) -> None:
    needed = "needed: ARM/GENERATION/SEED, as in replace/generation-003/seed-0; a seed may be a file, as in seed-0.npz"
    assert refusal(tmp_path / "no") == [f"{tmp_path / 'no'}: no such folder; needed: a folder of samples, {needed[8:]}"]
    (tmp_path / "empty").mkdir()
    assert refusal(tmp_path / "empty") == [f"{tmp_path / 'empty'}: no samples in it; {needed}"]
    for name, place in enumerate(("a/last/seed-0", "a/1/first.npz", "a/1/seed-0.npz", "a/generation-1/seed-0")):
        tree = grow(tmp_path / str(name), *cells(generations=("0", "1")), place)
        (line,) = refusal(tree)
        assert line.endswith(f": not a generation with its seeds, once; {needed}")


def test_seeds_and_generations_that_differ(tmp_path: Path) -> None:
    tree = grow(tmp_path / "s", *cells(("a", "b")), "b/generation-001/seed-4")
    assert refusal(tree) == [
        "b, generation 1 has seeds 0, 3, 4, and a, generation 0 has 0, 3; needed: the same for all"
    ]
    tree = grow(tmp_path / "g", *cells(("a",)), *cells(("b",), ("generation-001",)))
    (line,) = refusal(tree)
    assert line == f"{tree / 'b'}: no generation 0; needed: 0 to 1, in every arm"


def test_a_component_that_is_wrong_is_named_as_it_was_given(tmp_path: Path) -> None:
    tree = grow(tmp_path / "t", *cells())
    with pytest.raises(RecipeError, match=r"--set data=gausian: data\.use: unknown 'gausian', did you mean 'gaussian'"):
        tree_recipe(tree, "gausian", METRICS)
    with pytest.raises(RecipeError, match=r"--metric test_loss: metrics\.0: 'test_loss' needs the model of each"):
        tree_recipe(tree, DATA, ["test_loss"])
