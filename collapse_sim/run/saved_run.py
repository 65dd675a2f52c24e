"""What can be done with a finished run: score it with another metric, find its models, draw more from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn

from collapse_sim.core import registry
from collapse_sim.core.errors import DivergedError, RecipeError, StoreError
from collapse_sim.core.machine import open_device
from collapse_sim.data.base import conditions_of
from collapse_sim.engine import artefacts
from collapse_sim.engine.sample import Sampler
from collapse_sim.engine.work import JobContext
from collapse_sim.families.hooks import conditions_are_reused
from collapse_sim.plan.experiment import Experiment, prepare
from collapse_sim.plan.generations import ArmPlan, GenerationPlan
from collapse_sim.plan.keeping import Pruning, read_by
from collapse_sim.recipe.loader import load as load_recipe
from collapse_sim.run.remaking import make_again
from collapse_sim.store import journal
from collapse_sim.store.blocks import present
from collapse_sim.store.cache import open_store
from collapse_sim.store.run_directory import JOURNAL_FILE, read_run, recipe_of, store_of
from collapse_sim.store.store import Store
from collapse_sim.ui.run_status import continue_command


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
    pruning, needed, removed = Pruning(experiment, store, diverged_at), dict[str, set[int]](), 0
    to_make = pruning.to_make()
    for arm_plan in experiment.arm_plans:
        ends = diverged_at.get(arm_plan.name, {})
        for k, plan in enumerate(arm_plan.generations):
            seeds = {seed for seed in experiment.recipe.seeds if k < ends.get(seed, k + 1)}
            samples = () if plan.samples.imported else (plan.samples,)
            for spec in (*((plan.fit, plan.model) if plan.fitted else ()), *samples):
                if spec.digest not in needed:
                    gone = pruning.gone(spec)
                    needed[spec.digest] = set()
                    removed += len(gone & to_make.get(spec.digest, set()))
                needed[spec.digest].update(seeds - pruning.gone(spec))
    absent = sum(len(seeds - present(store, digest)) for digest, seeds in needed.items())
    if removed:
        raise StoreError(
            f"{folder}: {removed} of the models and samples that it needs were pruned; make them again with:\n"
            f"  {continue_command(folder, [])} --keep-weights all --keep-samples all"
        )
    if absent:
        files = any(plan.fitted and plan.samples.imported for arm in experiment.arm_plans for plan in arm.generations)
        advice = " (of generations with rows from files, a run fits a model only if its recipe has a metric of models)"
        raise StoreError(
            f"{folder}: {absent} of its models and samples are not in {store}{advice * files}; make them first with:\n"
            f"  {continue_command(folder, [])}"
        )


def diverged(folder: Path) -> dict[str, dict[int, int]]:
    """{arm: {seed: generation}}: where chains of a run diverged."""
    return journal.diverged(journal.read(folder / JOURNAL_FILE))


@dataclass(frozen=True)
class ModelChoice:
    """Which models of a run: an arm, a generation, a seed; None where none is named."""

    arm: str | None = None
    generation: int | None = None
    seed: int | None = None

    def check(self, experiment: Experiment) -> None:
        """Raise RecipeError for an arm, generation or seed that the experiment does not have."""
        recipe, arms = experiment.recipe, [plan.name for plan in experiment.arm_plans]
        if self.arm is not None and self.arm not in arms:
            allowed = f"{registry.did_you_mean(self.arm, arms)}; allowed: {', '.join(arms)}"
            raise RecipeError(f"--arm {self.arm}: no such arm{allowed}")
        if self.generation is not None and not 0 <= self.generation <= recipe.generations:
            raise RecipeError(f"--generation {self.generation}: this run has generations 0 to {recipe.generations}")
        if self.seed is not None and self.seed not in recipe.seeds:
            raise RecipeError(f"--seed {self.seed}: this run has seeds {', '.join(map(str, recipe.seeds))}")


@dataclass(frozen=True)
class SavedRun:
    """A run with its store, without its metrics."""

    folder: Path
    experiment: Experiment
    store: Store
    data_dir: Path

    @classmethod
    def open(cls, folder: Path, data_dir: Path, store_dir: Path | None = None, plugins: bool | None = None) -> SavedRun:
        """`store_dir` None: the run's own store. `plugins`: as in `load`.

        Raises RecipeError, StoreError and MissingError.
        """
        read_run(folder)
        # a metric's network need not exist
        unscored = replace(load_recipe(recipe_of(folder), plugins=plugins), metrics={}, claims=(), references=())
        return cls(folder, prepare(unscored, data_dir), open_store(store_dir or store_of(folder)), data_dir)

    def model(self, choice: ModelChoice, *, samples: bool = False, device: str = "auto") -> StoredModel:
        """One model, by default of the first arm, last generation and first seed. If it was pruned, or something that
        rows are drawn with, it is made again in the store; so are its `samples`.

        Raises RecipeError for an arm, generation or seed that the run does not have, and for a generation without a
        model, whose rows are from files; DivergedError when the chain ended before it, StoreError when it is not fitted
        yet.
        """
        choice.check(self.experiment)
        plans, recipe = self.experiment.arm_plans, self.experiment.recipe
        arm_plan = next(plan for plan in plans if choice.arm in (None, plan.name))
        k = recipe.generations if choice.generation is None else choice.generation
        stored = StoredModel(self, arm_plan, k, recipe.seeds[0] if choice.seed is None else choice.seed)
        self._make_again([stored], samples=samples, device=device)
        if not self.store.has(stored.plan.model, stored.seed):
            if not stored.plan.fitted:
                raise RecipeError(f"{stored}: there is no model: its rows are from files, and nothing was fitted")
            at = diverged(self.folder).get(stored.arm, {}).get(stored.seed)
            if at is not None and at <= k:
                raise DivergedError(f"{stored}: there is no model, its chain diverged at generation {at}")
        self.store.block(stored.plan.model, stored.seed)
        return stored

    def models(self, choice: ModelChoice, *, samples: bool = True) -> tuple[list[StoredModel], list[str]]:
        """All models that fit the choice, and descriptions of those not in the store. What was pruned is made again.

        `samples`: only those whose samples are stored too. Raises RecipeError for an arm, generation or seed that the
        run does not have, StoreError when no model is there.
        """
        choice.check(self.experiment)
        models: list[StoredModel] = []
        absent: list[str] = []
        diverged_at = diverged(self.folder)
        self._make_again(self._all(choice), samples=samples)
        for stored in self._all(choice):
            try:
                for spec in (stored.plan.model, stored.plan.samples) if samples else (stored.plan.model,):
                    self.store.block(spec, stored.seed)
            except StoreError:
                ends_at = diverged_at.get(stored.arm, {}).get(stored.seed, stored.generation + 1)
                absent.append(f"{stored}{' (diverged)' * (ends_at <= stored.generation)}")
            else:
                models.append(stored)
        if not models:
            if not any(stored.plan.fitted for stored in self._all(choice)):
                raise RecipeError(
                    f"{self.folder}: there are no models: all rows are from files, and nothing was fitted"
                )
            command = continue_command(self.folder, [])
            raise StoreError(
                f"{self.folder}: none of these models is in {self.store.root}; make them first with:\n  {command}"
            )
        return models, absent

    def _make_again(self, models: Iterable[StoredModel], *, samples: bool, device: str = "auto") -> None:
        """Make again what was pruned of these models and of what their rows are drawn with. Raises what a run does."""
        pruning = Pruning(self.experiment, self.store.root, diverged(self.folder))
        gone: dict[str, set[int]] = {}
        for stored in models:
            drawn = stored.plan.samples.instead_of or stored.plan.samples
            for spec in (stored.plan.model, *read_by(drawn), *([stored.plan.samples] if samples else [])):
                key = stored.seed if spec.seeded else -1
                if key in pruning.gone(spec):
                    gone.setdefault(spec.digest, set()).add(key)
        if gone:
            make_again(self.experiment, self.store.root, gone, diverged(self.folder), self.data_dir, device)

    def _all(self, choice: ModelChoice) -> Iterator[StoredModel]:
        recipe = self.experiment.recipe
        for arm_plan in self.experiment.arm_plans:
            if choice.arm in (None, arm_plan.name):
                for k in range(recipe.generations + 1) if choice.generation is None else (choice.generation,):
                    for seed in recipe.seeds if choice.seed is None else (choice.seed,):
                        yield StoredModel(self, arm_plan, k, seed)


@dataclass(frozen=True)
class StoredModel:
    """One fitted model of a run: of an arm, a generation, a seed."""

    run: SavedRun
    arm_plan: ArmPlan
    generation: int
    seed: int

    @property
    def arm(self) -> str:
        return self.arm_plan.name

    @property
    def plan(self) -> GenerationPlan:
        return self.arm_plan.generations[self.generation]

    def module(self, device: str = "cpu") -> nn.Module:
        """The fitted torch module, for inference: in eval mode, without gradients. Models that are solved for all seeds
        together have a leading axis of length 1."""
        return artefacts.model(self.run.store, self.plan.model, (self.seed,), open_device(device))

    def draw(self, rows: int, draw_seed: int = 0, device: str = "auto") -> dict[str, np.ndarray]:
        """`rows` new rows by column, (rows, ...) each, as the command `sample` draws them: see `draw` below.

        Raises RecipeError for fewer than one row.
        """
        if rows < 1:
            raise RecipeError(f"rows: found {rows}; allowed: at least 1")
        return draw(self, rows, draw_seed, device)

    def __str__(self) -> str:
        return f"{self.arm}, generation {self.generation}, seed {self.seed}"


def draw(stored: StoredModel, rows: int, draw_seed: int, device: str = "auto") -> dict[str, np.ndarray]:
    """`rows` new rows from a model, (rows, ...) each, different from those that the run continued with.

    With conditions that are not reused, at most as many rows can be drawn as there are rows with conditions.
    """
    fit, samples = stored.plan.model.fitted, stored.plan.samples.instead_of or stored.plan.samples
    names = conditions_of(fit.data.data, fit.family)
    fitted = samples.conditions == "fitted"
    most, whose = (fit.plan.rows, "row that it was fitted to") if fitted else (fit.data.info.rows, "real row")
    if names and rows > most and not conditions_are_reused(fit.family):
        raise RecipeError(f"--rows {rows}: at most {most}, one for the {', '.join(names)} of each {whose}")
    context = JobContext(stored.run.store, open_device(device), lambda event: None, stored.run.data_dir)
    shard = rows if samples.stacked else stored.arm_plan.recipe.sampling.shard
    role = f"afterwards/{draw_seed}"
    with Sampler(context, samples, (stored.seed,)).drawing() as draw_rows:
        pieces = [draw_rows(role, first, first, min(first + shard, rows)) for first in range(0, rows, shard)]
    if samples.stacked:
        pieces = [{name: column[0] for name, column in piece.items()} for piece in pieces]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
