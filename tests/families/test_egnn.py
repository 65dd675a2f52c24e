"""The equivariant network: its symmetries, and the relations of atoms."""

from __future__ import annotations

import networkx
import pytest
import torch

from collapse_sim.families.egnn import EGNN, THREE_BONDS, TWO_BONDS, centred, relations_of
from tests.families.graphs import conformations, rotation


def lively(width: int = 8, layers: int = 3) -> EGNN:
    """A network that moves atoms far: a new one hardly moves them."""
    torch.manual_seed(0)
    model = EGNN(width, layers).double()
    for layer in model.layers:
        torch.nn.init.normal_(layer.move.weight, std=2.0)
    return model.requires_grad_(False)


def inputs():
    rows = conformations(9)
    return rows["positions"].double(), torch.arange(9) * 10.0, rows["atoms"], rows["bonds"]


def run(model: EGNN, x, t, atoms, bonds) -> torch.Tensor:
    """In float64, so that a broken symmetry is no rounding."""
    model.sinusoids.forward = lambda times: torch.outer(times.double(), torch.arange(32.0).double() / 32).sin()
    return model(x, t, atoms, bonds)


@pytest.mark.parametrize("mirrored", [False, True])
def test_rotations_and_reflections_turn_the_output_and_translations_do_nothing(mirrored) -> None:
    model, (x, t, atoms, bonds) = lively(), inputs()
    turn, shift = rotation(mirrored=mirrored), torch.tensor([3.0, -8.0, 0.5]).double()
    output = run(model, x, t, atoms, bonds)
    assert output.abs().amax() > 0.05
    torch.testing.assert_close(run(model, x @ turn + shift, t, atoms, bonds), output @ turn, atol=1e-9, rtol=1e-9)


def test_permutations_of_atoms_permute_the_output() -> None:
    model, (x, t, atoms, bonds) = lively(), inputs()
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    output = run(model, x, t, atoms, bonds)
    permuted = run(model, x[:, order], t, atoms[:, order], bonds[:, order][:, :, order])
    torch.testing.assert_close(permuted, output[:, order], atol=1e-9, rtol=1e-9)


def test_padding_changes_nothing_and_the_output_has_no_centre_of_mass() -> None:
    model, (x, t, atoms, bonds) = lively(), inputs()
    output = run(model, x, t, atoms, bonds)
    more = torch.nn.functional.pad(x, (0, 0, 0, 2), value=7.0)
    padded = run(model, more, t, torch.nn.functional.pad(atoms, (0, 2)), torch.nn.functional.pad(bonds, (0, 2, 0, 2)))
    torch.testing.assert_close(padded[:, :6], output, atol=1e-9, rtol=1e-9)
    assert not padded[:, 6:].any()
    assert not output[atoms == 0].any()
    torch.testing.assert_close(output.sum(1), torch.zeros(9, 3).double(), atol=1e-9, rtol=0)


@pytest.mark.parametrize("what", ["t", "atoms", "bonds"])
def test_time_elements_and_bonds_matter(what) -> None:
    model, (x, t, atoms, bonds) = lively(), inputs()
    output = run(model, x, t, atoms, bonds)
    changed = {
        "t": (x, t + 1, atoms, bonds),
        "atoms": (x, t, atoms.where(atoms != 8, torch.tensor(16, dtype=torch.uint8)), bonds),
        "bonds": (x, t, atoms, bonds.where(bonds != 1, torch.tensor(2, dtype=torch.uint8))),
    }[what]
    assert (run(model, *changed) - output).abs().amax() > 1e-4


def test_relations_are_shortest_paths() -> None:
    """Against networkx, on random graphs: the bond's type, and two or three bonds."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        upper = torch.triu(torch.rand(9, 9, generator=generator) < 0.2, 1)
        bonds = (upper * torch.randint(1, 5, (9, 9), generator=generator)).to(torch.uint8)
        bonds = bonds + bonds.T
        relations = relations_of(bonds[None])[0]
        graph = networkx.from_numpy_array((bonds > 0).numpy())
        paths = dict(networkx.all_pairs_shortest_path_length(graph))
        for i in range(9):
            for j in range(9):
                expected = {1: int(bonds[i, j]), 2: TWO_BONDS, 3: THREE_BONDS}.get(paths[i].get(j, 9), 0)
                assert int(relations[i, j]) == expected


def test_centring() -> None:
    x = torch.tensor([[[1.0, 0, 0], [3.0, 0, 0], [50.0, 0, 0]]])
    result = centred(x, torch.tensor([[6, 6, 0]]))
    assert result[0, :, 0].tolist() == [-1.0, 1.0, 0.0]
    assert not centred(x, torch.zeros(1, 3)).any()  # no atom at all
