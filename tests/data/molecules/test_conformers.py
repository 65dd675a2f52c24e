"""The data `conformers`: rows of molecules from SMILES and SDF files, and what is wrong with such files."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from collapse_sim.core.errors import MissingError, RecipeError
from collapse_sim.data.base import Data
from collapse_sim.data.molecules import conformers as module
from collapse_sim.data.molecules.conformers import Conformers
from tests.data.making import check_columns, message_of, rows_of

SMILES = ("CCO ethanol", "CC(=O)O", "c1ccccc1 benzene", "CCN", "CCCl")


def write(folder: Path, *lines: str, name: str = "molecules.smi") -> Conformers:
    (folder / name).write_text("\n".join(lines) + "\n")
    return Conformers(path=name, conformers=4, held_out=2)


def all_rows(data: Conformers, folder: Path) -> dict[str, np.ndarray]:
    real, held_out = rows_of(data, folder)
    return {name: np.concatenate([real[name], held_out[name]]) for name in real}


def test_molecules_are_held_out_with_all_their_conformations(tmp_path: Path) -> None:
    data = write(tmp_path, *SMILES)
    assert isinstance(data, Data)
    info = data.inspect(tmp_path)
    assert (info.kind, info.rows, info.pool, info.held_out) == ("molecules", 12, 12, 8)
    assert info.shape("positions") == (12, 3)  # benzene
    real, held_out = rows_of(data, tmp_path)
    check_columns(info, real, 12)
    check_columns(info, held_out, 8)
    mine, theirs = set(real["molecule"].tolist()), set(held_out["molecule"].tolist())
    assert (len(mine), len(theirs), mine & theirs) == (3, 2, set())
    assert np.bincount(np.concatenate([real["molecule"], held_out["molecule"]])).tolist() == [4] * 5


def test_rows_are_conformations_of_their_graph(tmp_path: Path) -> None:
    """Bonded atoms are as far apart as such bonds are, others are not as near; nothing is in unused places."""
    rows = all_rows(write(tmp_path, *SMILES), tmp_path)
    lengths = {(1, 6): 1.09, (6, 6, 1): 1.52, (6, 6, 4): 1.39, (6, 17): 1.78, (1, 8): 0.97, (1, 7): 1.01}
    for x, atoms, bonds in zip(rows["positions"], rows["atoms"], rows["bonds"], strict=True):
        n = np.count_nonzero(atoms)
        assert np.array_equal(bonds, bonds.T)
        assert not x[n:].any()
        assert not bonds[n:].any()
        np.testing.assert_allclose(x[:n].mean(0), 0, atol=1e-5)
        distances = np.linalg.norm(x[:n, None] - x[None, :n], axis=2)
        for i, j in zip(*np.nonzero(bonds), strict=True):
            low, high = sorted((int(atoms[i]), int(atoms[j])))
            expected = lengths.get((low, high)) or lengths.get((low, high, int(bonds[i, j])))
            if expected:
                assert distances[i, j] == pytest.approx(expected, abs=0.08)
        assert distances[(bonds[:n, :n] == 0) & ~np.eye(n, dtype=bool)].min() > 1.5
    benzene = rows["molecule"] == rows["molecule"][(rows["bonds"] == 4).any((1, 2))][0]
    assert (rows["atoms"][benzene] == 6).sum(1).tolist() == [6] * 4
    assert (rows["bonds"][benzene] == 4).sum((1, 2)).tolist() == [12] * 4


def test_conformations_differ_and_depend_on_the_seed_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A molecule has the same conformations in another file, made again or from the cache."""
    monkeypatch.setenv("COLLAPSE_SIM_CACHE", str(tmp_path / "cache"))
    rows = all_rows(write(tmp_path, *SMILES), tmp_path)
    ethanol = rows["positions"][(rows["atoms"] == 8).sum(1) == 1]
    assert len(np.unique(ethanol, axis=0)) == 4
    assert len(list((tmp_path / "cache").rglob("*.json"))) == 1
    other = all_rows(write(tmp_path, *SMILES[::-1], name="other.smi"), tmp_path)
    np.testing.assert_array_equal(other["positions"][(other["atoms"] == 8).sum(1) == 1], ethanol)
    monkeypatch.setattr(module, "from_smiles", None)  # nothing is embedded again
    np.testing.assert_array_equal(all_rows(write(tmp_path, *SMILES), tmp_path)["positions"], rows["positions"])
    monkeypatch.undo()
    reseeded = all_rows(write(tmp_path, *SMILES).model_copy(update={"seed": 1}), tmp_path)
    assert not np.array_equal(reseeded["positions"], rows["positions"])


