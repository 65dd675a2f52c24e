"""Moves of whole artefacts."""

from __future__ import annotations

from pathlib import Path

from collapse_sim.store.placing import move_into_place, set_aside
from collapse_sim.store.store import Store


def test_what_is_set_aside_is_gone_in_one_step(tmp_path: Path) -> None:
    Store(tmp_path)
    folder = tmp_path / "objects" / "x"
    folder.mkdir()
    (folder / "file").touch()
    assert set_aside(tmp_path, folder)
    assert not folder.exists()
    assert not list((tmp_path / "tmp").iterdir())
    assert not set_aside(tmp_path, folder)


def test_a_damaged_artefact_in_the_way_is_replaced(tmp_path: Path) -> None:
    Store(tmp_path)
    target, scratch = tmp_path / "objects" / "x", tmp_path / "tmp" / "new"
    for folder, text in ((target, "old"), (scratch, "new")):
        folder.mkdir()
        (folder / "file").write_text(text)
    move_into_place(tmp_path, scratch, target)
    assert (target / "file").read_text() == "new"
