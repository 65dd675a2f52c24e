"""Conformations of molecules: RDKit's own, from SMILES, or those of an SDF file."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import importlib.metadata
import importlib.util
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from collapse_sim.core.errors import MissingError, StoreError
from collapse_sim.core.files import read_bytes
from collapse_sim.core.hashing import digest_of
from collapse_sim.data.base import Columns, Info, RowSource
from collapse_sim.data.data_files import check_regular, read_text
from collapse_sim.data.file_cache import cache_folder, seal, unsealed
from collapse_sim.data.held_out import ShareOrCount, check_rows, held_out_index, shuffled_split
from collapse_sim.data.molecules.molecule_reading import Molecule, Reading, Wanted, from_sdf, from_smiles
from collapse_sim.data.split import Validated

Count = Annotated[int, Field(gt=0)]
SMILES_FILES, SDF_FILES = (".smi", ".smiles", ".txt"), (".sdf",)
FORMAT = 1  # raised when the cached arrays, or how they come about, change
NAMED = 5  # molecules that a message names

logger = logging.getLogger(__name__)


class Conformers(Validated):
    """Conformations of molecules, from SMILES or an SDF file; some molecules are held out, with all of theirs.

    A row is one conformation: positions in Å, centred, the atoms' numbers, the bonds, and the molecule's number. From
    SMILES, conformations are RDKit's, by ETKDG version 3 (Riniker & Landrum 2015; Wang et al. 2020).
    """

    molecules: Annotated[tuple[str, ...], Field(min_length=2)] | None = None
    """The molecules, each as SMILES, which a name may follow: "CCO ethanol". Either this or `path`."""
    path: Annotated[str, Field(min_length=1)] | None = None
    """A file of SMILES (.smi, .smiles, .txt: one per line, which a name may follow) or of conformations (.sdf);
    relative to the data folder, or absolute."""
    conformers: Count = 20
    """Conformations of each molecule; of an .sdf file at most, its first ones."""
    hydrogens: bool = True
    """Whether hydrogens are atoms of a row."""
    force_field: Literal["none", "mmff"] = "none"
    """SMILES: what relaxes conformations after ETKDG. mmff: MMFF94 (Halgren 1996)."""
    max_atoms: Annotated[int, Field(ge=2)] = 64
    """Molecules with more atoms are left out."""
    max_left_out: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1
    """Share of the molecules that may be left out because they cannot be embedded or read; more is an error."""
    held_out: ShareOrCount = 0.2
    """Share (0.2) or number (8) of molecules to hold out."""
    rows: Count | None = None
    """Number of real rows that generation 0 is fitted to; default: all. The other real rows are the reserve."""
    held_out_rows: Count | None = None
    """Largest number of held-out rows to use, a fixed random choice; default: all."""
    seed: Annotated[int, Field(ge=0)] = 0
    """SMILES: seed of the conformations, which are the same for all seeds of a run."""

    kind: ClassVar[str] = "molecules"
    seeded: ClassVar[bool] = False
    not_in_key: ClassVar[tuple[str, ...]] = ("path", "molecules")  # their content is in the fingerprint

    @model_validator(mode="after")
    def _one_source(self) -> Conformers:
        if (self.molecules is None) == (self.path is None):
            settings = "neither" if self.path is None else "both"
            raise ValueError(f"exactly one of `molecules` and `path` is needed, found {settings}")
        if self.path is not None and _ending(self.path) in SDF_FILES:
            for name, neutral in (("force_field", "none"), ("seed", 0)):
                if getattr(self, name) != neutral:
                    raise ValueError(f"`{name}` is for SMILES, and an .sdf file has conformations: remove it")
        return self

    def inspect(self, folder: Path) -> Info:
        """Makes or reads all conformations, which are then kept in the cache.

        Raises MissingError without RDKit, for a file that cannot be read, and if too many molecules are left out.
        """
        source = self._source(folder)
        table = self._conformations(source)
        real, held_out = self._split(table, source)
        check_rows(self, len(real), len(held_out))
        n = table.atoms.shape[1]
        return Info(
            kind="molecules",
            columns={
                "positions": ((n, 3), "float32"),
                "atoms": ((n,), "uint8"),
                "bonds": ((n, n), "uint8"),
                "molecule": ((), "int64"),
            },
            rows=self.rows or len(real),
            pool=len(real),
            held_out=self.held_out_rows or len(held_out),
            fingerprint=source.fingerprint,
        )

    def open(self, folder: Path) -> tuple[RowSource, RowSource]:
        source = self._source(folder)
        table = self._conformations(source)
        real, held_out = self._split(table, source)
        return ConformationRows(table, real), ConformationRows(table, held_out[held_out_index(self, len(held_out))])

    def _split(self, table: Conformations, source: MoleculeSource) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of the conformations of real and of held-out molecules, ascending."""
        molecules = len(table.counts)
        if molecules < 2:
            raise MissingError(f"{source.name}: one molecule is left; needed: one to train on and one held out")
        real, held_out = shuffled_split(self.held_out, molecules, "molecules")
        return np.flatnonzero(np.isin(table.molecule, real)), np.flatnonzero(np.isin(table.molecule, held_out))

    def _source(self, folder: Path) -> MoleculeSource:
        if importlib.util.find_spec("rdkit") is None:
            raise MissingError("conformers: the package rdkit is not installed: pip install 'collapse-sim[molecules]'")
        if self.molecules is not None:
            entries = [(f"molecule {number}", text) for number, text in enumerate(self.molecules, 1)]
            return MoleculeSource(
                "data.molecules", None, entries, _fingerprint("".join(text.split()[:1]) for text in self.molecules)
            )
        assert self.path is not None
        path = (folder / Path(self.path).expanduser()).absolute()
        check_regular(path)
        if _ending(self.path) in SDF_FILES:
            try:
                content = read_bytes(path)
            except OSError as error:
                raise MissingError(f"{path}: cannot be read: {error.strerror or error}") from None
            return MoleculeSource(str(path), path, [], _fingerprint([hashlib.sha256(content).hexdigest()]))
        if _ending(self.path) not in SMILES_FILES:
            allowed = ", ".join((*SMILES_FILES, *SDF_FILES))
            raise MissingError(f"{path}: molecules are read from files ending in {allowed}: save it as one")
        lines = ((number, line.strip()) for number, line in enumerate(read_text(path).splitlines(), 1))
        entries = [(f"{path}:{number}", line) for number, line in lines if line and not line.startswith("#")]
        if entries and entries[0][1].split()[0].lower() == "smiles":  # a heading
            del entries[0]
        if not entries:
            raise MissingError(f"{path}: the file is empty: it has no molecules")
        return MoleculeSource(str(path), None, entries, _fingerprint(text.split()[0] for _, text in entries))

    def _conformations(self, source: MoleculeSource) -> Conformations:
        """From the cache, or made and kept there. Raises MissingError if too many molecules are left out."""
        wanted = Wanted(self.conformers, self.hydrogens, self.force_field == "mmff", self.max_atoms, self.seed)
        key = digest_of(["conformations", FORMAT, source.fingerprint, source.name, source.entries, *wanted])
        table: Conformations | None = None
        with contextlib.suppress(RuntimeError):  # there is no home folder
            kept = unsealed(_cache_file(key))
            table = None if kept is None else _unpacked(kept)
        if table is None:
            table = gathered(
                from_sdf(source.sdf, wanted)
                if source.sdf
                else from_smiles(source.entries, wanted, in_recipe=self.path is None)
            )
            if len(table.counts):
                with contextlib.suppress(OSError, RuntimeError, StoreError):
                    seal(_cache_file(key), _packed(table))
        self._report(source, table)
        return table

    def _report(self, source: MoleculeSource, table: Conformations) -> None:
        """Log what is left out. Raises MissingError if that is too much, or everything."""
        total = len(table.counts) + len(table.left_out)
        if len(table.left_out) > self.max_left_out * total:
            raise MissingError(
                f"{source.name}: {len(table.left_out)} of {total} molecules cannot be used, and at most the share "
                f"{self.max_left_out:g} may be left out (data.max_left_out): {_named(table.left_out)}: correct or "
                "remove them"
            )
        if not len(table.counts):
            large = f"every molecule has more than {self.max_atoms} atoms: raise data.max_atoms"
            raise MissingError(f"{source.name}: {large if table.large else 'it is empty: it has no molecules'}")
        for what, names in (
            ("cannot be used and are left out", table.left_out),
            (f"have more than {self.max_atoms} atoms (data.max_atoms) and are left out", table.large),
            ("occur before and are left out", table.repeated),
        ):
            if names:
                logger.warning("conformers: %d molecules %s: %s", len(names), what, _named(names))


