"""Rows made piece by piece: a stop or a kill repeats at most one piece, and damage is noticed and made again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from collapse_sim.core.errors import InterruptedRunError
from collapse_sim.core.events import Note
from collapse_sim.core.machine import open_device
from collapse_sim.engine import pieces
from collapse_sim.engine.pieces import Pieces, in_pieces, layout
from collapse_sim.engine.work import JobContext
from collapse_sim.store.jobs import Job
from collapse_sim.store.rowfile import RowFile
from collapse_sim.store.spec import Spec
from collapse_sim.store.store import Store

JOB = Job(Spec("samples", 1, {"name": "x"}), (0,), ("replace",))


class Made:
    """Two row files of random rows, made piece by piece in one folder; `calls`: which pieces were made."""

    def __init__(self, root: Path, rows: tuple[int, int] = (11, 4), size: int = 3) -> None:
        self.root, self.folder = root, root / "made"
        self.folder.mkdir(parents=True)
        self.notes: list[str] = []
        self.calls: list[tuple[str, int]] = []
        self.store = Store(root / "store")
        dice = np.random.default_rng(0)
        self.columns = {
            name: {"x": dice.normal(size=(n, 2)), "label": dice.integers(0, 9, n)}
            for name, n in zip(("a.rows", "b.rows"), rows, strict=True)
        }
        self.files = [Pieces(name, n, size, self.maker(name)) for name, n in zip(self.columns, rows, strict=True)]

    def maker(self, name: str) -> pieces.Make:
        def make(piece: int, first: int, last: int) -> Mapping[str, np.ndarray]:
            self.calls.append((name, piece))
            return {column: values[first:last] for column, values in self.columns[name].items()}

        return make

    def make(self) -> None:
        def emit(event: object) -> None:
            if isinstance(event, Note):
                self.notes.append(event.message)

        in_pieces(JOB, self.folder, JobContext(self.store, open_device("cpu"), emit, self.root), *self.files)

    def check(self) -> None:
        """Both files hold what their pieces were."""
        assert sorted(path.name for path in self.folder.iterdir()) == sorted(self.columns)
        for name, columns in self.columns.items():
            found = RowFile(self.folder / name).columns
            assert set(found) == set(columns)
            for column, values in columns.items():
                np.testing.assert_array_equal(found[column], values)

    @property
    def all(self) -> list[tuple[str, int]]:
        return [(file.name, piece) for file in self.files for piece in range(len(file.bounds()))]


@pytest.mark.parametrize(("rows", "size"), [(1, 1), (10, 3), (9, 3), (3, 9), (1000, 7)])
def test_pieces_cover_every_row_once(rows: int, size: int) -> None:
    bounds = Pieces("x", rows, size, lambda *_: {}).bounds()
    assert [row for first, last in bounds for row in range(first, last)] == list(range(rows))
    assert all(0 < last - first <= size for first, last in bounds)
    assert len(bounds) == -(-rows // size)


def test_every_piece_is_made_once(tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.make()
    made.check()
    assert made.calls == made.all


@pytest.mark.parametrize("name", ["shard", "shard recorded"])
@pytest.mark.parametrize("after", range(1, 6))
def test_a_stop_repeats_one_piece_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, after: int
) -> None:
    """Between writing and recording a piece, that piece is made again; behind its record, none is."""
    made, seen = Made(tmp_path), []

    def boundary(here: str) -> None:
        seen.append(here)
        if seen.count(name) == after:
            raise InterruptedRunError("stop")

    with monkeypatch.context() as patch:
        patch.setattr(pieces, "boundary", boundary)
        with pytest.raises(InterruptedRunError):
            made.make()
    before = list(made.calls)
    assert len(before) == after
    made.calls.clear()
    made.make()
    made.check()
    assert made.calls == made.all[after - (name == "shard") :]
    assert made.notes == []


def stopped(root: Path, monkeypatch: pytest.MonkeyPatch, after: int = 3) -> tuple[Made, Path]:
    """Unfinished rows, of which `after` pieces are there, and their folder."""
    made, seen = Made(root), []

    def boundary(here: str) -> None:
        seen.append(here)
        if seen.count("shard recorded") == after:
            raise InterruptedRunError("stop")

    with monkeypatch.context() as patch:
        patch.setattr(pieces, "boundary", boundary)
        with pytest.raises(InterruptedRunError):
            made.make()
    made.calls.clear()
    return made, made.store.partial(JOB)


@pytest.mark.parametrize("row", [0, 4, 8])
def test_damaged_rows_are_made_again_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: int) -> None:
    made, partial = stopped(tmp_path, monkeypatch)
    content = bytearray((partial / "a.rows").read_bytes())
    place = bytes(content).index(made.columns["a.rows"]["x"][row].tobytes())
    content[place] ^= 1
    (partial / "a.rows").write_bytes(content)
    made.make()
    made.check()
    assert made.calls == made.all[row // 3 :]
    (note,) = made.notes
    assert f"rows {row // 3 * 3} to {row // 3 * 3 + 2} of a.rows do not match their hash" in note


@pytest.mark.parametrize("spoilt", ["shards.json", "a.rows"])
@pytest.mark.parametrize("content", ["", "{}", "[1]"])
def test_a_record_or_a_file_that_is_none_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoilt: str, content: str
) -> None:
    made, partial = stopped(tmp_path, monkeypatch)
    (partial / spoilt).write_text(content)
    made.make()
    made.check()
    assert made.calls == made.all
    assert len(made.notes) == 1
    assert "damaged unfinished rows, remade from there" in made.notes[0]


def test_rows_that_are_lost_are_made_again_without_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a kill between the last move and the commit, which leaves the record only."""
    made, partial = stopped(tmp_path, monkeypatch)
    (partial / "a.rows").unlink()
    made.make()
    made.check()
    assert made.calls == made.all
    assert made.notes == []


def test_layout_is_of_one_row() -> None:
    columns: dict[str, np.ndarray] = {"x": np.zeros((5, 2, 3), np.float32), "n": np.zeros(5, np.int64)}
    assert layout(columns) == {"x": ((2, 3), "float32"), "n": ((), "int64")}
