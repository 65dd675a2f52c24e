"""Flow matching: paths and couplings against closed forms, solvers against a model that knows the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.optimize import linear_sum_assignment

from collapse_sim.families.base import Conditions
from collapse_sim.families.flow_matching import FlowMatching, transported
from collapse_sim.testing import check_family

from .denoising import CASES, COLOUR, IMAGES, POINTS, Oracle, draws, rows_of

COUPLINGS = ("independent", "optimal_transport")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    "settings",
    [
        {"solver": "euler", "sampling_steps": 5},
        {"coupling": "optimal_transport", "solver": "midpoint", "sampling_steps": 3},
        {"solver": "dopri5", "sigma_min": 0.01, "tolerance": 1e-2},
    ],
    ids=["euler", "ot midpoint", "dopri5"],
)
def test_contract(case, settings) -> None:
    info, network = CASES[case]
    family = FlowMatching(network=network, flip=info.kind == "images", **settings)
    check_family(family, info, rows_of(info), 2e-5)


@pytest.mark.parametrize("sigma", [0.0, 0.1])
def test_paths_are_straight_from_noise_to_rows(sigma) -> None:
    """x_t - t v is the noise, x_t + (1 - t) v the row, up to sigma_min of noise; times are uniform in [0, 1)."""
    rows = rows_of(POINTS, 5000)
    inputs = FlowMatching(scale=2.0, sigma_min=sigma).corrupt(rows, draws())
    t = inputs["t"].unsqueeze(1) / 1000
    noise = inputs["x"] - t * inputs["target"]
    end = inputs["x"] + (1 - t) * inputs["target"]
    torch.testing.assert_close(end - sigma * noise, rows["x"].float() / 2, atol=1e-5, rtol=0)
    assert float(noise.mean()) == pytest.approx(0, abs=0.05)
    assert float(noise.std()) == pytest.approx(1, abs=0.05)
    assert float(t.min()) >= 0
    assert float(t.max()) < 1
    assert float(t.std()) == pytest.approx(12**-0.5, rel=0.02)


def test_moments_along_the_path() -> None:
    """Rows of N(1, 2^2) against independent noise: mean t, variance (1-t)^2 + 4 t^2."""
    x = 1 + 2 * torch.randn(50_000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    inputs = FlowMatching().corrupt({"x": x}, draws())
    t = inputs["t"] / 1000
    for middle in (0.1, 0.5, 0.9):
        near = (t - middle).abs() < 0.02
        assert float(inputs["x"][near].mean()) == pytest.approx(middle, abs=0.1)
        assert float(inputs["x"][near].var()) == pytest.approx((1 - middle) ** 2 + 4 * middle**2, rel=0.1)


@pytest.mark.parametrize("info", [COLOUR, POINTS], ids=["images", "points"])
def test_coupling_is_the_best_assignment(info) -> None:
    """Against scipy's linear_sum_assignment, on the noise and rows that training really sees."""
    rows = rows_of(info)
    free, coupled = (FlowMatching(coupling=coupling).corrupt(rows, draws()) for coupling in COUPLINGS)
    t = free["t"].view(-1, *[1] * (free["x"].dim() - 1)) / 1000
    noise, moved = ((one["x"] - t * one["target"]).flatten(1).numpy() for one in (free, coupled))
    x = (free["x"] + (1 - t) * free["target"]).flatten(1).numpy()
    cost = ((x[:, None] - noise[None]) ** 2).sum(-1)
    _, best = linear_sum_assignment(cost)
    np.testing.assert_allclose(moved, noise[best], atol=1e-4)
    assert cost[np.arange(len(x)), best].sum() < cost.trace()


def test_coupling_is_a_permutation_with_repeated_rows() -> None:
    noise = torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    assert transported(noise, torch.zeros(30, 2)).sort().values.equal(torch.arange(30))


def velocity(mean: float, std: float):
    """E[x_1 - x_0 | x_t] for noise x_0 and rows x_1 ~ N(mean, std^2)."""

    def answer(x: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        t = times.view(-1, *[1] * (x.dim() - 1)) / 1000
        total = (1 - t) ** 2 + t**2 * std**2
        return mean + (t * std**2 - (1 - t)) / total * (x - t * mean)

    return answer


@pytest.mark.parametrize(
    "settings",
    [
        {"solver": "euler", "sampling_steps": 200},
        {"solver": "midpoint", "sampling_steps": 20},
        {"solver": "dopri5", "tolerance": 1e-5},
    ],
    ids=["euler", "midpoint", "dopri5"],
)
def test_solvers_with_a_model_that_knows_the_truth(settings) -> None:
    """The exact flow takes noise z to mean + std z, point by point; points are scaled by 2."""
    family = FlowMatching(scale=2.0, **settings)
    model = Oracle((2,), velocity(0.5, 0.25))
    x = family.sample(model, Conditions(5_000, {}), draws("sample"))["x"]
    z = draws("sample").normal(5_000, 2)
    assert x.dtype == torch.float64
    torch.testing.assert_close(
        x.float(), 1.0 + 0.5 * z, atol=0.03 if settings.get("sampling_steps") == 200 else 0.01, rtol=0
    )


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2)])
def test_order_of_the_fixed_step_solvers(solver, order) -> None:
    """Half the step length: half the error, or a quarter. dx/dt = x takes z to e z."""
    model, z = Oracle((2,), lambda x, t: x), draws("sample").normal(500, 2)
    errors = []
    for steps in (40, 80):
        family = FlowMatching(solver=solver, sampling_steps=steps)
        x = family.sample(model, Conditions(500, {}), draws("sample"))["x"]
        errors.append(float((x - math.e * z).abs().mean()))
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.15)