class MoleculeSource(NamedTuple):
    """Where molecules come from."""

    name: str
    sdf: Path | None
    entries: list[tuple[str, str]]  # SMILES with names, and where they are
    fingerprint: str


@dataclass(frozen=True, eq=False)
class Conformations:
    """The conformations of M molecules of at most A atoms, N in all; unused places are 0."""

    atoms: np.ndarray  # (M, A) uint8: atomic numbers
    bonds: np.ndarray  # (M, A, A) uint8: as in molecule_reading.Molecule
    positions: np.ndarray  # (N, A, 3) float32: Å, centred, molecule after molecule
    counts: np.ndarray  # (M,) int64: conformations of each molecule
    left_out: tuple[str, ...]  # which molecules cannot be used, and why
    large: tuple[str, ...]  # molecules of more than `max_atoms` atoms
    repeated: tuple[str, ...]  # molecules that occur before

    @property
    def molecule(self) -> np.ndarray:
        """(N,) int64: the molecule of each conformation."""
        return np.repeat(np.arange(len(self.counts)), self.counts)


@dataclass(frozen=True, eq=False)
class ConformationRows:
    """data.base.RowSource: the conformations `index` (n,)."""

    table: Conformations
    index: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    def read(self, first: int, last: int) -> Columns:
        """Rows first, ..., last - 1."""
        index = self.index[first:last]
        molecule = self.table.molecule[index]
        return {
            "positions": self.table.positions[index],
            "atoms": self.table.atoms[molecule],
            "bonds": self.table.bonds[molecule],
            "molecule": molecule,
        }


