"""The samplers' steps against diffusers' schedulers, and DPM-Solver++ against the exact flow of a Gaussian."""

from __future__ import annotations

import math
import re
import warnings
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from collapse_sim.families.base import Conditions
from collapse_sim.families.ddpm import DDPM, alphas_cumprod
from collapse_sim.families.samplers import sampler, scheduler

from .denoising import CASES, IMAGES, Oracle, draws
from .test_ddpm import exact

SCHEDULES = [("linear", False, "epsilon"), ("cosine", False, "v"), ("linear", True, "v"), ("cosine", True, "v")]


@pytest.mark.parametrize(("name", "eta"), [("ddpm", 0.0), ("ddim", 0.0), ("ddim", 0.7), ("dpm-solver++", 0.0)])
@pytest.mark.parametrize("steps", [100, 25, 5, 1])
@pytest.mark.parametrize(("schedule", "zero", "target"), SCHEDULES)
@pytest.mark.parametrize("clip", [True, False])
def test_steps_are_those_of_diffusers(name, eta, steps, schedule, zero, target, clip) -> None:
    """Equal bytes for the ancestral sampler and DDIM; nearly for DPM-Solver++: its coefficients are float64 here."""
    reference = scheduler(100, schedule, zero, name, target, clip)
    with warnings.catch_warnings():  # of numpy, about diffusers' call
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        reference.set_timesteps(steps)
    ours = sampler(name, 100, schedule, zero, steps=steps, target=target, clip=clip, eta=eta)
    assert list(ours.times) == reference.timesteps.tolist()
    own, their = draws("sample"), draws("sample")
    x, clean = own.normal(3, 2, 4, 4), None
    y = x
    their.normal(3, 2, 4, 4)
    options = {"eta": eta} if name == "ddim" else {}
    weight = torch.linspace(-1, 1, 16).view(4, 4)
    for i, t in enumerate(ours.times):
        x, clean = ours.step(i, x, torch.tanh(x * weight), clean, own)
        y = reference.step(torch.tanh(y * weight), t, y, generator=their.generator, return_dict=False, **options)[0]
        if name != "dpm-solver++":
            assert torch.equal(x, y), t
    torch.testing.assert_close(x, y, rtol=2e-4, atol=2e-4 * float(y.abs().max()))


def flow_error(name: str, steps: int, schedule: str, target: str) -> float:
    """The largest distance of samples from where the exact flow takes their noise, for rows from N(0.5, 0.25^2).

    The flow starts at the noise's own distribution, N(0, 1), instead of the process's end.
    """
    family = DDPM(schedule=schedule, target=target, sampler=name, sampling_steps=steps)
    kept = alphas_cumprod(1000, schedule, False, torch.device("cpu")).double()
    answer = exact(target, 0.5, 0.25, kept)
    model = Oracle((2,), lambda x, t: answer(x.double(), t))
    x = family.sample(model, Conditions(500, {}), draws("sample"))["x"]
    z = draws("sample").normal(500, 2).double()
    last = kept[-1]
    total = last * 0.25**2 + 1 - last
    expected = 0.5 + 0.25 * (z - last.sqrt() * 0.5) / total.sqrt()
    return float((x - expected).abs().max())


@pytest.mark.parametrize(("schedule", "target"), [("linear", "epsilon"), ("cosine", "v")])
def test_dpm_solver_follows_the_exact_flow(schedule, target) -> None:
    """With ever more steps the error falls, faster than DDIM's, to a tenth of it at 100 steps."""
    solver, ddim = (
        [flow_error(name, n, schedule, target) for n in (10, 20, 40, 100)] for name in ("dpm-solver++", "ddim")
    )
    assert all(later < 0.6 * sooner for sooner, later in pairwise(solver))
    assert solver[0] / solver[-1] > 2 * ddim[0] / ddim[-1]
    assert solver[-1] < ddim[-1] / 10


