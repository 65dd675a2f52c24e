"""`tuned_on`, and a claim's own `seeds`."""

from pathlib import Path
from typing import Any

import pytest

from collapse_sim.core.errors import RecipeError
from collapse_sim.recipe.loader import load
from collapse_sim.store.run_writer import merge_runs

TEXT = """\
name: own
data: {use: gaussian, rows: 20}
model: {use: gaussian}
generations: 1
seeds: [3, 4, 5]
tuned_on: [0, 1, 2]
arms: {replace: {data: replace}, accumulate: {data: accumulate}}
metrics: [w2]
claims:
  - {that: "x", metric: w2, expect: accumulate < replace}
  - {that: "y", metric: w2, expect: accumulate < replace, seeds: [4, 5]}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "own.yaml"
    path.write_text(TEXT)
    return path


def test_are_read_and_written_out(file: Path) -> None:
    recipe = load(file)
    assert recipe.tuned_on == (0, 1, 2)
    assert [claim.seeds for claim in recipe.claims] == [None, (4, 5)]
    assert recipe.document["tuned_on"] == [0, 1, 2]
    assert [claim.get("seeds") for claim in recipe.document["claims"]] == [None, [4, 5]]


def test_a_part_of_the_seeds_keeps_its_part_of_a_claims(file: Path) -> None:
    assert [claim.seeds for claim in load(file, seeds=[4]).claims] == [None, (4,)]
    assert [claim.seeds for claim in load(file, seeds=[3]).claims] == [None]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "seeds: [4, 5]",
            "seeds: [4, 9]",
            r"own.yaml:11: claims.1.seeds: found 9, which is not a seed of the recipe; al",
        ),
        ("seeds: [4, 5]", "seeds: []", r"own.yaml:11: claims.1.seeds: found \[\]; allowed: at least 1 entries"),
        ("tuned_on: [0", "tuned_on: [-1", r"own.yaml:6: tuned_on.0: found -1; allowed: at least 0"),
        ("tuned_on:", "tuned_in:", r"own.yaml:6: tuned_in: unknown key 'tuned_in', did you mean 'tuned_on'\?"),
    ],
)
def test_mistakes_have_a_line_and_say_what_is_allowed(file: Path, old: str, new: str, message: str) -> None:
    file.write_text(TEXT.replace(old, new))
    with pytest.raises(RecipeError, match=message):
        load(file)


def test_continuing_a_part_of_a_run_takes_no_seeds_from_its_claims(file: Path) -> None:
    def run(seeds: tuple[int, ...]) -> dict[str, Any]:
        recipe = load(file, seeds=seeds)
        rest = {key: recipe.document.get(key) for key in ("name", "generations", "seeds", "claims", "baseline")}
        metrics = {"w2": {"settings": {}}}
        empty = {"reference": None, "theory": {}, "fingerprint": ""}
        return {**rest, **empty, "arms": list(recipe.document["arms"]), "metrics": metrics, "settings": recipe.document}

    whole = run((3, 4, 5))
    for part in ((3,), (4,)):
        assert merge_runs(whole, run(part), file)["claims"] == whole["claims"]
