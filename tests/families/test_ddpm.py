"""Diffusion models: the process against closed forms, the samplers against a model that knows the truth, diffusers."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from collapse_sim.families.base import Conditions
from collapse_sim.families.ddpm import DDPM, alphas_cumprod
from collapse_sim.testing import check_family

from .denoising import CASES, COLOUR, IMAGES, POINTS, Oracle, draws, rows_of

CPU = torch.device("cpu")
FEW = {"timesteps": 25, "schedule": "linear"}  # quick to sample in full


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    "settings",
    [
        {"criterion": "smooth_l1"},
        {"target": "v", "zero_terminal_snr": True},
        {"sampler": "ddim", "sampling_steps": 5},
        {"sampler": "dpm-solver++", "sampling_steps": 5},
    ],
    ids=["smooth_l1", "v", "ddim", "dpm-solver++"],
)
def test_contract(case, settings) -> None:
    info, network = CASES[case]
    check_family(DDPM(network=network, flip=info.kind == "images", **FEW, **settings), info, rows_of(info), 2e-5)


@pytest.mark.parametrize("timesteps", [1000, 100])
def test_linear_schedule(timesteps) -> None:
    """The betas' sum does not depend on T, so neither does where the process ends (Nichol & Dhariwal's scaling)."""
    betas = [(1e-4 + (0.02 - 1e-4) * i / (timesteps - 1)) * 1000 / timesteps for i in range(timesteps)]
    kept = torch.tensor([math.prod(1 - b for b in betas[: i + 1]) for i in range(timesteps)])
    torch.testing.assert_close(alphas_cumprod(timesteps, "linear", False, CPU), kept, rtol=1e-4, atol=1e-8)


def test_cosine_schedule() -> None:
    """Nichol & Dhariwal 2021, equation 17: the share that is left after t + 1 of T steps, betas clipped at .999."""

    def f(t: float) -> float:
        return math.cos((t / 200 + 0.008) / 1.008 * math.pi / 2) ** 2

    found = alphas_cumprod(200, "cosine", False, CPU)
    for t in (0, 20, 100, 180, 198):
        assert float(found[t]) == pytest.approx(f(t + 1) / f(0), rel=1e-3)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_zero_terminal_snr(schedule) -> None:
    plain, rescaled = (alphas_cumprod(100, schedule, zero, CPU) for zero in (False, True))
    assert plain[-1] > 0
    assert rescaled[-1] == 0
    torch.testing.assert_close(rescaled[0], plain[0])


def test_the_forward_process_has_its_closed_forms_moments() -> None:
    """x_t of one image: mean sqrt(a) x_0, variance 1 - a, at every t; times are uniform."""
    family = DDPM(network=CASES["points"][1], **FEW)
    inputs = family.corrupt({"x": torch.full((50_000, 2), 3.0, dtype=torch.float64)}, draws())
    kept = alphas_cumprod(25, "linear", False, CPU)
    counts = torch.bincount(inputs["t"], minlength=25)
    assert counts.min() > 0.9 * 2000
    assert counts.max() < 1.1 * 2000
    for t in (0, 5, 12, 20, 24):
        x = inputs["x"][inputs["t"] == t]
        spread = math.sqrt(1 - kept[t])
        assert float(x.mean()) == pytest.approx(3 * math.sqrt(kept[t]), abs=5 * spread / math.sqrt(x.numel()))
        assert float(x.std()) == pytest.approx(spread, rel=5 / math.sqrt(2 * x.numel()))


@pytest.mark.parametrize("info", [COLOUR, POINTS], ids=["images", "points"])
def test_targets_give_back_the_row(info) -> None:
    """From x_t and the target both rows and noise follow: epsilon is the noise, v = sqrt(a) noise - sqrt(1-a) x_0."""
    rows = rows_of(info)
    scale = 2.0 if info.kind == "points" else 1.0
    x = rows["image"] / 127.5 - 1 if info.kind == "images" else rows["x"].float() / scale
    epsilon, v = (DDPM(target=target, scale=scale, **FEW).corrupt(rows, draws()) for target in ("epsilon", "v"))
    assert epsilon["x"].dtype == torch.float32
    assert torch.equal(epsilon["x"], v["x"])
    kept = alphas_cumprod(25, "linear", False, CPU)[epsilon["t"]].view(-1, *[1] * (x.dim() - 1))
    a, s = kept.sqrt(), (1 - kept).sqrt()
    torch.testing.assert_close(epsilon["x"] - s * epsilon["target"], a * x, atol=1e-5, rtol=0)
    torch.testing.assert_close(a * v["x"] - s * v["target"], x, atol=1e-5, rtol=0)


def test_flips() -> None:
    """About half of the images, each wholly, and never more than left to right."""
    rows = rows_of(COLOUR, 400)
    plain, flipped = (DDPM(flip=flip, **FEW).corrupt(rows, draws()) for flip in (False, True))
    kept = alphas_cumprod(25, "linear", False, CPU)[plain["t"]].view(-1, 1, 1, 1)
    assert torch.equal(plain["target"], flipped["target"])
    clean, mirrored = ((one["x"] - (1 - kept).sqrt() * one["target"]) for one in (plain, flipped))
    same = torch.isclose(clean, mirrored, atol=1e-4).flatten(1).all(1)
    other = torch.isclose(clean.flip(-1), mirrored, atol=1e-4).flatten(1).all(1)
    known = kept.flatten() > 1e-3  # at the last steps nothing of the image is left to compare
    assert torch.equal(same[known], ~other[known])
    assert 0.4 < same[known].float().mean() < 0.6


def test_losses_and_terms() -> None:
    rows = rows_of(IMAGES)
    for criterion, reference in (("mse", functional.mse_loss), ("smooth_l1", functional.smooth_l1_loss)):
        family = DDPM(network=CASES["grey"][1], criterion=criterion, **FEW)
        inputs = family.corrupt(rows, draws())
        student, teacher = (family.predict(family.build(IMAGES).eval(), inputs) for _ in range(2))
        n = len(rows["image"])
        torch.testing.assert_close(family.loss(student, inputs), n * reference(student.output, inputs["target"]))
        terms = family.distillation(student, teacher, inputs)
        torch.testing.assert_close(terms["output"], n * reference(student.output, teacher.output))
        torch.testing.assert_close(terms["encoder"], n * functional.mse_loss(student.encoder, teacher.encoder))
        same = family.distillation(student, student, inputs)
        assert same["output"] == same["encoder"] == 0


@pytest.mark.parametrize("case", ["grey", "points"])
def test_only_the_network_runs_in_low_precision(case) -> None:
    """Under bf16 predictions stay near, and losses and states between steps are float32."""
    info, network = CASES[case]
    family = DDPM(network=network, **FEW)
    model = family.build(info).eval()
    inputs = family.corrupt(rows_of(info), draws())
    single = family.predict(model, inputs)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = family.predict(model, inputs)
        (state,) = family._integrate(model, draws("sample").normal(4, *model.shape), draws("sample"), 1)
    assert half.output.dtype == half.encoder.dtype == state.dtype == torch.float32
    assert not torch.equal(half.output, single.output)
    torch.testing.assert_close(half.output, single.output, atol=0.05, rtol=0.05)


def exact(target: str, mean: float, std: float, kept: torch.Tensor):
    """E[target | x_t] for x_0 ~ N(mean, std^2)."""

    def answer(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        left = kept[t].view(-1, *[1] * (x.dim() - 1))
        total = left * std**2 + 1 - left
        clean = mean + left.sqrt() * std**2 / total * (x - left.sqrt() * mean)
        noise = (1 - left).sqrt() / total * (x - left.sqrt() * mean)
        return noise if target == "epsilon" else left.sqrt() * noise - (1 - left).sqrt() * clean

    return answer


def chain_spread(kept: torch.Tensor, every: int, std: float, eta: float) -> float:
    """The samples' standard deviation for data of `std` and perfect answers: Song et al. 2021, equations 12 and 16."""
    times = list(range(len(kept) - 1, -1, -every))
    variance = 1.0
    for t, earlier in zip(times, [*times[1:], None], strict=True):
        a, b = float(kept[t]), 1.0 if earlier is None else float(kept[earlier])
        gain = math.sqrt(a) * std**2 / (a * std**2 + 1 - a)
        added = eta**2 * (1 - b) / (1 - a) * (1 - a / b)
        factor = math.sqrt(b) * gain + math.sqrt(max(0, 1 - b - added)) * (1 - math.sqrt(a) * gain) / math.sqrt(1 - a)
        variance = factor**2 * variance + added
    return math.sqrt(variance)


