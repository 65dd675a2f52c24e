"""Metrics of generated conformations of molecules: coverage and matching by RMSD, bond lengths and angles."""

from __future__ import annotations

import importlib.util
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from collapse_sim.core.component import Component
from collapse_sim.core.content_cache import content_cache
from collapse_sim.data.base import Info
from collapse_sim.data.molecules.molecule_reading import BONDS
from collapse_sim.families.base import ModelFamily
from collapse_sim.metrics.aspects import Aspect
from collapse_sim.metrics.base import (
    Evaluation,
    FeatureSpace,
    MetricNote,
    Need,
    ScoredByRows,
    Which,
    count_of,
    note,
)

MAX_SYMMETRIES = 10_000  # of a molecule that are tried; with more, an RMSD may be too large
HYDROGEN = 1
Kind = tuple[tuple[int, ...], ...]  # of bonds or angles: elements and types of bonds


class ConformationMetric(Component):
    """Base: generated conformations against real ones of the same molecules.

    outputs: generated for held-out molecules, as many as there are held-out rows; samples: generated for the molecules
    that generation 0 is fitted to, against the rows that it is fitted to.
    """

    of: Literal["outputs", "samples"] = "outputs"
    """Which molecules: held-out ones (outputs), or those that generation 0 is fitted to (samples)."""

    version: ClassVar[int] = 1
    kinds: ClassVar[tuple[str, ...] | None] = ("molecules",)
    better: ClassVar[Literal["lower", "higher"] | None] = "lower"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)

    @property
    def needs(self) -> tuple[Need, ...]:
        return (self.of, self._against)

    @property
    def _against(self) -> Literal["held_out", "real"]:
        return "held_out" if self.of == "outputs" else "real"

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        lacking = [name for name in ("positions", "atoms", "bonds", "molecule") if name not in info.columns]
        if lacking:
            raise ValueError(f"{type(self).__name__} needs the column {lacking[0]}: use the data `conformers`")

    def metric_note(self, info: Info, samples: int, space: FeatureSpace | None) -> MetricNote:
        """The numbers of conformations."""
        counts: dict[Which, int] = {which: count_of(which, info, samples) for which in (self.of, self._against)}
        return MetricNote(note(counts, None))


class _NearestMetric(ScoredByRows, ConformationMetric):
    """Base: the RMSD of each conformation from the nearest one of the other side.

    The RMSD is RDKit's GetBestRMS over the atoms that are not hydrogen: the smallest over rotations, translations and
    the symmetries of the graph, without mirroring. Scores are means over molecules of means over their conformations.
    """

    side: Literal["recall", "precision"] = "recall"
    """recall: for each real conformation the nearest generated one (COV-R, MAT-R); precision: the reverse."""

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        super().check(info, family, samples)
        if importlib.util.find_spec("rdkit") is None:
            raise ValueError("the package rdkit is not installed: pip install 'collapse-sim[molecules]'")

    def score_rows(self, evaluation: Evaluation) -> Mapping[str, Tensor]:
        """rmsd (n,) float64 in Å of every conformation whose molecule is on both sides, and its molecule, int64."""
        generated, real = evaluation.rows(self.of), evaluation.rows(self._against)
        nearest = nearest_rmsds(
            generated["positions"], generated["molecule"], real["positions"], real["molecule"], real["atoms"],
            real["bonds"],
        )  # fmt: skip
        rmsd, molecule = nearest[self.side]
        return {"rmsd": rmsd, "molecule": molecule}

    def sum_up(self, columns: Mapping[str, Tensor]) -> float:
        """The mean over molecules; nan without molecules."""
        values, molecule = self._values(columns["rmsd"]), columns["molecule"]
        means = [float(values[molecule == number].mean()) for number in sorted(set(molecule.tolist()))]
        return float(np.mean(means)) if means else float("nan")

    def _values(self, rmsd: Tensor) -> Tensor:
        """What is averaged, (n,) float64."""
        return rmsd


