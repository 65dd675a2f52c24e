"""Combined weights: which tensors, in which precision, and what happens where the result is no model."""

from __future__ import annotations

import torch

from collapse_sim.core.events import JobFailed, Note
from collapse_sim.core.machine import open_device
from collapse_sim.engine import artefacts
from collapse_sim.engine.merging import combined
from collapse_sim.store.store import Store
from tests.remedies.chains_of import VAE, digits, gaussian, plans


def test_floats_are_combined_and_counters_are_those_of_the_first():
    first = {"w": torch.tensor([1.0, 2.0]), "half": torch.tensor([1.0]).bfloat16(), "n": torch.tensor(7)}
    other = {"w": torch.tensor([3.0, -1.0]), "half": torch.tensor([3.0]).bfloat16(), "n": torch.tensor(9)}
    result = combined([first, other], (1.5, -0.5))
    assert result["w"].tolist() == [0.0, 3.5]
    assert (result["half"].tolist(), result["half"].dtype) == ([0.0], torch.bfloat16)
    assert int(result["n"]) == 7
    assert first["w"].tolist() == [1.0, 2.0]


def test_rounding_is_that_of_the_result_alone():
    """1e8 + 1 - 1e8 in float32 would be 0."""
    one, other = {"w": torch.tensor([1e8])}, {"w": torch.tensor([1e8])}
    assert combined([one, {"w": torch.tensor([1.0])}, other], (1.0, 1.0, -1.0))["w"].tolist() == [1.0]


FAR = "merge: {{use: neon, w: 3, infeasible: {}}}"


def test_a_covariance_that_is_none_ends_the_chain_and_no_other(sandbox):
    events, _ = sandbox.loop(gaussian(FAR.format("refuse"), rows=4, generations=1, seeds=40))
    ended = [event for event in events if isinstance(event, JobFailed)]
    assert ended
    assert all(event.kind == "merge" and event.diverged for event in ended)
    assert "not those of a Gaussian, such as a covariance that is singular or negative" in ended[0].message
    assert 0 < len({seed for event in ended for seed in event.seeds}) < 40


def test_a_covariance_that_is_none_is_projected_and_said(sandbox):
    recipe = gaussian(FAR.format("project"), rows=4, generations=1, seeds=40, dimensions=2)
    events, _ = sandbox.loop(recipe)
    assert not [event for event in events if isinstance(event, JobFailed)]
    notes = [event.message for event in events if isinstance(event, Note)]
    assert any("the nearest ones are taken (infeasible: project)" in note for note in notes)
    plan = plans(sandbox, recipe)["remedy"][0]
    store, seeds = Store(sandbox.root / ".store"), tuple(range(40))
    fit, own, merged = (
        artefacts.model(store, spec, seeds, open_device("cpu")).covariance
        for spec in (plan.fit, plan.between[1], plan.model)
    )
    raw = 4 * fit - 3 * own
    good = torch.linalg.eigvalsh(raw)[:, 0] > 0
    assert 0 < int(good.sum()) < 40
    torch.testing.assert_close(merged[good], raw[good])
    assert bool((torch.linalg.eigvalsh(merged)[:, 0] > -1e-9).all())


def test_weights_that_are_not_finite_end_the_chain(sandbox):
    events, _ = sandbox.loop(digits(VAE, "merge: {use: neon, w: 1.0e+60, train: {steps: 1}}"))
    (ended,) = [event for event in events if isinstance(event, JobFailed)]
    assert (ended.kind, ended.diverged, ended.generation) == ("merge", True, 0)
    assert "is not finite; the chain ends there" in ended.message
