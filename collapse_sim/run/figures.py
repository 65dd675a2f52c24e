"""What a generation looks like: pictures of a run, drawn from stored samples, for the kinds of data that have any."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from collapse_sim.core.randomness import Draws
from collapse_sim.engine import artefacts
from collapse_sim.engine.work import JobContext
from collapse_sim.plan.experiment import ArmPlan, Experiment
from collapse_sim.plan.specs import SampleSpec
from collapse_sim.run.attempts import attempts_of
from collapse_sim.run.text_samples import draw_texts, file_name
from collapse_sim.store.store import Store

OVERVIEW = "arms-by-generations"
SHOWN = 64  # rows a grid
CELL = 16  # rows in a cell of the arms x generations picture
FRAMES = 9  # moments in the picture of one sample's denoising
SCATTER_EVERY_S = 60.0  # a scatter takes a second: generations that are quicker than this share one


def draw_pictures(experiment: Experiment, k: int, work: JobContext, folder: Path) -> list[Path]:
    """Pictures of generation k and of all generations so far, for the first seed; [] for data without pictures.

    What cannot be drawn is told as a Note and left out. Raises InterruptedRunError only.
    """
    draw = DRAWERS.get(experiment.info.kind)
    if draw is None:
        return []
    names = [*(line.arm.name for line in experiment.lines), *experiment.recipe.metrics]
    if not all(map(str.isascii, names)):
        attempts_of(work.store).make(work.emit, "names", lambda: _say_boxes(names, work))
    return draw(experiment, k, work, folder)


def _say_boxes(names: list[str], work: JobContext) -> tuple[()]:
    from collapse_sim.analysis.fonts import advice

    attempts_of(work.store).tell(work.emit, advice(names))
    return ()


def _images(experiment: Experiment, k: int, work: JobContext, folder: Path) -> list[Path]:
    from collapse_sim.analysis.image_grids import sample_grid

    attempts, paths = attempts_of(work.store), []
    for number, line in enumerate(experiment.lines):
        path = folder / f"{number:02d}-{file_name(line.arm.name)}-generation-{k:03d}.png"

        def grid(line: ArmPlan = line, path: Path = path) -> list[Path]:
            images = _first_images(experiment, line, [k], work.store)
            if images and not path.exists():
                sample_grid(images[k], path, columns=8)
            return [path] if images else []

        paths += attempts.make(work.emit, "samples", grid)
    return paths + attempts.make(work.emit, OVERVIEW, lambda: _images_overview(experiment, k, work.store, folder))


def _images_overview(experiment: Experiment, k: int, store: Store, folder: Path) -> list[Path]:
    from collapse_sim.analysis.image_grids import arms_by_generations

    path, cells = folder / f"{OVERVIEW}.png", {}
    for line in experiment.lines:
        found = _first_images(experiment, line, range(k + 1), store)
        cells[line.arm.name] = {j: images[:CELL] for j, images in found.items()}
    if not any(cells.values()):
        return []
    _, real = artefacts.columns(store, experiment.data, experiment.recipe.seeds[0], "real")
    arms_by_generations(cells, real["image"][: CELL * (k + 1)], path)
    return [path]


def _first_images(
    experiment: Experiment, line: ArmPlan, generations: Iterable[int], store: Store
) -> dict[int, np.ndarray]:
    """The first seed's, by generation, of those generations that it has."""
    seed = experiment.recipe.seeds[0]
    there = [j for j in generations if store.has(line.samples[j], seed)]
    return {j: _first_rows(store, line.samples[j], seed) for j in there}


def draw_denoising(experiment: Experiment, k: int, work: JobContext, folder: Path) -> list[Path]:
    """How samples of every arm's generation k come out of noise, the same noise for all arms and generations.

    Of images one sample, as dear as one sampled row an arm; of points many, and of the first and last generations only,
    as a scatter takes a second. [] for families without `trajectory`. What cannot be drawn is told as a Note and left
    out. Raises InterruptedRunError only.
    """
    return attempts_of(work.store).make(work.emit, "denoising", lambda: _denoising(experiment, k, work, folder))


