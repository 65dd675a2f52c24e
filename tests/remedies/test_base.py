"""The contracts of the four axes, followed by the remedies of an installed package with entry points."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest
import torch

from collapse_sim.core import registry
from collapse_sim.core.machine import open_device
from collapse_sim.engine import artefacts
from collapse_sim.engine.row_weights import stored_row_weights
from collapse_sim.recipe.catalogue import entries

from .chains_of import ran

DOCS = Path(__file__).parents[2] / "docs" / "remedies.md"
MORE = '''
from collapse_sim.api import REAL, ShapedDraws


class Doubled(Component):
    """Real rows count twice."""

    def check(self, data, info, family): ...
    def check_plans(self, plans): ...

    def changes(self, plan):
        return len(plan.sources) > 1

    def of_rows(self, plan, generations, base):
        weights = torch.where(generations == REAL, 2.0, 1.0).double()
        return weights / weights.mean()


class Halfway(Component):
    """Between the fit and the model before it."""

    infeasible: ClassVar[str] = "refuse"
    own: ClassVar[None] = None

    def check(self, data, info, family): ...

    def coefficients(self, k):
        return {"fit": 0.5, "previous": 0.5} if k else {"fit": 1.0}


class Calm(Component):
    """Half of the spread."""

    neutral: ClassVar[bool] = False
    own: ClassVar[None] = None

    def check(self, data, info, family): ...

    def models(self, family, model, auxiliary):
        return family, model

    def draws(self, family, draws):
        return ShapedDraws(draws, scale=0.5)
'''
POINTS = """
[collapse_sim.curation]
newest = my_remedies:Newest
[collapse_sim.weighting]
doubled = my_remedies:Doubled
[collapse_sim.merge]
halfway = my_remedies:Halfway
[collapse_sim.guidance]
calm = my_remedies:Calm
"""
RECIPE = """
name: installed
data: {use: gaussian, rows: 50}
model: gaussian
generations: 1
seeds: [3]
arms:
  plain: {data: mix}
  curated: {data: mix, curation: newest}
  weighted: {data: mix, weighting: doubled}
  merged: {data: mix, merge: halfway}
  guided: {data: mix, guidance: calm}
metrics: [variance_ratio]
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package as pip leaves it: a module, and the metadata of a distribution."""
    site = tmp_path / "site"
    metadata = site / "my_remedies-1.0.dist-info"
    metadata.mkdir(parents=True)
    (newest,) = re.findall(r"```python\n(# my_remedies.py.*?)```", DOCS.read_text(encoding="utf-8"), flags=re.DOTALL)
    (site / "my_remedies.py").write_text(newest + MORE)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-remedies\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(str(site))
    registry._entry_points.cache_clear()
    yield
    registry._entry_points.cache_clear()
    sys.modules.pop("my_remedies", None)
    importlib.invalidate_caches()


def test_remedies_of_an_installed_package_are_used_by_their_short_names(installed, sandbox):
    plans, store = ran(sandbox, RECIPE)
    plain, cpu = plans["plain"], open_device("cpu")

    def parameters(spec):
        return artefacts.model(store, spec, (3,), cpu).state_dict()

    kept = artefacts.kept(store, plans["curated"][0].curation, 3)["index"]
    assert kept.tolist() == list(range(50, 100))
    weights = stored_row_weights(store, plans["weighted"][1].fit, 3)
    assert sorted({round(float(w), 6) for w in weights / weights.min()}) == [1.0, 2.0]
    merged = plans["merged"][1]
    for name, value in parameters(merged.model).items():
        before, after = parameters(plain[0].fit)[name], parameters(merged.fit)[name]
        torch.testing.assert_close(value, (before + after) / 2)
    mean = parameters(plain[0].fit)["mean"]
    drawn, calm = (
        artefacts.stacked_columns(store, plans[arm][0].samples, (3,), "samples")["x"] for arm in ("plain", "guided")
    )
    torch.testing.assert_close(calm - mean[:, None], 0.5 * (drawn - mean[:, None]))


def test_they_are_listed(installed):
    for group, name in {"curation": "newest", "weighting": "doubled", "merge": "halfway", "guidance": "calm"}.items():
        assert name in [entry.name for entry in entries(group)]
