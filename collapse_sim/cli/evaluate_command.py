"""`collapse-sim evaluate`: score a run with another metric."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from collapse_sim.cli.options import DataOption, DeviceOption, JsonOption, PluginsOption, RunArgument, StoreOption
from collapse_sim.ui.console import data, document, say, say_logs


def evaluate(
    run: RunArgument,
    metric: Annotated[
        list[str],
        typer.Option("--metric", help="A metric by name, or as '{use: fid, features: pixels, as: fid_pixels}'."),
    ],
    store: StoreOption = None,
    data_dir: DataOption = Path("data"),
    device: DeviceOption = "auto",
    plugins: PluginsOption = None,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Warnings only.")] = False,
) -> None:
    """Score the finished generations of a run with another metric. Nothing is fitted or sampled again."""
    say_logs(quiet=quiet)
    if not quiet:
        say(f"reading {run} ...")  # what follows imports torch, which takes seconds
    from collapse_sim.core.machine import open_device
    from collapse_sim.plan.experiment import prepare
    from collapse_sim.recipe.loader import load
    from collapse_sim.recipe.trust import remember
    from collapse_sim.run.saved_run import refuse_to_fit, scored_generations
    from collapse_sim.run.session import Session, check_diverged
    from collapse_sim.store.run_directory import find_run, recipe_of, store_of

    folder = find_run(run)
    generations = scored_generations(folder)
    recipe = load(recipe_of(folder), overrides=["show=null"], metrics=metric, generations=generations, plugins=plugins)
    opened = open_device(device)
    session = Session(prepare(recipe, data_dir, opened), opened, folder, store or store_of(folder), data_dir)
    refuse_to_fit(session.experiment, session.store_dir, folder)
    remember(folder, recipe)
    result = session.run(quiet=quiet, as_json=as_json)
    if as_json:
        document(result, needed=False)
    else:
        if not quiet:
            say(f"compare: collapse-sim compare {folder} " + " ".join(f"--metric {name}" for name in recipe.metrics))
        data(str(folder), needed=False)
    check_diverged(result)
