"""`collapse-sim cache`: what the store holds, what no run refers to, and whether it is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from collapse_sim.cli.output import data, document, say
from collapse_sim.errors import StoreError

app = typer.Typer(help="Look after stored artefacts.", no_args_is_help=True)

StoreOption = Annotated[Path, typer.Option("--store", metavar="DIR", help="The store.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
DEFAULT = Path("runs/.store")


@app.command("list")
def list_entries(store: StoreOption = DEFAULT, as_json: JsonOption = False) -> None:
    """List artefacts, each with the runs that refer to it."""
    from collapse_sim.store.cache import entries, open_store

    found = list(entries(open_store(store)))
    if as_json:
        rows = [
            {"name": e.name, "kind": e.kind, "bytes": e.bytes, "runs": list(e.runs), "folder": str(e.folder)}
            for e in found
        ]
        document({"schema": 1, "artefacts": rows})
        return
    data(f"{'artefact':<28} {'kind':<9} {'bytes':>12}  runs")
    for entry in found:
        runs = ", ".join(Path(run).name for run in entry.runs) or "-"
        data(f"{entry.name:<28} {entry.kind:<9} {entry.bytes:>12}  {runs}")
    data(f"{len(found)} artefacts, {sum(entry.bytes for entry in found) / 1e6:.1f} MB")


@app.command()
def gc(
    store: StoreOption = DEFAULT,
    delete: Annotated[bool, typer.Option("--delete", help="Remove them; without it they are only listed.")] = False,
    forget_missing: Annotated[
        bool, typer.Option("--forget-missing", help="Also what only runs refer to whose directory is gone or moved.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List what no run refers to, or remove it with --delete."""
    from collapse_sim.store.cache import collect, missing_runs, open_store

    opened = open_store(store)
    gone = missing_runs(opened)
    loose, unfinished = collect(opened, delete=delete, without=gone if forget_missing else ())
    for run in gone:
        fate = "its artefacts are kept, unless --forget-missing is given"
        if forget_missing:
            fate = "it is forgotten" if delete else "with --delete it is forgotten"
        say(f"{run}: the run directory is gone: {fate}")
    size = sum(entry.bytes for entry in loose)
    if as_json:
        names = [entry.name for entry in loose]
        document({"schema": 1, "deleted": delete, "bytes": size, "artefacts": names, "unfinished": len(unfinished)})
        return
    for entry in loose:
        data(f"{entry.name:<28} {entry.kind:<9} {entry.bytes:>12}")
    if not loose and not unfinished:
        data("nothing to remove")
        return
    fate = "removed" if delete else "--delete removes them"
    data(f"{len(loose)} artefacts and {len(unfinished)} unfinished ones, {size / 1e6:.1f} MB: {fate}")


@app.command()
def verify(store: StoreOption = DEFAULT, as_json: JsonOption = False) -> None:
    """Compare every artefact with its hash; exit 5 if one is damaged."""
    from collapse_sim.store.cache import damaged, entries, open_store

    opened = open_store(store)
    found = list(damaged(opened))
    count = sum(1 for _ in entries(opened))
    if as_json:
        rows = [{"name": e.name, "folder": str(e.folder), "problem": p, "runs": list(e.runs)} for e, p in found]
        document({"schema": 1, "artefacts": count, "damaged": rows})
    else:
        for entry, problem in found:
            runs = ", ".join(Path(run).name for run in entry.runs) or "no run"
            data(f"damaged: {entry.folder}: {problem} (referred to by {runs})")
        data(f"{count} artefacts, {len(found)} damaged")
    if found:
        raise StoreError(f"damaged artefacts: {len(found)} of {count}; a run that needs one makes it again")
