"""An equivariant graph network (Satorras et al. 2021, arXiv 2102.09844) on the atoms of a molecule."""

from __future__ import annotations

import torch
from torch import Tensor, nn

ELEMENTS = 119  # atomic numbers, 0: padding
BOND_TYPES = 4  # single, double, triple, aromatic: 1 to 4 in the column "bonds"
TWO_BONDS, THREE_BONDS = BOND_TYPES + 1, BOND_TYPES + 2  # relations of atoms that fix angles, and torsions
RELATIONS = THREE_BONDS + 1  # 0: more than three bonds apart
DISTANCES = 32  # Gaussians that a distance is expanded in
FARTHEST = 6.0  # centre of the last of them, in the network's unit
TIME_FEATURES = 32  # sinusoids of the time
TINY = 1e-8  # below a distance's square: the root has no derivative at 0


class MessageLayer(nn.Module):
    """Messages between all atoms, which move atoms along the lines between them: equations 3 to 6 of the paper.

    In addition to the paper, distances are expanded in Gaussians, and the time scales every unit of a message, because
    how far an atom has to move depends on both.
    """

    centres: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.distance, self.relation = nn.Linear(DISTANCES, width), nn.Linear(RELATIONS, width, bias=False)
        self.receiver, self.sender = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.message, self.time = nn.Linear(width, width), nn.Linear(width, width)
        self.move = nn.Linear(width, 1, bias=False)
        nn.init.xavier_uniform_(self.move.weight, gain=0.001)  # as the authors do: positions begin as they are
        self.update = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))
        self.register_buffer("centres", torch.arange(float(DISTANCES)), persistent=False)

    def forward(
        self, h: Tensor, x: Tensor, time: Tensor, relations: Tensor, pairs: Tensor, count: Tensor
    ) -> tuple[Tensor, Tensor]:
        """h (n, A, width) and x (n, A, 3) -> the same. `time` (n, width) is its embedding, `relations`
        (n, A, A, RELATIONS) is one-hot, `pairs` (n, A, A, 1) is 1 for two different atoms, `count` (n, 1, 1) the number
        of atoms."""
        difference = x[:, :, None] - x[:, None]
        distance = (difference.square().sum(-1, keepdim=True) + TINY).sqrt()
        expanded = (-0.5 * (distance * ((DISTANCES - 1) / FARTHEST) - self.centres).square()).exp()
        message = self.distance(expanded) + self.relation(relations)
        message = nn.functional.silu(message + self.receiver(h)[:, :, None] + self.sender(h)[:, None])
        message = nn.functional.silu(self.message(message) * (1 + self.time(time))[:, None, None]) * pairs
        moved = x + (difference / (distance + 1) * self.move(message)).sum(2)
        return h + self.update(torch.cat([h, message.sum(2) / count], -1)), moved


class EGNN(nn.Module):
    """Noisy positions, a time and a molecule's graph -> one vector for each atom, with the sum 0 over atoms.

    Rotations and reflections of the positions rotate and reflect the output, translations do not change it, and
    permutations of atoms permute it. Places without an atom (atomic number 0) change nothing.
    """

    def __init__(self, width: int, layers: int) -> None:
        from diffusers.models.embeddings import TimestepEmbedding, Timesteps

        super().__init__()
        self.element = nn.Embedding(ELEMENTS, width)
        self.sinusoids = Timesteps(TIME_FEATURES, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time = TimestepEmbedding(TIME_FEATURES, width)
        self.layers = nn.ModuleList(MessageLayer(width) for _ in range(layers))

    def forward(self, x: Tensor, t: Tensor, atoms: Tensor, bonds: Tensor) -> Tensor:
        """x (n, A, 3) float32, t (n,) from 0 to about 1000, atoms (n, A) and bonds (n, A, A) integers -> (n, A, 3)."""
        mask = (atoms > 0).to(x.dtype)[..., None]
        count = mask.sum(1, keepdim=True).clamp(min=1)
        pairs = mask[:, :, None] * mask[:, None] * (1 - torch.eye(x.shape[1], device=x.device))[..., None]
        kinds = torch.arange(RELATIONS, device=x.device)
        relations = (relations_of(bonds)[..., None] == kinds).to(x.dtype)
        time = nn.functional.silu(self.time(self.sinusoids(t)))
        h = self.element(atoms.long()) + time[:, None]
        moved = x
        for layer in self.layers:
            h, moved = layer(h, moved, time, relations, pairs, count)
        return centred(moved - x, atoms)


def relations_of(bonds: Tensor) -> Tensor:
    """Bonds (n, A, A) -> int64: the type of the bond between two atoms, TWO_BONDS or THREE_BONDS if so many are between
    them, otherwise 0."""
    bonded = (bonds > 0).float()
    itself = torch.eye(bonds.shape[-1], device=bonds.device).bool()
    near = (bonded > 0) | itself
    two = torch.einsum("...ij,...jk->...ik", bonded, bonded)
    three = torch.einsum("...ij,...jk->...ik", two, bonded)
    relations = bonds.long()
    relations = torch.where((two > 0) & ~near, TWO_BONDS, relations)
    return torch.where((three > 0) & ~near & (two == 0), THREE_BONDS, relations)


def centred(x: Tensor, atoms: Tensor) -> Tensor:
    """Vectors (n, A, 3) of the atoms minus their mean; 0 in places without an atom."""
    mask = (atoms > 0).to(x.dtype)[..., None]
    mean = (x * mask).sum(-2, keepdim=True) / mask.sum(-2, keepdim=True).clamp(min=1)
    return (x - mean) * mask