def solver_spread(kept: torch.Tensor, every: int, std: float) -> float:
    """The samples' standard deviation for data of N(0, std^2) and perfect answers, by the paper's equations (8) to (10)
    in the log of the signal-to-noise ratio: every state is a multiple of the noise."""
    times = range(len(kept) - 1, -1, -every)
    alpha = [math.sqrt(kept[t]) for t in times] + [1.0]
    sigma = [math.sqrt(1 - kept[t]) for t in times] + [0.0]
    half_log_snr = [math.log(a / s) for a, s in zip(alpha[:-1], sigma[:-1], strict=True)]
    x, before = 1.0, 0.0
    for i, (a, s) in enumerate(zip(alpha[:-1], sigma[:-1], strict=True)):
        clean = a * std**2 / (a**2 * std**2 + s**2) * x
        if i == len(times) - 1:
            return clean
        h = half_log_snr[i + 1] - half_log_snr[i]
        ratio = (half_log_snr[i] - half_log_snr[i - 1]) / h if i else math.inf
        ahead = (1 + 1 / (2 * ratio)) * clean - before / (2 * ratio)
        x, before = sigma[i + 1] / s * x - alpha[i + 1] * (math.exp(-h) - 1) * ahead, clean
    raise AssertionError


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_docs_say_how_dpm_solver_narrows(schedule) -> None:
    text = (Path(__file__).parents[2] / "docs" / "diffusion.md").read_text()
    cells = re.search(rf"\| `dpm-solver\+\+`, {schedule} \| (.*) \|", text)
    assert cells
    kept = alphas_cumprod(1000, schedule, False, torch.device("cpu")).double()
    for steps, cell in zip((1000, 250, 100, 50, 25), cells[1].split(" | "), strict=True):
        for std, figure in zip((1.0, 0.25), cell.split(), strict=True):
            assert float(figure) == pytest.approx(solver_spread(kept, 1000 // steps, std) / std, abs=6e-4)


@pytest.mark.parametrize("std", [1.0, 0.25])
def test_dpm_solver_with_a_model_that_knows_the_truth(std) -> None:
    """Points of N(0, std^2): every sample is its noise times the closed form's factor."""
    kept = alphas_cumprod(400, "linear", False, torch.device("cpu"))
    model = Oracle((2,), exact("epsilon", 0.0, std, kept))
    family = DDPM(timesteps=400, sampler="dpm-solver++", sampling_steps=20)
    x = family.sample(model, Conditions(1000, {}), draws("sample"))["x"].float()
    torch.testing.assert_close(x, solver_spread(kept.double(), 20, std) * draws("sample").normal(1000, 2))


def test_dpm_solver_is_deterministic_and_its_trajectory_ends_with_the_sample() -> None:
    family = DDPM(network=CASES["grey"][1], sampler="dpm-solver++", sampling_steps=10)
    model = family.build(IMAGES).eval()
    with torch.no_grad():
        given = draws("sample")
        first = family.sample(model, Conditions(2, {}), given)["image"]
        untouched = draws("sample")
        untouched.normal(2, 1, 8, 8)
        assert torch.equal(given.normal(3), untouched.normal(3))
        frames = family.trajectory(model, Conditions(2, {}), 6, draws("sample"))
        again = family.sample(model, Conditions(2, {}), draws("sample"))["image"]
    assert frames.shape == (6, 2, 1, 8, 8)
    assert torch.equal(frames[-1], first)
    assert torch.equal(again, first)


def test_dpm_solver_clips_images() -> None:
    far = Oracle((1, 8, 8), lambda x, t: -10 * torch.ones_like(x))
    family = DDPM(sampler="dpm-solver++", sampling_steps=10)
    assert (family.sample(far, Conditions(2, {}), draws())["image"] == 255).all()
    assert math.isfinite(float(family.sample(Oracle((2,), far.answer), Conditions(2, {}), draws())["x"].max()))