class ConformationCoverage(_NearestMetric):
    """COV: the share of a molecule's conformations with one of the other side nearer than a threshold, 0 to 1.

    Mean over molecules (Ganea et al. 2021; Xu et al. 2022, who generate twice as many conformations as there are real
    ones; here as many). They use 1.25 Å for drugs and 0.5 Å for the small molecules of QM9.
    """

    threshold: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 1.25
    """RMSD in Å up to which a conformation is covered."""

    better: ClassVar[Literal["lower", "higher"] | None] = "higher"
    unit: ClassVar[str] = "share of conformations"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    measures: ClassVar[tuple[Aspect, ...]] = ("modes",)

    def _values(self, rmsd: Tensor) -> Tensor:
        return (rmsd <= self.threshold).double()


class ConformationMatching(_NearestMetric):
    """MAT: the mean RMSD in Å of a molecule's conformations from the nearest one of the other side, from 0.

    Mean over molecules (Ganea et al. 2021; Xu et al. 2022).
    """

    unit: ClassVar[str] = "Å"
    measures: ClassVar[tuple[Aspect, ...]] = ("drift",)


class _KindsMetric(ConformationMetric):
    """Base: distributions of numbers by kind, which no rotation changes."""

    def score(self, evaluation: Evaluation) -> float | Tensor:
        """Wasserstein-1 between generated and real numbers of each kind, weighted by how often it is in real rows."""
        from scipy.stats import wasserstein_distance

        generated, real = (_by_kind(evaluation.rows(which), self._measure) for which in (self.of, self._against))
        common = [kind for kind in real if kind in generated]
        if not common:
            return float("nan")
        distances = [wasserstein_distance(generated[kind], real[kind]) for kind in common]
        return float(np.average(distances, weights=[len(real[kind]) for kind in common]))

    def _measure(self, graph: Graph, positions: np.ndarray) -> Iterator[tuple[Kind, np.ndarray]]:
        """Numbers of a molecule's conformations, positions (m, A, 3), with their kinds."""
        raise NotImplementedError


class BondLengths(_KindsMetric):
    """Wasserstein-1 distance between generated and real bond lengths, in Å, from 0.

    For each type of bond (two elements and the bond's order), then the mean weighted by the number of real bonds.
    """

    unit: ClassVar[str] = "Å"
    measures: ClassVar[tuple[Aspect, ...]] = ("drift",)

    def _measure(self, graph: Graph, positions: np.ndarray) -> Iterator[tuple[Kind, np.ndarray]]:
        for i, j in zip(*np.nonzero(np.triu(graph.bonds)), strict=True):
            low, high = sorted((int(graph.atoms[i]), int(graph.atoms[j])))
            kind = ((low, high), (int(graph.bonds[i, j]),))
            yield kind, np.linalg.norm(positions[:, i] - positions[:, j], axis=1)


class BondAngles(_KindsMetric):
    """Wasserstein-1 distance between generated and real angles of two bonds of an atom, in degrees, from 0.

    For each type of angle (the elements and the bonds' orders), then the mean weighted by the number of real angles.
    """

    unit: ClassVar[str] = "degrees"
    measures: ClassVar[tuple[Aspect, ...]] = ("drift",)

    def _measure(self, graph: Graph, positions: np.ndarray) -> Iterator[tuple[Kind, np.ndarray]]:
        for middle, bonds in enumerate(graph.bonds):
            for i, j in combinations(np.flatnonzero(bonds).tolist(), 2):
                ends = sorted((int(graph.atoms[end]), int(bonds[end])) for end in (i, j))
                yield ((int(graph.atoms[middle]),), *ends), _angles(positions, i, middle, j)


def _angles(positions: np.ndarray, i: int, middle: int, j: int) -> np.ndarray:
    """(m,) degrees, of positions (m, A, 3)."""
    one, other = positions[:, i] - positions[:, middle], positions[:, j] - positions[:, middle]
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosines = (one * other).sum(1) / np.maximum(lengths, np.finfo(np.float64).tiny)
    angles: np.ndarray = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
    return angles


class Graph(NamedTuple):
    """A molecule: atomic numbers (A,), and bonds (A, A) as in data.molecules.molecule_reading.Molecule."""

    atoms: np.ndarray
    bonds: np.ndarray


