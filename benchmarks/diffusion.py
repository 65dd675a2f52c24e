"""Diffusion training and sampling compared with a plain diffusers loop: python benchmarks/diffusion.py [--device cuda].

The same UNet, rows, batch sizes, precision and number of updates: once as a script with diffusers would do it (rows on
the device, noise from the scheduler, autocast), once through `collapse-sim`'s engine. Prints JSON: for every batch size
the images/s of both and their ratio, memory, and the engine's TFLOP/s (three times the linear layers and convolutions
of a forward pass), to be compared with the rate of large matrix products on the same machine; then images/s of
ancestral sampling.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import torch.nn.functional as F

from collapse_sim.core.machine import DTYPES, Machine, open_machine
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.data.images.image_folder import ImageFolder
from collapse_sim.data.sources import RowCounts, generation_zero
from collapse_sim.engine.build import builder
from collapse_sim.engine.work import JobContext
from collapse_sim.families.base import Conditions
from collapse_sim.families.ddpm import DDPM
from collapse_sim.families.network import Network
from collapse_sim.families.samplers import scheduler
from collapse_sim.families.training import Train
from collapse_sim.plan.experiment import forward_operations
from collapse_sim.plan.specs import data_spec, fit_spec
from collapse_sim.store.jobs import Request
from collapse_sim.store.store import Store


def synchronised(machine: Machine) -> float:
    """The time, once the device has finished all queued work."""
    if machine.device.type == "cuda":
        torch.cuda.synchronize(machine.device)
    return time.perf_counter()


def plain(family: DDPM, info: Info, images: torch.Tensor, steps: int, batch: int, machine: Machine) -> float:
    """Seconds of a training loop as in a script with diffusers."""
    torch.manual_seed(0)
    unet = family.build(info).unet.to(machine.device)  # type: ignore[union-attr, operator]
    noising = scheduler(family.timesteps, family.schedule, family.zero_terminal_snr)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    rows, dtype = images.to(machine.device), DTYPES[machine.precision]
    started = synchronised(machine)
    order = torch.randperm(len(rows), device=machine.device)
    for step in range(steps):
        first = step * batch % (len(rows) - batch + 1)
        x = rows[order[first : first + batch]].float() / 127.5 - 1
        noise = torch.randn_like(x)
        t = torch.randint(family.timesteps, (batch,), device=machine.device)
        with torch.autocast(machine.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            output = unet(noising.add_noise(x, noise, t), t, return_dict=False)[0]
        optimizer.zero_grad(set_to_none=True)
        F.smooth_l1_loss(output.float(), noise).backward()
        optimizer.step()
    return synchronised(machine) - started


def engine(
    family: DDPM, folder: Path, data: ImageFolder, store: Store, steps: int, batch: int, machine: Machine, attempt: int
) -> float:
    """Seconds of the same fit as a stored artefact, everything included: reading, building, writing."""
    info = data.inspect(folder)
    spec = data_spec(data, info)
    train = Train(
        steps=steps,
        batch_size=batch,
        learning_rate=1e-4,
        weight_decay=0.01 + attempt * 1e-9,
        evaluate="never",
        precision=machine.precision,
        tf32=machine.tf32,
    )
    plan = generation_zero(RowCounts(info.rows, info.rows, info.pool))
    fit = fit_spec(0, family, train, plan, spec, {})
    work = JobContext(store, machine, lambda event: None, folder)
    build = builder(work)
    store.make_all([Request(spec, (0,), ("a",))], build, work.emit)
    started = synchronised(machine)
    store.make_all([Request(fit, (0,), ("a",))], build, work.emit)
    return synchronised(machine) - started


def matrix_rate(machine: Machine, size: int) -> float:
    """TFLOP/s of square matrix products in the run's precision."""
    dtype = DTYPES[machine.precision] or torch.float32
    a, b = (torch.randn(size, size, device=machine.device, dtype=dtype) for _ in range(2))
    rates = []
    with machine.autocast():
        for _ in range(5):
            started = synchronised(machine)
            for _ in range(10):
                a @ b
            rates.append(10 * 2 * size**3 / (synchronised(machine) - started) / 1e12)
    return max(rates)


