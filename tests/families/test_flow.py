"""Normalizing flows: the contract, densities that are densities, and samples that are theirs."""

from __future__ import annotations

import math

import pytest
import torch

from collapse_sim.analysis.results import read_results
from collapse_sim.core.machine import Machine
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.families.base import Conditions
from collapse_sim.families.flow import Flow
from collapse_sim.testing import check_family


def info(d):
    return Info("points", {"x": ((d,), "float64")}, 100, 100, 10)


def built(family, d, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return family.build(info(d)).eval().requires_grad_(False)


def points(d, n=40):
    return 2 * torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("transform", ["nsf", "maf"])
def test_contract(transform, d):
    check_family(Flow(transform=transform, hidden=16, scale=2.0), info(d), {"x": points(d)})


def bent(family, d, seed=0):
    """A model whose weights are far from those it begins with, so that its density is far from normal."""
    model = built(family, d, seed)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model


def log_densities(family, model, x):
    return family.predict(model, family.corrupt({"x": x}, Draws((0,), "corrupt", 0)))


@pytest.mark.parametrize("transform", ["nsf", "maf"])
def test_density_integrates_to_one(transform):
    family = Flow(transform=transform, transforms=2, hidden=16, scale=1.5)
    axis = torch.linspace(-12, 12, 301)
    density = log_densities(family, built(family, 2), torch.cartesian_prod(axis, axis)).double().exp()
    assert float(density.sum() * (axis[1] - axis[0]) ** 2) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("transform", ["nsf", "maf"])
def test_samples_are_the_draws_noise_under_the_density(transform, d):
    """p(x) |det dx/dz| = N(z; 0, I), the Jacobian by differentiating the sampling itself."""
    family = Flow(transform=transform, hidden=16, scale=1.5)
    model = bent(family, d)
    x = family.sample(model, Conditions(20, {}), Draws((0,), "sample", 0))["x"]
    assert x.dtype == torch.float64
    noise = Draws((0,), "sample", 0).normal(20, d)
    for row, z, log_density in zip(x, noise, log_densities(family, model, x), strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda v: model.rows_of(v[None])[0], z)
        torch.testing.assert_close(model.rows_of(z[None])[0].double(), row, rtol=1e-4, atol=1e-4)
        normal = -0.5 * float(z.square().sum()) - d / 2 * math.log(2 * math.pi)
        assert float(log_density + torch.linalg.slogdet(jacobian)[1]) == pytest.approx(normal, abs=2e-3)


def test_rows_are_divided_by_scale():
    x = points(2)
    found = {}
    for scale, rows in ((1.0, x), (3.0, 3 * x)):
        family = Flow(hidden=16, scale=scale)
        found[scale] = family.predict(bent(family, 2), family.corrupt({"x": rows}, Draws((0,), "corrupt", 0)))
    torch.testing.assert_close(found[3.0], found[1.0] - 2 * math.log(3), rtol=1e-5, atol=1e-5)


def test_sampling_leaves_the_global_generator_alone():
    family = Flow(hidden=8)
    model, before = built(family, 2), torch.random.get_rng_state()
    family.sample(model, Conditions(10, {}), Draws((0,), "sample", 0))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_densities_are_float32_under_bf16():
    family, x = Flow(hidden=16), points(2)
    model, inputs = bent(family, 2), family.corrupt({"x": x}, Draws((0,), "corrupt", 0))
    exact = family.predict(model, inputs)
    with Machine(torch.device("cpu"), "bf16").autocast():
        assert torch.equal(family.predict(model, inputs), exact)
        drawn = family.sample(model, Conditions(9, {}), Draws((0,), "sample", 0))["x"]
    assert torch.equal(drawn, family.sample(model, Conditions(9, {}), Draws((0,), "sample", 0))["x"])


def test_a_run(sandbox):
    """Through the program: a flow comes near the entropy of its data, and a teacher changes what is learnt."""
    sandbox.run(
        """
        name: tiny
        data: {use: gaussian, dimensions: 2, mean: [1.0, -1.0], scale: 0.5, rows: 300, held_out_rows: 500}
        model: {use: flow, hidden: 16, transforms: 2}
        train: {steps: 100, batch_size: 100, learning_rate: 1e-2, evaluate: never}
        generations: 1
        seeds: [0]
        arms:
          replace: {data: replace}
          distill: {data: replace, teacher: {generation: 0, weights: {output: 1.0}}}
        metrics: [test_loss]
        """
    )
    results = read_results(sandbox.root / "run")
    entropy = 1 + math.log(2 * math.pi * 0.5**2)  # of the data, nats
    losses = [results.scores(arm, "test_loss", k)[0] for arm, k in (("replace", 0), ("replace", 1), ("distill", 1))]
    assert all(entropy < loss < entropy + 0.2 for loss in losses)
    assert losses[1] != losses[2]
