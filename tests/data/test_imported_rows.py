"""The files of one generation: of every seed its own, or the same ones for all."""

from __future__ import annotations

import numpy as np

from collapse_sim.data.data_files import ArrayRows
from collapse_sim.data.imported_rows import ImportedRows, ImportedSeeds


def rows(content: str, columns: tuple[str, ...] = ("x",), path: str = "a.npy") -> ImportedRows:
    return ImportedRows(path, 3, columns, content, lambda: ArrayRows({"x": np.zeros((3, 1))}))


def test_a_seed_has_its_own_file_or_that_of_all():
    own = ImportedSeeds({5: rows("a"), 7: rows("b")})
    assert own.seeded
    assert own.of(7).content == "b"
    shared = ImportedSeeds({None: rows("c")})
    assert not shared.seeded
    assert {shared.of(5), shared.of(7)} == {shared.by_seed[None]}


def test_the_content_is_that_of_every_seed_and_not_where_it_is():
    first = ImportedSeeds({5: rows("a"), 7: rows("b")})
    assert first.content == ImportedSeeds({5: rows("a", path="elsewhere.npy"), 7: rows("b")}).content
    others = (
        {5: rows("b"), 7: rows("a")},
        {5: rows("a"), 7: rows("c")},
        {5: rows("a"), 8: rows("b")},
        {5: rows("a")},
        {None: rows("a")},
        {5: rows("a", ("x", "y")), 7: rows("b")},
    )
    contents = [first.content, *(ImportedSeeds(by_seed).content for by_seed in others)]
    assert len(set(contents)) == len(contents)
