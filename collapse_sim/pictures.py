"""What a generation looks like: pictures of a run, drawn from stored samples, for the kinds of data that have any."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from collapse_sim.engine import load
from collapse_sim.engine.work import Work
from collapse_sim.experiment import Experiment
from collapse_sim.randomness import Draws
from collapse_sim.specs import SampleSpec
from collapse_sim.store.store import Store

SHOWN = 64  # rows a grid
CELL = 16  # rows in a cell of the arms x generations picture
FRAMES = 9  # moments in the picture of one sample's denoising
SCATTER_EVERY_S = 60.0  # a scatter takes a second: generations that are quicker than this share one


def draw_pictures(experiment: Experiment, k: int, store: Store, folder: Path) -> list[Path]:
    """Pictures of generation k and of all generations so far, for the first seed; [] for data without pictures."""
    draw = DRAWERS.get(experiment.info.kind)
    return draw(experiment, k, store, folder) if draw else []


def _images(experiment: Experiment, k: int, store: Store, folder: Path) -> list[Path]:
    from collapse_sim.analysis.pictures import arms_by_generations, sample_grid

    seed = experiment.recipe.seeds[0]
    first = {
        line.arm.name: {j: _first_rows(store, line.samples[j], seed) for j in range(k + 1)} for line in experiment.lines
    }
    paths = []
    for number, (arm, generations) in enumerate(first.items()):
        path = folder / f"{number:02d}-{_file_name(arm)}-generation-{k:03d}.png"
        if not path.exists():
            sample_grid(generations[k], path, columns=8)
        paths.append(path)
    overview = folder / "arms-by-generations.png"
    _, real = load.columns(store, experiment.data, seed, "real")
    cells = {arm: {j: images[:CELL] for j, images in generations.items()} for arm, generations in first.items()}
    arms_by_generations(cells, real["image"][: CELL * (k + 1)], overview)
    return [*paths, overview]


def draw_denoising(experiment: Experiment, k: int, work: Work, folder: Path) -> list[Path]:
    """How one sample of every arm's generation k comes out of noise, the same noise for all arms and generations.

    [] for families without `trajectory` and for data that is not images. Costs as much as one sampled row an arm.
    """
    from collapse_sim.analysis.pictures import arms_by_frames

    trajectory = getattr(experiment.recipe.model, "trajectory", None)
    path = folder / f"denoising-generation-{k:03d}.png"
    if trajectory is None or experiment.info.kind != "images":
        return []
    if path.exists():
        return [path]
    seed = experiment.recipe.seeds[0]
    found: dict[str, np.ndarray] = {}
    for spec in (line.fits[k] for line in experiment.lines):
        if spec.digest not in found:
            machine = work.machine.at(spec.train.precision, spec.train.tf32) if spec.train else work.machine
            model = load.model(work.store, spec, (seed,), machine)
            draws = Draws((seed,), "denoising", 0, device=machine.device)
            with torch.no_grad(), machine.autocast():
                found[spec.digest] = trajectory(model, 1, FRAMES, draws)[:, 0].cpu().numpy()
    arms_by_frames({line.arm.name: found[line.fits[k].digest] for line in experiment.lines}, path)
    return [path]


def _points(experiment: Experiment, k: int, store: Store, folder: Path) -> list[Path]:
    """One scatter (in one dimension histograms) of all generations so far; that of the last one is always drawn."""
    path = folder / "arms-by-generations.png"
    unfinished = k < experiment.recipe.generations
    if unfinished and path.exists() and time.time() - path.stat().st_mtime < SCATTER_EVERY_S:
        return [path]
    from collapse_sim.analysis.scatter import SHOWN as ROWS
    from collapse_sim.analysis.scatter import columns, points_by_generations

    seed = experiment.recipe.seeds[0]
    samples: dict[str, dict[int, np.ndarray]] = {line.arm.name: {} for line in experiment.lines}
    for line in experiment.lines:
        for j in columns(k):
            _, found = load.columns(store, line.samples[j], seed, "samples")
            samples[line.arm.name][j] = np.array(found["x"][:ROWS])
    _, found = load.columns(store, experiment.data, seed, "real")
    order = load.real_order(experiment.data, seed)
    rows = min(ROWS, experiment.info.rows)
    real = np.array(found["x"][:rows] if order is None else found["x"][order[:rows]])
    note = f"Grey: {rows:,} real rows. Seed {seed}, at most {ROWS:,} rows a cell"
    if real.shape[1] > 2:
        note += f", the first 2 of {real.shape[1]} coordinates"
    points_by_generations(samples, real, path, note)
    return [path]


def _first_rows(store: Store, spec: SampleSpec, seed: int) -> np.ndarray:
    _, found = load.columns(store, spec, seed, "samples")
    return np.array(found["image"][:SHOWN])


def _file_name(arm: str) -> str:
    return "".join(c if c.isalnum() or c in "+-_.=" else "-" for c in arm)


DRAWERS: dict[str, Callable[[Experiment, int, Store, Path], list[Path]]] = {
    "images": _images,
    "points": _points,
}
