"""Molecules by RDKit: force fields, bonds, and records of SDF files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import AllChem

from collapse_sim.data.molecules.conformers import Conformers
from collapse_sim.data.molecules.molecule_reading import BONDS, Wanted, embedded, from_sdf, from_smiles, graph
from tests.data.making import message_of, rows_of

WANTED = Wanted(conformers=3, hydrogens=True, relaxed=False, max_atoms=64, seed=0)


def energies(mol: Chem.Mol, positions: np.ndarray) -> list[float]:
    """MMFF94, in kcal/mol."""
    properties = AllChem.MMFFGetMoleculeProperties(mol)
    values = []
    for x in positions:
        conformer = Chem.Conformer(len(x))
        conformer.SetPositions(np.ascontiguousarray(x))
        place = mol.AddConformer(conformer, assignId=True)
        values.append(AllChem.MMFFGetMoleculeForceField(mol, properties, confId=place).CalcEnergy())
    return values


def test_a_force_field_lowers_every_energy() -> None:
    mol = Chem.MolFromSmiles("CC(=O)OCC")
    plain, relaxed = (embedded("CC(=O)OCC", mol, WANTED._replace(relaxed=relax)) for relax in (False, True))
    before, after = (energies(Chem.AddHs(mol), one.positions) for one in (plain, relaxed))
    assert all(low < high - 0.1 for low, high in zip(after, before, strict=True))


def test_conformations_are_rdkits_own() -> None:
    """Distances between atoms are those of ETKDG with the same seed."""
    mol = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    parameters = AllChem.ETKDGv3()
    from collapse_sim.core.randomness import derive

    parameters.randomSeed = derive(0, "conformers/CCO", 0) % 2**31
    AllChem.EmbedMultipleConfs(mol, 3, parameters)
    own = embedded("CCO", Chem.MolFromSmiles("CCO"), WANTED)
    expected = np.stack([conformer.GetPositions() for conformer in mol.GetConformers()])
    np.testing.assert_array_equal(own.positions, expected)


def test_bonds_of_every_type() -> None:
    atoms, bonds, kept = graph(Chem.MolFromSmiles("C=CC#Cc1ccccc1"), WANTED)
    assert atoms.tolist() == [6] * 10
    assert kept.tolist() == list(range(10))
    assert [BONDS[bonds[i, i + 1] - 1] for i in range(4)] == ["DOUBLE", "SINGLE", "TRIPLE", "SINGLE"]
    assert (bonds == 4).sum() == 12


def test_bonds_of_other_types_are_left_out() -> None:
    (one,) = from_smiles([("here", "N->[Pt]")], WANTED, in_recipe=False)
    assert one.molecule is None
    assert one.reason == "a bond of the type dative"


def records(path: Path, *, shuffled: bool = True) -> dict[str, np.ndarray]:
    """Write conformations of ethanol and acetic acid in turn, their atoms in random order. Returns the sorted distances
    between the atoms of each molecule's conformations."""
    rng, writer = np.random.default_rng(0), Chem.SDWriter(str(path))
    mols = {}
    for smiles in ("CCO", "CC(=O)O"):
        mols[smiles] = Chem.AddHs(Chem.MolFromSmiles(smiles))
        AllChem.EmbedMultipleConfs(mols[smiles], 3, AllChem.ETKDGv3())
    for place in range(3):
        for smiles, mol in mols.items():
            order = rng.permutation(mol.GetNumAtoms()).tolist()
            renumbered = Chem.RenumberAtoms(mol, order)
            renumbered.SetProp("_Name", smiles)
            writer.write(renumbered, confId=place)
    writer.close()
    return {
        smiles: np.stack([spectrum(conformer.GetPositions()) for conformer in mol.GetConformers()])
        for smiles, mol in mols.items()
    }


def spectrum(x: np.ndarray) -> np.ndarray:
    return np.sort(np.linalg.norm(x[:, None] - x[None], axis=2).ravel())


def test_records_of_one_molecule_are_its_conformations_in_one_order_of_atoms(tmp_path: Path) -> None:
    distances = records(tmp_path / "all.sdf")
    readings = list(from_sdf(tmp_path / "all.sdf", WANTED))
    assert [one.name.partition(",")[0] for one in readings] == ["CCO", "CC(=O)O"]
    for one, expected in zip(readings, distances.values(), strict=True):
        assert one.molecule is not None
        np.testing.assert_allclose(np.stack([spectrum(x) for x in one.molecule.positions]), expected, atol=1e-3)
        bonded = np.nonzero(one.molecule.bonds)
        lengths = np.linalg.norm(one.molecule.positions[:, bonded[0]] - one.molecule.positions[:, bonded[1]], axis=2)
        assert 0.9 < lengths.min() < lengths.max() < 1.7  # so every conformation has the bonds' order of atoms


def test_rows_of_an_sdf_file(tmp_path: Path) -> None:
    records(tmp_path / "all.sdf")
    data = Conformers(path="all.sdf", conformers=2, held_out=1)
    info = data.inspect(tmp_path)
    assert (info.pool, info.held_out) == (2, 2)  # the first two conformations of each
    real, held_out = rows_of(data, tmp_path)
    assert len({*real["molecule"].tolist()} | {*held_out["molecule"].tolist()}) == 2


def test_records_that_cannot_be_used(tmp_path: Path) -> None:
    """A drawing, a broken record, and two molecules in one are counted and named."""
    records(tmp_path / "all.sdf")
    flat = Chem.MolFromSmiles("CCCC")
    AllChem.Compute2DCoords(flat)
    good = (tmp_path / "all.sdf").read_text()
    drawing = Chem.MolToMolBlock(flat) + "$$$$\n"
    broken = drawing.replace("  4  3", "  4  9", 1)
    (tmp_path / "bad.sdf").write_text(good + drawing + broken)
    message = message_of(Conformers(path="bad.sdf"), tmp_path)
    assert "2 of 4 molecules cannot be used" in message
    assert "record 7 of " in message
    assert "a drawing in the plane, not a conformation" in message
    assert "RDKit cannot read it" in message


def test_a_file_without_a_record(tmp_path: Path) -> None:
    (tmp_path / "empty.sdf").write_text("")
    with pytest.raises(Exception, match="empty"):
        Conformers(path="empty.sdf").inspect(tmp_path)
