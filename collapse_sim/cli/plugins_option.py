"""`--plugins` and `--no-plugins`, for every command that reads a recipe."""

from __future__ import annotations

from typing import Annotated

import typer

PluginsOption = Annotated[
    bool | None,
    typer.Option(
        "--plugins/--no-plugins",
        help="Whether modules of your own that the recipe names may be imported, which runs their code. "
        "[default: yes, but of a run directory that was made elsewhere no]",
    ),
]
