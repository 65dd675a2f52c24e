"""The overhead of the engine over a plain PyTorch loop: python benchmarks/fit_overhead.py [--device cpu] [--steps N].

The same VAE, rows, batch size, optimiser and number of updates: once as in a user's own script (rows in memory as
uint8, a shuffled index, autocast when requested), once through `collapse-sim`'s engine. Both are timed alternately,
several times; prints JSON with all figures and the ratio of medians.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from collapse_sim.core.machine import Machine, open_machine
from collapse_sim.data.images.image_folder import ImageFolder
from collapse_sim.data.sources import RowCounts, generation_zero
from collapse_sim.engine.build import builder
from collapse_sim.engine.work import JobContext
from collapse_sim.families.training import Train
from collapse_sim.families.vae import VAE
from collapse_sim.plan.specs import data_spec, fit_spec
from collapse_sim.store.jobs import Request
from collapse_sim.store.store import Store


def plain(images: torch.Tensor, steps: int, batch: int, machine: Machine) -> float:
    """Seconds of a training loop as in a user's own script."""
    torch.manual_seed(0)
    info_shape = tuple(images.shape[1:])
    model = VAE(hidden=420, latent=20).build(_Shape(info_shape)).to(machine.device)  # type: ignore[arg-type]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    rows = images.to(machine.device)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(machine.precision)
    started = time.perf_counter()
    order = torch.randperm(len(rows), device=machine.device)
    for step in range(steps):
        first = step * batch % (len(rows) - batch)
        x = rows[order[first : first + batch]].flatten(1).float() / 255
        with torch.autocast(machine.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            mean, log_variance = model.encode(x)
            logits = model.decoder(mean + (0.5 * log_variance).exp() * torch.randn_like(mean))
        kl = 0.5 * (mean.float().square() + log_variance.float().exp() - 1 - log_variance.float()).sum()
        loss = (F.binary_cross_entropy_with_logits(logits.float(), x, reduction="sum") + kl) / x.shape[1] / batch
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    if machine.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


class _Shape:
    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape

    def shape(self, column: str) -> tuple[int, ...]:
        return self._shape


def engine(folder: Path, store: Store, steps: int, batch: int, machine: Machine, attempt: int) -> float:
    """Seconds of the same fit as a stored artefact, everything included: reading, checking, writing."""
    data = ImageFolder(path=str(folder / "rows.npy"), held_out=100)
    info = data.inspect(folder)
    spec = data_spec(data, info)
    train = Train(steps=steps, batch_size=batch, weight_decay=0.01 + attempt * 1e-9, evaluate="never")
    fit = fit_spec(
        0, VAE(hidden=420, latent=20), train, generation_zero(RowCounts(info.rows, info.rows, info.pool)), spec, {}
    )
    work = JobContext(store, machine, lambda event: None, folder)
    build = builder(work)
    store.make_all([Request(spec, (0,), ("a",))], build, work.emit)
    started = time.perf_counter()
    store.make_all([Request(fit, (0,), ("a",))], build, work.emit)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", type=int, default=20_000)
    options = parser.parse_args()
    machine = open_machine(options.device)
    plains, engines = [], []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        rows = np.random.default_rng(0).integers(0, 256, (options.rows + 100, 32, 32), dtype=np.uint8)
        np.save(folder / "rows.npy", rows)
        images = torch.from_numpy(rows[: options.rows])[:, None]
        store = Store(folder / "store")
        for attempt in range(options.repeats + 1):
            pair = (
                plain(images, options.steps, options.batch, machine),
                engine(folder, store, options.steps, options.batch, machine, attempt),
            )
            if attempt:  # the first is a warm-up
                plains.append(pair[0])
                engines.append(pair[1])
    report = {
        "benchmark": "fit_overhead",
        "machine": machine.describe(),
        "precision": machine.precision,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "steps": options.steps,
        "batch": options.batch,
        "plain_s": [round(value, 3) for value in plains],
        "engine_s": [round(value, 3) for value in engines],
        "ratio_of_medians": round(statistics.median(engines) / statistics.median(plains), 3),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
