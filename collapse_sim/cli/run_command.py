"""`collapse-sim run RECIPE`: run an experiment, or continue it; the same command again resumes."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from collapse_sim.cli.on_option import planned_processes
from collapse_sim.cli.options import (
    ArmsOption,
    DataOption,
    DeviceOption,
    EnsembleOption,
    GenerationsOption,
    JsonOption,
    KeepSamplesOption,
    KeepWeightsOption,
    MirrorOption,
    PluginsOption,
    QuietOption,
    RecipeArgument,
    RunStoreOption,
    SeedsOption,
    SetOption,
    SmokeOption,
)
from collapse_sim.core.launch import launched
from collapse_sim.core.memory_errors import tight_limit
from collapse_sim.ui.console import data, document, program, say, say_as, say_logs


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
    mirror: MirrorOption = None,
    data_dir: DataOption = Path("data"),
    device: DeviceOption = "auto",
    checkpoint: Annotated[
        float,
        typer.Option(
            "--checkpoint-seconds", metavar="S", min=0.0, help="Seconds between checkpoints of a running fit."
        ),
    ] = 60.0,
    ensemble: EnsembleOption = "auto",
    keep_weights: KeepWeightsOption = None,
    keep_samples: KeepSamplesOption = None,
    compiled: Annotated[
        str,
        typer.Option(
            "--compile",
            metavar="auto|on|off",
            help="Compile the steps of fits, and the calls of samplers, with torch.compile. auto: where measured times "
            "say that it pays, never in work of less than a minute. Results equal eager ones up to rounding.",
        ),
    ] = "auto",
    overlap: Annotated[
        str,
        typer.Option(
            "--overlap",
            metavar="auto|on|off",
            help="Compute scores in another process while the next generation is fitted. auto: on CUDA, where they "
            "take long enough; a CPU gains only if a core is idle. Results are the same.",
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
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            metavar="here|processes[:N]|ray[:ADDRESS]",
            help="Where to compute: in this process (here), in N processes of this machine, or in as many as make "
            "sense (processes); on a Ray cluster: ray (all CPUs and GPUs of this machine), ray:auto or ray:HOST:PORT. "
            "Default: here, and on a CPU in other processes, too, if fits leave cores idle and there are 20 s of work.",
        ),
    ] = None,
    fit_ranks: Annotated[
        int | None,
        typer.Option("--ranks", metavar="W", help="With --on ray: processes (GPUs) that make each fit together."),
    ] = None,
    smoke: SmokeOption = False,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait",
            help="When other processes are making all that could be made, wait for them and go on. Default: end after "
            "two minutes, with exit code 7.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the plan, compute nothing.")
    ] = False,
    plugins: PluginsOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also print one line per job.")] = False,
) -> None:
    """Run a recipe's experiment, or continue it. What is already stored is never computed again."""
    launch = launched(os.environ)
    processes = planned_processes(on, os.environ, dry_run=dry_run)
    follows = launch is not None and launch.rank > 0
    if launch is not None:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # read by torch's import: its stack traces of lost ranks
    if launch is not None and follows:
        quiet = True  # rank 0 shows what happens
        say_as(launch.name)
    say_logs(quiet=quiet)
    if follows:
        logging.getLogger("collapse_sim").setLevel(logging.ERROR)  # rank 0 has the same warnings
    if not quiet:
        say(f"reading {recipe} ...")  # what follows imports torch, which takes seconds
    keeps = {"keep_weights": keep_weights, "keep_samples": keep_samples}
    settings = [*(settings or ()), *(f"{key}={value}" for key, value in keeps.items() if value is not None)]
    if limit := tight_limit():
        say(f"warning: {limit}")
    from collapse_sim.run.preparing import RunOptions

    options = RunOptions(
        recipe,
        settings=settings,
        smoke=smoke,
        arms=arm or (),
        seeds=seed or (),
        generations=generations,
        plugins=plugins,
        device=device,
        data_dir=data_dir,
        out=out,
        store=store,
        checkpoint_s=checkpoint,
        ensemble=ensemble,
        compiled=compiled,
        overlap=overlap,
        wait=wait,
        trackers=track or (),
        project=track_project,
        mirror=mirror,
        on=None if processes else on,
        fit_ranks=fit_ranks,
    )
    with options.session(early=not dry_run, launch=launch) as session:
        from collapse_sim.core.ranks import Group
        from collapse_sim.recipe.trust import remember
        from collapse_sim.run.session import check_diverged

        if isinstance(session.ranks, Group) and not session.ranks.first:
            session.follow(session.ranks)
        if dry_run:
            from collapse_sim.plan.dry_run import plan_document, plan_text
            from collapse_sim.plan.earlier import earlier_rates
            from collapse_sim.store.mirroring import available

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
            rates = earlier_rates(session.store_dir, session.device.describe())
            fetchable = available(mirror, session.experiment.specs(), session.store_dir)
            plan = plan_document(session.experiment, session.store_dir, rates, command, session.ends(), fetchable)
            beside, hears = "", (lambda _: None) if quiet or as_json else say
            if processes:
                from collapse_sim.run.on_processes import on_document, on_text

                plan["on"] = on_document(session, processes, rates, hears, fetchable)
                beside = f"\n\n{on_text(plan['on'])}"
            if session.place is not None:
                from collapse_sim.run.on_cluster import cluster_document, cluster_text

                plan["on"] = cluster_document(session, session.place, rates, hears, fetchable)
                beside = f"\n\n{cluster_text(plan['on'])}"
            if not processes and session.count > 1:
                plan["processes"] = session.count
                beside = f"\n\n{_processes_text(session.count)}"
            document(plan) if as_json else data(plan_text(plan, _time_text(plan)) + beside)
            session.check()
            return
        remember(session.folder, session.experiment.recipe)
        result: dict[str, Any] = session.run(quiet=quiet, verbose=verbose, as_json=as_json)
        if as_json:
            document(result, needed=False)
        else:
            if not quiet:
                say(f"compare: collapse-sim compare {session.folder}")
            data(str(session.folder), needed=False)
        check_diverged(result)


def _processes_text(count: int) -> str:
    return f"processes: {count}, this one and {count - 1} more that it starts (--on here: this one only)"


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