@pytest.mark.parametrize(("sampler", "eta"), [("ddpm", 1.0), ("ddim", 0.0)])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_docs_say_how_samplers_narrow(sampler, eta, schedule) -> None:
    text = (Path(__file__).parents[2] / "docs" / "diffusion.md").read_text()
    cells = re.search(rf"\| `{sampler}`, {schedule} \| (.*) \|", text)
    assert cells
    kept = alphas_cumprod(1000, schedule, False, CPU).double()
    for steps, cell in zip((1000, 250, 100, 50, 25), cells[1].split(" | "), strict=True):
        for std, figure in zip((1.0, 0.25), cell.split(), strict=True):
            assert float(figure) == pytest.approx(chain_spread(kept, 1000 // steps, std, eta) / std, abs=6e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"sampler": "ddpm"},
        {"sampler": "ddpm", "sampling_steps": 100},
        {"sampler": "ddim"},
        {"sampler": "ddim", "sampling_steps": 100, "eta": 1.0},
        {"target": "v", "zero_terminal_snr": True},
        {"sampler": "ddim", "target": "v", "zero_terminal_snr": True, "schedule": "cosine", "sampling_steps": 100},
    ],
    ids=lambda settings: " ".join(f"{name}={value}" for name, value in settings.items()),
)
def test_samplers_with_a_model_that_knows_the_truth(settings) -> None:
    """Points from N(1, 0.5^2), scaled by 2: the samples' mean is theirs, the spread what equation 12 makes of it."""
    family = DDPM(**{"timesteps": 400, "scale": 2.0, **settings})
    kept = alphas_cumprod(400, family.schedule, family.zero_terminal_snr, CPU)
    model = Oracle((2,), exact(family.target, 0.5, 0.25, kept))
    x = family.sample(model, Conditions(20_000, {}), draws("sample"))["x"]
    eta = 1.0 if family.sampler == "ddpm" else family.eta  # DDIM with eta 1 is the ancestral sampler
    spread = 2 * chain_spread(kept.double(), 400 // (family.sampling_steps or 400), 0.25, eta)
    assert x.dtype == torch.float64
    assert float(x.mean()) == pytest.approx(1.0, abs=0.02)
    assert float(x.std()) == pytest.approx(spread, rel=0.015)
    assert spread == pytest.approx(0.5, rel=0.12 if eta else 0.03)


def test_images_are_clipped_at_every_step_and_points_are_not() -> None:
    family = DDPM(network=CASES["grey"][1], **FEW)
    far = Oracle((1, 8, 8), lambda x, t: -10 * torch.ones_like(x))  # a noise that leads to rows far above 1
    assert (family.sample(far, Conditions(2, {}), draws())["image"] == 255).all()
    far_points = Oracle((2,), far.answer)
    assert family.sample(far_points, Conditions(2, {}), draws())["x"].min() > 3


def test_shards_are_repeatable_and_differ() -> None:
    family = DDPM(network=CASES["grey"][1], **FEW)
    model = family.build(IMAGES).eval()
    with torch.no_grad():
        first, again, other = (
            family.sample(model, Conditions(4, {}), draws("sample", step=shard))["image"] for shard in (0, 0, 1)
        )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("case", ["grey", "points"])
def test_trajectory_ends_with_the_sample(case) -> None:
    info, network = CASES[case]
    family = DDPM(network=network, **FEW)
    model = family.build(info).eval()
    with torch.no_grad():
        frames = family.trajectory(model, Conditions(2, {}), 6, draws("sample"))
        sample = next(iter(family.sample(model, Conditions(2, {}), draws("sample")).values()))
        many = family.trajectory(model, Conditions(2, {}), 100, draws("sample"))
    (shape, dtype), *_ = info.columns.values()
    assert frames.shape == (6, 2, *shape)
    assert str(frames.dtype) == f"torch.{dtype}"
    assert torch.equal(frames[-1], sample)
    assert not torch.equal(frames[0], frames[1])
    assert len(many) == 100
    assert torch.equal(many[-1], sample)


@pytest.mark.parametrize("settings", [{}, {"target": "v", "zero_terminal_snr": True}], ids=["epsilon", "v"])
def test_a_diffusers_pipeline_samples_the_same(settings, tmp_path) -> None:
    from diffusers import DDPMPipeline

    family = DDPM(network=CASES["colour"][1], **FEW, **settings)
    model = family.build(COLOUR).eval()
    written = family.export(model, COLOUR, tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in written} == {
        "pipeline/model_index.json",
        "pipeline/scheduler/scheduler_config.json",
        "pipeline/unet/config.json",
        "pipeline/unet/diffusion_pytorch_model.safetensors",
    }
    pipeline = DDPMPipeline.from_pretrained(tmp_path / "pipeline")
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(3, generator=draws("sample").generator, num_inference_steps=25, output_type="np").images
    with torch.no_grad():
        ours = family.sample(model, Conditions(3, {}), draws("sample"))["image"]
    theirs = torch.from_numpy((images * 255).round()).permute(0, 3, 1, 2)
    assert (ours - theirs).abs().max() <= 1  # a value that lies half-way may be rounded to either side
    assert (ours == theirs).float().mean() > 0.99


def test_points_have_no_pipeline(tmp_path) -> None:
    family = DDPM(**FEW)
    assert family.export(family.build(POINTS), POINTS, tmp_path) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampling_steps": 1500}, "sampling_steps: must divide timesteps: 1000.*found 1500, nearest divisors: 1000"),
        ({"sampling_steps": 30}, "found 30, nearest divisors: 25 and 40"),
        ({"eta": 0.5}, "eta: is for sampler: ddim, found 0.5 with ddpm"),
        ({"sampler": "dpm-solver++", "eta": 0.5}, "found 0.5 with dpm-solver"),
        ({"zero_terminal_snr": True}, "epsilon does not fit zero_terminal_snr.*use target: v"),
        ({"timesteps": 20}, "linear schedule needs more than 20, found 20"),
        ({"network": {"widths": [33]}}, "multiple of 4"),
    ],
)
def test_settings_that_do_not_fit_together(settings, message) -> None:
    with pytest.raises(ValidationError, match=message):
        DDPM(**settings)


