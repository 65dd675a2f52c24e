"""`collapse-sim export`: a model, its configuration and its samples as files for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from collapse_sim.cli.options import (
    ArmOption,
    DataOption,
    GenerationOption,
    PluginsOption,
    RunArgument,
    SeedOption,
    StoreOption,
)
from collapse_sim.ui.console import data, say


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
            "--all",
            help="Every arm, generation and seed (or those of --arm, --generation, --seed), each in its own folder.",
        ),
    ] = False,
    reference: Annotated[
        bool, typer.Option("--reference", help="Also export real and held-out rows, in the format of the samples.")
    ] = False,
    store: StoreOption = None,
    data_dir: DataOption = Path("data"),
    plugins: PluginsOption = None,
) -> None:
    """Write a model, its configuration and its samples into a folder.

    Written as safetensors and JSON; ddpm also as a diffusers pipeline, language models also as a transformers folder.
    With --all, one such folder for every arm, generation and seed that the other options select.
    """
    from collapse_sim.core.files import explain_write_errors
    from collapse_sim.run.export import check_folder, export_all, export_reference
    from collapse_sim.run.export import export as write
    from collapse_sim.run.saved_run import ModelChoice, SavedRun
    from collapse_sim.store.run_directory import find_run

    check_folder(to)
    opened = SavedRun.open(find_run(run), data_dir, store, plugins)
    choice = ModelChoice(arm, generation, seed)
    absent: list[str] = []
    if every:
        models, absent = opened.models(choice, samples=samples != "none")
    else:
        models = [opened.model(choice, samples=samples != "none")]
    with explain_write_errors(to, "--to"):
        for path in export_all(models, to, samples) if every else write(models[0], to, samples):
            data(str(path), needed=False)
        for path in export_reference(models, to, samples) if reference else ():
            data(str(path), needed=False)
    if absent:
        say(f"left out because they are not in the store: {len(absent)} models: {'; '.join(absent)}")
