"""`collapse-sim evaluate`: score a run with another metric, or samples that were generated elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from collapse_sim.cli.options import DataOption, DeviceOption, JsonOption, PluginsOption, RunArgument, StoreOption
from collapse_sim.core.errors import RecipeError
from collapse_sim.ui.console import data, document, say, say_logs

if TYPE_CHECKING:
    from collapse_sim.plan.settings import Recipe


def evaluate(
    run: RunArgument,
    metric: Annotated[
        list[str],
        typer.Option("--metric", help="A metric by name, or as '{use: fid, features: pixels, as: fid_pixels}'."),
    ],
    real: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="DATA",
            help="Score samples from elsewhere: RUN is a folder ARM/GENERATION/SEED, DATA the real data, by name or as "
            "'{use: image_folder, path: photos}'.",
        ),
    ] = None,
    rows: Annotated[
        int | None,
        typer.Option("--rows", metavar="N", min=1, help="With --data: score the first N rows of every file."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="With --data: the run directory. Default: runs/NAME.")
    ] = None,
    store: StoreOption = None,
    data_dir: DataOption = Path("data"),
    device: DeviceOption = "auto",
    plugins: PluginsOption = None,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Warnings only.")] = False,
) -> None:
    """Score the finished generations of a run with another metric. Nothing is fitted or sampled again.

    With --data, score samples that were generated elsewhere, and print the table of `compare`.
    """
    if real is None and (rows is not None or out is not None):
        raise RecipeError(
            f"{'--rows' if out is None else '--out'}: it is for samples from elsewhere; give their --data"
        )
    say_logs(quiet=quiet)
    if not quiet:
        say(f"reading {run} ...")  # what follows imports torch, which takes seconds
    from collapse_sim.core.machine import open_device
    from collapse_sim.plan.experiment import prepare
    from collapse_sim.recipe.trust import remember
    from collapse_sim.run.saved_run import refuse_to_fit
    from collapse_sim.run.session import Session, check_diverged
    from collapse_sim.store.run_directory import store_of

    recipe, folder = _of_run(run, metric, plugins) if real is None else _of_tree(run, real, metric, rows, out, plugins)
    opened = open_device(device)
    session = Session(prepare(recipe, data_dir, opened), opened, folder, store or store_of(folder), data_dir)
    if real is None:
        refuse_to_fit(session.experiment, session.store_dir, folder)
    remember(folder, recipe)
    result = session.run(quiet=quiet, as_json=as_json)
    if real is not None:
        from collapse_sim.cli.compare_command import compare

        compare([str(folder)], as_json=as_json)
    elif as_json:
        document(result, needed=False)
    else:
        if not quiet:
            say(f"compare: collapse-sim compare {folder} " + " ".join(f"--metric {name}" for name in recipe.metrics))
        data(str(folder), needed=False)
    check_diverged(result)


def _of_run(run: str, metrics: Sequence[str], plugins: bool | None) -> tuple[Recipe, Path]:
    """The recipe of a run, with other metrics, and its directory."""
    from collapse_sim.recipe.loader import load
    from collapse_sim.run.saved_run import scored_generations
    from collapse_sim.store.run_directory import find_run, recipe_of

    folder = find_run(run)
    generations = scored_generations(folder)
    recipe = load(recipe_of(folder), overrides=["show=null"], metrics=metrics, generations=generations, plugins=plugins)
    return recipe, folder


def _of_tree(
    tree: str, real: str, metrics: Sequence[str], rows: int | None, out: Path | None, plugins: bool | None
) -> tuple[Recipe, Path]:
    """A recipe for samples from elsewhere, and its run directory."""
    from collapse_sim.recipe.sample_tree import tree_recipe
    from collapse_sim.store.run_directory import RUNS

    recipe = tree_recipe(Path(tree), real, metrics, rows=rows, plugins=plugins)
    return recipe, out or RUNS / recipe.name
