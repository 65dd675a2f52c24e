"""The loss on held-out rows, however many of them are seen at once."""

from __future__ import annotations

import pytest
import torch

from collapse_sim.core.machine import Machine
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.families import held_out_loss
from collapse_sim.families.causal_lm import CausalLM
from collapse_sim.families.held_out_loss import mean_loss
from collapse_sim.families.vae import VAE
from collapse_sim.testing import CPU
from tests.families.wording import TEXT, TINY, built, draws, number, texts


@pytest.mark.parametrize("values", [1, 1000, 10**9])
def test_the_mean_loss_does_not_depend_on_how_much_the_network_sees(monkeypatch, values):
    info = Info("images", {"image": ((1, 4, 4), "uint8")}, 1, 1, 1)
    family, machine = VAE(hidden=8, latent=3), Machine(torch.device("cpu"), "fp32")
    with machine.seeded(0):
        model = family.build(info)
    rows = {"image": torch.randint(0, 256, (150, 1, 4, 4), generator=torch.Generator().manual_seed(0)).to(torch.uint8)}

    def loss() -> torch.Tensor:
        return mean_loss(family, model, rows, lambda i: Draws((0,), "x", 0, i), 100, machine)

    whole = loss()
    monkeypatch.setattr(held_out_loss, "PIECE_VALUES", values)
    assert torch.isclose(loss(), whole, rtol=1e-6)


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_a_mean_loss_does_not_depend_on_how_many_rows_are_seen_at_once(at_once, monkeypatch):
    model, rows = built(TINY, TEXT), texts()
    whole = mean_loss(TINY, model, rows, lambda batch: draws(), 1000, CPU)
    monkeypatch.setattr(CausalLM, "rows_at_once", lambda *_: at_once)
    assert number(mean_loss(TINY, model, rows, lambda batch: draws(), 13, CPU)) == pytest.approx(
        number(whole), rel=1e-6
    )
    assert number(TINY.nats(model, rows)[0].sum() / TINY.nats(model, rows)[1].sum()) == pytest.approx(
        number(whole), rel=1e-6
    )
