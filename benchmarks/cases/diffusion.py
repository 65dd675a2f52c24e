"""Diffusion: training against the loop of diffusers' unconditional script, sampling against its DDPMPipeline."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import diffusers.utils.logging
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMPipeline
from diffusers.optimization import get_scheduler
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.engine import Fits, image_rows
from benchmarks.harness import Case, Setting, Ways
from benchmarks.surroundings import native_bf16, now
from collapse_sim.core.machine import DTYPES, Machine
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.engine.calls import CompiledCalls
from collapse_sim.engine.programs import Programs
from collapse_sim.families.base import Conditions
from collapse_sim.families.ddpm import DDPM
from collapse_sim.families.network import Network, Preset
from collapse_sim.families.samplers import scheduler
from collapse_sim.plan.sizes import forward_operations

diffusers.utils.logging.set_verbosity_error()  # a warning for every pipeline in bf16
LOOP, LOOP_BF16 = "diffusers' loop, fp32", "diffusers' loop, bf16"
PIPELINE, PIPELINE_BF16 = "DDPMPipeline, fp32", "DDPMPipeline, bf16"


class Pictures(Dataset[Tensor]):
    """Images through the transforms of diffusers' script."""

    def __init__(self, images: np.ndarray) -> None:
        self._images = images
        self._transform = transforms.Compose(
            [transforms.RandomHorizontalFlip(), transforms.ToTensor(), transforms.Normalize([0.5], [0.5])]
        )

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, row: int) -> Tensor:
        picture: Tensor = self._transform(Image.fromarray(self._images[row]))
        return picture


