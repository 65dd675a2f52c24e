"""Generations whose rows are read from files: which files, whether they fit the plan, and what need not be made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from collapse_sim.core.errors import MissingError, RecipeError
from collapse_sim.data.base import Info
from collapse_sim.data.import_files import imported_rows
from collapse_sim.data.imported_rows import ImportedRows, ImportedSeeds
from collapse_sim.plan.curation_specs import candidates_for, keeps_all
from collapse_sim.plan.settings import Arm, Recipe

if TYPE_CHECKING:
    from collapse_sim.plan.generations import ArmPlan
    from collapse_sim.store.spec import Spec

Imports = Mapping[int, ImportedSeeds]  # by the generation's number
NAMED = 10  # files that a message names


def read_imports(recipe: Recipe, info: Info, data_dir: Path) -> dict[str, Imports]:
    """{arm: files of its generations} for all arms, checked against the data. Paths are relative to the data folder.

    Raises MissingError naming the files that are missing, unreadable, or that do not fit the data.
    """
    problems: list[str] = []
    imports: dict[str, Imports] = {}
    for arm in recipe.arms:
        needed, wrong = columns_needed(recipe.for_arm(arm), info), list[str]()
        imports[arm.name] = {
            k: ImportedSeeds(_read(paths, info, needed, wrong)) for k, paths in _paths(recipe, arm, data_dir).items()
        }
        where = f"arms.{arm.name}.rows_from"
        texts = [*wrong[:NAMED], *([f"and {len(wrong) - NAMED} more files"] if len(wrong) > NAMED else [])]
        problems += [f"{recipe.where(where)}: {where}: {text}" for text in texts]
    if problems:
        raise MissingError("\n".join(problems))
    return imports


def _read(
    paths: Mapping[int | None, Path], info: Info, needed: tuple[str, ...], wrong: list[str]
) -> dict[int | None, ImportedRows]:
    """The rows of each seed; problems are added to `wrong`."""
    rows: dict[int | None, ImportedRows] = {}
    for seed, path in paths.items():
        try:
            rows[seed] = imported_rows(path, info, needed)
        except MissingError as error:
            wrong.append(str(error))
    return rows


def _paths(recipe: Recipe, arm: Arm, data_dir: Path) -> dict[int, dict[int | None, Path]]:
    """{generation: {seed: path}} of an arm's files; the seed None where all seeds have the same rows."""
    paths: dict[int, dict[int | None, Path]] = {}
    for k in range(recipe.generations + 1):
        template = arm.rows_from.of(k) if arm.rows_from is not None else None
        if template is not None:
            seeds: Sequence[int | None] = recipe.seeds if "{seed" in template.replace("{{", "") else (None,)
            paths[k] = {
                seed: (data_dir / Path(filled(template, k, seed or 0)).expanduser()).absolute() for seed in seeds
            }
    return paths


def filled(template: str, k: int, seed: int) -> str:
    """The path of generation k and a seed; recipe/outside.py has checked the template."""
    return template.format(generation=k, seed=seed)


def columns_needed(recipe: Recipe, info: Info) -> tuple[str, ...]:
    """The columns that a generation's rows must have: those that the model is fitted to; without one, all but label."""
    fitted = tuple(name for name in recipe.model.columns if name in info.columns)
    return fitted or tuple(name for name in info.columns if name != "label")


def with_samples(recipe: Recipe, imports: Mapping[str, Imports]) -> Recipe:
    """Without a model and `samples`, generations have as many rows as the files have.

    Raises RecipeError when files have different numbers of rows, since metrics depend on the number.
    """
    if recipe.has_model or recipe.samples is not None:
        return recipe
    own = {arm.name for arm in recipe.arms if arm.samples is not None}
    files = [
        rows
        for arm, of in imports.items()
        if arm not in own
        for seeds in of.values()
        for rows in seeds.by_seed.values()
    ]
    if not files:
        return recipe
    fewest, most = min(files, key=lambda rows: rows.rows), max(files, key=lambda rows: rows.rows)
    if fewest.rows != most.rows:
        raise RecipeError(
            f"{recipe.where('samples')}: samples: {fewest.path} has {fewest.rows} rows and {most.path} has "
            f"{most.rows}, and scores depend on the number: set `samples`, to at most {fewest.rows}"
        )
    return replace(recipe, samples=fewest.rows)


def import_misfits(recipe: Recipe, arm: Arm, samples: Sequence[int], imports: Imports) -> Iterator[str]:
    """Problems of an arm's files with its plan: `samples` are the rows of each generation."""
    path = f"arms.{arm.name}.rows_from"
    for k, seeds in imports.items():
        few = [rows for rows in seeds.by_seed.values() if rows.rows < samples[k]]
        if few:
            more = f", and {len(few) - 1} more files of this generation have too few" if len(few) > 1 else ""
            yield (
                f"{recipe.where(path)}: {path}: {few[0].path} has {few[0].rows} rows, but generation {k} has "
                f"{samples[k]}{more}: lower `samples`, or provide more rows"
            )
    if not imports:
        return
    if arm.guidance is not None and not arm.guidance.neutral and len(imports) == recipe.generations + 1:
        at = f"arms.{arm.name}.guidance"
        yield (
            f"{recipe.where(at)}: {at}: it shapes how models generate, and the rows of all generations are from files; "
            "remove it"
        )
    curation = arm.curation
    if curation is None or curation.pool == "past" or keeps_all(curation):
        return
    first = min(imports)
    if (candidates := candidates_for(curation, samples[first])) > samples[first]:
        at = f"arms.{arm.name}.curation"
        yield (
            f"{recipe.where(at)}: {at}: it chooses from {candidates} candidates, of which the files of generation "
            f"{first} give {samples[first]}; allowed where rows are from files: a curation that needs no further draws"
        )


def without_unread(arm_plans: tuple[ArmPlan, ...]) -> tuple[ArmPlan, ...]:
    """The plans without the models of imported generations that nothing reads: no score, teacher or later fit."""
    plans = [plan for arm in arm_plans for plan in arm.generations]
    if all(plan.samples.imported is None for plan in plans):
        return arm_plans
    pending: list[Spec] = []
    for plan in plans:
        pending += [*plan.generated(), *plan.curations(), *plan.features, *plan.scores.values()]
        if plan.samples.imported is None:
            pending += [plan.fit, *plan.between]
    read: set[str] = set()
    while pending:
        spec = pending.pop()
        if spec.digest not in read:
            read.add(spec.digest)
            pending += spec.parents
    return tuple(
        replace(
            arm,
            generations=tuple(
                plan
                if any(spec.digest in read for spec in (plan.fit, *plan.between))
                else replace(plan, fitted=False, between=())
                for plan in arm.generations
            ),
        )
        for arm in arm_plans
    )