def test_molecules_in_the_recipe_are_those_of_a_file(tmp_path: Path) -> None:
    file = write(tmp_path, "smiles name", "# a note", "", *SMILES)
    inline = Conformers(molecules=SMILES, conformers=4, held_out=2)
    assert inline.inspect(tmp_path) == file.inspect(tmp_path)
    np.testing.assert_array_equal(all_rows(inline, tmp_path)["positions"], all_rows(file, tmp_path)["positions"])
    assert inline.describe() == file.describe()  # where they are is not in the key
    renamed = Conformers(molecules=("CCO alcohol", *SMILES[1:]), conformers=4, held_out=2)
    assert renamed.inspect(tmp_path).fingerprint == inline.inspect(tmp_path).fingerprint
    other = Conformers(molecules=(*SMILES[:4], "CCBr"), conformers=4, held_out=2)
    assert other.inspect(tmp_path).fingerprint != inline.inspect(tmp_path).fingerprint


def test_without_hydrogens(tmp_path: Path) -> None:
    """The heavy atoms are where they are with hydrogens."""
    plain = Conformers(molecules=SMILES, conformers=2, held_out=1)
    heavy = plain.model_copy(update={"hydrogens": False})
    assert heavy.inspect(tmp_path).shape("positions") == (6, 3)
    for x, y, atoms, fewer in zip(
        *(all_rows(data, tmp_path)[name] for name in ("positions",) for data in (plain, heavy)),
        *(all_rows(data, tmp_path)["atoms"] for data in (plain, heavy)),
        strict=True,
    ):
        kept = x[atoms > 1]
        np.testing.assert_allclose(y[fewer > 0], kept - kept.mean(0), atol=1e-5)


def test_limits_on_rows(tmp_path: Path) -> None:
    data = Conformers(molecules=SMILES, conformers=4, held_out=2, rows=5, held_out_rows=3)
    info = data.inspect(tmp_path)
    assert (info.rows, info.pool, info.held_out) == (5, 12, 3)
    assert [len(rows["atoms"]) for rows in rows_of(data, tmp_path)] == [12, 3]
    with pytest.raises(RecipeError, match=r"data\.rows: 13 asked for, but there are 12 real rows"):
        data.model_copy(update={"rows": 13}).inspect(tmp_path)
    with pytest.raises(RecipeError, match="5 of 5 molecules leaves none to train on"):
        data.model_copy(update={"held_out": 5}).inspect(tmp_path)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("CCO", "C1CC", "CCN"), "molecules.smi:2: 'C1CC' is not SMILES that RDKit can read"),
        (("CCO", "", "C(C)(C)(C)(C)C", "CCN"), "molecules.smi:3: 'C(C)(C)(C)(C)C' is not SMILES"),
        ((), "molecules.smi: the file is empty: it has no molecules"),
        (("CCO",), "molecules.smi: one molecule is left; needed: one to train on and one held out"),
        (
            ("CCO", "CCN", "[Na+].[Cl-] salt", "O=C=O"),
            "molecules.smi: 1 of 4 molecules cannot be used, and at most the share 0.1 may be left out "
            "(data.max_left_out): salt (",
        ),
    ],
)
def test_bad_files(lines: tuple[str, ...], message: str, tmp_path: Path) -> None:
    assert message in message_of(write(tmp_path, *lines), tmp_path)


