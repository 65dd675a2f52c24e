"""`collapse-sim run RECIPE`: run an experiment, or continue it; the same command again resumes."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from collapse_sim.cli.options import (
    ArmsOption,
    DataOption,
    DeviceOption,
    EnsembleOption,
    GenerationsOption,
    JsonOption,
    PluginsOption,
    QuietOption,
    RecipeArgument,
    RunStoreOption,
    SeedsOption,
    SetOption,
    SmokeOption,
)
from collapse_sim.cli.preparing import prepared
from collapse_sim.core.errors import CollapseSimError
from collapse_sim.core.memory_errors import tight_limit
from collapse_sim.ui.console import data, document, program, say, say_logs

LARGEST_EARLY = 200_000  # bytes of a recipe that is read twice


def run(
    recipe: RecipeArgument,
    arm: ArmsOption = None,
    seed: SeedsOption = None,
    generations: GenerationsOption = None,
    settings: SetOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="The run directory. Default: runs/NAME.")
    ] = None,
    store: RunStoreOption = None,
    data_dir: DataOption = Path("data"),
    device: DeviceOption = "auto",
    checkpoint: Annotated[
        float,
        typer.Option(
            "--checkpoint-seconds", metavar="S", min=0.0, help="Seconds between checkpoints of a running fit."
        ),
    ] = 60.0,
    ensemble: EnsembleOption = "auto",
    compiled: Annotated[
        str,
        typer.Option(
            "--compile",
            metavar="auto|on|off",
            help="Compile the steps of fits with torch.compile. auto: where measured times say that it pays, never in "
            "fits of less than a minute. Results equal eager ones up to rounding.",
        ),
    ] = "auto",
    track: Annotated[
        list[str] | None,
        typer.Option(
            "--track", metavar="NAME", help="Also send curves to tensorboard, wandb, trackio or mlflow (repeatable)."
        ),
    ] = None,
    track_project: Annotated[
        str | None,
        typer.Option("--track-project", metavar="NAME", help="The trackers' project. Default: the recipe's name."),
    ] = None,
    smoke: SmokeOption = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the plan, compute nothing.")
    ] = False,
    plugins: PluginsOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also print one line per job.")] = False,
) -> None:
    """Run a recipe's experiment, or continue it. What is already stored is never computed again."""
    say_logs(quiet=quiet)
    if not quiet:
        say(f"reading {recipe} ...")  # what follows imports torch, which takes seconds
    if limit := tight_limit():
        say(f"warning: {limit}")
    from collapse_sim.ui.starting import starting

    early = None if dry_run else out or _default_folder(recipe, settings or (), smoke=smoke)
    with starting(early, early.name if early else ""):
        from collapse_sim.recipe.trust import remember
        from collapse_sim.run.session import Session, check_diverged
        from collapse_sim.run.trackers import trackers_of
        from collapse_sim.store.run_directory import store_of
        from collapse_sim.store.run_writer import own_recipe

        trackers = trackers_of(track or ())
        own_recipe(Path(recipe))
        experiment, opened, folder = prepared(
            recipe,
            settings=settings,
            smoke=smoke,
            arms=arm,
            seeds=seed,
            generations=generations,
            plugins=plugins,
            device=device,
            data_dir=data_dir,
            out=out,
        )
        session = Session(
            experiment,
            opened,
            folder,
            store or store_of(folder),
            data_dir,
            checkpoint,
            ensemble,
            compiled,
            trackers,
            track_project,
        )
        if dry_run:
            from collapse_sim.plan.dry_run import plan_document, plan_text
            from collapse_sim.plan.earlier import earlier_rates

            command = _bench_command(
                recipe,
                {
                    "--arm": arm,
                    "--seed": seed,
                    "--generations": generations,
                    "--set": settings,
                    "--out": out,
                    "--store": store,
                    "--data-dir": None if data_dir == Path("data") else data_dir,
                    "--device": None if device == "auto" else device,
                    "--ensemble": None if ensemble == "auto" else ensemble,
                    "--smoke": smoke or None,
                    "--plugins" if plugins else "--no-plugins": None if plugins is None else True,
                },
            )
            rates = earlier_rates(session.store_dir, opened.describe())
            plan = plan_document(experiment, session.store_dir, rates, command)
            document(plan) if as_json else data(plan_text(plan, _time_text(plan)))
            session.check()
            return
        remember(folder, experiment.recipe)
        result: dict[str, Any] = session.run(quiet=quiet, verbose=verbose, as_json=as_json)
        if as_json:
            document(result, needed=False)
        else:
            if not quiet:
                say(f"compare: collapse-sim compare {folder}")
            data(str(folder), needed=False)
        check_diverged(result)


def _time_text(plan: Mapping[str, Any]) -> str:
    """What a plan's time is, and where it is from; "" if nothing is to be made."""
    from collapse_sim.ui.formatting import about

    time = plan["time"]
    if not plan["artefacts"]["to_make"]:
        return ""
    if time["seconds"] is None:
        return f"time: not known, as this store has no such fits or samples; to measure it: {time['bench']}"
    text = f"time: about {about(time['seconds'])}, by what such artefacts of this store took"
    without = ", ".join(f"{count} of {kind}" for kind, count in time["without"].items())
    return text + (f"; without {without}, which it has none of; to measure all: {time['bench']}" if without else "")


def _bench_command(recipe: str, options: Mapping[str, object]) -> str:
    """The command that measures what a run would take. `options` that are None are left out."""
    import shlex

    words = [*program(sys.argv[0]), "bench", recipe]
    for name, value in options.items():
        for one in value if isinstance(value, list) else [] if value is None else [value]:
            words += [name] if one is True else [name, str(one)]
    return shlex.join(words)


def _default_folder(recipe: str, settings: Sequence[str], *, smoke: bool) -> Path | None:
    """The run directory, found without importing torch; None if that takes loading the recipe."""
    import re

    from collapse_sim.recipe import shipped
    from collapse_sim.recipe.extends import read_recipe
    from collapse_sim.recipe.problems import Problems
    from collapse_sim.store.run_directory import RUNS

    names = [text.partition("=")[2].strip() for text in settings if text.partition("=")[0].strip() == "name"]
    try:
        file = shipped.find(recipe)
        if file.stat().st_size > LARGEST_EARLY:
            return None
        name = names[-1] if names else read_recipe(file, Problems()).get("name")
    except (CollapseSimError, OSError, ValueError, RecursionError):
        return None  # the error is reported when the recipe is loaded
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.+,=-]{0,99}", name):
        return None
    return RUNS / (f"{name}-smoke" if smoke else name)