def gathered(readings: Iterable[Reading]) -> Conformations:
    """Molecules side by side, padded to the largest; of equal ones the first."""
    molecules: dict[str, Molecule] = {}
    left_out: list[str] = []
    large: list[str] = []
    repeated: list[str] = []
    for name, identity, molecule, reason in readings:
        if molecule is None:
            (large if not reason else left_out).append(f"{name}, {reason}" if reason else name)
        elif identity in molecules:
            repeated.append(name)
        else:
            molecules[identity] = molecule
    parts = list(molecules.values())
    width = max((len(part.atoms) for part in parts), default=0)
    atoms, bonds = np.zeros((len(parts), width), np.uint8), np.zeros((len(parts), width, width), np.uint8)
    counts = np.array([len(part.positions) for part in parts], dtype=np.int64)
    positions, row = np.zeros((int(counts.sum()), width, 3), np.float32), 0
    for i, part in enumerate(parts):
        n, k = len(part.atoms), len(part.positions)
        atoms[i, :n], bonds[i, :n, :n] = part.atoms, part.bonds
        positions[row : row + k, :n] = part.positions - part.positions.mean(1, keepdims=True)
        row += k
    return Conformations(atoms, bonds, positions, counts, tuple(left_out), tuple(large), tuple(repeated))


def _ending(path: str) -> str:
    return Path(path).suffix.lower()


def _fingerprint(texts: Iterable[str]) -> str:
    """Other versions of RDKit make other conformations of the same SMILES, and may see other aromatic bonds."""
    return digest_of([importlib.metadata.version("rdkit"), *texts])


def _named(entries: tuple[str, ...]) -> str:
    more = f"; and {len(entries) - NAMED} more" if len(entries) > NAMED else ""
    return "; ".join(entries[:NAMED]) + more


def _cache_file(key: str) -> Path:
    return cache_folder() / "conformations" / f"{key}.json"


def _packed(table: Conformations) -> dict[str, Any]:
    """Plain JSON."""
    arrays = {name: _text(getattr(table, name)) for name in ("atoms", "bonds", "positions")}
    notes = {name: list(getattr(table, name)) for name in ("left_out", "large", "repeated")}
    return {**arrays, **notes, "counts": table.counts.tolist(), "width": table.atoms.shape[1]}


def _text(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")


def _unpacked(kept: Mapping[str, Any]) -> Conformations:
    """The inverse of `_packed`."""
    width = int(kept["width"])
    atoms, bonds = (np.frombuffer(base64.b64decode(kept[name]), np.uint8) for name in ("atoms", "bonds"))
    return Conformations(
        atoms=atoms.reshape(-1, width),
        bonds=bonds.reshape(-1, width, width),
        positions=np.frombuffer(base64.b64decode(kept["positions"]), np.float32).reshape(-1, width, 3),
        counts=np.array(kept["counts"], dtype=np.int64),
        left_out=tuple(kept["left_out"]),
        large=tuple(kept["large"]),
        repeated=tuple(kept["repeated"]),
    )
