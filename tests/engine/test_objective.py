"""Losses as functions of tensors: compiled and eager ones are equal for every family that trains by steps."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from collapse_sim.engine.objective import SingleObjective, shapes_of, trimmed, weighted
from collapse_sim.engine.training_loss import TrainingLoss
from collapse_sim.families.base import Inputs
from collapse_sim.families.causal_lm import CausalLM
from collapse_sim.families.classifier import Classifier
from collapse_sim.families.conv_vae import ConvVAE
from collapse_sim.families.ddpm import DDPM
from collapse_sim.families.flow import Flow
from collapse_sim.families.flow_matching import FlowMatching
from collapse_sim.families.network import Network
from collapse_sim.families.vae import VAE
from collapse_sim.testing import CPU, check_compiled
from tests.families.small_rows import IMAGES, POINTS, image_rows
from tests.families.wording import PACKED, PAIRS, T5, TEXT, TINY, blocks, built, draws, pairs, texts


def points():
    return {"x": torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))}


LABELLED = dataclasses.replace(POINTS, columns={**POINTS.columns, "label": ((), "int64")}, classes=3)


def labelled_points():
    return {**points(), "label": torch.arange(40) % 3}


FAMILIES = {
    "vae": (VAE(hidden=16, latent=2, kd_kl=True), IMAGES, image_rows(IMAGES)),
    "conv_vae": (ConvVAE(width=8, depth=1, latent=4), IMAGES, image_rows(IMAGES)),
    "classifier": (Classifier(width=4, features=8), IMAGES, image_rows(IMAGES)),
    "ddpm-points": (DDPM(network=Network(widths=(8, 8))), POINTS, points()),
    "flow_matching-points": (FlowMatching(network=Network(widths=(8, 8))), POINTS, points()),
    "vae-conditional": (VAE(hidden=16, latent=2, conditional=True), IMAGES, image_rows(IMAGES)),
    "conv_vae-conditional": (ConvVAE(width=8, depth=1, latent=4, conditional=True), IMAGES, image_rows(IMAGES)),
    "ddpm-conditional": (DDPM(network=Network(widths=(8, 8)), conditional=True), LABELLED, labelled_points()),
    "flow-nsf": (Flow(transforms=1, hidden=8, layers=1), POINTS, points()),
    "flow-maf": (Flow(transform="maf", transforms=1, hidden=8), POINTS, points()),
    "causal_lm": (CausalLM(preset="tiny", layers=1, bucket=4, kd_temperature=2.0), TEXT, texts()),
    "causal_lm-packed": (CausalLM(preset="tiny", layers=1), PACKED, blocks()),
    "causal_lm-llama": (CausalLM(preset="llama-12m", width=48, layers=1, heads=2), TEXT, texts()),
    "seq2seq": (T5.model_copy(update={"layers": 1}), PAIRS, pairs()),
}
QUICK = ("vae", "vae-conditional", "classifier", "ddpm-points", "ddpm-conditional", "causal_lm")
SLOW = {"ddpm-images": DDPM, "flow_matching-images": FlowMatching}


@pytest.mark.parametrize(
    "case", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]
)
def test_a_compiled_step_is_the_eager_one(case):
    check_compiled(*FAMILIES[case])


@pytest.mark.slow
@pytest.mark.parametrize("case", SLOW)
def test_a_compiled_step_of_a_unet_is_the_eager_one(case):
    check_compiled(SLOW[case](network=Network(widths=(8, 16))), IMAGES, image_rows(IMAGES))


@pytest.mark.slow
@pytest.mark.parametrize("case", ["vae", "conv_vae"])
def test_a_step_compiled_to_machine_code_is_the_eager_one(case):
    check_compiled(*FAMILIES[case], backend="inductor")


def test_a_step_with_a_backward_pass_of_its_own_is_the_eager_one():
    check_compiled(*FAMILIES["vae"], backend="aot_eager")


@pytest.mark.parametrize(("family", "info", "rows"), [(TINY, TEXT, texts()), (T5, PAIRS, pairs())], ids=["gpt2", "t5"])
def test_trimmed_batches_have_the_same_losses_and_terms(family, info, rows):
    """What a compiled program gets, whose padding is not removed by reading values."""
    short = {name: torch.cat([column[:, :9], torch.full_like(column[:, 9:], -1)], 1) for name, column in rows.items()}
    model, teacher = built(family, info), built(family, info, 1)
    inputs = family.corrupt(short, draws())
    fixed = trimmed(family, model, inputs)
    assert fixed.fixed
    assert family.trim(model, fixed) is fixed
    for batch in (fixed, Inputs(inputs.tensors, inputs.count, fixed=True)):  # also if nothing was trimmed
        prediction, target = family.predict(model, batch), family.predict(teacher, batch)
        eager, other = family.predict(model, inputs), family.predict(teacher, inputs)
        torch.testing.assert_close(family.loss(prediction, batch), family.loss(eager, inputs))
        terms = family.distillation(prediction, target, batch)
        for name, term in family.distillation(eager, other, inputs).items():
            torch.testing.assert_close(terms[name], term, rtol=1e-4, atol=1e-4)
    assert all(fixed[name].shape[1] <= inputs[name].shape[1] for name in fixed.tensors)


def test_a_term_without_weight_is_left_out_even_if_it_is_not_finite():
    terms = {"good": torch.tensor(3.0), "bad": torch.tensor(float("inf"))}
    total = weighted(terms, {"good": torch.tensor(0.5), "bad": torch.tensor(0.0)})
    assert float(total) == 1.5


def test_shapes_are_named():
    batch = Inputs({"x": torch.zeros(4, 2), "eps": torch.zeros(4)}, 4)
    assert shapes_of([batch, batch]) == "x 4x2, eps 4 + x 4x2, eps 4"


def test_counts_and_weights_are_tensors_so_that_no_program_has_them_built_in():
    family, rows = FAMILIES["vae"][0], FAMILIES["vae"][2]
    model = family.build(IMAGES)
    objective = SingleObjective(TrainingLoss(family), model, family.build(IMAGES), {"mean": 2.0}, CPU)
    arguments = objective.arguments(trimmed(family, model, family.corrupt(rows, draws())))
    assert {name: float(weight) for name, weight in arguments["weights"].items()} == {
        "mean": 2.0, "output": 0.0, "variance": 0.0,
    }  # fmt: skip
    assert int(arguments["scalars"]["count"]) == 40