def test_bad_molecules_in_a_recipe(tmp_path: Path) -> None:
    data = Conformers(molecules=("CCO", "C1CC broken"))
    assert message_of(data, tmp_path, RecipeError) == (
        "data.molecules: molecule 2, 'C1CC', is not SMILES that RDKit can read"
    )
    assert "molecule 2, ''" in message_of(Conformers(molecules=("CCO", " ")), tmp_path, RecipeError)


def test_what_is_left_out_is_counted_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = ("CCO", "CCN", "CCCl", "[Na+].[Cl-] salt", "C[*]", "[H][H]", "OCC again", "CCCCCCCCCCCC long")
    data = write(tmp_path, *lines).model_copy(update={"max_left_out": 0.5, "max_atoms": 12, "hydrogens": False})
    data = data.model_copy(update={"max_atoms": 10})
    with caplog.at_level(logging.WARNING):
        info = data.inspect(tmp_path)
    assert info.pool + info.held_out == 12
    salt, large, again = (record.getMessage() for record in caplog.records)
    assert salt.startswith("conformers: 3 molecules cannot be used and are left out: salt (")
    for reason in ("more than one molecule", "an atom without an element", "fewer than two atoms"):
        assert reason in salt
    assert "1 molecules have more than 10 atoms (data.max_atoms) and are left out: long (" in large
    assert "1 molecules occur before and are left out: again (" in again


def test_a_molecule_that_cannot_be_embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rdkit.Chem import rdDistGeom

    embed = rdDistGeom.EmbedMultipleConfs

    def failing(mol, count, parameters):
        return [] if mol.GetNumAtoms() == 12 else embed(mol, count, parameters)

    monkeypatch.setattr(rdDistGeom, "EmbedMultipleConfs", failing)
    message = message_of(write(tmp_path, *SMILES), tmp_path)
    assert "1 of 5 molecules cannot be used" in message
    assert "benzene (" in message
    assert "ETKDG finds no conformation" in message
    lenient = write(tmp_path, *SMILES).model_copy(update={"max_left_out": 0.2})
    assert lenient.inspect(tmp_path).pool == 8


def test_every_molecule_too_large(tmp_path: Path) -> None:
    data = write(tmp_path, *SMILES).model_copy(update={"max_atoms": 3})
    assert "every molecule has more than 3 atoms: raise data.max_atoms" in message_of(data, tmp_path)


def test_no_file_and_another_ending(tmp_path: Path) -> None:
    assert message_of(Conformers(path="none.smi"), tmp_path).endswith("none.smi: no such file")
    (tmp_path / "molecules.mol2").write_text("CCO")
    assert "molecules are read from files ending in .smi, .smiles, .txt, .sdf" in message_of(
        Conformers(path="molecules.mol2"), tmp_path
    )


def test_without_rdkit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write(tmp_path, *SMILES)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        MissingError, match=r"rdkit is not installed: pip install 'collapse-sim\[molecules\]'"
    ) as caught:
        data.inspect(tmp_path)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "exactly one of `molecules` and `path` is needed, found neither"),
        ({"path": "a.smi", "molecules": ("C", "CC")}, "found both"),
        ({"path": "a.sdf", "force_field": "mmff"}, "`force_field` is for SMILES"),
        ({"path": "a.SDF", "seed": 3}, "`seed` is for SMILES"),
        ({"molecules": ("CC",)}, "molecules"),
        ({"path": "a.smi", "conformers": 0}, "conformers"),
        ({"path": "a.smi", "split": "seed"}, "split"),  # conformations of one molecule would be on both sides
    ],
)
def test_settings_that_do_not_fit_together(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Conformers(**settings)
