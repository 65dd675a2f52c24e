from __future__ import annotations

import pytest

from collapse_sim.plan.dry_run import plan_document, plan_text
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load

RECIPE = """
data: {use: gaussian, rows: 40, held_out_rows: 10}
model: gaussian
generations: 2
seeds: 2
arms:
  plain: {data: replace}
  chosen: {data: accumulate, curation: {use: random, keep: 0.25}}
  past: {data: accumulate, curation: {use: random, pool: past}}
metrics: [variance_ratio]
"""


@pytest.fixture
def document(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE)
    return plan_document(prepare(load(path), tmp_path), tmp_path / "store")


def test_what_fits_are_made_from_says_how_many_candidates_there_are(document):
    lines = plan_text(document).splitlines()
    last = {arm: lines[lines.index(arm) + 4].rsplit("  ", 1)[1] for arm in document["arms"]}
    assert last["plain"] == "40 of 1"
    assert last["chosen"] == "40 real + 40 of 160 of 0 + 40 of 160 of 1"
    assert last["past"] == "40 of 120: 40 real + 40 of 0 + 40 of 1"


def test_the_document_counts_further_draws_and_curations(document):
    data, generations, seeds = 1, 3, 2
    fits = 1 + 3 * 2  # generation 0 is shared
    draws, curations = 3 + 3, 2 + 2  # one generation of the arm `chosen` has the shared samples for its first draw
    per_seed = 3 * fits + draws + curations
    assert document["artefacts"] == {"to_make": data * seeds + seeds * per_seed, "reused": 0}
    assert generations == len(document["arms"]["chosen"])
    assert document["arms"]["chosen"][1]["sources"][1] == {"from": 0, "rows": 40, "candidates": 160}
    assert document["arms"]["past"][2]["chosen_among"] == 120
