"""`collapse-sim cache`: what the store holds, what no run refers to, and whether it is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from collapse_sim.core.errors import StoreError
from collapse_sim.ui.console import data, document, say

app = typer.Typer(help="Look after stored artefacts.", no_args_is_help=True)

StoreOption = Annotated[Path, typer.Option("--store", metavar="DIR", help="The store.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
DEFAULT = Path("runs/.store")


@app.command("list")
def list_entries(
    store: StoreOption = DEFAULT,
    by_run: Annotated[
        bool, typer.Option("--by-run", help="A line a run: how many artefacts, and bytes of its own and shared ones.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List artefacts, each with the runs and arms that refer to it. Nothing is changed."""
    from collapse_sim.store.cache import entries, open_store, references, sizes

    opened = open_store(store)
    found = list(entries(opened))
    for problem in references(opened)[1]:
        say(problem)
    if as_json:
        rows = [
            {
                "name": e.name,
                "kind": e.kind,
                "generation": e.generation,
                "arms": list(e.arms),
                "created": e.created or None,
                "bytes": e.bytes,
                "runs": list(e.runs),
                "folder": str(e.folder),
            }
            for e in found
        ]
        document({"schema": 1, "artefacts": rows, "runs": sizes(found)})
        return
    total = f"{len(found)} artefacts, {sum(entry.bytes for entry in found) / 1e6:.1f} MB"
    if by_run:
        data(f"{'artefacts':>9} {'own bytes':>14} {'shared bytes':>14}  run")
        for run, counts in sizes(found).items():
            numbers = f"{counts['artefacts']:>9} {counts['own_bytes']:>14} {counts['shared_bytes']:>14}"
            data(f"{numbers}  {run or '- (no run refers to them)'}")
        data(total)
        return
    data(f"{'artefact':<28} {'kind':<9} {'generation':>10} {'bytes':>12}  {'made (UTC)':<16}  runs: arms")
    for entry in found:
        generation = "-" if entry.generation is None else entry.generation
        made = entry.created[:16].replace("T", " ") or "-"
        users = ", ".join(Path(run).name for run in entry.runs) or "-"
        users += f": {', '.join(entry.arms)}" if entry.arms else ""
        data(f"{entry.name:<28} {entry.kind:<9} {generation:>10} {entry.bytes:>12}  {made:<16}  {users}")
    data(total)


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
    from collapse_sim.store.cache import collect, missing_runs, open_store, references

    opened = open_store(store)
    for problem in references(opened)[1]:
        say(problem)
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
    """Compare every artefact with its hash; exit 5 if one is damaged. Nothing is changed."""
    from collapse_sim.store.cache import damaged, entries, open_store, references

    opened = open_store(store)
    found = list(damaged(opened))
    count = sum(1 for _ in entries(opened))
    lists = references(opened)[1]
    if as_json:
        rows = [{"name": e.name, "folder": str(e.folder), "problem": p, "runs": list(e.runs)} for e, p in found]
        document({"schema": 1, "artefacts": count, "damaged": rows, "damaged_lists": lists})
    else:
        for problem in lists:
            data(problem)
        for entry, problem in found:
            runs = ", ".join(Path(run).name for run in entry.runs) or "no run"
            data(f"damaged: {entry.folder}: {problem} (referred to by {runs})")
        data(f"{count} artefacts, {len(found)} damaged")
    if found:
        raise StoreError(f"damaged artefacts: {len(found)} of {count}; a run that needs one makes it again")
    if lists:
        raise StoreError(f"damaged lists of what runs refer to: {len(lists)}; a run writes its own anew")
