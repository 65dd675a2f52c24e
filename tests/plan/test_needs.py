from __future__ import annotations

import pytest

from collapse_sim.plan.experiment import prepare
from collapse_sim.plan.needs import Resources, cpus_per_fit, need_of, places, uses_network
from collapse_sim.recipe.loader import load
from collapse_sim.store.jobs import Job

NETWORK = """
name: needs
data: {use: digits, rows: 60, held_out_rows: 20}
model: {use: vae, hidden: 16, latent: 2}
train: {steps: 5, batch_size: 32}
generations: 1
seeds: [0]
arms: {replace: {data: replace}}
metrics: [test_loss, coverage, class_entropy]
"""


def test_networks_are_computed_by_fits_samples_and_the_scores_that_read_a_model(sandbox):
    experiment = prepare(load(sandbox.recipe(NETWORK)), sandbox.root)
    kinds = {spec.kind: uses_network(spec) for spec in experiment.specs() if spec.kind in ("data", "fit", "samples")}
    assert kinds == {"data": False, "fit": True, "samples": True}
    scores = experiment.arm_plans[0].generations[1].scores
    assert uses_network(scores["test_loss"])
    assert {uses_network(spec) for spec in scores["coverage"].features.values()} == {True}  # of a classifier
    assert not uses_network(scores["coverage"])  # which reads these


def test_closed_forms_need_no_gpu(sandbox):
    experiment = prepare(load("gaussian-strategies", smoke=True), sandbox.root)
    needs = {need_of((Job(spec, (), ()),), "cuda", 4) for spec in experiment.specs()}
    assert needs == {Resources(1, 0)}


def test_a_gpu_is_asked_for_on_cuda_only_and_several_processors_for_fits_only(sandbox):
    experiment = prepare(load(sandbox.recipe(NETWORK)), sandbox.root)
    fit, samples = (next(spec for spec in experiment.specs() if spec.kind == kind) for kind in ("fit", "samples"))
    assert need_of((Job(fit, (0,), ()),), "cuda", 4) == (4, 1)
    assert need_of((Job(fit, (0,), ()),), "cpu", 4) == (4, 0)
    assert need_of((Job(samples, (0,), ()),), "cuda", 4) == (1, 1)


@pytest.mark.parametrize(
    ("large", "chains", "cpus", "ranks", "expected"),
    [
        (False, 1, [16], 1, 1),
        (True, 1, [16, 8], 1, 8),
        (True, 4, [16, 16], 1, 8),
        (True, 100, [16, 16], 1, 1),
        (True, 1, [], 1, 1),
        (True, 1, [8], 2, 4),
        (True, 2, [8], 2, 2),
        (True, 1, [3, 3, 3], 4, 1),
    ],
)
def test_several_processors_only_for_large_fits_that_are_fewer(large, chains, cpus, ranks, expected):
    """And no more than all ranks of a fit find at the same time."""
    assert cpus_per_fit(large, chains, cpus, ranks) == expected


@pytest.mark.parametrize(
    ("need", "nodes", "expected"),
    [
        (Resources(1, 0), [(4, 0), (2.0, 1)], 6),
        (Resources(4, 0), [(3, 0), (9, 0)], 2),
        (Resources(1, 1), [(8, 2), (1, 4), (16, 0)], 3),
    ],
)
def test_places_are_counted_node_by_node(need, nodes, expected):
    assert places(need, nodes) == expected