def _denoising(experiment: Experiment, k: int, work: JobContext, folder: Path) -> list[Path]:
    recipe, kind = experiment.recipe, experiment.info.kind
    path = folder / f"denoising-generation-{k:03d}.png"
    if not hasattr(recipe.model, "trajectory") or (kind == "points" and 0 < k < recipe.generations):
        return []
    if path.exists():
        return [path]
    if kind == "images":
        from collapse_sim.analysis.image_grids import arms_by_frames

        found = _trajectories(experiment, k, work, 1)
        if not found:
            return []
        arms_by_frames({arm: x[:, 0] for arm, x in found.items()}, path)
    else:
        from collapse_sim.analysis.scatter import SHOWN as ROWS
        from collapse_sim.analysis.scatter import points_by_frames

        found = _trajectories(experiment, k, work, ROWS)
        if not found:
            return []
        real, note = _real_points(experiment, work.store)
        points_by_frames(found, real, path, f"Generation {k}. {note}")
    return [path]


def _trajectories(experiment: Experiment, k: int, work: JobContext, rows: int) -> dict[str, np.ndarray]:
    """By arm: (frames, rows, ...), of arms that have come to generation k."""
    seed = experiment.recipe.seeds[0]
    found: dict[str, np.ndarray] = {}
    lines = [line for line in experiment.lines if work.store.has(line.fits[k], seed)]
    for spec in (line.fits[k] for line in lines):
        if spec.digest not in found:
            machine = work.machine.with_precision(spec.train.precision, spec.train.tf32) if spec.train else work.machine
            model = artefacts.model(work.store, spec, (seed,), machine)
            draws = Draws((seed,), "denoising", 0, device=machine.device)
            trajectory: Callable[..., torch.Tensor] = spec.family.trajectory  # type: ignore[attr-defined]
            with torch.no_grad(), machine.autocast():
                found[spec.digest] = trajectory(model, rows, FRAMES, draws).cpu().numpy()
    return {line.arm.name: found[line.fits[k].digest] for line in lines}


def _points(experiment: Experiment, k: int, work: JobContext, folder: Path) -> list[Path]:
    draw = partial(_points_overview, experiment, k, work, folder)
    return attempts_of(work.store).make(work.emit, OVERVIEW, draw)


def _points_overview(experiment: Experiment, k: int, work: JobContext, folder: Path) -> list[Path]:
    """One scatter (in one dimension histograms) of all generations so far; that of the last one is always drawn."""
    path = folder / f"{OVERVIEW}.png"
    unfinished = k < experiment.recipe.generations
    if unfinished and path.exists() and time.time() - path.stat().st_mtime < SCATTER_EVERY_S:
        return [path]
    from collapse_sim.analysis.scatter import SHOWN as ROWS
    from collapse_sim.analysis.scatter import columns, points_by_generations

    seed, store = experiment.recipe.seeds[0], work.store
    samples: dict[str, dict[int, np.ndarray]] = {line.arm.name: {} for line in experiment.lines}
    for line in experiment.lines:
        for j in columns(k):
            if not store.has(line.samples[j], seed):
                continue
            _, found = artefacts.columns(store, line.samples[j], seed, "samples")
            samples[line.arm.name][j] = np.array(found["x"][:ROWS])
    if not any(samples.values()):
        return []
    real, note = _real_points(experiment, store)
    points_by_generations(samples, real, path, note)
    return [path]


def _real_points(experiment: Experiment, store: Store) -> tuple[np.ndarray, str]:
    """The real rows behind a scatter of the first seed's samples, and what stands below it."""
    from collapse_sim.analysis.scatter import SHOWN as ROWS

    seed = experiment.recipe.seeds[0]
    _, found = artefacts.columns(store, experiment.data, seed, "real")
    order = artefacts.real_order(experiment.data, seed)
    rows = min(ROWS, experiment.info.rows)
    real = np.array(found["x"][:rows] if order is None else found["x"][order[:rows]])
    note = f"Grey: {rows:,} real rows. Seed {seed}, at most {ROWS:,} rows a cell"
    if real.shape[1] > 2:
        note += f", the first 2 of {real.shape[1]} coordinates"
    return real, note


def _first_rows(store: Store, spec: SampleSpec, seed: int) -> np.ndarray:
    _, found = artefacts.columns(store, spec, seed, "samples")
    return np.array(found["image"][:SHOWN])


DRAWERS: dict[str, Callable[[Experiment, int, JobContext, Path], list[Path]]] = {
    "images": _images,
    "points": _points,
    "text": draw_texts,
    "pairs": draw_texts,
}