def loop(family: DDPM, info: Info, images: np.ndarray, steps: int, batch: int, machine: Machine) -> float:
    """Images/s: DataLoader, the scheduler's noise, autocast, clipping, AdamW and a learning rate schedule."""
    torch.manual_seed(0)
    unet: Any = family.build(info).unet.to(machine.device)
    noising = scheduler(family.timesteps, family.schedule, family.zero_terminal_snr)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6)
    rates = get_scheduler("cosine", optimizer, num_warmup_steps=500, num_training_steps=10_000)
    loader = DataLoader(Pictures(images), batch_size=batch, shuffle=True, drop_last=True)

    def batches() -> Iterator[Tensor]:
        while True:
            yield from loader

    dtype = DTYPES[machine.precision]
    started = now(machine)
    for _, pictures in zip(range(steps), batches(), strict=False):
        x = pictures.to(machine.device)
        noise = torch.randn_like(x)
        t = torch.randint(family.timesteps, (batch,), device=machine.device)
        with torch.autocast(machine.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            loss = F.mse_loss(unet(noising.add_noise(x, noise, t), t).sample.float(), noise)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        rates.step()
        optimizer.zero_grad()
    return steps * batch / (now(machine) - started)


def training(
    preset: Preset, side: int, channels: int, steps: tuple[int, int], batch: tuple[int, int], setting: Setting
) -> Ways:
    """`steps` and `batch`: on a CPU and on CUDA."""
    preset, side = ("digits", 8) if setting.tiny else (preset, side)
    family = DDPM(network=Network(preset=preset))
    device = setting.device
    machine = device.with_precision("auto")
    updates, size = setting.sized(*steps, 1), setting.sized(*batch, 2)
    shape = (side, side) if channels == 1 else (side, side, channels)
    data, images = image_rows(setting.folder, setting.sized(1000, 5000, 8), shape)
    fits = Fits(setting, family, data, steps=updates, batch_size=size, learning_rate=1e-4, clip_norm=1.0)
    whole: list[float] = []

    def ours() -> float:
        rates = fits.rates()
        whole.append(rates.whole * size)
        return rates.steps * size

    measures = {
        "collapse-sim": ours,
        LOOP: lambda: loop(family, fits.info, images, updates, size, device.with_precision("fp32")),
    }
    if native_bf16(device):
        bf16 = device.with_precision("bf16")
        measures[LOOP_BF16] = lambda: loop(family, fits.info, images, updates, size, bf16)
    return Ways(
        measures,
        machine.precision,
        3 * forward_operations(family, fits.info),
        {"updates": updates, "batch": size, "network": preset, "pixels": side},
        {"images/s of the whole fit": whole},
    )


def sampling(
    preset: Preset, side: int, channels: int, steps: tuple[int, int], rows: tuple[int, int], setting: Setting
) -> Ways:
    """Denoising steps x images per second of the ancestral sampler: a step costs the same for any number of them."""
    preset, side = ("digits", 8) if setting.tiny else (preset, side)
    device = setting.device
    machine = device.with_precision("auto")
    timesteps, shard = setting.sized(*steps, 21), setting.sized(*rows, 1)
    family = DDPM(network=Network(preset=preset), timesteps=timesteps)
    info = Info("images", {"image": ((channels, side, side), "uint8")}, 1, 1, 1)
    with machine.seeded(0):
        model = machine.for_inference(family.build(info))
    programs = Programs("on", "eager" if setting.tiny else "inductor")
    compiled: list[float] = []

    def rate() -> float:
        draws = Draws((0,), "sample", 0, device=device.device)
        started, before = now(device), programs.compile_s
        family.sample(model, Conditions(shard, {}), draws)
        return shard * timesteps / (now(device) - started - (programs.compile_s - before))

    def ours() -> float:
        with machine.inference(model):
            eager = rate()
            if not machine.compiler_problem():
                with CompiledCalls(programs, family, model, "", machine).compiled(lambda event: None):
                    compiled.append(rate())
        return eager

    def pipeline(own: Machine) -> float:
        """In autocast: a pipeline with weights in bf16 cannot return its images."""
        with own.seeded(0):
            built: Any = family.build(info)
        unet = built.unet.to(own.device).eval()
        pipe = DDPMPipeline(unet, scheduler(timesteps, family.schedule, family.zero_terminal_snr))
        pipe.set_progress_bar_config(disable=True)
        started = now(own)
        with own.autocast():
            pipe(batch_size=shard, num_inference_steps=timesteps, output_type="np")
        return shard * timesteps / (now(own) - started)

    measures = {"collapse-sim": ours, PIPELINE: lambda: pipeline(device.with_precision("fp32"))}
    if native_bf16(device):
        measures[PIPELINE_BF16] = lambda: pipeline(device.with_precision("bf16"))
    return Ways(
        measures,
        machine.precision,
        forward_operations(family, info),
        {"steps": timesteps, "images": shard, "network": preset, "pixels": side},
        {"image steps/s with compiled calls": compiled},
    )


CASES = (
    Case(
        "diffusion-step",
        "training of a UNet of 39.7 M parameters on 64x64 pixels, the second half of a fit",
        "images/s",
        partial(training, "celeba", 64, 3, (4, 40), (8, 128)),
        targets={LOOP: {"cpu": 1.7, "cuda": 3}, LOOP_BF16: {"cpu": 1.1, "cuda": 1.5}},
    ),
    Case(
        "diffusion-step-digits",
        "training of a UNet of 0.65 M parameters on 8x8 pixels, the second half of a fit",
        "images/s",
        partial(training, "digits", 8, 1, (30, 100), (64, 64)),
    ),
    Case(
        "diffusion-sampling",
        "ancestral sampling, 39.7 M parameters, 64x64 pixels",
        "image steps/s",
        partial(sampling, "celeba", 64, 3, (21, 100), (2, 128)),
        targets={PIPELINE: {"cpu": 2.2, "cuda": 4}, PIPELINE_BF16: {"cpu": 1.1, "cuda": 2}},
    ),
    Case(
        "diffusion-sampling-digits",
        "ancestral sampling, 0.65 M parameters, 8x8 pixels",
        "image steps/s",
        partial(sampling, "digits", 8, 1, (50, 250), (64, 256)),
    ),
)
