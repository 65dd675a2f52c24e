"""Parameters and operations of models, before anything is fitted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.families.base import Inputs
from collapse_sim.families.conv_vae import ConvVAE
from collapse_sim.families.ddpm import DDPM
from collapse_sim.families.vae import VAE
from collapse_sim.plan.experiment import prepare
from collapse_sim.plan.sizes import BF16_SPEED, bytes_to_come, forward_operations, operations_per_step
from collapse_sim.recipe.loader import load
from tests.conftest import TINY, Sandbox


class Attends:
    """A prediction by attention, einsum and products that torch decomposes."""

    columns = ("image",)

    def build(self, info: Info) -> nn.Module:
        return nn.Linear(16, 16)

    def corrupt(self, rows: Any, draws: Draws) -> Inputs:
        return Inputs({"x": rows["image"].float()}, len(rows["image"]))

    def predict(self, model: nn.Module, inputs: Inputs) -> torch.Tensor:
        x = model(inputs["x"])
        mixed = torch.einsum("nchw,ndhw->ncd", x, x) @ torch.ones(1, 5)
        return functional.scaled_dot_product_attention(x, x, x).sum() + mixed.sum()


def test_operations_of_a_row_are_those_of_its_layers():
    info = Info("images", {"image": ((1, 4, 4), "uint8")}, 1, 1, 1)
    # encoder 16 -> 8 -> 2 x 3, decoder 3 -> 8 -> 16: a multiplication and an addition for each weight
    assert forward_operations(VAE(hidden=8, latent=3), info) == 2 * (16 * 8 + 8 * 6 + 3 * 8 + 8 * 16)


@pytest.mark.parametrize(
    "family", [ConvVAE(), DDPM(), VAE(hidden=8, latent=3), Attends()], ids=lambda f: type(f).__name__
)
def test_operations_are_those_that_torch_counts(family: Any) -> None:
    info = Info("images", {"image": ((1, 16, 16), "uint8")}, 1, 1, 1)
    rows = {"image": torch.zeros(2, 1, 16, 16, dtype=torch.uint8)}
    inputs = family.corrupt(rows, Draws((0,), "count", 0))
    model = family.build(info).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        family.predict(model, inputs)
    assert forward_operations(family, info) == counter.get_total_flops() / 2 > 0


CLOSED = """
data: {use: gaussian, rows: 20}
model: gaussian
generations: 1
seeds: 2
arms: {replace: {data: replace}}
metrics: [variance_ratio]
"""


def test_an_update_is_three_forward_passes_of_a_batch_in_the_most_expensive_arm(sandbox: Sandbox) -> None:
    """Batches of 32 rows of 64 pixels; one of 128 in an arm of its own; closed forms have none; bf16 counts less."""
    row = 2 * (64 * 16 + 16 * 4 + 2 * 16 + 16 * 64)  # a multiplication and an addition a weight
    experiment = prepare(load(sandbox.recipe(TINY)), sandbox.root)
    assert operations_per_step(experiment) == 3 * 32 * row
    other = TINY.replace("replace: {data: replace}", "replace: {data: replace, train: {batch_size: 128}}")
    assert operations_per_step(prepare(load(sandbox.recipe(other)), sandbox.root)) == 3 * 128 * row
    assert operations_per_step(prepare(load(sandbox.recipe(CLOSED)), sandbox.root)) == 0
    half = TINY.replace("steps: 20,", "steps: 20, precision: bf16,")
    assert operations_per_step(prepare(load(sandbox.recipe(half)), sandbox.root)) == 3 * 32 * row / BF16_SPEED


def test_bytes_to_come_are_those_that_a_run_writes(sandbox: Sandbox) -> None:
    """Rows and weights, without the headers of their files; samples count with the labels that this family lacks."""
    experiment = prepare(load(sandbox.recipe(TINY)), sandbox.root)
    estimate = bytes_to_come(experiment, lambda spec: len(spec.seeds(experiment.recipe.seeds)) or 1)
    sandbox.run(TINY)
    written = 0
    for path in (sandbox.root / ".store").glob("objects/*/*/*/*.safetensors"):
        if path.name != "rows.safetensors":  # values of rows beside scores
            head = int.from_bytes(path.read_bytes()[:8], "little")
            written += path.stat().st_size - 8 - head
    samples = 2 * (1 + 2 * 2) * 150  # of two seeds: generation 0, and two later ones of two arms
    assert estimate == written + 8 * samples
    assert bytes_to_come(experiment, lambda spec: 0) == 0
