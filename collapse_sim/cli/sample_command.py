"""`collapse-sim sample`: draw new rows from a model of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from collapse_sim.cli.options import (
    ArmOption,
    DataOption,
    DeviceOption,
    GenerationOption,
    PluginsOption,
    RunArgument,
    SeedOption,
    StoreOption,
)
from collapse_sim.ui.console import data


def sample(
    run: RunArgument,
    out: Annotated[
        Path, typer.Option("--out", help="Output file: .npz; also .png for images, .jsonl or .txt for texts.")
    ],
    rows: Annotated[int, typer.Option("--rows", min=1, help="Number of rows.")] = 64,
    arm: ArmOption = None,
    generation: GenerationOption = None,
    seed: SeedOption = None,
    draw_seed: Annotated[
        int, typer.Option("--draw-seed", min=0, help="Seed of this draw: another number gives other rows.")
    ] = 0,
    store: StoreOption = None,
    data_dir: DataOption = Path("data"),
    device: DeviceOption = "auto",
    plugins: PluginsOption = None,
) -> None:
    """Draw new rows from a fitted model of a run.

    These rows differ from those that the run itself drew; only texts of greedy and beam search are the same.
    """
    from collapse_sim.core.errors import RecipeError
    from collapse_sim.core.files import explain_write_errors
    from collapse_sim.run.sample_files import SUFFIXES, suffixes, write_rows
    from collapse_sim.run.saved_run import ModelChoice, SavedRun, draw
    from collapse_sim.store.run_directory import find_run

    if out.suffix not in SUFFIXES:
        raise RecipeError(f"--out {out}: the suffix selects the format; allowed: {', '.join(SUFFIXES)}")
    opened = SavedRun.open(find_run(run), data_dir, store, plugins)
    stored, info = opened.model(ModelChoice(arm, generation, seed), device=device), opened.experiment.info
    if out.suffix not in suffixes(info):
        raise RecipeError(f"--out {out}: not for data of kind {info.kind}; allowed: {', '.join(suffixes(info))}")
    columns = draw(stored, rows, draw_seed, device)
    with explain_write_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_rows(out, columns, info)
    data(str(out), needed=False)
