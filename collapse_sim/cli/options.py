"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from collapse_sim.cli.examples import complete_run

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
PluginsOption = Annotated[
    bool | None,
    typer.Option(
        "--plugins/--no-plugins",
        help="Whether modules of your own that the recipe names may be imported, which runs their code. "
        "[default: yes, but of a run directory that was made elsewhere no]",
    ),
]
