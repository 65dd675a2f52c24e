"""What can be done with a finished run: score it with another metric, find its models, draw more from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from collapse_sim.core import registry
from collapse_sim.core.errors import DivergedError, RecipeError, StoreError
from collapse_sim.core.machine import open_device
from collapse_sim.data.base import conditions_of
from collapse_sim.engine.sample import Sampler
from collapse_sim.engine.work import JobContext
from collapse_sim.plan.experiment import Experiment, GenerationPlan, prepare
from collapse_sim.recipe.loader import load as load_recipe
from collapse_sim.store import journal
from collapse_sim.store.blocks import present
from collapse_sim.store.cache import open_store
from collapse_sim.store.run_directory import JOURNAL_FILE, read_run, recipe_of, store_of
from collapse_sim.store.store import Store
from collapse_sim.ui.run_status import continuing


def scored_generations(folder: Path) -> int:
    """The last generation for which every arm of a run has scores. Raises RecipeError when it is not beyond 0."""
    scores = journal.scores_of(journal.read(folder / JOURNAL_FILE))
    generations = {
        arm: [k for by_generation in scores.get(arm, {}).values() for k in by_generation]
        for arm in read_run(folder)["arms"]
    }
    done = min(max(scored, default=-1) for scored in generations.values())
    if done < 1:
        raise RecipeError(f"{folder}: no generation after 0 is finished for all arms yet; continue the run first")
    return done


def refuse_to_fit(experiment: Experiment, store: Path, folder: Path) -> None:
    """Raise StoreError when models or samples are missing from the store: scoring alone cannot make them.

    Diverged chains do not count as missing: they have no models, and their scores are nan.
    """
    diverged_at = diverged(folder)
    needed: dict[str, set[int]] = {}
    for arm_plan in experiment.arm_plans:
        ends = diverged_at.get(arm_plan.name, {})
        for k, plan in enumerate(arm_plan.generations):
            seeds = {seed for seed in experiment.recipe.seeds if k < ends.get(seed, k + 1)}
            for spec in (plan.fit, plan.samples):
                needed.setdefault(spec.digest, set()).update(seeds)
    absent = sum(len(seeds - present(store, digest)) for digest, seeds in needed.items())
    if absent:
        raise StoreError(
            f"{folder}: {absent} of its models and samples are not in {store}; make them first with:\n"
            f"  {continuing(folder, [])}"
        )


def diverged(folder: Path) -> dict[str, dict[int, int]]:
    """{arm: {seed: generation}}: where chains of a run diverged."""
    return journal.diverged(journal.read(folder / JOURNAL_FILE))


@dataclass(frozen=True)
class Stored:
    """One fitted model of a run: an arm, a generation, a seed."""

    experiment: Experiment
    store: Store
    data_dir: Path
    arm: str
    generation: int
    seed: int
    plan: GenerationPlan


def find(
    folder: Path,
    data_dir: Path,
    arm: str | None,
    generation: int | None,
    seed: int | None,
    store_dir: Path | None = None,
    plugins: bool | None = None,
) -> Stored:
    """A model of a run, by default of the first arm, last generation and first seed. `plugins`: as in `load`.

    `store_dir` None: the run's own store. Raises RecipeError for an arm, generation or seed that the run does not have,
    StoreError when the model is not fitted yet.
    """
    experiment, store = opened(folder, data_dir, store_dir, plugins)
    recipe = experiment.recipe
    check_choice(experiment, arm, generation, seed)
    name = experiment.arm_plans[0].name if arm is None else arm
    k = recipe.generations if generation is None else generation
    number = recipe.seeds[0] if seed is None else seed
    plan = next(plan for plan in experiment.arm_plans if plan.name == name).generations[k]
    if not store.has(plan.fit, number):
        at = diverged(folder).get(name, {}).get(number)
        if at is not None and at <= k:
            raise DivergedError(
                f"{name}, generation {k}, seed {number}: there is no model, its chain diverged at generation {at}"
            )
    store.block(plan.fit, number)
    return Stored(experiment, store, data_dir, name, k, number, plan)


def find_all(
    folder: Path,
    data_dir: Path,
    arm: str | None,
    generation: int | None,
    seed: int | None,
    store_dir: Path | None = None,
    plugins: bool | None = None,
    *,
    samples: bool = True,
) -> tuple[list[Stored], list[str]]:
    """All models of a run, or those of this arm, generation, seed; and descriptions of those not in the store.

    `samples`: only those whose samples are stored too. Raises what `find` does, and StoreError when there are none.
    """
    experiment, store = opened(folder, data_dir, store_dir, plugins)
    recipe = experiment.recipe
    check_choice(experiment, arm, generation, seed)
    models: list[Stored] = []
    absent: list[str] = []
    diverged_at = diverged(folder)
    for arm_plan in experiment.arm_plans:
        name = arm_plan.name
        if arm not in (None, name):
            continue
        for k in range(recipe.generations + 1) if generation is None else (generation,):
            plan = arm_plan.generations[k]
            for number in recipe.seeds if seed is None else (seed,):
                try:
                    for spec in (plan.fit, plan.samples) if samples else (plan.fit,):
                        store.block(spec, number)
                except StoreError:
                    ended = " (diverged)" * (diverged_at.get(name, {}).get(number, k + 1) <= k)
                    absent.append(f"{name}, generation {k}, seed {number}{ended}")
                else:
                    models.append(Stored(experiment, store, data_dir, name, k, number, plan))
    if not models:
        raise StoreError(
            f"{folder}: none of these models is in {store.root}; make them first with:\n  {continuing(folder, [])}"
        )
    return models, absent


def opened(
    folder: Path, data_dir: Path, store_dir: Path | None, plugins: bool | None = None
) -> tuple[Experiment, Store]:
    """A run's experiment without its metrics, and its store. Raises RecipeError, StoreError and MissingError."""
    read_run(folder)
    # a metric's network need not exist
    unscored = replace(load_recipe(recipe_of(folder), plugins=plugins), metrics={}, claims=(), references=())
    return prepare(unscored, data_dir), open_store(store_dir or store_of(folder))


