"""Arguments and options shared by several commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from collapse_sim.cli.examples import complete_recipe, complete_run

RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A run directory, or the name of a run below ./runs.", autocompletion=complete_run
    ),
]
ArmOption = Annotated[str | None, typer.Option("--arm", help="Which arm. Default: the first.")]
GenerationOption = Annotated[int | None, typer.Option("--generation", help="Which generation. Default: the last.")]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Which seed. Default: the first.")]
RecipeArgument = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="A recipe file, or the name of a shipped recipe.", autocompletion=complete_recipe
    ),
]
ArmsOption = Annotated[list[str] | None, typer.Option("--arm", metavar="NAME", help="Only this arm (repeatable).")]
SeedsOption = Annotated[
    list[int] | None,
    typer.Option("--seed", metavar="N", help="Only this seed, which may be a new one (repeatable)."),
]
GenerationsOption = Annotated[
    int | None, typer.Option("--generations", metavar="N", help="The last generation's number.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting: --set train.learning_rate=3e-4 (repeatable)."),
]
RunStoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store",
        metavar="DIR",
        help="Directory for artefacts. Default: the run's own store, or .store beside the run directory.",
    ),
]
MirrorOption = Annotated[
    str | None,
    typer.Option(
        "--mirror",
        metavar="URL",
        help="A mirror of the store: s3://BUCKET/PREFIX, file:///DIR, or another that fsspec knows. What it has is "
        "fetched, and what is made is uploaded.",
    ),
]
EnsembleOption = Annotated[
    str,
    typer.Option(
        "--ensemble",
        metavar="auto|off|N",
        help="The most fits of one architecture and length to compute together; on CUDA also samples. auto: 1.",
    ),
]
Kept = Literal["all", "last", "none-but-generation-0"]
KeepWeightsOption = Annotated[
    Kept | None,
    typer.Option("--keep-weights", help="Generations whose weights stay in the store, as `keep_weights` in a recipe."),
]
KeepSamplesOption = Annotated[
    Kept | None,
    typer.Option("--keep-samples", help="Generations whose samples stay in the store, as `keep_samples` in a recipe."),
]
SmokeOption = Annotated[bool, typer.Option("--smoke", help="Run the recipe's own small size, to check that it works.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Warnings only.")]
DataOption = Annotated[
    Path, typer.Option("--data-dir", metavar="DIR", envvar="COLLAPSE_SIM_DATA", help="Directory of the data sets.")
]
StoreOption = Annotated[
    Path | None,
    typer.Option("--store", metavar="DIR", help="Directory of its artefacts. Default: the run's own store."),
]
DeviceOption = Annotated[str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
PluginsOption = Annotated[
    bool | None,
    typer.Option(
        "--plugins/--no-plugins",
        help="Whether your own modules that the recipe names may be imported, which runs their code. "
        "[default: yes, but no for a run directory that was created elsewhere]",
    ),
]