def _by_kind(
    rows: Mapping[str, Tensor], measure: Callable[[Graph, np.ndarray], Iterator[tuple[Kind, np.ndarray]]]
) -> dict[Kind, np.ndarray]:
    molecule, positions = rows["molecule"].numpy(), rows["positions"].double().numpy()
    collected: defaultdict[Kind, list[np.ndarray]] = defaultdict(list)
    for number, first in zip(*np.unique(molecule, return_index=True), strict=True):
        graph = Graph(rows["atoms"][first].numpy(), rows["bonds"][first].numpy())
        for kind, numbers in measure(graph, positions[molecule == number]):
            collected[kind].append(numbers)
    return {kind: np.concatenate(parts) for kind, parts in collected.items()}


@content_cache
def nearest_rmsds(
    generated: Tensor, generated_molecule: Tensor, real: Tensor, real_molecule: Tensor, atoms: Tensor, bonds: Tensor
) -> dict[str, tuple[Tensor, Tensor]]:
    """Positions (n, A, 3) of generated and (m, A, 3) of real conformations, and their molecules; `atoms` (m, A) and
    `bonds` (m, A, A) of the real ones -> {"recall": (rmsd, molecule) of real conformations, "precision": of generated
    ones}, molecule by molecule, of the molecules that both sides have."""
    both = np.intersect1d(generated_molecule.numpy(), real_molecule.numpy())
    nearest: dict[str, list[np.ndarray]] = {"recall": [], "precision": []}
    for number in both:
        mine, theirs = generated_molecule == int(number), real_molecule == int(number)
        first = int(theirs.nonzero()[0])
        graph = Graph(atoms[first].numpy(), bonds[first].numpy())
        matrix = rmsd_matrix(graph, generated[mine].double().numpy(), real[theirs].double().numpy())
        nearest["recall"].append(matrix.min(0))
        nearest["precision"].append(matrix.min(1))
    return {
        side: (
            torch.from_numpy(np.concatenate(parts) if parts else np.zeros(0)),
            torch.from_numpy(np.repeat(both, [len(part) for part in parts]).astype(np.int64)),
        )
        for side, parts in nearest.items()
    }


def rmsd_matrix(graph: Graph, generated: np.ndarray, real: np.ndarray) -> np.ndarray:
    """(g, A, 3), (r, A, 3) -> (g, r): RMSD in Å over the atoms that are not hydrogen, by RDKit's GetBestRMS."""
    from rdkit.Chem import rdMolAlign

    heavy = np.flatnonzero(graph.atoms > HYDROGEN)
    if not len(heavy):
        heavy = np.flatnonzero(graph.atoms)
    plain = Graph(graph.atoms[heavy], graph.bonds[np.ix_(heavy, heavy)])
    probe, reference = _molecule(plain, generated[:, heavy]), _molecule(plain, real[:, heavy])
    matches = reference.GetSubstructMatches(reference, uniquify=False, maxMatches=MAX_SYMMETRIES)
    maps = [list(enumerate(match)) for match in matches]
    return np.array(
        [[rdMolAlign.GetBestRMS(probe, reference, i, j, maps) for j in range(len(real))] for i in range(len(generated))]
    ).reshape(len(generated), len(real))


def _molecule(graph: Graph, positions: np.ndarray) -> Any:
    """RDKit's molecule of a graph, with conformations (k, n, 3)."""
    from rdkit import Chem

    mol = Chem.RWMol()
    for number in graph.atoms:
        atom = Chem.Atom(int(number))
        atom.SetNoImplicit(True)
        mol.AddAtom(atom)
    for i, j in zip(*np.nonzero(np.triu(graph.bonds)), strict=True):
        mol.AddBond(int(i), int(j), getattr(Chem.BondType, BONDS[graph.bonds[i, j] - 1]))
    mol.UpdatePropertyCache(strict=False)
    Chem.FastFindRings(mol)
    for places in positions:
        conformer = Chem.Conformer(len(graph.atoms))
        conformer.SetPositions(np.ascontiguousarray(places))
        mol.AddConformer(conformer, assignId=True)
    return mol
