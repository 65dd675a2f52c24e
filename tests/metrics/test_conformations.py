"""Coverage, matching and geometry of conformations, against brute force and by closed forms."""

from __future__ import annotations

import importlib.util
import itertools
import math

import numpy as np
import pytest
import torch

from collapse_sim.data.base import Info
from collapse_sim.metrics.conformations import (
    BondAngles,
    BondLengths,
    ConformationCoverage,
    ConformationMatching,
    Graph,
    rmsd_matrix,
)
from tests.families.graphs import MOLECULES, rotation

STAR = Graph(np.array([7, 6, 6, 6], np.uint8), np.array([[0, 1, 1, 1], [1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]]))
RING = Graph(np.full(5, 6, np.uint8), sum(4 * np.eye(5, k=k, dtype=np.uint8) for k in (1, -1, 4, -4)))
RNG = np.random.default_rng(0)


def kabsch(one: np.ndarray, other: np.ndarray) -> float:
    """RMSD after the best proper rotation (Kabsch 1976)."""
    one, other = one - one.mean(0), other - other.mean(0)
    u, sizes, v = np.linalg.svd(one.T @ other)
    sizes[-1] *= np.sign(np.linalg.det(u @ v))
    return math.sqrt(max(0.0, ((one**2).sum() + (other**2).sum() - 2 * sizes.sum()) / len(one)))


def brute_force(graph: Graph, one: np.ndarray, other: np.ndarray) -> float:
    """Over all permutations that keep elements and bonds."""
    n = len(graph.atoms)
    orders = (
        list(order)
        for order in itertools.permutations(range(n))
        if np.array_equal(graph.atoms[list(order)], graph.atoms)
        and np.array_equal(graph.bonds[np.ix_(order, order)], graph.bonds)
    )
    return min(kabsch(one[order], other) for order in orders)


@pytest.mark.parametrize("graph", [STAR, RING], ids=["star", "ring"])
def test_rmsd_is_that_of_brute_force_over_symmetries(graph) -> None:
    n = len(graph.atoms)
    one, other = RNG.normal(size=(3, n, 3)), RNG.normal(size=(4, n, 3))
    matrix = rmsd_matrix(graph, one, other)
    expected = [[brute_force(graph, a, b) for b in other] for a in one]
    np.testing.assert_allclose(matrix, expected, atol=1e-5)
    assert (matrix < [[kabsch(a, b) for b in other] for a in one]).any()  # symmetries matter


def test_turned_moved_and_relabelled_is_the_same_and_mirrored_is_not() -> None:
    x = RNG.normal(size=(1, 4, 3))
    turn = rotation().numpy()
    moved = x[:, [0, 2, 3, 1]] @ turn + 5
    assert rmsd_matrix(STAR, moved, x)[0, 0] == pytest.approx(0, abs=1e-5)
    chain = Graph(np.array([6, 7, 8, 16], np.uint8), np.eye(4, k=1, dtype=np.uint8) + np.eye(4, k=-1, dtype=np.uint8))
    bent = np.array([[[1.5, 0, 0], [0, 0, 0], [0, 1.5, 0], [0, 1.5, 1.5]]])
    assert rmsd_matrix(chain, -bent, bent)[0, 0] > 0.2


