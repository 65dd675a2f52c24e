"""`collapse-sim evaluate`, `sample` and `export`: what can be done with a run after the fact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from collapse_sim.cli.examples import complete_run
from collapse_sim.cli.plugins_option import PluginsOption
from collapse_sim.ui.console import data, document, say, say_logs

RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A run directory, or the name of a run below ./runs.", autocompletion=complete_run
    ),
]
ArmOption = Annotated[str | None, typer.Option("--arm", help="Which arm; the first if left out.")]
GenerationOption = Annotated[int | None, typer.Option("--generation", help="Which generation; the last if left out.")]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Which seed; the first if left out.")]
DataOption = Annotated[Path, typer.Option("--data-dir", envvar="COLLAPSE_SIM_DATA", help="Where data sets are.")]
StoreOption = Annotated[
    Path | None,
    typer.Option("--store", metavar="DIR", help="Where its artefacts are; where the run has them, if left out."),
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


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
    """Score the finished generations of a run by another metric. Nothing is fitted or sampled again."""
    say_logs(quiet=quiet)
    if not quiet:
        say(f"reading {run} ...")  # what follows imports torch, which takes seconds
    from collapse_sim.core.machine import open_machine
    from collapse_sim.plan.experiment import prepare
    from collapse_sim.recipe.loader import load
    from collapse_sim.recipe.trust import remember
    from collapse_sim.run.saved_run import refuse_to_fit, scored_generations
    from collapse_sim.run.session import Session, check_diverged
    from collapse_sim.store.run_directory import find_run, recipe_of, store_of

    folder = find_run(run)
    done = scored_generations(folder)
    recipe = load(recipe_of(folder), overrides=["show=null"], metrics=metric, generations=done, plugins=plugins)
    train = recipe.train
    machine = open_machine(device, train.precision if train else "fp32", train.tf32 if train else False)
    session = Session(prepare(recipe, data_dir, machine), machine, folder, store or store_of(folder), data_dir)
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


def sample(
    run: RunArgument,
    out: Annotated[
        Path, typer.Option("--out", help="Where to: FILE.npz; FILE.png of images; FILE.jsonl or .txt of texts.")
    ],
    rows: Annotated[int, typer.Option("--rows", min=1, help="How many rows.")] = 64,
    arm: ArmOption = None,
    generation: GenerationOption = None,
    seed: SeedOption = None,
    draw_seed: Annotated[int, typer.Option("--draw-seed", min=0, help="Another number gives other rows.")] = 0,
    store: StoreOption = None,
    data_dir: DataOption = Path("data"),
    device: DeviceOption = "auto",
    plugins: PluginsOption = None,
) -> None:
    """Draw new rows from a fitted model of a run.

    They are other rows than the ones that the run was continued with; only greedy texts and beams are the same.
    """
    from collapse_sim.core.errors import RecipeError
    from collapse_sim.core.files import explained
    from collapse_sim.run.sample_files import SUFFIXES, suffixes, write_rows
    from collapse_sim.run.saved_run import draw, find
    from collapse_sim.store.run_directory import find_run

    if out.suffix not in SUFFIXES:
        raise RecipeError(f"--out {out}: the suffix says the format; allowed: {', '.join(SUFFIXES)}")
    stored = find(find_run(run), data_dir, arm, generation, seed, store, plugins)
    info = stored.experiment.info
    if out.suffix not in suffixes(info):
        raise RecipeError(f"--out {out}: not for data of kind {info.kind}; allowed: {', '.join(suffixes(info))}")
    columns = draw(stored, rows, draw_seed, device)
    with explained(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_rows(out, columns, info)
    data(str(out), needed=False)


def export(
    run: RunArgument,
    to: Annotated[Path, typer.Option("--to", help="A new folder.")],
    samples: Annotated[
        Literal["npz", "png", "jsonl", "dataset", "none"] | None,
        typer.Option(
            "--samples",
            help="One .npz, a folder of PNG files, a JSONL file, a Hugging Face dataset, or none. "
            "[default: jsonl for texts, npz for all else]",
        ),
    ] = None,
    arm: ArmOption = None,
    generation: GenerationOption = None,
    seed: SeedOption = None,
    every: Annotated[
        bool,
        typer.Option(
            "--all", help="All of them, each in a folder of its own; of --arm, --generation, --seed if given."
        ),
    ] = False,
    reference: Annotated[
        bool, typer.Option("--reference", help="Also real and held-out rows, in the samples' format, for other tools.")
    ] = False,
    store: StoreOption = None,
    data_dir: DataOption = Path("data"),
    plugins: PluginsOption = None,
) -> None:
    """Write a model, its configuration and its samples into a folder.

    As safetensors and JSON; a ddpm as a diffusers pipeline too, a language model as a transformers folder. With --all,
    every arm, generation and seed that the other options leave.
    """
    from collapse_sim.core.files import explained
    from collapse_sim.run.export import check_folder, export_all, export_reference
    from collapse_sim.run.export import export as write
    from collapse_sim.run.saved_run import find, find_all
    from collapse_sim.store.run_directory import find_run

    check_folder(to)
    folder = find_run(run)
    absent: list[str] = []
    if every:
        models, absent = find_all(folder, data_dir, arm, generation, seed, store, plugins, samples=samples != "none")
    else:
        models = [find(folder, data_dir, arm, generation, seed, store, plugins)]
    with explained(to, "--to"):
        for path in export_all(models, to, samples) if every else write(models[0], to, samples):
            data(str(path), needed=False)
        for path in export_reference(models, to, samples) if reference else ():
            data(str(path), needed=False)
    if absent:
        say(f"left out, as they are not in the store: {len(absent)} models: {'; '.join(absent)}")
