"""Damaged artefacts, and `cache list`, `gc` and `verify`."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from collapse_sim.store.lease import token
from collapse_sim.store.registration import registered
from collapse_sim.store.store import REFERENCES_LOCK


def flip_a_bit(folder: Path) -> str:
    file = max(folder.glob("*.*"), key=lambda path: (path.name != "manifest.json", path.stat().st_size))
    content = bytearray(file.read_bytes())
    content[-2] ^= 4
    file.write_bytes(content)
    return f"{file.name} does not match its hash"


def cut(folder: Path) -> str:
    file = max(folder.glob("*.*"), key=lambda path: (path.name != "manifest.json", path.stat().st_size))
    size = file.stat().st_size
    file.write_bytes(file.read_bytes()[:-3])
    return f"{file.name} has {size - 3} bytes instead of {size}"


def lose_a_file(folder: Path) -> str:
    file = max(folder.glob("*.*"), key=lambda path: (path.name != "manifest.json", path.stat().st_size))
    file.unlink()
    return f"{file.name} is missing"


def spoil_manifest(folder: Path) -> str:
    (folder / "manifest.json").write_text("{")
    return "manifest.json is unreadable"


def lose_manifest(folder: Path) -> str:
    (folder / "manifest.json").unlink()
    return "manifest.json is unreadable"


def empty(folder: Path) -> str:
    shutil.rmtree(folder)
    folder.mkdir()
    return "manifest.json is unreadable"


@pytest.mark.parametrize("spoil", [flip_a_bit, cut, lose_a_file, spoil_manifest, lose_manifest, empty])
@pytest.mark.parametrize("kind", ["fit", "samples"])
def test_a_damaged_artefact(shell, recipe, kind, spoil: Callable[[Path], str]):
    """`cache verify` names it, `run` makes it again, only it, and the results are the same bytes."""
    name = recipe()
    shell("run", name, "-q")
    before, comparison = shell.files(), shell("compare", "tiny", "--json").out
    folder = shell.folders(kind)[0].relative_to(shell.root)
    problem = spoil(folder)
    done = shell("cache", "verify", code=5)
    named, total = done.out.splitlines()
    assert named.startswith(f"damaged: {folder}: {problem}")
    assert named.endswith("(referred to by tiny)")
    assert total == "10 artefacts, 1 damaged"
    assert done.err == "error: damaged artefacts: 1 of 10; a run that needs one makes it again\n"
    (entry,) = shell("cache", "verify", "--json", code=5).json["damaged"]
    assert (entry["folder"], entry["problem"][: len(problem)]) == (str(folder), problem)

    done = shell("run", name, "--json")
    assert f"damaged artefact removed, it is made again: {folder} ({problem}" in done.err
    assert (done.json["made"], done.json["reused"]) == (1, 9)
    made = [line["made"] for line in shell.journal("generation")[-2:]]
    assert sum(line.get(kind, 0) for line in made) == sum(sum(line.values()) for line in made) == 1
    shell("cache", "verify")
    assert shell("compare", "tiny", "--json").out == comparison
    rows_and_weights = [path for path in before if path.endswith((".safetensors", "history.json", "scores.json"))]
    assert len(rows_and_weights) >= 10
    assert {path: shell.files()[path] for path in rows_and_weights} == {path: before[path] for path in rows_and_weights}


def test_files_of_others_in_the_store_are_left_alone(shell, recipe):
    """What a file manager or a network file system drops into folders."""
    name = recipe()
    shell("run", name, "-q")
    places = [shell.store / "objects", shell.folders("fit")[0].parent, shell.store / "partial", shell.store / "tmp"]
    strangers = [place / ".DS_Store" for place in places] + [shell.folders("fit")[0].parent / "s-1" / "x"]
    for path in strangers:
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    assert shell("run", name, "--json").json["made"] == 0
    assert shell("cache", "verify").out == "10 artefacts, 0 damaged\n"
    shell("cache", "gc", "--delete")
    assert len(shell("cache", "list", "--json").json["artefacts"]) == 10
    assert all(path.exists() for path in strangers)


def test_list(shell, recipe):
    shell("run", recipe(), "-q")
    text = shell("cache", "list").out
    head, *rows, total = text.splitlines()
    assert head.split() == ["artefact", "kind", "generation", "bytes", "created", "(UTC)", "runs:", "arms"]
    assert sorted(row.split()[2] for row in rows if row.split()[1] == "fit") == ["0", "1", "1"]
    users = [row.partition("tiny")[2] for row in rows]
    assert users.count(": replace") == users.count(": accumulate+distill") == 3  # a fit, samples, a score
    assert users.count(": replace, accumulate+distill") == 3  # generation 0
    assert users.count("") == 1  # the data
    entries = shell("cache", "list", "--json").json["artefacts"]
    assert total == f"10 artefacts, {sum(entry['bytes'] for entry in entries) / 1e6:.1f} MB"
    for entry in entries:
        assert entry["bytes"] == sum(path.stat().st_size for path in Path(entry["folder"]).iterdir())
        assert entry["runs"] == [str(shell.root / "runs" / "tiny")]
        manifest = json.loads((Path(entry["folder"]) / "manifest.json").read_text())
        assert (entry["generation"], entry["created"]) == (manifest["generation"], manifest["created"])


def two_runs(shell, recipe) -> None:
    """`a` and `b` share the data alone, `a` and `c` generation 0 too."""
    shell("run", recipe(), "-q", "--out", "runs/a")
    shell("run", recipe(("hidden: 16", "hidden: 8")), "-q", "--out", "runs/b")
    shell("run", recipe(), "-q", "--arm", "replace", "--out", "runs/c")


def test_sizes_by_run(shell, recipe):
    two_runs(shell, recipe)
    document = shell("cache", "list", "--json").json
    folders = [str(shell.root / "runs" / name) for name in "abc"]
    assert list(document["runs"]) == folders
    for folder in folders:
        counted, used = document["runs"][folder], [e for e in document["artefacts"] if folder in e["runs"]]
        assert counted["artefacts"] == len(used)
        assert counted["own_bytes"] == sum(entry["bytes"] for entry in used if entry["runs"] == [folder])
        assert counted["own_bytes"] + counted["shared_bytes"] == sum(entry["bytes"] for entry in used)
    assert document["runs"][folders[2]]["own_bytes"] == 0 < document["runs"][folders[0]]["own_bytes"]
    head, *rows, total = shell("cache", "list", "--by-run").out.splitlines()
    assert head.split() == ["artefacts", "own", "bytes", "shared", "bytes", "run"]
    assert [row.split()[-1] for row in rows] == folders
    assert total.startswith("19 artefacts, ")


def test_gc_removes_nothing_that_a_run_refers_to(shell, recipe):
    two_runs(shell, recipe)
    before = shell.artefacts()
    assert len(before) == 10 + 9
    assert shell("cache", "gc").out == "nothing to remove\n"
    assert shell("cache", "gc", "--delete").out == "nothing to remove\n"
    assert shell("cache", "gc", "--delete", "--json").json == {
        "schema": 1, "deleted": True, "bytes": 0, "artefacts": [], "unfinished": 0,
    }  # fmt: skip
    assert shell.artefacts() == before


def test_gc_keeps_what_a_run_refers_to_whose_folder_is_gone(shell, recipe):
    two_runs(shell, recipe)
    before = shell.artefacts()
    shutil.rmtree("runs/a")
    gone = shell.root / "runs" / "a"
    done = shell("cache", "gc", "--delete")
    assert done.err == f"{gone}: the run directory is gone: its artefacts are kept, unless --forget-missing is given\n"
    assert done.out == "nothing to remove\n"
    assert shell.artefacts() == before

    done = shell("cache", "gc", "--forget-missing")
    assert done.err == f"{gone}: the run directory is gone: with --delete it is forgotten\n"
    assert done.out.splitlines()[-1].startswith("3 artefacts and 0 unfinished ones, ")
    assert done.out.splitlines()[-1].endswith(" MB: --delete removes them")
    assert shell.artefacts() == before
    assert len(shell("cache", "list", "--json").json["artefacts"]) == 19

    done = shell("cache", "gc", "--forget-missing", "--delete", "--json")
    assert done.err == f"{gone}: the run directory is gone: it is forgotten\n"
    removed = {name.split("/")[0] for name in done.json["artefacts"]}
    left = shell.artefacts()
    assert {key.split("/")[1][:12] for key in before.keys() - left.keys()} == removed
    assert len(removed) == 3  # generation 1 of accumulate+distill: a fit, samples, a score
    assert not list((shell.store / "tmp").iterdir())
    for words in (["--out", "runs/c", "--arm", "replace"], ["--out", "runs/b", "--set", "model.hidden=8"]):
        assert shell("run", recipe(), *words, "--json").json["made"] == 0
    assert shell("cache", "gc", "--forget-missing").err == ""


def test_gc_and_unfinished_work(shell, recipe, monkeypatch):
    """Checkpoints go with the last run that refers to them, not before."""
    from collapse_sim.engine import fit

    original, calls = fit.backward, []

    def failing(*args, **options):
        calls.append(1)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return original(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(fit, "backward", failing)
        shell("run", recipe(), "--checkpoint-seconds", "0", code=130)
    (partial,) = (shell.store / "partial").iterdir()
    assert shell("cache", "gc", "--delete").out == "nothing to remove\n"
    assert list(partial.glob("step-*.json"))
    shutil.rmtree("runs/tiny")
    assert shell("cache", "gc", "--forget-missing", "--json").json["unfinished"] == 1
    assert shell("cache", "gc", "--forget-missing", "--delete").out.splitlines()[-1].startswith("1 artefacts and 1 unf")
    assert not partial.exists()


@pytest.mark.parametrize("options", [[], ["--delete"], ["--delete", "--forget-missing"]])
def test_gc_is_refused_while_a_run_is_active(shell, recipe, options):
    shell("run", recipe(), "-q")
    shutil.rmtree("runs/tiny")
    before = shell.artefacts()
    with registered(shell.store, shell.root / "runs" / "other", {}):
        done = shell("cache", "gc", *options, code=5)
    host = "".join(sign for sign in socket.gethostname() if sign.isalnum() or sign == ".")
    assert done.err == (
        f"error: runs/.store: in use by a run (process {os.getpid()} on {host}); try again when it has ended\n"
    )
    assert shell.artefacts() == before
    killed = shell.store / "locks" / f"active-{token()[:8]}{'0' * 16}-{host}-1.lock"
    killed.touch()  # of this kernel, and nobody holds it
    shell("cache", "gc", *options)
    elsewhere = shell.store / "locks" / f"active-{'0' * 24}-{host}-1.lock"
    elsewhere.touch()  # of another kernel or container, whatever its name: its heart was heard just now
    assert "in use by a run (process 1 on " in shell("cache", "gc", *options, code=5).err
    os.utime(elsewhere, (time.time() - 700, time.time() - 700))
    shell("cache", "gc", *options)


def test_a_run_that_starts_during_gc_waits_until_it_is_over(shell, recipe):
    """Or else what the run is about to reuse could be removed under its feet."""
    shell("run", recipe(), "-q")
    begun = threading.Event()

    def run() -> None:
        with registered(shell.store, shell.root / "runs" / "tiny", {}):
            begun.set()

    other = threading.Thread(target=run)
    with FileLock(shell.store / "locks" / REFERENCES_LOCK):
        other.start()
        assert not begun.wait(0.3)
    assert begun.wait(10)
    other.join()


def test_a_damaged_list_of_references(shell, recipe):
    """`gc` does not know what to keep, so it keeps all; other commands go on; the run writes its list anew."""
    two_runs(shell, recipe)
    before = shell.artefacts()
    name = recipe()
    (path,) = [path for path in (shell.store / "runs").glob("*.json") if '/runs/a"' in path.read_text()]
    content = json.loads(path.read_text())
    path.write_text(path.read_text().replace("references", "referances"))
    shutil.rmtree("runs/b")
    for words in (["gc"], ["gc", "--delete"]):
        done = shell("cache", *words)
        assert f"runs/.store/runs/{path.name}: damaged (it does not match its own hash), so nothing is " in done.err
        assert "run the recipe of that run again to rewrite it, or remove it if the run is gone" in done.err
        assert done.out == "nothing to remove\n"
    assert shell("cache", "gc", "--delete", "--forget-missing").out == "nothing to remove\n"
    assert shell.artefacts() == before
    done = shell("cache", "list", "--json")
    assert f"runs/.store/runs/{path.name}: damaged" in done.err
    assert len(done.json["artefacts"]) == 19
    assert "damaged lists of references: 1" in shell("cache", "verify", code=5).err
    assert f"{path.name}: damaged" in shell("run", name, "-q", "--out", "runs/a").err
    assert json.loads(path.read_text()) == content
    shell("cache", "verify")


def test_a_damaged_list_is_written_anew_for_all_arms(shell, recipe):
    """What the run had before, and this sitting is not about, is still kept: its journal names it."""
    name = recipe()
    shell("run", name, "-q")
    (path,) = (shell.store / "runs").glob("*.json")
    path.write_text("{")
    shell("run", name, "-q", "--arm", "replace")
    loose = shell("cache", "gc", "--json").json["artefacts"]
    kept = {folder.parent.name[:12] for kind in ("fit", "samples") for folder in shell.folders(kind)}
    assert len(kept) == 6
    assert not {name.split("/")[0] for name in loose} & kept
