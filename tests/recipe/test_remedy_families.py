"""Which families a remedy works for: by its `check`, for every built-in remedy and for those of a user."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import collapse_sim
from collapse_sim.core import registry
from collapse_sim.core.component import Component
from collapse_sim.families.hooks import check_row_weights
from collapse_sim.recipe.remedy_families import ALL, families_of

EVERY = sorted(set(registry.BUILT_IN["families"]) - {"classifier"})  # which cannot generate


def of(name: str) -> tuple[str, ...]:
    (group,) = [group for group in registry.REMEDIES if name in registry.BUILT_IN[group]]
    return families_of(registry.load(group, name))


@pytest.mark.parametrize("name", [name for group in registry.REMEDIES for name in registry.BUILT_IN[group]])
def test_every_remedy_is_for_some_family(name: str) -> None:
    accepted = of(name)
    assert accepted
    assert accepted == (ALL,) or {one.partition(" ")[0] for one in accepted} < set(EVERY)


def test_those_that_the_documentation_names() -> None:
    assert of("random") == of("golden") == (ALL,)
    assert of("edit") == of("tce") == of("focal") == ("causal_lm", "seq2seq")
    assert of("sims") == ("causal_lm", "ddpm", "edm", "flow_matching")
    assert of("latent") == ("conv_vae", "ddpm", "edm", "flow_matching", "vae")
    assert "seq2seq (decoding: sample)" in of("temperature")
    assert of("truncation") == ("conv_vae", "ddpm (sampler: ddim)", "edm", "flow", "flow_matching", "gaussian", "vae")
    assert not {"gmm", "kde"} & {*of("neon")}


class Picky(Component):
    """For families whose rows may have weights, and whose data is of points."""

    def check(self, data, info, family):
        check_row_weights(family)
        if info.kind != "points":
            raise ValueError("points only")


class Broken(Component):
    """Its `check` is wrong."""

    def check(self, data, info, family):
        raise RuntimeError("oh")


def test_a_users_own_is_asked_the_same_way() -> None:
    assert families_of(Picky) == ("ddpm", "edm", "flow", "flow_matching", "gaussian", "gmm", "kde")
    assert families_of(Broken) == ()


PAGE = (Path(collapse_sim.__file__).parents[1] / "docs" / "remedies.md").read_text(encoding="utf-8")
REMEDIES = [(group, name) for group in registry.REMEDIES for name in registry.BUILT_IN[group]]


@pytest.mark.parametrize(("group", "name"), REMEDIES)
def test_the_page_has_every_remedy_with_its_settings_cost_and_what_was_measured(group: str, name: str) -> None:
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in PAGE.splitlines() if line.startswith("|")]
    measured, described = [cells for cells in rows if f"`{name}`" in cells[0]]
    assert re.search(r"`[\w-]+`", measured[1]), "a recipe"
    assert measured[2], "what was measured, or why it was not"
    settings = described[3]
    for field in registry.load(group, name).model_fields:
        assert f"`{field}`" in settings or field == "pool", f"{name} has the setting {field}, and its row does not"
    assert len(described) == (6 if group != "weighting" else 5), "the cost: a weighting has none"
    assert described[1], "what it does"
    assert described[4], "for which families"
