"""Pictures of a run's generations, drawn from stored samples, for the kinds of data that have any."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from collapse_sim.core.randomness import Draws
from collapse_sim.engine import artefacts
from collapse_sim.engine.given import given_to
from collapse_sim.engine.sample import model_in_use
from collapse_sim.engine.work import JobContext
from collapse_sim.families.base import Conditions
from collapse_sim.families.hooks import HasTrajectory
from collapse_sim.plan.experiment import Experiment
from collapse_sim.plan.generations import ArmPlan
from collapse_sim.run.attempts import attempts_of
from collapse_sim.run.shown_rows import ShownRows
from collapse_sim.run.text_samples import draw_texts, file_name
from collapse_sim.store.store import Store

OVERVIEW = "arms-by-generations"
SHOWN = 64  # rows per grid
CELL = 16  # rows per cell of the arms x generations picture
CLASSES, OF_CLASS = 50, 4  # classes in the picture of an arm's classes, at most, and rows per cell of it
FRAMES = 9  # moments in the picture of one sample's denoising
# A picture of all generations so far takes the longer the more there are: those quicker than this share one.
OVERVIEW_EVERY_S = 10.0
SCATTER_EVERY_S = 60.0  # a scatter takes a second


def draw_figures(experiment: Experiment, context: JobContext, folder: Path, k: int) -> list[Path]:
    """All pictures of generation k and of the generations so far: an observer of the loop.

    What cannot be drawn is reported as a Note and left out. Raises InterruptedRunError only.
    """
    return draw_pictures(experiment, k, context, folder) + draw_denoising(experiment, k, context, folder)


def draw_pictures(experiment: Experiment, k: int, context: JobContext, folder: Path) -> list[Path]:
    """Pictures of generation k and of all generations so far, for the first seed; [] for data without pictures.

    What cannot be drawn is reported as a Note and left out. Raises InterruptedRunError only.
    """
    draw = DRAWERS.get(experiment.info.kind)
    if draw is None:
        return []
    names = [*(plan.name for plan in experiment.arm_plans), *experiment.recipe.metrics]
    if not all(map(str.isascii, names)):
        attempts_of(context.store).make(context.emit, "names", lambda: _warn_of_boxes(names, context))
    return draw(experiment, k, context, folder)


def _warn_of_boxes(names: list[str], context: JobContext) -> tuple[()]:
    from collapse_sim.analysis.fonts import advice

    attempts_of(context.store).tell(context.emit, advice(names))
    return ()


def _images(experiment: Experiment, k: int, context: JobContext, folder: Path) -> list[Path]:
    from collapse_sim.analysis.image_grids import sample_grid

    attempts, paths = attempts_of(context.store), []
    for number, plan in enumerate(experiment.arm_plans):
        path = folder / f"{number:02d}-{file_name(plan.name)}-generation-{k:03d}.png"

        def grid(plan: ArmPlan = plan, path: Path = path) -> list[Path]:
            spec, seed = plan.generations[k].samples, experiment.recipe.seeds[0]
            if path.exists() or not context.store.has(spec, seed):
                return [path] if path.exists() else []
            _, columns = artefacts.columns(context.store, spec, seed, "samples")
            sample_grid(np.array(columns["image"][:SHOWN]), path, columns=8)
            return [path]

        paths += attempts.make(context.emit, "samples", grid)
        classes = partial(_images_of_classes, experiment, number, k, context.store, folder)
        paths += attempts.make(context.emit, "classes", classes)
    return paths + attempts.make(context.emit, OVERVIEW, lambda: _images_overview(experiment, k, context.store, folder))


def _images_overview(experiment: Experiment, k: int, store: Store, folder: Path) -> list[Path]:
    path, cells = folder / f"{OVERVIEW}.png", dict[str, dict[int, np.ndarray]]()
    shown = ShownRows(experiment, store, folder, "images", lambda columns: {"image": columns["image"][:CELL]})
    shown.keep(experiment.arm_plans, k)
    if _still_good(path, experiment, k, OVERVIEW_EVERY_S):
        return [path]
    from collapse_sim.analysis.image_grids import arms_by_generations

    for plan in experiment.arm_plans:
        found = {j: shown.of(plan.generations[j].samples) for j in range(k + 1)}
        cells[plan.name] = {j: rows["image"] for j, rows in found.items() if rows}
    if not any(cells.values()):
        return []
    _, real = artefacts.columns(store, experiment.data, experiment.recipe.seeds[0], "real")
    arms_by_generations(cells, real["image"][: CELL * (k + 1)], path)
    return [path]


def _still_good(path: Path, experiment: Experiment, k: int, seconds: float) -> bool:
    """Whether a picture of all generations is recent enough; the last generation always has its own."""
    return k < experiment.recipe.generations and path.exists() and time.time() - path.stat().st_mtime < seconds


def _images_of_classes(experiment: Experiment, number: int, k: int, store: Store, folder: Path) -> list[Path]:
    """An arm's first seed by class and generation, if its samples have labels: the first classes, if there are many."""
    plan, seed = experiment.arm_plans[number], experiment.recipe.seeds[0]
    if "label" not in plan.recipe.model.columns:
        return []
    path = folder / f"{number:02d}-{file_name(plan.name)}-classes.png"
    classes = range(min(experiment.info.classes, CLASSES))

    def first_of_classes(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {f"class {c}": rows for c, rows in _first_of_classes(columns, classes).items()}

    shown = ShownRows(experiment, store, folder, "classes", first_of_classes)
    shown.keep([plan], k)
    if _still_good(path, experiment, k, OVERVIEW_EVERY_S):
        return [path]
    images: dict[str, dict[int, np.ndarray]] = {f"class {c}": {} for c in classes}
    for j in range(k + 1):
        for name, rows in (shown.of(plan.generations[j].samples) or {}).items():
            images[name][j] = rows
    if not any(images.values()):
        return []
    from collapse_sim.analysis.image_grids import classes_by_generations

    _, real = artefacts.columns(store, experiment.data, seed, "real")
    classes_by_generations(images, first_of_classes(real), path)
    return [path]


def _first_of_classes(columns: Mapping[str, np.ndarray], classes: Iterable[int]) -> dict[int, np.ndarray]:
    """{class: its first images}, for the classes that there are; {} without labels."""
    if "label" not in columns:
        return {}
    places = {c: np.flatnonzero(columns["label"] == c)[:OF_CLASS] for c in classes}
    return {c: np.array(columns["image"][index]) for c, index in places.items() if len(index)}


def draw_denoising(experiment: Experiment, k: int, context: JobContext, folder: Path) -> list[Path]:
    """How samples of every arm's generation k emerge from noise, the same noise for all arms and generations.

    For images one sample per arm, which costs as much as sampling one row; for points many, but only for the first and
    last generation, as a scatter takes a second. [] for families without `trajectory`. What cannot be drawn is
    reported as a Note and left out. Raises InterruptedRunError only.
    """
    draw = partial(_denoising, experiment, k, context, folder)
    return attempts_of(context.store).make(context.emit, "denoising", draw)


def _denoising(experiment: Experiment, k: int, context: JobContext, folder: Path) -> list[Path]:
    recipe, kind = experiment.recipe, experiment.info.kind
    path = folder / f"denoising-generation-{k:03d}.png"
    if not isinstance(recipe.model, HasTrajectory) or (kind == "points" and 0 < k < recipe.generations):
        return []
    if path.exists():
        return [path]
    if kind == "images":
        from collapse_sim.analysis.image_grids import arms_by_frames

        frames = _trajectories(experiment, k, context, 1)
        if not frames:
            return []
        arms_by_frames({arm: x[:, 0] for arm, x in frames.items()}, path)
    else:
        from collapse_sim.analysis.scatter import SHOWN as ROWS
        from collapse_sim.analysis.scatter import points_by_frames

        frames = _trajectories(experiment, k, context, ROWS)
        if not frames:
            return []
        real, note = _real_points(experiment, context.store)
        points_by_frames(frames, real, path, f"Generation {k}. {note}")
    return [path]


def _trajectories(experiment: Experiment, k: int, context: JobContext, rows: int) -> dict[str, np.ndarray]:
    """{arm: (frames, rows, ...)}, for arms that have reached generation k."""
    seed = experiment.recipe.seeds[0]
    samples = {plan.name: plan.generations[k].samples for plan in experiment.arm_plans}
    samples = {
        arm: spec
        for arm, spec in samples.items()
        if spec.imported is None and all(context.store.has(m, seed) for m in spec.models)
    }
    by_sampler: dict[str, np.ndarray] = {}  # by model and sampler: arms of one model may sample in other ways
    for spec in samples.values():
        if spec.digest not in by_sampler:
            with model_in_use(context, spec, (seed,)) as (family, model, machine, shaped):
                assert isinstance(family, HasTrajectory)
                draws = shaped(Draws((seed,), "denoising", 0, device=machine.device))
                given = given_to(context.store, spec, (seed,))(0, rows)
                conditions = Conditions(rows, {name: machine.put(column) for name, column in given.items()})
                by_sampler[spec.digest] = family.trajectory(model, conditions, FRAMES, draws).cpu().numpy()
    return {arm: by_sampler[spec.digest] for arm, spec in samples.items()}


def _points(experiment: Experiment, k: int, context: JobContext, folder: Path) -> list[Path]:
    draw = partial(_points_overview, experiment, k, context, folder)
    return attempts_of(context.store).make(context.emit, OVERVIEW, draw)


def _points_overview(experiment: Experiment, k: int, context: JobContext, folder: Path) -> list[Path]:
    """One scatter (histograms in one dimension) of all generations so far; always drawn for the last generation."""
    path, store = folder / f"{OVERVIEW}.png", context.store
    from collapse_sim.analysis.scatter import SHOWN as ROWS
    from collapse_sim.analysis.scatter import columns, points_by_generations

    shown = ShownRows(experiment, store, folder, "points", lambda rows: {"x": rows["x"][:ROWS]})
    if k in columns(experiment.recipe.generations):  # those of the last picture
        shown.keep(experiment.arm_plans, k)
    if _still_good(path, experiment, k, SCATTER_EVERY_S):
        return [path]
    samples: dict[str, dict[int, np.ndarray]] = {plan.name: {} for plan in experiment.arm_plans}
    for plan in experiment.arm_plans:
        for j in columns(k):
            if rows := shown.of(plan.generations[j].samples):
                samples[plan.name][j] = rows["x"]
    if not any(samples.values()):
        return []
    real, note = _real_points(experiment, store)
    points_by_generations(samples, real, path, note)
    return [path]


def _real_points(experiment: Experiment, store: Store) -> tuple[np.ndarray, str]:
    """The real rows behind a scatter of the first seed's samples, and the note below it."""
    from collapse_sim.analysis.scatter import SHOWN as ROWS

    seed = experiment.recipe.seeds[0]
    _, columns = artefacts.columns(store, experiment.data, seed, "real")
    order = artefacts.real_order(experiment.data, seed)
    rows = min(ROWS, experiment.info.rows)
    real = np.array(columns["x"][:rows] if order is None else columns["x"][order[:rows]])
    note = f"Grey: {rows:,} real rows. Seed {seed}, at most {ROWS:,} rows per cell"
    if real.shape[1] > 2:
        note += f", the first 2 of {real.shape[1]} coordinates"
    return real, note


def _molecules(experiment: Experiment, k: int, context: JobContext, folder: Path) -> list[Path]:
    draw = partial(_molecules_overview, experiment, k, context.store, folder)
    return attempts_of(context.store).make(context.emit, OVERVIEW, draw)


def _molecules_overview(experiment: Experiment, k: int, store: Store, folder: Path) -> list[Path]:
    """Conformations of a few molecules in all generations so far; always drawn for the last generation."""
    path = folder / f"{OVERVIEW}.png"
    from collapse_sim.analysis.molecule_pictures import LEGEND, Drawn, conformations_by_generations
    from collapse_sim.analysis.molecule_pictures import SHOWN as MOLECULES
    from collapse_sim.analysis.scatter import columns

    last = experiment.recipe.generations
    good = _still_good(path, experiment, k, SCATTER_EVERY_S)
    if good and (experiment.recipe.keep_samples == "all" or k not in columns(last)):
        return [path]
    seed, names = experiment.recipe.seeds[0], ("positions", "atoms", "bonds")
    samples: dict[str, dict[int, Drawn]] = {plan.name: {} for plan in experiment.arm_plans}
    real: dict[str, Drawn] = {}
    for plan in experiment.arm_plans:
        rows = min(plan.data.info.rows, *(generation.samples.rows for generation in plan.generations))
        given = artefacts.conditions(store, plan.data, (*names, "molecule"), (seed,), 0, rows)
        _, first = np.unique(given["molecule"].numpy(), return_index=True)
        chosen = np.sort(first)[:MOLECULES]
        real[plan.name] = Drawn(*(given[name].numpy()[chosen] for name in names))
        shown = ShownRows(
            experiment,
            store,
            folder,
            "molecules",
            lambda columns: {name: columns[name][chosen] for name in names},  # noqa: B023
        )
        if k in columns(last):
            shown.keep([plan], k)
        for j in () if good else columns(k):
            if stored := shown.of(plan.generations[j].samples):
                samples[plan.name][j] = Drawn(*(stored[name] for name in names))
    if good:
        return [path]
    if not any(samples.values()):
        return []
    note = f"Seed {seed}. Samples are turned or mirrored onto the real conformations. {LEGEND}"
    conformations_by_generations(samples, real, path, note)
    return [path]


DRAWERS: dict[str, Callable[[Experiment, int, JobContext, Path], list[Path]]] = {
    "images": _images,
    "points": _points,
    "molecules": _molecules,
    "text": draw_texts,
    "pairs": draw_texts,
}
