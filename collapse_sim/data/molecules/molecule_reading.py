"""Molecules and their conformations as arrays, by RDKit: embedded from SMILES, or read from SDF files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from collapse_sim.core.errors import MissingError, RecipeError
from collapse_sim.core.randomness import derive
from collapse_sim.data.progress import Progress

BONDS = ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC")  # RDKit's names; the column "bonds" has 1, 2, 3, 4 for them


class Wanted(NamedTuple):
    """What is made of each molecule."""

    conformers: int  # from SMILES so many, of an .sdf file at most
    hydrogens: bool
    relaxed: bool  # by MMFF94
    max_atoms: int
    seed: int


class Molecule(NamedTuple):
    """n atoms with k conformations."""

    atoms: np.ndarray  # (n,) uint8: atomic numbers
    bonds: np.ndarray  # (n, n) uint8: 0 or 1 + the place in BONDS, symmetric
    positions: np.ndarray  # (k, n, 3) float64: Å


class Reading(NamedTuple):
    """A molecule with its conformations, or why there are none."""

    name: str  # with its place
    identity: str  # equal for the same molecule
    molecule: Molecule | None
    reason: str = ""  # "": it has too many atoms


class UnusableError(Exception):
    """A molecule that has to be left out; the message says why."""


class TooLargeError(UnusableError):
    """It has more than `max_atoms` atoms."""


def from_smiles(entries: Sequence[tuple[str, str]], wanted: Wanted, *, in_recipe: bool) -> Iterator[Reading]:
    """(place, "SMILES name") -> molecules. All texts are parsed before the first molecule is embedded.

    Raises MissingError, or RecipeError for molecules that are `in_recipe`, naming the place of a text that is not
    SMILES.
    """
    from rdkit import Chem, rdBase

    progress = Progress("conformers: embedding, once", len(entries), "molecules")
    with rdBase.BlockLogs():
        parsed = []
        for place, text in entries:
            smiles, name = (*text.split(maxsplit=1), "", "")[:2]
            mol = Chem.MolFromSmiles(smiles)
            if mol is None or not smiles:
                if in_recipe:
                    raise RecipeError(f"data.molecules: {place}, {smiles[:80]!r}, is not SMILES that RDKit can read")
                raise MissingError(
                    f"{place}: {smiles[:80]!r} is not SMILES that RDKit can read: correct or remove the line"
                )
            parsed.append((f"{name or smiles} ({place})", smiles, mol))
        for number, (name, smiles, mol) in enumerate(parsed):
            progress.at(number)
            yield reading(name, Chem.MolToSmiles(mol), partial(embedded, smiles, mol, wanted))


def reading(name: str, identity: str, make: Callable[[], Molecule]) -> Reading:
    """What `make` gives, or why it gives nothing."""
    try:
        return Reading(name, identity, make())
    except TooLargeError:
        return Reading(name, identity, None)
    except UnusableError as error:
        return Reading(name, identity, None, str(error))


def embedded(smiles: str, mol: Any, wanted: Wanted) -> Molecule:
    """The molecule with RDKit's conformations: ETKDG version 3 with hydrogens, which may be left out afterwards.

    They do not depend on other molecules. Raises UnusableError.
    """
    from rdkit import Chem
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

    mol = Chem.AddHs(mol)
    atoms, bonds, kept = graph(mol, wanted)
    parameters: Any = rdDistGeom.ETKDGv3()  # its stubs have other types than its attributes
    parameters.randomSeed = derive(wanted.seed, f"conformers/{smiles}", 0) % 2**31
    parameters.numThreads = 1
    if not len(rdDistGeom.EmbedMultipleConfs(mol, wanted.conformers, parameters)):
        raise UnusableError("ETKDG finds no conformation")
    if wanted.relaxed:
        if not rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
            raise UnusableError("MMFF94 has no parameters for it")
        rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(mol, numThreads=1)
    positions = np.stack([conformer.GetPositions() for conformer in mol.GetConformers()])
    return Molecule(atoms, bonds, positions[:, kept])


def graph(mol: Any, wanted: Wanted) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Atomic numbers and bonds of the atoms that are kept, and their places. Raises UnusableError."""
    from rdkit import Chem

    numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()], dtype=np.int64)
    if (numbers == 0).any():
        raise UnusableError("an atom without an element")
    if len(Chem.GetMolFrags(mol)) > 1:
        raise UnusableError("more than one molecule")
    kept = np.flatnonzero(numbers > (0 if wanted.hydrogens else 1))
    if len(kept) > wanted.max_atoms:
        raise TooLargeError
    if len(kept) < 2:
        raise UnusableError("fewer than two atoms")
    bonds = np.zeros((len(numbers), len(numbers)), np.uint8)
    for bond in mol.GetBonds():
        kind = str(bond.GetBondType())
        if kind not in BONDS:
            raise UnusableError(f"a bond of the type {kind.lower()}")
        i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        bonds[i, j] = bonds[j, i] = 1 + BONDS.index(kind)
    return numbers[kept].astype(np.uint8), bonds[np.ix_(kept, kept)], kept


def from_sdf(path: Path, wanted: Wanted) -> Iterator[Reading]:
    """Records whose graph and stereo centres are equal are conformations of one molecule, wherever they are. Its atoms
    are in RDKit's canonical order."""
    from rdkit import Chem, rdBase

    molecules: dict[str, tuple[str, list[Molecule]]] = {}
    with rdBase.BlockLogs():
        supplier = Chem.SDMolSupplier(str(path), removeHs=False)
        progress = Progress(f"conformers: reading {path}, once", len(supplier), "records")
        for number, mol in enumerate(supplier, 1):
            progress.at(number)
            name = f"record {number} of {path}"
            if mol is not None and mol.HasProp("_Name"):
                name = f"{mol.GetProp('_Name').strip()}, {name}".removeprefix(", ")
            one = reading(name, name, partial(recorded, mol, wanted))
            if one.molecule is None:
                yield one
                continue
            identity = f"{Chem.MolToSmiles(mol)} {one.molecule.atoms.tobytes()!r} {one.molecule.bonds.tobytes()!r}"
            _, conformations = molecules.setdefault(identity, (name, []))
            if len(conformations) < wanted.conformers:
                conformations.append(one.molecule)
    for identity, (name, conformations) in molecules.items():
        first = conformations[0]
        positions = np.concatenate([one.positions for one in conformations])
        yield Reading(name, identity, Molecule(first.atoms, first.bonds, positions))


def recorded(mol: Any, wanted: Wanted) -> Molecule:
    """One record of an .sdf file: a molecule with one conformation. Raises UnusableError."""
    from rdkit import Chem

    if mol is None:
        raise UnusableError("RDKit cannot read it")
    mol = Chem.RenumberAtoms(mol, np.argsort(list(Chem.CanonicalRankAtoms(mol))).tolist())
    atoms, bonds, kept = graph(mol, wanted)
    conformer = mol.GetConformer()
    positions = conformer.GetPositions()
    if len(positions) > 3 and not conformer.Is3D():
        raise UnusableError("a drawing in the plane, not a conformation")
    if not np.isfinite(positions).all():
        raise UnusableError("positions that are not finite")
    return Molecule(atoms, bonds, positions[None, kept])
