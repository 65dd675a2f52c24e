"""A finished run as other commands find it: its models, and why some are missing."""

from __future__ import annotations

import pytest

from collapse_sim.core.errors import DivergedError
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load
from collapse_sim.run.saved_run import ModelChoice, SavedRun, refuse_to_fit
from tests.conftest import TINY


def test_a_run_with_a_diverged_arm_can_be_scored_by_another_metric(sandbox, tmp_path):
    """What there is of it: the diverged chain is nan, and asking for its model says why there is none."""
    recipe = TINY.replace("seeds: [0, 1]", "seeds: [0]").replace("output: 0.5,", "output: 1.0e+38,")
    assert sandbox.run(recipe)["diverged"]
    folder = sandbox.root / "run"
    experiment = prepare(load(folder / "recipe.yaml"), sandbox.root)
    refuse_to_fit(experiment, sandbox.root / ".store", folder)
    with pytest.raises(DivergedError, match="seed 0: there is no model, its chain diverged at generation 1"):
        SavedRun.open(folder, sandbox.root).model(ModelChoice("accumulate+distill", 2, 0))
    models, absent = SavedRun.open(folder, sandbox.root).models(ModelChoice())
    assert len(models) == 4
    assert [text.endswith("(diverged)") for text in absent] == [True, True]
