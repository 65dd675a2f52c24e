"""Small molecules that families are fitted to: bent chains and a ring, without RDKit."""

from __future__ import annotations

import torch

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info

A = 6
MOLECULES = Info(
    "molecules",
    {
        "positions": ((A, 3), "float32"),
        "atoms": ((A,), "uint8"),
        "bonds": ((A, A), "uint8"),
        "molecule": ((), "int64"),
    },
    64,
    64,
    16,
)
GRAPHS = (  # atomic numbers, and bonds as (atom, atom, type)
    ((6, 6, 8), ((0, 1, 1), (1, 2, 1))),
    ((6, 6, 6, 7, 8, 6), ((0, 1, 1), (1, 2, 2), (2, 3, 1), (3, 4, 1), (4, 5, 1))),
    ((6, 6, 6, 6, 6), ((0, 1, 4), (1, 2, 4), (2, 3, 4), (3, 4, 4), (0, 4, 4))),
)


def conformations(count: int = 40) -> dict[str, torch.Tensor]:
    """Rows of the three molecules in turn, at random positions about 1.5 Å apart."""
    generator = torch.Generator().manual_seed(0)
    molecule = torch.arange(count) % len(GRAPHS)
    atoms, bonds = torch.zeros(3, A, dtype=torch.uint8), torch.zeros(3, A, A, dtype=torch.uint8)
    for number, (elements, edges) in enumerate(GRAPHS):
        atoms[number, : len(elements)] = torch.tensor(elements)
        for i, j, kind in edges:
            bonds[number, i, j] = bonds[number, j, i] = kind
    positions = 1.5 * torch.randn(count, A, 3, generator=generator).cumsum(1)
    mask = (atoms[molecule] > 0)[..., None]
    positions = (positions - (positions * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)) * mask
    return {"positions": positions, "atoms": atoms[molecule], "bonds": bonds[molecule], "molecule": molecule}


def rotation(seed: int = 0, *, mirrored: bool = False) -> torch.Tensor:
    """A random orthogonal matrix (3, 3) of determinant 1, or -1, in float64."""
    q, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    q = q * torch.det(q).sign()
    return -q if mirrored else q


class ChangedDraws(Draws):
    """The draws of `Draws`, with normal ones of shape (n, A, 3) changed by a function."""

    def __init__(self, change, role: str = "corrupt") -> None:
        super().__init__((0,), role, 0)
        self._change = change

    def normal(self, *shape: int) -> torch.Tensor:
        return self._change(super().normal(*shape))
