"""What can be done with a finished run: score it by another metric, find its models, draw more from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from collapse_sim.core import registry
from collapse_sim.core.errors import DivergedError, RecipeError, StoreError
from collapse_sim.core.machine import open_machine
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import conditions_of
from collapse_sim.engine import artefacts
from collapse_sim.engine.given import given_to
from collapse_sim.engine.sample import check_columns, to_numpy
from collapse_sim.families.base import ClosedForm, Conditions
from collapse_sim.plan.experiment import ArmPlan, Experiment, prepare
from collapse_sim.recipe.loader import load as load_recipe
from collapse_sim.store import journal
from collapse_sim.store.blocks import present
from collapse_sim.store.cache import open_store
from collapse_sim.store.run_directory import JOURNAL_FILE, read_run, recipe_of, store_of
from collapse_sim.store.store import Store
from collapse_sim.ui.run_status import continuing


def scored_generations(folder: Path) -> int:
    """The last generation that every arm of a run has scores of. Raises RecipeError when there is none beyond 0."""
    last: dict[str, int] = dict.fromkeys(read_run(folder)["arms"], -1)
    for line in journal.read(folder / JOURNAL_FILE):
        if line["event"] == "scores" and line["arm"] in last:
            last[line["arm"]] = max(last[line["arm"]], line["generation"])
    done = min(last.values())
    if done < 1:
        raise RecipeError(f"{folder}: no generation after 0 is finished for all arms yet; continue the run first")
    return done


def refuse_to_fit(experiment: Experiment, store: Path, folder: Path) -> None:
    """Raise StoreError when models or samples are not in the store: scoring alone cannot make them.

    Those of chains that have diverged are not missed: there are none, and their scores are nan.
    """
    ended = diverged(folder)
    needed: dict[str, set[int]] = {}
    for line in experiment.lines:
        for k in range(experiment.recipe.generations + 1):
            seeds = {seed for seed in experiment.recipe.seeds if k < ended.get(line.arm.name, {}).get(seed, k + 1)}
            for spec in (line.fits[k], line.samples[k]):
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
    line: ArmPlan
    generation: int
    seed: int


def find(
    folder: Path,
    data_dir: Path,
    arm: str | None,
    generation: int | None,
    seed: int | None,
    store_dir: Path | None = None,
    plugins: bool | None = None,
) -> Stored:
    """A model of a run; by default the first arm's, of the last generation, of the first seed. `plugins`: as `load`.

    `store_dir` None: where the run has its artefacts. Raises RecipeError for an arm, generation or seed that the run
    has not, StoreError when it is not fitted yet.
    """
    experiment, store = opened(folder, data_dir, store_dir, plugins)
    lines = {line.arm.name: line for line in experiment.lines}
    recipe = experiment.recipe
    check_choice(experiment, arm, generation, seed)
    line = lines[arm] if arm is not None else experiment.lines[0]
    k = recipe.generations if generation is None else generation
    chosen = recipe.seeds[0] if seed is None else seed
    if not store.has(line.fits[k], chosen):
        at = diverged(folder).get(line.arm.name, {}).get(chosen)
        if at is not None and at <= k:
            raise DivergedError(
                f"{line.arm.name}, generation {k}, seed {chosen}: there is no model, its chain diverged at "
                f"generation {at}"
            )
    store.block(line.fits[k], chosen)
    return Stored(experiment, store, line, k, chosen)


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
    """All models of a run, or of this arm, generation, seed; and in words those that are not in the store.

    `samples`: only those whose samples are there too. Raises what `find` does, StoreError when there is none.
    """
    experiment, store = opened(folder, data_dir, store_dir, plugins)
    recipe = experiment.recipe
    check_choice(experiment, arm, generation, seed)
    found, absent, ended = [], [], diverged(folder)
    for line in experiment.lines:
        for k in range(recipe.generations + 1) if generation is None else (generation,):
            for chosen in recipe.seeds if seed is None else (seed,):
                if arm not in (None, line.arm.name):
                    continue
                try:
                    for spec in (line.fits[k], line.samples[k]) if samples else (line.fits[k],):
                        store.block(spec, chosen)
                except StoreError:
                    gone = " (diverged)" * (ended.get(line.arm.name, {}).get(chosen, k + 1) <= k)
                    absent.append(f"{line.arm.name}, generation {k}, seed {chosen}{gone}")
                else:
                    found.append(Stored(experiment, store, line, k, chosen))
    if not found:
        raise StoreError(
            f"{folder}: none of these models is in {store.root}; make them first with:\n  {continuing(folder, [])}"
        )
    return found, absent


def opened(
    folder: Path, data_dir: Path, store_dir: Path | None, plugins: bool | None = None
) -> tuple[Experiment, Store]:
    """A run's experiment without its metrics, and its store. Raises RecipeError, StoreError and MissingError."""
    read_run(folder)
    # a metric's network need not be there
    unscored = replace(load_recipe(recipe_of(folder), plugins=plugins), metrics={})
    return prepare(unscored, data_dir), open_store(store_dir or store_of(folder))


def check_choice(experiment: Experiment, arm: str | None, generation: int | None, seed: int | None) -> None:
    """Raise RecipeError for an arm, generation or seed that the run has not."""
    recipe, lines = experiment.recipe, [line.arm.name for line in experiment.lines]
    if arm is not None and arm not in lines:
        raise RecipeError(f"--arm {arm}: no such arm{registry.did_you_mean(arm, lines)}; allowed: {', '.join(lines)}")
    if generation is not None and not 0 <= generation <= recipe.generations:
        raise RecipeError(f"--generation {generation}: this run has generations 0 to {recipe.generations}")
    if seed is not None and seed not in recipe.seeds:
        raise RecipeError(f"--seed {seed}: this run has seeds {', '.join(map(str, recipe.seeds))}")


def draw(stored: Stored, rows: int, draw_seed: int, device: str = "auto") -> dict[str, np.ndarray]:
    """`rows` new rows from a model, (rows, ...) each; other ones than the run was continued with.

    Conditional data has as many conditions as the rows that have them, so no more can be drawn.
    """
    spec = stored.line.fits[stored.generation]
    names = conditions_of(spec.data.data, spec.family)
    samples = stored.line.samples[stored.generation]
    fitted = samples.conditions == "fitted"
    most, whose = (spec.plan.rows, "row that it was fitted to") if fitted else (spec.data.info.rows, "real row")
    if names and rows > most:
        raise RecipeError(f"--rows {rows}: at most {most}, one for the {', '.join(names)} of each {whose}")
    given = given_to(stored.store, samples, (stored.seed,))
    train = spec.train
    machine = open_machine(device, train.precision if train else "fp32", train.tf32 if train else False)
    stacked = isinstance(spec.family, ClosedForm)
    model = artefacts.model(stored.store, spec, (stored.seed,), machine)
    dtype = torch.float64 if stacked else torch.float32
    found: list[dict[str, np.ndarray]] = []
    shard = rows if stacked else stored.experiment.recipe.sampling.shard
    for first in range(0, rows, shard):
        count = min(shard, rows - first)
        role = f"afterwards/{draw_seed}"
        draws = Draws(
            (stored.seed,), role, stored.generation, first, device=machine.device, dtype=dtype, stacked=stacked
        )
        part = {name: machine.put(column) for name, column in given(first, first + count).items()}
        with torch.no_grad(), machine.autocast():
            columns = spec.family.sample(model, Conditions(count, part), draws)
        check_columns(samples, columns, (1, count) if stacked else (count,))
        found.append({n: to_numpy(c[0] if stacked else c) for n, c in columns.items()})
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}
