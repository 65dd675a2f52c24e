"""`collapse-sim list ...`: what a recipe can `use:`."""

from __future__ import annotations

from typing import Annotated

import typer

from collapse_sim.cli.columns import columns
from collapse_sim.cli.output import data, document

app = typer.Typer(help="What a recipe can use, with settings and defaults.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


@app.command()
def families(as_json: AsJson = False) -> None:
    """Model families (`model:`)."""
    _print("families", as_json)


@app.command()
def strategies(as_json: AsJson = False) -> None:
    """What a generation is made from (`arms: NAME: data:`)."""
    _print("strategies", as_json)


@app.command()
def metrics(as_json: AsJson = False) -> None:
    """Metrics, and the feature maps that some of them compare in."""
    _print("metrics", as_json)


@app.command("data")
def kinds_of_data(as_json: AsJson = False) -> None:
    """Kinds of data (`data:`)."""
    _print("data", as_json)


def _print(room: str, as_json: bool) -> None:
    import dataclasses
    import json

    from collapse_sim.recipe.catalogue import entries

    found = {room: entries(room)}
    if room == "metrics":
        found["features"] = entries("features")
    if as_json:
        document({name: [dataclasses.asdict(entry) for entry in group] for name, group in found.items()})
        return
    blocks = []
    for name, group in found.items():
        if name != room:
            blocks.append(f"{name} (a setting of metrics):\n")
        for entry in group:
            rows = [
                [
                    f"    {setting.name}",
                    "required" if setting.required else json.dumps(setting.default),
                    setting.allowed,
                    setting.meaning,
                ]
                for setting in entry.settings
            ]
            blocks.append("\n".join([entry.name, f"    {entry.summary}", *([columns(rows)] if rows else [])]) + "\n")
    data("\n".join(blocks))
