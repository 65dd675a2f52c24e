"""`collapse-sim cache`: list the store, remove what no run refers to, check for damage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from collapse_sim.cli.options import JsonOption
from collapse_sim.core.errors import StoreError
from collapse_sim.ui.console import data, document, say

app = typer.Typer(help="List, remove and check stored artefacts.", no_args_is_help=True)

StoreOption = Annotated[Path, typer.Option("--store", metavar="DIR", help="The store's directory.")]
DEFAULT = Path("runs/.store")


@app.command("list")
def list_entries(
    store: StoreOption = DEFAULT,
    by_run: Annotated[
        bool,
        typer.Option("--by-run", help="One line per run: number of artefacts, bytes of its own and of shared ones."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List artefacts, each with the runs and arms that refer to it. Nothing is changed."""
    from collapse_sim.store.cache import entries, open_store, references, sizes
    from collapse_sim.store.pruning import pruned_total

    opened_store = open_store(store)
    artefacts = list(entries(opened_store))
    pruned = pruned_total(store)
    for problem in references(opened_store)[1]:
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
            for e in artefacts
        ]
        gone = {"artefacts": pruned.artefacts, "bytes": pruned.bytes}
        document({"schema": 1, "artefacts": rows, "runs": sizes(artefacts), "pruned": gone})
        return
    total = f"{len(artefacts)} artefacts, {sum(entry.bytes for entry in artefacts) / 1e6:.1f} MB"
    total += f"; {pruned.artefacts} pruned, {pruned.bytes / 1e6:.1f} MB freed" if pruned.artefacts else ""
    if by_run:
        data(f"{'artefacts':>9} {'own bytes':>14} {'shared bytes':>14}  run")
        for run, counts in sizes(artefacts).items():
            numbers = f"{counts['artefacts']:>9} {counts['own_bytes']:>14} {counts['shared_bytes']:>14}"
            data(f"{numbers}  {run or '- (no run refers to them)'}")
        data(total)
        return
    data(f"{'artefact':<28} {'kind':<11} {'generation':>10} {'bytes':>12}  {'created (UTC)':<16}  runs: arms")
    for entry in artefacts:
        generation = "-" if entry.generation is None else entry.generation
        created = entry.created[:16].replace("T", " ") or "-"
        users = ", ".join(Path(run).name for run in entry.runs) or "-"
        users += f": {', '.join(entry.arms)}" if entry.arms else ""
        data(f"{entry.name:<28} {entry.kind:<11} {generation:>10} {entry.bytes:>12}  {created:<16}  {users}")
    data(total)


@app.command()
def gc(
    store: StoreOption = DEFAULT,
    delete: Annotated[
        bool, typer.Option("--delete", help="Remove them; without this option they are only listed.")
    ] = False,
    forget_missing: Annotated[
        bool, typer.Option("--forget-missing", help="Also artefacts that only missing or moved runs refer to.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List artefacts that no run refers to; with --delete, remove them."""
    from collapse_sim.store.cache import collect, missing_runs, open_store, references

    opened_store = open_store(store)
    for problem in references(opened_store)[1]:
        say(problem)
    missing = missing_runs(opened_store)
    unreferenced, unfinished = collect(opened_store, delete=delete, without=missing if forget_missing else ())
    for run in missing:
        outcome = "its artefacts are kept, unless --forget-missing is given"
        if forget_missing:
            outcome = "it is forgotten" if delete else "with --delete it is forgotten"
        say(f"{run}: the run directory is gone: {outcome}")
    size = sum(entry.bytes for entry in unreferenced)
    if as_json:
        names = [entry.name for entry in unreferenced]
        document({"schema": 1, "deleted": delete, "bytes": size, "artefacts": names, "unfinished": len(unfinished)})
        return
    for entry in unreferenced:
        data(f"{entry.name:<28} {entry.kind:<11} {entry.bytes:>12}")
    if not unreferenced and not unfinished:
        data("nothing to remove")
        return
    outcome = "removed" if delete else "--delete removes them"
    data(f"{len(unreferenced)} artefacts and {len(unfinished)} unfinished ones, {size / 1e6:.1f} MB: {outcome}")


@app.command()
def push(
    mirror: Annotated[
        str,
        typer.Option("--mirror", metavar="URL", help="s3://BUCKET/PREFIX, file:///DIR, or another that fsspec knows."),
    ],
    store: StoreOption = DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Upload the artefacts that a mirror lacks. Exit code 3 if some could not be; the store is not changed."""
    from collapse_sim.core.errors import RemoteError
    from collapse_sim.core.remote import masked
    from collapse_sim.store.cache import open_store
    from collapse_sim.store.mirroring import push_all

    result, reasons = push_all(mirror, open_store(store))
    if as_json:
        document({"schema": 1, **result._asdict(), "reasons": reasons})
    else:
        data(f"{result.pushed} artefacts pushed ({result.pushed_bytes / 1e6:.1f} MB), {result.failed} failed")
    if result.failed:
        why = "; ".join(reasons)
        raise RemoteError(f"not in {masked(mirror)}: {result.failed} artefacts ({why}); the same command tries again")


@app.command()
def verify(store: StoreOption = DEFAULT, as_json: JsonOption = False) -> None:
    """Compare every artefact with its hash. Exit code 5 if one is damaged; nothing is changed."""
    from collapse_sim.store.cache import damaged, entries, open_store, references
    from collapse_sim.store.pruning import pruned_records

    opened_store = open_store(store)
    damaged_artefacts = list(damaged(opened_store))
    records = [(folder, problem) for folder, problem, _ in pruned_records(store)]
    damaged_records = [f"{folder}: damaged ({problem})" for folder, problem in records if problem]
    count = sum(1 for _ in entries(opened_store))
    list_problems = references(opened_store)[1]
    if as_json:
        rows = [
            {"name": e.name, "folder": str(e.folder), "problem": p, "runs": list(e.runs)} for e, p in damaged_artefacts
        ]
        document(
            {
                "schema": 1,
                "artefacts": count,
                "damaged": rows,
                "damaged_lists": list_problems,
                "pruned": len(records),
                "damaged_records": damaged_records,
            }
        )
    else:
        for problem in list_problems:
            data(problem)
        for entry, problem in damaged_artefacts:
            runs = ", ".join(Path(run).name for run in entry.runs) or "no run"
            data(f"damaged: {entry.folder}: {problem} (referred to by {runs})")
        for problem in damaged_records:
            data(f"record of a pruned artefact: {problem}")
        pruned = f"; {len(records)} pruned, {len(damaged_records)} of their records damaged" if records else ""
        data(f"{count} artefacts, {len(damaged_artefacts)} damaged{pruned}")
    if damaged_artefacts:
        raise StoreError(f"damaged artefacts: {len(damaged_artefacts)} of {count}; a run that needs one makes it again")
    if damaged_records:
        raise StoreError(
            f"damaged records of pruned artefacts: {len(damaged_records)} of {len(records)}: what is made again cannot "
            "be compared with them"
        )
    if list_problems:
        raise StoreError(f"damaged lists of references: {len(list_problems)}; each run rewrites its own")