def check_choice(experiment: Experiment, arm: str | None, generation: int | None, seed: int | None) -> None:
    """Raise RecipeError for an arm, generation or seed that the run does not have."""
    recipe, arms = experiment.recipe, [plan.name for plan in experiment.arm_plans]
    if arm is not None and arm not in arms:
        raise RecipeError(f"--arm {arm}: no such arm{registry.did_you_mean(arm, arms)}; allowed: {', '.join(arms)}")
    if generation is not None and not 0 <= generation <= recipe.generations:
        raise RecipeError(f"--generation {generation}: this run has generations 0 to {recipe.generations}")
    if seed is not None and seed not in recipe.seeds:
        raise RecipeError(f"--seed {seed}: this run has seeds {', '.join(map(str, recipe.seeds))}")


def draw(stored: Stored, rows: int, draw_seed: int, device: str = "auto") -> dict[str, np.ndarray]:
    """`rows` new rows from a model, (rows, ...) each, different from those that the run continued with.

    With conditions, at most as many rows can be drawn as there are rows with conditions.
    """
    fit, samples = stored.plan.fit, stored.plan.samples
    names = conditions_of(fit.data.data, fit.family)
    fitted = samples.conditions == "fitted"
    most, whose = (fit.plan.rows, "row that it was fitted to") if fitted else (fit.data.info.rows, "real row")
    if names and rows > most:
        raise RecipeError(f"--rows {rows}: at most {most}, one for the {', '.join(names)} of each {whose}")
    context = JobContext(stored.store, open_device(device), lambda event: None, stored.data_dir)
    own = next(plan.recipe for plan in stored.experiment.arm_plans if plan.name == stored.arm)
    shard = rows if samples.stacked else own.sampling.shard
    role = f"afterwards/{draw_seed}"
    with Sampler(context, samples, (stored.seed,)).drawing() as draw_rows:
        pieces = [draw_rows(role, first, first, min(first + shard, rows)) for first in range(0, rows, shard)]
    if samples.stacked:
        pieces = [{name: column[0] for name, column in piece.items()} for piece in pieces]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