@pytest.mark.parametrize("solver", ["euler", "midpoint", "dopri5"])
@pytest.mark.parametrize("case", ["grey", "points"])
def test_trajectory_starts_as_noise_and_ends_with_the_sample(case, solver) -> None:
    info, network = CASES[case]
    family = FlowMatching(network=network, solver=solver, sampling_steps=None if solver == "dopri5" else 10)
    model = family.build(info).eval()
    with torch.no_grad():
        frames = family.trajectory(model, Conditions(3, {}), 6, draws("sample"))
        sample = next(iter(family.sample(model, Conditions(3, {}), draws("sample")).values()))
    (shape, _), *_ = info.columns.values()
    assert frames.shape == (6, 3, *shape)
    assert torch.equal(frames[-1], sample)
    if info.kind == "points":
        torch.testing.assert_close(frames[0].float(), draws("sample").normal(3, 2))


def test_shards_are_repeatable_and_differ() -> None:
    family = FlowMatching(network=CASES["grey"][1], sampling_steps=4)
    model = family.build(IMAGES).eval()
    with torch.no_grad():
        first, again, other = (
            family.sample(model, Conditions(4, {}), draws("sample", step=shard))["image"] for shard in (0, 0, 1)
        )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"solver": "dopri5", "sampling_steps": 10}, "sampling_steps: solver: dopri5 chooses its own"),
        ({"tolerance": 1e-3}, "tolerance: is for solver: dopri5, found midpoint"),
        ({"coupling": "optimal"}, "optimal_transport"),
    ],
)
def test_settings_that_do_not_fit_together(settings, message) -> None:
    with pytest.raises(ValidationError, match=message):
        FlowMatching(**settings)


def test_it_learns_points() -> None:
    """A few hundred updates bring samples from N(0, 4^2) to two points, half of them to each."""
    family = FlowMatching(network={"widths": (64, 64)}, scale=4.0, sampling_steps=20, coupling="optimal_transport")
    torch.manual_seed(0)
    model = family.build(POINTS)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    ends = torch.tensor([[-4.0, 0.0], [4.0, 0.0]], dtype=torch.float64)
    for step in range(400):
        rows = {"x": ends[torch.arange(64) % 2]}
        inputs = family.corrupt(rows, draws(step=step))
        loss = family.loss(family.predict(model, inputs), inputs) / inputs.count
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        x = family.sample(model, Conditions(200, {}), draws("sample"))["x"]
    distance, nearest = torch.cdist(x, ends).min(1)
    assert distance.median() < 0.5
    assert 60 < int(nearest.sum()) < 140


def test_a_run_draws_how_points_come_out_of_noise(sandbox) -> None:
    """Of the first and the last generation only; the arms' shared generation 0 is one model."""
    sandbox.run(
        """
        data: {use: two_moons, rows: 64, held_out_rows: 32}
        model: {use: flow_matching, network: {widths: [16]}, sampling_steps: 3}
        train: {steps: 3, batch_size: 32, evaluate: never}
        generations: 2
        seeds: [0]
        arms:
          replace: {data: replace}
          tuned: {data: replace, init: previous}
        metrics: [test_loss]
        """
    )
    pictures = sorted(path.name for path in (sandbox.root / "run" / "pictures").glob("denoising*"))
    assert pictures == ["denoising-generation-000.png", "denoising-generation-002.png"]


@pytest.mark.parametrize("time", [0.0, 0.25, 1.0])
def test_encoders_read_rows_with_the_noise_of_their_time(time) -> None:
    """The oracle's encoder gives what it reads: at time 0 the row (and sigma_min of noise), at time 1 noise alone."""
    times = []
    oracle = Oracle((2,), lambda x, t: times.append(t) or x)
    x = rows_of(POINTS)["x"].float()
    noise = draws("noise").normal(40, 2)
    encoded = FlowMatching(sigma_min=0.1).encode_noised(oracle, {"x": x.double()}, time, draws("noise"))
    torch.testing.assert_close(encoded, (1 - time) * x + (1 - 0.9 * (1 - time)) * noise)
    own_time = times[0] / FlowMatching().corrupt({"x": x.double()}, draws())["t"].max()
    assert bool((own_time <= 1.1 * (1 - time) + 1e-6).all())