@pytest.mark.parametrize(
    ("settings", "info", "message"),
    [
        ({"scale": 2.0}, IMAGES, "scale: is for points"),
        ({"schedule": "cosine"}, POINTS, "epsilon does not fit schedule: cosine on points.*use target: v"),
        ({"flip": True}, POINTS, "flip: is for images, the data is of points"),
        ({"network": {"widths": (8, 8, 8, 8, 8)}}, IMAGES, "multiples of 16, found 8x8; use at most 4 widths"),
    ],
)
def test_settings_that_do_not_fit_the_data(settings, info, message) -> None:
    with pytest.raises(ValueError, match=message):
        DDPM(**settings).check(info)


def test_every_setting_is_in_the_key_but_not_a_second_time() -> None:
    given = {"sampling_steps": 10, "sampler": "ddim", "conditional": True, "guidance_scale": 2.0}
    described = DDPM(network={"widths": [8, 16]}, **given).describe()
    assert described["network"]["widths"] == [8, 16]
    assert set(DDPM.sampling) <= set(described)
    assert json.loads(json.dumps(described)) == described


@pytest.mark.slow
def test_it_learns(sandbox) -> None:
    """Forty updates on images of two grey levels lower the held-out loss, with EMA, flips and a teacher."""
    sandbox.run(
        """
        data: {use: digits, rows: 64, held_out_rows: 32}
        model: {use: ddpm, network: {widths: [16, 16], layers: 1}, timesteps: 50, sampling_steps: 5, flip: true}
        train: {steps: 40, batch_size: 32, evaluate: every 20 steps, ema: 0.9, learning_rate: 2e-3}
        samples: 20
        sampling: {shard: 8}
        generations: 1
        seeds: [0]
        arms:
          M1: {data: replace}
          distill: {data: replace, teacher: {weights: {output: 0.5, encoder: 0.5}}}
        metrics: [test_loss]
        """
    )
    pictures = sorted(path.name for path in (sandbox.root / "run" / "pictures").glob("denoising*"))
    assert pictures == ["denoising-generation-000.png", "denoising-generation-001.png"]
    scores = {(line["arm"], line["generation"]): line for line in sandbox.journal(event="scores")}
    assert len(scores) == 4
    files = sandbox.root.glob(".store/objects/*/*/*/history.json")
    histories = [json.loads(path.read_text())["evaluations"] for path in files]
    assert len(histories) == 3
    assert all(history[-1]["validation_loss"] < 0.9 * history[0]["validation_loss"] for history in histories)