def training(family: DDPM, options: argparse.Namespace, machine: Machine, scratch: Path) -> list[dict[str, Any]]:
    """One entry per batch size."""
    shape = (options.rows + 100, options.size, options.size, 3)
    rows = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.save(scratch / "rows.npy", rows)
    data = ImageFolder(path=str(scratch / "rows.npy"), held_out=100)
    info = data.inspect(scratch)
    images = torch.from_numpy(rows[: options.rows].transpose(0, 3, 1, 2).copy())
    store = Store(scratch / "store")
    found = []
    for batch in options.batch:
        plains, engines, memory = [], [], None
        for attempt in range(options.repeats + 1):
            seconds = plain(family, info, images, options.steps, batch, machine)
            if machine.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(machine.device)
            again = engine(family, scratch, data, store, options.steps, batch, machine, attempt + 1000 * batch)
            if machine.device.type == "cuda":
                memory = torch.cuda.max_memory_allocated(machine.device) / 2**30
            if attempt:  # the first is a warm-up
                plains.append(options.steps * batch / seconds)
                engines.append(options.steps * batch / again)
        rate = statistics.median(engines)
        found.append(
            {
                "batch": batch,
                "plain_images_per_s": [round(value, 1) for value in plains],
                "engine_images_per_s": [round(value, 1) for value in engines],
                "engine_over_plain": round(rate / statistics.median(plains), 3),
                "engine_tflops": round(3 * forward_operations(family, info) * rate / 1e12, 3),
                "engine_peak_gib": None if memory is None else round(memory, 2),
            }
        )
    return found


def sampling(family: DDPM, options: argparse.Namespace, machine: Machine) -> dict[str, Any]:
    """Ancestral sampling of one shard."""
    info = Info("images", {"image": ((3, options.size, options.size), "uint8")}, 1, 1, 1)
    with machine.seeded(0):
        model = machine.for_inference(family.build(info))
    draws = Draws((0,), "sample", 0, device=machine.device)
    started = synchronised(machine)
    with torch.no_grad(), machine.autocast():
        family.sample(model, Conditions(options.shard, {}), draws)
    seconds = synchronised(machine) - started
    return {"steps": family.timesteps, "shard": options.shard, "images_per_s": round(options.shard / seconds, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16"))
    parser.add_argument("--tf32", action="store_true")
    parser.add_argument("--preset", default="celeba", help="size of the network: celeba (64x64), cifar10, digits")
    parser.add_argument("--size", type=int, default=64, help="pixels")
    parser.add_argument("--batch", type=int, nargs="+", default=[32, 128, 512])
    parser.add_argument("--steps", type=int, default=100, help="updates per measurement")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--timesteps", type=int, default=1000)
    parser.add_argument("--shard", type=int, default=256, help="images that are sampled together")
    parser.add_argument("--matrix", type=int, default=8192, help="size of the matrices whose product is timed")
    options = parser.parse_args()
    machine = open_machine(options.device, options.precision, options.tf32)
    family = DDPM(network=Network(preset=options.preset), timesteps=options.timesteps, criterion="smooth_l1")
    with tempfile.TemporaryDirectory() as scratch:
        report = {
            "benchmark": "diffusion",
            "machine": machine.describe(),
            "precision": machine.describe_precision(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "date": time.strftime("%Y-%m-%d"),
            "preset": options.preset,
            "size": options.size,
            "steps": options.steps,
            "matrix_tflops": round(matrix_rate(machine, options.matrix), 3),
            "training": training(family, options, machine, Path(scratch)),
            "sampling": sampling(family, options, machine),
        }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
