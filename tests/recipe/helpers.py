"""Recipes as text, loaded from a file in the current folder so that messages begin with "r.yaml:LINE"."""

from __future__ import annotations

from pathlib import Path

import pytest

from collapse_sim.core.errors import RecipeError
from collapse_sim.recipe.loader import load

from . import fakes

FAKE = fakes.__name__

GOOD = f"""\
name: good
data: {{use: {FAKE}:FakeData}}
model:
  use: {FAKE}:FakeFamily
  width: 16
train:
  epochs: 3
  learning_rate: 1e-4
generations: 5
samples: 6e4
seeds: [0, 1, 2]
arms:
  replace: {{data: replace}}
  distill:
    data: {{use: replace}}
    teacher: {{generation: 0, weights: {{output: 0.5}}}}
  mixed:
    data: {{use: mix, synthetic: 0.5}}
    init: previous
metrics: [{{use: {FAKE}:FakeMetric, k: 3}}, test_loss]
baseline: replace
show: test_loss
claims:
  - that: teachers help
    metric: test_loss
    generation: 4
    expect: distill < replace
reference: {{source: a paper, metric: test_loss, values: {{replace: 1.5, distill: 1.25}}}}
smoke: {{generations: 2, seeds: [7], train.epochs: 1, model: {{width: 4}}}}
"""


def write(text: str, name: str = "r.yaml") -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def changed(*changes: tuple[str, str]) -> str:
    """GOOD with pieces of it replaced; every piece must be there, once."""
    text = GOOD
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def problems(text: str, **options: object) -> list[str]:
    """What is wrong with a recipe."""
    with pytest.raises(RecipeError) as caught:
        load(write(text), **options)  # type: ignore[arg-type]
    return list(caught.value.problems)