@pytest.mark.parametrize(("time", "step"), [(0.0, 0), (0.5, 12), (1.0, 24)])
def test_encoders_read_rows_with_the_noise_of_their_time(time, step) -> None:
    """The oracle's encoder gives what it reads: sqrt(a) x + sqrt(1 - a) noise at a timestep; of images the maxima."""
    family = DDPM(**FEW)
    alpha = float(alphas_cumprod(25, "linear", False, CPU)[step])
    times = []
    oracle = Oracle((2,), lambda x, t: times.append(t) or x)
    x = rows_of(POINTS)["x"].float()
    noise = draws("noise").normal(40, 2)
    encoded = family.encode_noised(oracle, {"x": x.double()}, time, draws("noise"))
    torch.testing.assert_close(encoded, math.sqrt(alpha) * x + math.sqrt(1 - alpha) * noise)
    assert times[0].tolist() == [step] * 40
    image = rows_of(COLOUR)
    pooled = family.encode_noised(Oracle((3, 12, 8), lambda x, t: x), image, time, draws("noise"))
    noised = math.sqrt(alpha) * (image["image"] / 127.5 - 1) + math.sqrt(1 - alpha) * draws("noise").normal(
        40, 3, 12, 8
    )
    torch.testing.assert_close(pooled, noised.amax((2, 3)))
