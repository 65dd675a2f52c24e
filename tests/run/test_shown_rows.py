"""The rows that pictures show, where samples are pruned."""

from __future__ import annotations

import json

import numpy as np
import pytest

from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load
from collapse_sim.run.shown_rows import ShownRows
from collapse_sim.store.store import Store
from tests.pruned import LAST, TOY, VAE


def shown(sandbox, recipe, store=".store"):
    """What a picture would show of the first three rows, and the spec of generation 1."""
    experiment = prepare(load(sandbox.recipe(recipe)), sandbox.root / "data")
    rows = ShownRows(
        experiment, Store(sandbox.root / store), sandbox.root, "points", lambda columns: {"x": columns["x"][:3]}
    )
    return rows, experiment.arm_plans[0]


def test_they_outlive_the_samples_and_damage_is_noticed(sandbox):
    sandbox.run(TOY)
    rows, arm = shown(sandbox, TOY + LAST)
    before = rows.of(arm.generations[1].samples)
    assert before is not None
    assert before["x"].shape == (3, 2)
    for path in (sandbox.root / ".store").glob("objects/*/*/*/samples.safetensors"):
        path.unlink()  # another process prunes what this one takes for there
    again = rows.of(arm.generations[1].samples)
    assert again is not None
    assert np.array_equal(before["x"], again["x"])
    rows, arm = shown(sandbox, TOY + LAST, "empty")
    after = rows.of(arm.generations[1].samples)
    assert after is not None
    assert np.array_equal(before["x"], after["x"])
    assert rows.of(arm.generations[2].samples) is None, "it was not shown while it was there"
    (path,) = (sandbox.root / "rows").iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert rows.of(arm.generations[1].samples) is None


def test_nothing_is_written_where_samples_are_kept(sandbox):
    sandbox.run(TOY)
    rows, arm = shown(sandbox, TOY + "keep_weights: last\n")
    rows.keep([arm], 1)
    assert rows.of(arm.generations[1].samples) is not None
    assert not (sandbox.root / "rows").exists()


@pytest.mark.parametrize("name", ["arms-by-generations.png"])
def test_a_picture_of_images_shows_all_generations(sandbox, tmp_path_factory, name):
    """Generations that are quicker than the pictures are not drawn, and still in the last one."""
    from tests.conftest import Sandbox

    twin = Sandbox(tmp_path_factory.mktemp("twin"))
    sandbox.run(VAE)
    twin.run(VAE + "keep_samples: none-but-generation-0\n")
    pictures = [place.root / "run" / "pictures" / name for place in (sandbox, twin)]
    assert pictures[0].read_bytes() == pictures[1].read_bytes()
    pictures[1].unlink()
    twin.run(VAE + "keep_samples: none-but-generation-0\n")
    assert pictures[0].read_bytes() == pictures[1].read_bytes()


TEXT = """
name: writing
data: {use: grammar, rows: 30, held_out_rows: 20}
model: {use: causal_lm, preset: tiny, width: 8, layers: 1}
train: {steps: 2, batch_size: 16, evaluate: never}
generations: 1
seeds: [0]
arms: {replace: {data: replace}}
metrics: [{use: distinct_n, n: 2}]
"""


def test_pages_of_texts_are_the_same_in_a_second_session(sandbox):
    """Of a run that keeps neither weights nor samples of its last generation."""
    keep = "keep_weights: none-but-generation-0\nkeep_samples: none-but-generation-0\n"
    sandbox.run(TEXT + keep)
    folder = sandbox.root / "run" / "pictures"
    pages = {name: (folder / name).read_text() for name in ("texts.md", "same-prompt.md", "same-prompt.json")}
    assert "replace" in pages["texts.md"]
    assert {answer["generation"] for answer in json.loads(pages["same-prompt.json"])["answers"]} == {0, 1}
    assert sandbox.run(TEXT + keep)["made"] == 0
    assert {name: (folder / name).read_text() for name in pages} == pages
