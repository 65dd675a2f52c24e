"""`collapse-sim run RECIPE`: run an experiment, or continue it; the same command again resumes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from collapse_sim.cli.examples import complete_recipe
from collapse_sim.cli.options import DataOption, DeviceOption, JsonOption, PluginsOption
from collapse_sim.core.errors import CollapseSimError
from collapse_sim.core.memory_errors import tight_limit
from collapse_sim.ui.console import data, document, say, say_logs

LARGEST_EARLY = 200_000  # bytes of a recipe that is read twice


def run(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE", help="A recipe file, or the name of a shipped recipe.", autocompletion=complete_recipe
        ),
    ],
    arm: Annotated[list[str] | None, typer.Option("--arm", metavar="NAME", help="Only this arm (repeatable).")] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option("--seed", metavar="N", help="Only this seed, which may be a new one (repeatable)."),
    ] = None,
    generations: Annotated[
        int | None, typer.Option("--generations", metavar="N", help="The last generation's number.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a setting: --set train.learning_rate=3e-4 (repeatable)."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="The run directory. Default: runs/NAME.")
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option(
            "--store",
            metavar="DIR",
            help="Directory for artefacts. Default: the run's own store, or .store beside the run directory.",
        ),
    ] = None,
    data_dir: DataOption = Path("data"),
    device: DeviceOption = "auto",
    checkpoint: Annotated[
        float,
        typer.Option(
            "--checkpoint-seconds", metavar="S", min=0.0, help="Seconds between checkpoints of a running fit."
        ),
    ] = 60.0,
    ensemble: Annotated[
        str,
        typer.Option(
            "--ensemble",
            metavar="auto|off|N",
            help="The most fits of one architecture and length to compute together. auto: 1.",
        ),
    ] = "auto",
    compiled: Annotated[
        str,
        typer.Option(
            "--compile",
            metavar="auto|on|off",
            help="Compile the steps of fits with torch.compile. auto: where measured times say that it pays, never in "
            "fits of less than a minute. Results equal eager ones up to rounding.",
        ),
    ] = "auto",
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Run the recipe's own small size, to check that it works.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the plan, compute nothing.")
    ] = False,
    plugins: PluginsOption = None,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Warnings only.")] = False,
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
        from collapse_sim.core.machine import open_device
        from collapse_sim.plan.experiment import prepare
        from collapse_sim.recipe.loader import load
        from collapse_sim.recipe.trust import remember
        from collapse_sim.run.session import Session, check_diverged
        from collapse_sim.store.run_directory import RUNS, store_of
        from collapse_sim.store.run_writer import own_recipe

        own_recipe(Path(recipe))
        loaded = load(
            recipe,
            overrides=settings or (),
            smoke=smoke,
            arms=arm or (),
            seeds=seed or (),
            generations=generations,
            plugins=plugins,
        )
        opened = open_device(device)
        experiment = prepare(loaded, data_dir, opened)
        folder = out or RUNS / (f"{loaded.name}-smoke" if smoke else loaded.name)
        session = Session(
            experiment, opened, folder, store or store_of(folder), data_dir, checkpoint, ensemble, compiled
        )
        if dry_run:
            from collapse_sim.plan.dry_run import plan_document, plan_text

            plan = plan_document(experiment, session.store_dir)
            document(plan) if as_json else data(plan_text(plan))
            session.check()
            return
        remember(folder, loaded)
        result: dict[str, Any] = session.run(quiet=quiet, verbose=verbose, as_json=as_json)
        if as_json:
            document(result, needed=False)
        else:
            if not quiet:
                say(f"compare: collapse-sim compare {folder}")
            data(str(folder), needed=False)
        check_diverged(result)


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
