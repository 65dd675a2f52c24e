"""Parameters and operations of models, before anything is fitted."""

from __future__ import annotations

from collapse_sim.data.base import Info
from collapse_sim.families.vae import VAE
from collapse_sim.plan.sizes import forward_operations


def test_operations_of_a_row_are_those_of_its_layers():
    info = Info("images", {"image": ((1, 4, 4), "uint8")}, 1, 1, 1)
    # encoder 16 -> 8 -> 2 x 3, decoder 3 -> 8 -> 16: a multiplication and an addition for each weight
    assert forward_operations(VAE(hidden=8, latent=3), info) == 2 * (16 * 8 + 8 * 6 + 3 * 8 + 8 * 16)