def test_hydrogens_do_not_count() -> None:
    """A diatomic stretched by 0.4 Å: both atoms are 0.2 Å off, wherever the hydrogen is."""
    graph = Graph(np.array([6, 8, 1, 0], np.uint8), np.array([[0, 2, 1, 0], [2, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]))
    short, long = np.zeros((1, 4, 3)), np.zeros((1, 4, 3))
    short[0, 1, 0], long[0, 1, 0], long[0, 2, 2] = 1.2, 1.6, 9.0
    assert rmsd_matrix(graph, short, long)[0, 0] == pytest.approx(0.2)


def diatomics(
    lengths: list[float], molecules: list[int], elements: tuple[int, int] = (6, 6)
) -> dict[str, torch.Tensor]:
    """Rows of molecules of two atoms, along a random direction each."""
    n = len(lengths)
    directions = torch.nn.functional.normalize(torch.randn(n, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    positions = torch.zeros(n, 3, 3)
    positions[:, 1] = directions * torch.tensor(lengths)[:, None]
    atoms = torch.tensor([*elements, 0], dtype=torch.uint8).expand(n, 3)
    bonds = torch.zeros(n, 3, 3, dtype=torch.uint8)
    bonds[:, 0, 1] = bonds[:, 1, 0] = 1
    return {"positions": positions, "atoms": atoms, "bonds": bonds, "molecule": torch.tensor(molecules)}


def value(evaluation, metric, generated, real) -> float:
    names = ("outputs", "held_out") if metric.of == "outputs" else ("samples", "real")
    assert metric.needs == names
    given = {f"{name} rows": rows for name, rows in zip(names, (generated, real), strict=True)}
    return float(metric.score(evaluation(given)))


# Half the difference in length is the RMSD of two diatomics.
GENERATED = diatomics([1.0, 1.4, 3.0, 2.0], [0, 0, 1, 7])  # molecule 7 is not real
REAL = diatomics([1.0, 1.2, 2.0, 2.4, 5.0], [0, 0, 1, 1, 4])  # molecule 4 is not generated
NEAREST_OF_REAL = {0: [0.0, 0.1], 1: [0.5, 0.3]}
NEAREST_OF_GENERATED = {0: [0.0, 0.1], 1: [0.3]}


@pytest.mark.parametrize("of", ["outputs", "samples"])
@pytest.mark.parametrize(("side", "nearest"), [("recall", NEAREST_OF_REAL), ("precision", NEAREST_OF_GENERATED)])
def test_coverage_and_matching_are_means_over_molecules(evaluation, of, side, nearest) -> None:
    mat = value(evaluation, ConformationMatching(of=of, side=side), GENERATED, REAL)
    assert mat == pytest.approx(np.mean([np.mean(numbers) for numbers in nearest.values()]), abs=1e-5)
    for threshold in (0.05, 0.2, 0.4):
        cov = value(evaluation, ConformationCoverage(of=of, side=side, threshold=threshold), GENERATED, REAL)
        assert cov == np.mean([np.mean(np.array(numbers) <= threshold) for numbers in nearest.values()])


def test_values_of_rows_are_kept(evaluation) -> None:
    rows = ConformationMatching().score_rows(evaluation({"outputs rows": GENERATED, "held_out rows": REAL}))
    torch.testing.assert_close(rows["rmsd"], torch.tensor([0.0, 0.1, 0.5, 0.3]).double(), atol=1e-5, rtol=0)
    assert rows["molecule"].tolist() == [0, 0, 1, 1]


def test_without_a_common_molecule_there_is_no_score(evaluation) -> None:
    other = {**GENERATED, "molecule": GENERATED["molecule"] + 100}
    assert math.isnan(value(evaluation, ConformationCoverage(), other, REAL))
    nitrogen = diatomics([1.0], [0], (7, 7))
    assert math.isnan(value(evaluation, BondLengths(), nitrogen, REAL))


def test_bond_lengths_are_compared_by_type(evaluation) -> None:
    """All of one type longer by 0.1 Å, two of another by 0.4 Å: means weighted by real bonds. Types are not mixed."""
    carbon, hetero = diatomics([1.0, 1.2, 1.4], [0, 0, 0]), diatomics([1.3], [1], (6, 8))
    real = {name: torch.cat([carbon[name], hetero[name]]) for name in carbon}
    longer, other = diatomics([1.1, 1.3, 1.5], [0, 0, 0]), diatomics([1.7], [1], (6, 8))
    generated = {name: torch.cat([longer[name], other[name]]) for name in longer}
    assert value(evaluation, BondLengths(), real, real) == 0
    assert value(evaluation, BondLengths(), generated, real) == pytest.approx((3 * 0.1 + 0.4) / 4, abs=1e-6)


def bent(degrees: list[float]) -> dict[str, torch.Tensor]:
    """Rows of O-C-N, bent, in a random orientation."""
    n, angles = len(degrees), torch.tensor(degrees).deg2rad()
    positions = torch.zeros(n, 3, 3)
    positions[:, 0, 0] = 1.3
    positions[:, 2, 0], positions[:, 2, 1] = 1.5 * angles.cos(), 1.5 * angles.sin()
    bonds = torch.tensor([[0, 2, 0], [2, 0, 1], [0, 1, 0]], dtype=torch.uint8).expand(n, 3, 3)
    atoms = torch.tensor([8, 6, 7], dtype=torch.uint8).expand(n, 3)
    return {
        "positions": positions @ rotation().float(),
        "atoms": atoms,
        "bonds": bonds,
        "molecule": torch.zeros(n).long(),
    }


def test_bond_angles_in_degrees(evaluation) -> None:
    assert value(evaluation, BondAngles(), bent([104.5, 120.0]), bent([109.5, 125.0])) == pytest.approx(5, abs=1e-3)
    assert value(evaluation, BondAngles(), bent([180.0]), bent([0.0])) == pytest.approx(180, abs=0.1)
    assert value(evaluation, BondLengths(), bent([90.0]), bent([120.0])) == pytest.approx(0, abs=1e-5)


def test_every_angle_is_counted_once(evaluation) -> None:
    """A star of four atoms has three angles; one leaf moves by 30 degrees away from two others in the plane."""

    def star(degrees: tuple[float, float, float]) -> dict[str, torch.Tensor]:
        angles = torch.tensor(degrees).deg2rad()
        positions = torch.zeros(1, 4, 3)
        positions[0, 1:, 0], positions[0, 1:, 1] = angles.cos(), angles.sin()
        graph = {"atoms": torch.from_numpy(STAR.atoms)[None], "bonds": torch.from_numpy(STAR.bonds)[None]}
        return {"positions": positions, **graph, "molecule": torch.zeros(1).long()}

    real, moved = star((0.0, 90.0, 180.0)), star((0.0, 60.0, 180.0))  # angles 90, 90, 180; 60, 120, 180
    assert value(evaluation, BondAngles(), moved, real) == pytest.approx(20, abs=1e-2)


def test_other_data_and_a_missing_package_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = Info("molecules", {"positions": ((3, 3), "float32")}, 5, 5, 5)
    with pytest.raises(ValueError, match="BondLengths needs the column atoms: use the data `conformers`"):
        BondLengths().check(other, None, 5)
    ConformationCoverage().check(MOLECULES, None, 5)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"rdkit is not installed: pip install 'collapse-sim\[molecules\]'"):
        ConformationCoverage().check(MOLECULES, None, 5)
    BondAngles().check(MOLECULES, None, 5)  # needs no RDKit


def test_notes_count_conformations() -> None:
    assert ConformationCoverage().metric_note(MOLECULES, 50, None).note == (
        "16 outputs for held-out rows against 16 held-out rows"
    )
    assert BondAngles(of="samples").metric_note(MOLECULES, 50, None).note == "50 samples against 64 real rows"
