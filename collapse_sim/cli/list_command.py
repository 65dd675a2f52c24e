"""`collapse-sim list ...`: what a recipe can `use:`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from collapse_sim.cli.columns import columns, terms, wrapped
from collapse_sim.cli.examples import completing, examples
from collapse_sim.core.errors import RecipeError
from collapse_sim.core.registry import REMEDIES
from collapse_sim.ui.console import data, document

if TYPE_CHECKING:
    from collapse_sim.recipe.catalogue import ComponentEntry

app = typer.Typer(help="List what a recipe can use, with settings and defaults.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
_HELP = "Show the settings and defaults of these. Without NAME: list all names, one per line."
HEADINGS = {
    "features": "features (a setting of metrics):",
    "curation": "curation: which generated rows later fits take",
    "weighting": "weighting: how rows or tokens count in the loss",
    "merge": "merge: what becomes of a model's weights after its fit",
    "guidance": "guidance: how samples are drawn from a model",
}


@app.command(epilog=examples("list families", "list families vae ddpm"))
def families(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help=_HELP, autocompletion=completing("families"))
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Model families (`model:`)."""
    _print(["families"], names, as_json)


@app.command(epilog=examples("list strategies mix"))
def strategies(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help=_HELP, autocompletion=completing("strategies"))
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What a generation is fitted to (`arms: NAME: data:`)."""
    _print(["strategies"], names, as_json)


@app.command(epilog=examples("list remedies"))
def remedies(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help=_HELP, autocompletion=completing(*REMEDIES))
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Remedies, by the axis of an arm (`arms: NAME: curation:`)."""
    _print([*REMEDIES], names, as_json)


@app.command(epilog=examples("list metrics", "list metrics fid inception"))
def metrics(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help=_HELP, autocompletion=completing("metrics", "features"))
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Metrics, and the feature maps that some of them use."""
    _print(["metrics", "features"], names, as_json)


@app.command("data", epilog=examples("list data image_folder"))
def kinds_of_data(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help=_HELP, autocompletion=completing("data"))
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Kinds of data (`data:`)."""
    _print(["data"], names, as_json)


def _print(rooms: list[str], names: list[str] | None, as_json: bool) -> None:
    import dataclasses

    from collapse_sim.analysis.terminal import stdout_width
    from collapse_sim.core import registry
    from collapse_sim.recipe.catalogue import describe, entries

    if names:
        requested = {room: [name for name in registry.names(room) if name in names] for room in rooms}
        available = [name for room in rooms for name in registry.names(room)]
        unknown = [name for name in dict.fromkeys(names) if name not in available]
        if unknown:
            hints = (f"no {name!r} in {rooms[0]}{registry.did_you_mean(name, available)}" for name in unknown)
            raise RecipeError(*hints, f"there are: {', '.join(available)}")
        components = {
            room: [describe(name, registry.load(room, name), room) for name in requested[room]] for room in rooms
        }
    else:
        components = {room: entries(room) for room in rooms}
    if as_json:
        document({room: [dataclasses.asdict(entry) for entry in group] for room, group in components.items()})
        return
    width = stdout_width()
    if names:
        data("\n\n".join(_details(entry, width) for group in components.values() for entry in group))
        return
    blocks = []
    for room, group in components.items():
        heading = f"{HEADINGS[room]}\n" if room in HEADINGS else ""
        blocks.append(heading + terms([(entry.name, _in_a_line(entry)) for entry in group], width))
    data("\n\n".join(blocks))


def _in_a_line(entry: ComponentEntry) -> str:
    return entry.summary if entry.families is None else f"{entry.summary} {_families(entry.families).capitalize()}."


def _families(families: tuple[str, ...]) -> str:
    return f"families: {', '.join(families) or 'none'}"


def _details(entry: ComponentEntry, width: int | None) -> str:
    """A component with its settings: as a table if it fits, otherwise one below the other."""
    import json

    inner = None if width is None else width - 4
    lines = [entry.name, *(f"    {line}" for line in wrapped(entry.summary, inner))]
    if entry.families is not None:
        lines += [f"    {line}" for line in wrapped(_families(entry.families), inner)]
    rows = [
        (
            setting.name,
            "required" if setting.required else json.dumps(setting.default, ensure_ascii=False),
            setting.allowed,
            setting.meaning,
        )
        for setting in entry.settings
    ]
    if not rows:
        return "\n".join(lines)
    table = [f"    {line}" for line in columns(rows).split("\n")]
    if width is None or max(map(len, table)) <= width:
        return "\n".join([*lines, *table])
    for name, default, allowed, meaning in rows:
        value = default if default == "required" else f"default {default}"
        lines += [f"    {line}" for line in wrapped(f"{name}: {value}; {allowed}", inner)]
        if meaning:
            lines += [f"        {line}" for line in wrapped(meaning, width - 8)]
    return "\n".join(lines)
