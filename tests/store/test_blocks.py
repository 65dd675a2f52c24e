"""Committed artefacts on disk: the seeds in their names, and whether they are intact."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from collapse_sim.store import sealed
from collapse_sim.store.blocks import MANIFEST, block_name, check_block, object_folder, parse_block, present
from tests.odd_files import put


def test_the_name_of_a_block_is_no_bomb():
    assert parse_block("s0-3,7") == (0, 1, 2, 3, 7)
    assert parse_block("s0-99999999999999") == parse_block("s5-1000000,0-999999") == ()


@pytest.mark.parametrize("seed", range(30))
def test_names_of_blocks_say_their_seeds(seed: int) -> None:
    dice = random.Random(seed)
    seeds = tuple(sorted(dice.sample(range(40), dice.randrange(1, 30))))
    assert parse_block(block_name(seeds)) == seeds
    assert not set(block_name(seeds)) & set("/\\ :")


def test_names_as_people_see_them() -> None:
    assert (block_name(()), block_name((7,)), block_name(tuple(range(200)))) == ("all", "s7", "s0-199")
    assert block_name((0, 3, 5, 6, 7, 8, 9)) == "s0,3,5-9"
    assert parse_block("all") == (-1,)
    for name in ("", "s", "s-1", "s1-", "s1,,2", "s1 ", "t1", "all2", "s1.tmp", "S1", ".s1"):
        assert parse_block(name) == ()


def committed(root: Path) -> Path:
    """An artefact of two files for seeds 0 and 1."""
    digest = hashlib.sha256(b"x").hexdigest()
    folder = object_folder(root, digest) / "s0-1"
    folder.mkdir(parents=True)
    contents = {"a.bin": b"content", "b.bin": b""}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    facts = {name: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for name, c in contents.items()}
    (folder / MANIFEST).write_text(sealed.text({"digest": digest, "seeds": [0, 1], "files": facts}))
    return folder


def test_an_intact_artefact_and_where_it_is(tmp_path: Path) -> None:
    folder = committed(tmp_path)
    problem, manifest = check_block(folder)
    assert (problem, manifest["seeds"]) == ("", [0, 1])
    assert present(tmp_path, folder.parent.name) == {0, 1}
    (folder.parent / "all").mkdir()
    (folder.parent / "notes.txt").touch()
    assert present(tmp_path, folder.parent.name) == {-1, 0, 1}
    assert present(tmp_path, "0" * 64) == present(tmp_path / "no store", folder.parent.name) == set()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "a.bin").unlink(), "a.bin is missing"),
        (lambda folder: (folder / "a.bin").write_bytes(b"conten"), "a.bin has 6 bytes instead of 7"),
        (lambda folder: (folder / "a.bin").write_bytes(b"cantent"), "a.bin does not match its hash"),
        (lambda folder: (folder / "b.bin").write_bytes(b"1"), "b.bin has 1 bytes instead of 0"),
        (lambda folder: put("folder", folder / "a.bin"), "a.bin is unreadable: it is a folder, not a file"),
        (lambda folder: put("pipe", folder / "a.bin"), "a.bin is unreadable: it is a named pipe, not a file"),
        (lambda folder: put("dangling", folder / "a.bin"), "a.bin is missing"),
        (lambda folder: (folder / MANIFEST).unlink(), "manifest.json is unreadable: No such file or directory"),
        (lambda folder: (folder / MANIFEST).write_text("{}"), "manifest.json is unreadable: it has no hash of its own"),
        (
            lambda folder: (folder / MANIFEST).write_text(sealed.text({"files": {}})),
            "manifest.json is unreadable: 'seeds'",
        ),
    ],
)
def test_what_is_wrong_with_a_damaged_one(tmp_path: Path, spoil: Callable[[Path], object], said: str) -> None:
    folder = committed(tmp_path)
    spoil(folder)
    assert check_block(folder) == (said, {})


@pytest.mark.parametrize("name", ["s0", "s0-2", "all"])
def test_an_artefact_at_another_place_is_not_that_one(tmp_path: Path, name: str) -> None:
    folder = committed(tmp_path)
    moved = folder.rename(folder.with_name(name))
    assert check_block(moved) == ("it is not where its manifest says", {})
