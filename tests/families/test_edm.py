"""EDM: the preconditioning against its definition and diffusers, the sampler against models that know the truth."""

from __future__ import annotations

import json
import math
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import EDMEulerScheduler, UNet2DModel
from pydantic import ValidationError

from collapse_sim.core.randomness import Draws
from collapse_sim.families.base import Conditions
from collapse_sim.families.edm import EDM, denoised, preconditioning
from collapse_sim.remedies.temperature import Temperature
from collapse_sim.testing import check_compiled, check_family

from .denoising import CASES, COLOUR, IMAGES, POINTS, Oracle, draws, rows_of

SETTINGS = {
    "heun": {"sampling_steps": 3},
    "euler": {"solver": "euler", "sampling_steps": 4, "sigma_data": 0.7},
    "churn": {"sampling_steps": 4, "s_churn": 2.0, "s_tmin": 0.01, "s_tmax": 70.0, "s_noise": 1.003},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_contract(case, settings) -> None:
    info, network = CASES[case]
    check_family(EDM(network=network, flip=info.kind == "images", **settings), info, rows_of(info), 2e-5)


@pytest.mark.parametrize("case", ["grey", "points"])
def test_compiled_steps(case) -> None:
    info, network = CASES[case]
    check_compiled(EDM(network=network), info, rows_of(info))


def factors_of(sigma, sigma_data: float):
    """Table 1: c_skip, c_out and c_in."""
    total = sigma**2 + sigma_data**2
    return sigma_data**2 / total, sigma * sigma_data / total**0.5, 1 / total**0.5


def network_of(mean: float, std: float, sigma_data: float):
    """The network of the best denoiser for rows from N(mean, std^2)."""

    def answer(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        sigma = (4 * t).exp().view(-1, *[1] * (x.dim() - 1))
        skip, out, into = factors_of(sigma, sigma_data)
        noisy = x / into
        return ((std**2 * noisy + sigma**2 * mean) / (std**2 + sigma**2) - skip * noisy) / out

    return answer


def test_preconditioning_is_that_of_diffusers() -> None:
    scheduler = EDMEulerScheduler(sigma_data=0.7)
    sigma = torch.tensor([0.002, 0.1, 0.7, 3.0, 80.0]).view(-1, 1, 1, 1)
    x, output = (torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    factors = preconditioning(sigma, 0.7)
    torch.testing.assert_close(factors.input * x, scheduler.precondition_inputs(x, sigma))
    torch.testing.assert_close(factors.noise, scheduler.precondition_noise(sigma))
    for i in range(5):
        model = Oracle((3, 4, 4), lambda _x, _t, i=i: output[i : i + 1])
        torch.testing.assert_close(
            denoised(model, x[i : i + 1], float(sigma[i]), 0.7),
            scheduler.precondition_outputs(x[i : i + 1], output[i : i + 1], sigma[i]),
        )


@pytest.mark.parametrize("sigma_data", [None, 0.4])
def test_inputs_and_targets_have_unit_variance_at_every_noise_level(sigma_data) -> None:
    """Of rows with the standard deviation `sigma_data`, 1 for points; ln sigma is normal."""
    std = sigma_data or 1.0
    rows = {"x": std * torch.randn(60_000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))}
    inputs = EDM(sigma_data=sigma_data).corrupt(rows, draws())
    ln_sigma = 4 * inputs["t"]
    assert float(ln_sigma.mean()) == pytest.approx(-1.2, abs=0.03)
    assert float(ln_sigma.std()) == pytest.approx(1.2, rel=0.02)
    for part in ln_sigma.argsort().chunk(6):
        for name in ("x", "target"):
            assert float(inputs[name][part].var()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("info", [COLOUR, POINTS], ids=["images", "points"])
def test_the_loss_is_the_weighted_error_of_the_denoiser(info) -> None:
    """lambda |D - y|^2, and for distillation lambda |D - D_teacher|^2, means over a row's values (equation 2)."""
    scale = 2.0 if info.kind == "points" else 1.0
    spread = 1.0 if info.kind == "points" else 0.5
    family = EDM(network=CASES["colour" if info is COLOUR else "points"][1], scale=scale)
    rows = rows_of(info)
    y = (rows["image"].double() / 127.5 - 1) if info.kind == "images" else rows["x"] / scale
    inputs = family.corrupt(rows, draws())
    sigma = (4 * inputs["t"].double()).exp().view(-1, *[1] * (y.dim() - 1))
    skip, out, into = factors_of(sigma, spread)
    weight = (sigma**2 + spread**2) / (sigma * spread) ** 2
    with torch.no_grad():
        student, teacher = (family.predict(family.build(info).eval(), inputs) for _ in range(2))
    ours, theirs = (skip * inputs["x"] / into + out * one.output for one in (student, teacher))
    expected = (weight * (ours - y) ** 2).flatten(1).mean(1)
    torch.testing.assert_close(family.row_losses(student, inputs).double(), expected, rtol=1e-3, atol=1e-4)
    terms = family.distillation(student, teacher, inputs)
    expected = (weight * (ours - theirs) ** 2).flatten(1).mean(1).sum()
    torch.testing.assert_close(terms["output"].double(), expected, rtol=1e-4, atol=0)


def test_the_loss_at_the_optimum() -> None:
    """Rows from N(mean, std^2): E lambda std^2 sigma^2 / (std^2 + sigma^2), and more for any other denoiser."""
    mean, std = 0.3, 0.6
    rows = {"x": mean + std * torch.randn(100_000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))}
    family = EDM()
    inputs = family.corrupt(rows, draws())

    def loss(of_mean: float, of_std: float) -> float:
        model = Oracle((2,), network_of(of_mean, of_std, 1.0))
        return float(family.loss(family.predict(model, inputs), inputs) / inputs.count)

    places, weights = np.polynomial.hermite_e.hermegauss(60)
    sigma = np.exp(-1.2 + 1.2 * places)
    each = (sigma**2 + 1) / sigma**2 * std**2 * sigma**2 / (std**2 + sigma**2)
    assert loss(mean, std) == pytest.approx(float((weights * each).sum() / weights.sum()), rel=0.01)
    assert min(loss(0.0, std), loss(mean, 0.5), loss(mean, 0.75)) > loss(mean, std)


def levels_of(steps: int) -> list[float]:
    """Equation 5 with the paper's range."""
    ramp = np.linspace(80 ** (1 / 7), 0.002 ** (1 / 7), steps) ** 7
    return [*ramp.tolist(), 0.0]


def chain_spread(steps: int, solver: str, std: float, churn: float = 0.0, noise: float = 1.0, factor=1.0) -> float:
    """The samples' standard deviation for rows of `std` and a perfect denoiser whose score is multiplied by `factor`:
    every step is linear, with the slope factor sigma / (std^2 + sigma^2) (equations 1 and 3)."""
    variance, raised = 80.0**2, 1 + min(churn / steps, math.sqrt(2) - 1)
    for level, following in pairwise(levels_of(steps)):
        sigma = raised * level
        variance += noise**2 * (sigma**2 - level**2)
        slope, slope_there = (factor * s / (std**2 + s**2) for s in (sigma, following))
        step = 1 + (following - sigma) * slope
        if solver == "heun" and following:
            step = 1 + (following - sigma) / 2 * (slope + slope_there * step)
        variance *= step**2
    return math.sqrt(variance)


@pytest.mark.parametrize("solver", ["heun", "euler"])
def test_deterministic_samples_are_those_of_the_closed_form(solver) -> None:
    """Point by point; in the limit of many steps N(mean, std^2). Points are scaled by 2."""
    model = Oracle((2,), network_of(0.5, 0.25, 1.0))
    x = EDM(scale=2.0, solver=solver).sample(model, Conditions(2_000, {}), draws("sample"))["x"]
    initial = 80 * draws("sample").normal(2_000, 2).double()
    exact = 0.5 + chain_spread(18, solver, 0.25) / 80 * (initial - 0.5)
    assert x.dtype == torch.float64
    torch.testing.assert_close(x, 2 * exact, atol=1e-4, rtol=0)
    many = EDM(solver=solver, sampling_steps=400).sample(model, Conditions(2_000, {}), draws("sample"))["x"]
    limit = 0.5 + 0.25 / math.hypot(0.25, 80) * (initial - 0.5)
    torch.testing.assert_close(many, limit, atol=0.02 if solver == "euler" else 1e-3, rtol=0)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
def test_order_of_the_solvers(solver, order) -> None:
    """The error's slope over the number of steps, with a sigma_min so small that the last step's error is nothing."""
    model, errors, counts = Oracle((2,), network_of(0.5, 0.5, 1.0)), [], (32, 64, 128, 256)
    for steps in counts:
        family = EDM(solver=solver, sampling_steps=steps, sigma_min=1e-4)
        precise = Draws((0,), "sample", 0, dtype=torch.float64)
        x = family.sample(model, Conditions(200, {}), precise)["x"]
        z = Draws((0,), "sample", 0, dtype=torch.float64).normal(200, 2)
        errors.append(float((x - 0.5 - 0.5 / math.hypot(0.5, 80) * (80 * z - 0.5)).abs().mean()))
    slope = np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert slope == pytest.approx(-order, abs=0.15)


@pytest.mark.parametrize("solver", ["heun", "euler"])
@pytest.mark.parametrize(("churn", "noise"), [(10.0, 1.0), (60.0, 1.05)])
def test_added_noise(solver, churn, noise) -> None:
    """The samples' spread is that of the chain, also with the most noise that is ever added."""
    family = EDM(solver=solver, sampling_steps=40, s_churn=churn, s_noise=noise)
    x = family.sample(Oracle((2,), network_of(1.0, 0.5, 1.0)), Conditions(20_000, {}), draws("sample"))["x"]
    assert float(x.mean()) == pytest.approx(1.0, abs=0.02)
    assert float(x.std()) == pytest.approx(chain_spread(40, solver, 0.5, churn, noise), rel=0.015)


def test_noise_is_added_within_its_range_only() -> None:
    """A sampler that adds noise at its first level alone draws twice."""
    asked = []

    class Counted(Draws):
        def normal(self, *shape: int) -> torch.Tensor:
            asked.append(shape)
            return super().normal(*shape)

    model = Oracle((2,), network_of(0.0, 1.0, 1.0))
    for settings, count in (({}, 1 + 18), ({"s_tmin": 50.0}, 1 + 2), ({"s_tmax": 0.003}, 1 + 1)):
        asked.clear()
        EDM(s_churn=5.0, **settings).sample(model, Conditions(3, {}), Counted((0,), "sample", 0))
        inside = [s for s in levels_of(18)[:-1] if settings.get("s_tmin", 0) <= s <= settings.get("s_tmax", 100)]
        assert len(asked) == 1 + len(inside) == count


@pytest.mark.parametrize(("solver", "calls"), [("heun", 35), ("euler", 18)])
def test_network_calls(solver, calls) -> None:
    seen = []
    model = Oracle((2,), lambda x, t: seen.append(t) or x)
    EDM(solver=solver).sample(model, Conditions(3, {}), draws("sample"))
    assert len(seen) == calls


@pytest.mark.parametrize("solver", ["heun", "euler"])
def test_the_docs_say_how_samplers_narrow(solver) -> None:
    text = (Path(__file__).parents[2] / "docs" / "diffusion.md").read_text()
    cells = re.search(rf"\| `edm`, `{solver}` \| (.*) \|", text)
    assert cells
    counts = (500, 125, 50, 25, 13) if solver == "heun" else (1000, 250, 100, 50, 25)
    for steps, cell in zip(counts, cells[1].split(" | "), strict=True):
        for std, figure in zip((1.0, 0.25), cell.split(), strict=True):
            assert float(figure) == pytest.approx(chain_spread(steps, solver, std) / std, abs=6e-4)


def test_guidance_combines_scores() -> None:
    """Scores of N(0, .5^2) and N(0, .7^2): dx/dsigma = ((1+w) k_r - w k_s) x, whose integral is known."""
    w, family = 0.6, EDM(sampling_steps=60)
    model, other = (Oracle((2,), network_of(0.0, std, 1.0)) for std in (0.5, 0.7))
    x = family.sample(family.guided(model, other, w), Conditions(1000, {}), draws("sample"))["x"]
    ratio = math.prod((std / math.hypot(std, 80)) ** power for std, power in ((0.5, 1 + w), (0.7, -w)))
    torch.testing.assert_close(x, ratio * 80 * draws("sample").normal(1000, 2).double(), atol=0.005, rtol=0.005)


def test_temperature() -> None:
    """With added noise every score is multiplied by 1 / b^2; without, the initial noise by b, exact for a Gaussian."""
    model, conditions = Oracle((2,), network_of(0.0, 0.5, 1.0)), Conditions(20_000, {})
    remedy, family = Temperature(b=0.9), EDM(sampling_steps=40, s_churn=20.0)
    scaled, tempered = remedy.models(family, model, None)
    x = scaled.sample(tempered, conditions, remedy.draws(family, draws("sample")))["x"]
    expected = chain_spread(40, "heun", 0.5, churn=20.0, factor=0.9**-2)
    assert float(x.std()) == pytest.approx(expected, rel=0.015)
    assert expected < 0.9 * chain_spread(40, "heun", 0.5, churn=20.0)
    family = EDM()
    scaled, tempered = remedy.models(family, model, None)
    x = scaled.sample(tempered, conditions, remedy.draws(family, draws("sample")))["x"]
    torch.testing.assert_close(x, 0.9 * family.sample(model, conditions, draws("sample"))["x"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("case", ["grey", "points"])
def test_trajectory_from_noise_of_the_datas_spread_to_the_sample(case) -> None:
    info, network = CASES[case]
    family = EDM(network=network, sampling_steps=6, scale=3.0 if info.kind == "points" else 1.0)
    model = family.build(info).eval()
    with torch.no_grad():
        frames = family.trajectory(model, Conditions(3, {}), 4, draws("sample"))
        sample = next(iter(family.sample(model, Conditions(3, {}), draws("sample")).values()))
    assert torch.equal(frames[-1], sample)
    noise = draws("sample").normal(3, *model.shape)
    first = frames[0].double() / 3 if info.kind == "points" else frames[0].double() / 127.5 - 1
    expected = noise.double() if info.kind == "points" else (0.5 * noise.double()).clamp(-1, 1)
    torch.testing.assert_close(first, expected, atol=0.005, rtol=1e-3)


@pytest.mark.parametrize(("time", "sigma"), [(0.0, 0.002), (0.5, 2.5152), (1.0, 80.0)])
def test_encoders_read_rows_with_the_noise_of_their_time(time, sigma) -> None:
    """The oracle's encoder gives what it reads, c_in (x + sigma noise), whatever noise levels samples have."""
    times = []
    oracle = Oracle((2,), lambda x, t: times.append(t) or x)
    x = rows_of(POINTS)["x"]
    encoded = EDM(sigma_max=10.0).encode_noised(oracle, {"x": x}, time, draws("noise"))
    noise = draws("noise").normal(40, 2)
    torch.testing.assert_close(encoded, (x.float() + sigma * noise) / math.hypot(sigma, 1), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(times[0], torch.full((40,), math.log(sigma) / 4), atol=1e-4, rtol=0)


def test_only_the_network_runs_in_low_precision() -> None:
    family = EDM(network=CASES["grey"][1], sampling_steps=3)
    model = family.build(IMAGES).eval()
    inputs = family.corrupt(rows_of(IMAGES), draws())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = family.predict(model, inputs)
        (state,) = family._integrate(model, draws("sample").normal(4, *model.shape), draws("sample"), 1)
    assert half.output.dtype == half.encoder.dtype == state.dtype == torch.float32


def test_diffusers_steps_give_the_same_samples(tmp_path) -> None:
    """The exported network and scheduler, called as diffusers has them called, against `solver: euler`."""
    family = EDM(network=CASES["colour"][1], solver="euler", sampling_steps=10, sigma_max=40.0, sigma_data=0.6)
    model = family.build(COLOUR).eval()
    written = family.export(model, COLOUR, tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in written} == {
        "diffusers/scheduler/scheduler_config.json",
        "diffusers/unet/config.json",
        "diffusers/unet/diffusion_pytorch_model.safetensors",
    }
    unet = UNet2DModel.from_pretrained(tmp_path / "diffusers" / "unet")
    scheduler = EDMEulerScheduler.from_pretrained(tmp_path / "diffusers" / "scheduler")
    scheduler.set_timesteps(10)
    x = draws("sample").normal(3, *model.shape) * scheduler.sigmas[0]
    with torch.no_grad():
        for t in scheduler.timesteps:
            output = unet(scheduler.scale_model_input(x, t), t).sample
            x = scheduler.step(output, t, x).prev_sample
        ours = family.sample(model, Conditions(3, {}), draws("sample"))["image"]
    theirs = ((x + 1) * 127.5).clamp(0, 255).round()
    assert (ours - theirs).abs().max() <= 1  # a value that lies half-way may be rounded to either side
    assert (ours == theirs).float().mean() > 0.99
    assert ours.float().std() > 20
    assert family.export(EDM().build(POINTS), POINTS, tmp_path) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sigma_min": 90.0}, "sigma_max: must be above sigma_min: 90, found 80"),
        ({"s_noise": 1.007}, "s_noise: changes nothing without added noise; remove it, or set s_churn"),
        ({"s_tmax": 50.0}, "s_tmax: changes nothing without added noise"),
        ({"s_churn": 5.0, "s_tmin": 90.0}, "s_churn: no noise level is between s_tmin and s_tmax, found 90 and inf"),
        ({"s_churn": 5.0, "s_tmin": 2.0, "s_tmax": 1.0}, "found 2 and 1, so that no noise would be added"),
        ({"sigma_data": 0.0}, "greater than 0"),
        ({"sampling_steps": 0}, "greater than 0"),
        ({"p_mean": math.inf}, "finite"),
    ],
)
def test_settings_that_do_not_fit_together(settings, message) -> None:
    with pytest.raises(ValidationError, match=message):
        EDM(**settings)


def test_settings_of_the_sampler_are_named_as_such() -> None:
    described = EDM(s_churn=5.0, s_tmax=50.0).describe()
    assert json.loads(json.dumps(described)) == described
    trained = set(described) - set(EDM.sampling) - {"use", "version"}
    assert trained == {"network", "flip", "scale", "sigma_data", "p_mean", "p_std"}


@pytest.mark.slow
def test_it_learns(sandbox) -> None:
    """Two samplers share the fit of generation 0, which lowers the held-out loss; a teacher lowers generation 1's."""
    sandbox.run(
        """
        data: {use: digits, rows: 64, held_out_rows: 32}
        model: {use: edm, network: {widths: [16, 16], layers: 1}, sampling_steps: 3, flip: true, sigma_data: 0.75}
        train: {steps: 60, batch_size: 32, evaluate: every 20 steps, ema: 0.9, learning_rate: 3e-3}
        samples: 20
        sampling: {shard: 8}
        generations: 1
        seeds: [0]
        arms:
          M1: {data: replace}
          euler: {data: replace, model: {solver: euler}}
          distill: {data: replace, teacher: {weights: {output: 0.5, encoder: 0.5}}}
        metrics: [test_loss]
        """
    )
    pictures = sorted(path.name for path in (sandbox.root / "run" / "pictures").glob("denoising*"))
    assert pictures == ["denoising-generation-000.png", "denoising-generation-001.png"]
    files = sandbox.root.glob(".store/objects/*/*/*/history.json")
    histories = [json.loads(path.read_text())["evaluations"] for path in files]
    assert len(histories) == 1 + 3
    real = min(histories, key=lambda history: history[-1]["validation_loss"])
    assert real[-1]["validation_loss"] < 0.9 * real[0]["validation_loss"]
    scores = {(line["arm"], line["generation"]): line for line in sandbox.journal(event="scores")}
    (distilled,), (alone,) = (scores[arm, 1]["metrics"]["test_loss"] for arm in ("distill", "M1"))
    assert distilled < 0.97 * alone
