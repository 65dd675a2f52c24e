"""Fits of table 1's VAE (887,264 parameters, 32x32 pixels) against the loops that a user would write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import ToTensor

from benchmarks.engine import Fits, command, image_rows, run
from benchmarks.harness import Case, Setting, Ways
from benchmarks.surroundings import now
from collapse_sim.core.machine import Machine
from collapse_sim.families.vae import VAE
from collapse_sim.plan.sizes import forward_operations
from collapse_sim.store.blocks import seconds_of

EXAMPLE = "the example's loop"
RESIDENT = "a loop on resident rows"
FAMILY = VAE(hidden=420, latent=20)
BATCH = 256
TABLE_1 = """
name: table1
data: {use: image_folder, path: images.npy, held_out: 100}
model: {use: vae, hidden: 420, latent: 20}
train: {steps: STEPS, batch_size: BATCH, evaluate: never, weight_decay: 0.01}
samples: ROWS
generations: 1
seeds: [0]
arms:
  M1: {data: replace}
  distill:
    data: replace
    teacher: {generation: 0, weights: {output: 0.5, mean: 1.0, variance: 1.0}}
    grid:
      - {teacher.weights.output: [1.0, 0.75, 0.5, 0.25, 0.0]}
      - {teacher.weights.mean: [2.0, 1.5, 0.5, 0.0]}
      - {teacher.weights.variance: [2.0, 1.5, 0.75, 0.5, 0.25, 0.0]}
metrics: [test_loss]
"""


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images as torchvision's data sets give them: one at a time, from PIL, through ToTensor."""

    def __init__(self, images: np.ndarray) -> None:
        self._images, self._transform = images, ToTensor()

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self._transform(Image.fromarray(self._images[row])), 0


def example_loop(images: np.ndarray, info: Any, steps: int, batch: int, machine: Machine) -> float:
    """Updates/s of the loop in PyTorch's example of a VAE: DataLoader, ToTensor, Adam, eager, fp32."""
    extra: dict[str, Any] = {"num_workers": 1, "pin_memory": True} if machine.device.type == "cuda" else {}
    loader = DataLoader(Pictures(images), batch_size=batch, shuffle=True, drop_last=True, **extra)

    def batches() -> Iterator[Tensor]:
        while True:
            for pictures, _ in loader:
                yield pictures.to(machine.device).flatten(1)

    return _updates(info, steps, machine, batches(), torch.optim.Adam, torch.float32)


def resident_loop(images: np.ndarray, info: Any, steps: int, batch: int, machine: Machine) -> float:
    """Updates/s of a careful loop: rows on the device as uint8, a shuffled index, fused AdamW, autocast like ours."""
    rows = torch.from_numpy(images).to(machine.device)

    def batches() -> Iterator[Tensor]:
        while True:
            order = torch.randperm(len(rows), device=machine.device)
            for first in range(0, len(rows) - batch + 1, batch):
                yield rows[order[first : first + batch]].flatten(1).float() / 255

    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(machine.precision, torch.float32)
    return _updates(info, steps, machine, batches(), _fused, dtype)


def _fused(parameters: Any, lr: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=lr, fused=True)


def _updates(
    info: Any,
    steps: int,
    machine: Machine,
    batches: Iterator[Tensor],
    make_optimizer: Callable[..., torch.optim.Optimizer],
    dtype: torch.dtype,
) -> float:
    torch.manual_seed(0)
    model: Any = FAMILY.build(info).to(machine.device)
    optimizer = make_optimizer(model.parameters(), lr=1e-3)
    started = now(machine)
    for _, x in zip(range(steps), batches, strict=False):
        with torch.autocast(machine.device.type, dtype=torch.bfloat16, enabled=dtype != torch.float32):
            mean, log_variance = model.encode(x)
            logits = model.decoder(mean + (0.5 * log_variance).exp() * torch.randn_like(mean))
        kl = 0.5 * (mean.float().square() + log_variance.float().exp() - 1 - log_variance.float()).sum()
        loss = F.binary_cross_entropy_with_logits(logits.float(), x, reduction="sum") + kl
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return steps / (now(machine) - started)


def one_fit(setting: Setting) -> Ways:
    machine = setting.device.with_precision("auto")
    steps, batch = setting.sized(200, 1000, 2), setting.sized(BATCH, BATCH, 16)
    data, images = image_rows(setting.folder, setting.sized(20_000, 20_000, 64), (32, 32))
    fits = Fits(setting, FAMILY, data, steps=steps, batch_size=batch, learning_rate=1e-3)
    whole: list[float] = []

    def ours() -> float:
        rates = fits.rates()
        whole.append(rates.whole)
        return rates.steps

    return Ways(
        {
            "collapse-sim": ours,
            EXAMPLE: lambda: example_loop(images, fits.info, max(2, steps // 8), batch, machine),
            RESIDENT: lambda: resident_loop(images, fits.info, steps, batch, machine),
        },
        machine.precision,
        3 * forward_operations(FAMILY, fits.info) * batch,
        {"updates": steps, "batch": batch},
        {"updates/s of the whole fit": whole},
    )


def table1(setting: Setting) -> Ways:
    machine = setting.device.with_precision("auto")
    steps, batch = setting.sized(1500, 200, 1), setting.sized(BATCH, BATCH, 16)
    rows = setting.sized(10_000, 20_000, 64)
    data, images = image_rows(setting.folder, rows, (32, 32))
    info = data.inspect(setting.folder)
    walls: list[float] = []

    def on_cuda() -> float:
        finished = run(setting, TABLE_1, steps=steps, batch=batch, rows=rows)
        walls.append(finished.wall_s)
        return finished.count("fit") * steps / finished.seconds("fit")

    def on_cpu() -> float:
        """By the command, with the processes that it starts by itself. The median fit is none of those that compile,
        which a fit of table 1's length (16,450 updates) makes up for."""
        compiled = "off" if setting.tiny else "on"
        finished = command(setting, TABLE_1, "--compile", compiled, steps=steps, batch=batch, rows=rows)
        walls.append(finished.wall_s)
        fits = [seconds_of(m) for m in finished.manifests if m["kind"] == "fit" and m["generation"] == 1]
        return finished.processes * steps / median(fits)

    return Ways(
        {
            "collapse-sim": on_cpu if machine.device.type == "cpu" else on_cuda,
            EXAMPLE: lambda: example_loop(images, info, max(2, min(steps, 200)), batch, machine),
        },
        machine.precision,
        3 * forward_operations(FAMILY, info) * batch,
        {"updates per fit": steps, "batch": batch, "fits": 17},
        {"seconds of the whole run": walls},
    )


CASES = (
    Case(
        "vae-fit",
        "one fit of table 1's VAE, its second half",
        "updates/s",
        one_fit,
        targets={EXAMPLE: {"cpu": 3, "cuda": 5}},
    ),
    Case(
        "vae-table1",
        "the 17 fits of table 1, as `run` computes them, each stored; teachers included",
        "updates/s",
        table1,
        warm_up=False,
        targets={EXAMPLE: {"cpu": 4, "cuda": 40}},
    ),
)
