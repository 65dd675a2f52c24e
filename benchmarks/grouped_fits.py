"""Fits computed together against one by one, through the engine: python benchmarks/grouped_fits.py [--device cpu].

Each case is a VAE or a denoiser of one size, fitted for several seeds. Time is that of the fits alone, as their
manifests have it, with checkpoints off; the two ways alternate, and the first round does not count. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from collapse_sim.core.machine import open_device
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load
from collapse_sim.run.session import Session

RECIPE = """
name: grouped
data: {use: image_folder, path: images.npy, held_out: 32}
model: MODEL
train: {steps: STEPS, batch_size: BATCH, evaluate: never}
samples: 10
generations: 1
seeds: SEEDS
arms: {replace: {data: replace}}
metrics: [test_loss]
"""
CASES = {  # name: (model, pixels per side, batch, updates)
    "quickstart's VAE": ("{use: vae, hidden: 128, latent: 8}", 8, 128, 100),
    "VAE, 16 x 16": ("{use: vae, hidden: 256, latent: 8}", 16, 128, 60),
    "table 1's VAE, 32 x 32": ("{use: vae, hidden: 420, latent: 20}", 32, 256, 30),
    "digits UNet": ("{use: ddpm, sampler: ddim, sampling_steps: 2}", 8, 64, 6),
}


def seconds(recipe: str, side: int, ensemble: str, device: str) -> float:
    """Seconds that generation 0's fits take."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        images = np.random.default_rng(0).integers(0, 256, (1056, side, side, 1), dtype=np.uint8)
        np.save(folder / "images.npy", images)
        (folder / "recipe.yaml").write_text(recipe)
        opened = open_device(device)
        experiment = prepare(load(folder / "recipe.yaml"), folder, opened)
        store = folder / ".store"
        Session(experiment, opened, folder / "run", store, folder, 1e9, ensemble).run(quiet=True)
        manifests = [json.loads(path.read_text()) for path in store.glob("objects/*/*/*/manifest.json")]
    fits = [manifest for manifest in manifests if manifest["kind"] == "fit"]
    return sum(manifest["wall_s"] / len(manifest.get("group", [0])) for manifest in fits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=12, help="fits per case")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--case", action="append", choices=CASES, help="default: all")
    options = parser.parse_args()
    report = {
        "benchmark": "grouped_fits",
        "machine": open_device(options.device).describe(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "fits": options.seeds,
        "cases": {},
    }
    for name in options.case or CASES:
        model, side, batch, steps = CASES[name]
        recipe = RECIPE.replace("MODEL", model).replace("BATCH", str(batch))
        recipe = recipe.replace("STEPS", str(steps)).replace("SEEDS", str(options.seeds))
        times: dict[str, list[float]] = {"off": [], "64": []}
        for attempt in range(options.repeats + 1):
            for ensemble, values in times.items():
                value = seconds(recipe, side, ensemble, options.device)
                if attempt:
                    values.append(value)
        fits = options.seeds * steps * 2  # generation 0 and 1
        alone, together = (statistics.median(times[way]) for way in ("off", "64"))
        report["cases"][name] = {
            "alone_ms_per_update": round(1e3 * alone / fits, 3),
            "together_ms_per_update": round(1e3 * together / fits, 3),
            "speedup": round(alone / together, 2),
            "alone_s": [round(value, 2) for value in times["off"]],
            "together_s": [round(value, 2) for value in times["64"]],
        }
        print(name, report["cases"][name], flush=True, file=sys.stderr)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
