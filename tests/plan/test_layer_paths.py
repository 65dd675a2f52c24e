"""Layers that a teacher's weights name: checked before anything is made, in keys, and through `run`."""

from __future__ import annotations

import pytest

from collapse_sim.core.errors import RecipeError
from collapse_sim.families.ddpm import DDPM
from collapse_sim.families.vae import VAE
from collapse_sim.plan.experiment import prepare
from collapse_sim.plan.layer_paths import layer_paths
from collapse_sim.recipe.loader import load
from tests.families.small_rows import IMAGES

RECIPE = """
name: layers
data: {use: digits, rows: 40, held_out_rows: 10}
model: {use: vae, hidden: 8, latent: 2}
train: {steps: 3, batch_size: 16, evaluate: never}
generations: 1
samples: 40
seeds: [0]
arms:
  plain: {data: replace}
  distill: {data: replace, teacher: TEACHER}
metrics: [test_loss]
"""


def digests(sandbox, teacher):
    experiment = prepare(load(sandbox.recipe(RECIPE.replace("TEACHER", teacher))), sandbox.root)
    return [plan.generations[1].fit.digest for plan in experiment.arm_plans]


def refusal(sandbox, recipe):
    with pytest.raises(RecipeError) as caught:
        prepare(load(sandbox.recipe(recipe)), sandbox.root)
    return str(caught.value)


def test_paths_of_a_model():
    assert layer_paths(VAE(hidden=8), IMAGES) == [
        "encoder", "encoder.0", "encoder.1", "encoder.2", "decoder", "decoder.0", "decoder.1", "decoder.2",
    ]  # fmt: skip
    assert "unet.down_blocks" not in layer_paths(DDPM(), IMAGES)  # a list of modules has no output


def test_a_misspelt_path_is_answered_with_those_that_exist(sandbox):
    message = refusal(sandbox, RECIPE.replace("TEACHER", '{weights: {"layer encoder.4": 1.0}}'))
    assert (
        "recipe.yaml:11: arms.distill.teacher.weights: 'layer encoder.4': the model has no layer 'encoder.4'" in message
    )
    assert "allowed: encoder, encoder.0, encoder.1, encoder.2, decoder, " in message


def test_a_large_model_is_answered_with_the_part_that_is_meant(sandbox):
    recipe = RECIPE.replace("{use: vae, hidden: 8, latent: 2}", "{use: ddpm, timesteps: 50}")
    message = refusal(sandbox, recipe.replace("TEACHER", '{weights: {"layer unet.mid_block.resnet": 1.0}}'))
    assert "allowed there: unet.mid_block." in message
    assert "down_blocks" not in message.partition("allowed there")[2]


def test_closed_forms_have_no_layers(sandbox):
    recipe = RECIPE.replace("{use: digits, rows: 40, held_out_rows: 10}", "{use: gaussian, dimensions: 2, rows: 40}")
    recipe = recipe.replace("{use: vae, hidden: 8, latent: 2}", "{use: gaussian}").replace("train", "#train")
    message = refusal(sandbox, recipe.replace("TEACHER", '{weights: {"layer mean": 1.0}}'))
    assert (
        "'gaussian' is solved in closed form and has no layers, found 'layer mean'; allowed: the terms of 'gaussian'"
        in message
    )


def test_keys(sandbox):
    """A weight of 0 is no teacher; the criterion is in the key where a layer is compared, and refused elsewhere."""
    plain, zero = digests(sandbox, '{weights: {"layer encoder.2": 0.0}}')
    assert plain == zero
    layer = '{criterion: %s, weights: {"layer encoder.2": 1.0}}'
    mse, cosine = (digests(sandbox, layer % criterion)[1] for criterion in ("mse", "cosine"))
    assert len({plain, mse, cosine}) == 3
    message = refusal(sandbox, RECIPE.replace("TEACHER", "{criterion: kl, weights: {output: 1.0}}"))
    assert (
        "recipe.yaml:11: arms.distill.teacher.criterion: 'kl' changes nothing: it compares outputs of layers" in message
    )


def test_a_rate_without_an_average_is_refused(sandbox):
    message = refusal(sandbox, RECIPE.replace("TEACHER", "{rate: 0.2, weights: {output: 1.0}}"))
    assert (
        "recipe.yaml:11: arms.distill.teacher.rate: 0.2 changes nothing: it is for `generation: ema`, found 0"
        in message
    )


@pytest.mark.parametrize(
    ("data", "model", "path"),
    [
        ("{use: digits, rows: 40, held_out_rows: 10}", "{use: vae, hidden: 8, latent: 2}", "encoder.2"),
        (
            "{use: grammar, rows: 40, held_out_rows: 10}",
            "{use: causal_lm, preset: tiny, width: 8, layers: 1}",
            "network.transformer.h.0",
        ),
    ],
    ids=["image", "text"],
)
def test_through_run(data, model, path, sandbox):
    recipe = RECIPE.replace("{use: digits, rows: 40, held_out_rows: 10}", data)
    recipe = recipe.replace("{use: vae, hidden: 8, latent: 2}", model)
    teacher = f'{{criterion: cosine, weights: {{"layer {path}": 1.0}}}}'
    sandbox.run(recipe.replace("TEACHER", teacher), metrics=["test_loss"])
    lines = [line for line in sandbox.journal(event="scores") if line["generation"] == 1]
    losses = {line["arm"]: line["metrics"]["test_loss"][0] for line in lines}
    assert losses["plain"] != losses["distill"]
