"""Teachers of other sizes than their students: how they are planned, and what is refused before anything is made."""

from __future__ import annotations

import pytest

from collapse_sim.core.errors import RecipeError
from collapse_sim.families.causal_lm import CausalLM
from collapse_sim.families.vae import VAE
from collapse_sim.plan.experiment import prepare
from collapse_sim.plan.taught import layer_sizes
from collapse_sim.recipe.loader import load
from tests.families.small_rows import IMAGES
from tests.families.wording import TEXT, TINY

RECIPE = """
name: taught
data: DATA
model: MODEL
train: {steps: 3, batch_size: 16, evaluate: never}
generations: 2
samples: 40
seeds: [0]
arms:
  plain: {data: replace}
  wide: {data: replace, model: WIDE}
  taught: {data: replace, teacher: TEACHER}
metrics: [test_loss]
"""
DIGITS, VAES = "{use: digits, rows: 40, held_out_rows: 10}", "{use: vae, hidden: 8, latent: 2}"
STORIES, WRITERS = "{use: grammar, rows: 40, held_out_rows: 10}", "{use: causal_lm, preset: tiny, width: 16, layers: 2}"
DIFFUSION = "{use: ddpm, network: {widths: [4, 8], attention: none}, timesteps: 30, schedule: cosine}"


def recipe(teacher, data=DIGITS, model=VAES, wide="{}"):
    text = RECIPE.replace("DATA", data).replace("MODEL", model)
    return text.replace("TEACHER", teacher).replace("WIDE", wide)


def plans(sandbox, text):
    return {plan.name: plan.generations for plan in prepare(load(sandbox.recipe(text)), sandbox.root).arm_plans}


def refusal(sandbox, text):
    with pytest.raises(RecipeError) as caught:
        prepare(load(sandbox.recipe(text)), sandbox.root)
    return str(caught.value)


def test_the_teacher_is_generation_0_of_an_arm_of_its_sizes(sandbox):
    teacher = '{model: {hidden: 16}, weights: {output: 0.5, "layer encoder.1": 1.0}}'
    arms = plans(sandbox, recipe(teacher, wide="{hidden: 16}"))
    taught = arms["taught"]
    assert taught[0].fit.digest == arms["plain"][0].fit.digest
    assert [spec.digest for spec in taught[0].between] == [arms["wide"][0].fit.digest]
    for plan in taught[1:]:
        assert plan.fit.teacher.digest == arms["wide"][0].fit.digest
        assert plan.fit.teaching == VAE(hidden=16, latent=2)
        assert plan.between == ()
    assert arms["wide"][1].fit.teaching is None
    again = load(sandbox.recipe(recipe(teacher, wide="{hidden: 16}"))).document
    assert again["arms"]["taught"]["teacher"]["model"] == {"hidden": 16}


def test_it_is_laid_over_the_arms_own_model(sandbox):
    text = recipe("{model: {hidden: 16}, weights: {output: 1.0}}").replace(
        "taught: {data: replace,", "taught: {data: replace, model: {latent: 3},"
    )
    assert plans(sandbox, text)["taught"][1].fit.teaching == VAE(hidden=16, latent=3)


def test_a_teacher_that_teaches_nothing_is_not_made(sandbox):
    arms = plans(sandbox, recipe("{model: {hidden: 16}, weights: {output: 0.0}}"))
    assert [s.digest for g in arms["taught"] for s in g.specs()] == [s.digest for g in arms["plain"] for s in g.specs()]


def test_maps_are_needed_where_sizes_differ():
    sizes = layer_sizes(VAE(hidden=8), VAE(hidden=16), IMAGES, ["decoder.2", "encoder.0", "encoder.2"])
    assert {path: tuple(size) for path, size in sizes.items()} == {"encoder.0": (1, 8, 16)}
    wide = CausalLM(preset="tiny", width=2 * TINY.width) if TINY.width else CausalLM(preset="tiny", width=128)
    (size,) = layer_sizes(TINY, wide, TEXT, ["network.transformer.h.0"]).values()
    assert size.axis == 2


@pytest.mark.parametrize(
    ("teacher", "model", "message"),
    [
        ("{model: {hidde: 16}, weights: {output: 1}}", VAES, "arms.taught.teacher.model.hidde: unknown"),
        ("{model: {use: gaussian}, weights: {output: 1}}", VAES, "allowed: the recipe's own, 'vae'"),
        (
            "{generation: previous, model: {hidden: 16}, weights: {output: 1}}", VAES,
            "arms.taught.teacher.model: a teacher with `model` is a fit to generation 0's rows",
        ),
        (
            "{model: {latent: 3}, weights: {output: 1}}", VAES,
            "recipe.yaml:12: arms.taught.teacher.model: it cannot predict what the student predicts",
        ),
        (
            "{model: {reconstruction: mse}, weights: {output: 1}}", VAES,
            "with its settings the same prediction has another loss: only sizes of the network may differ",
        ),
        ("{model: {timesteps: 20}, weights: {output: 1}}", DIFFUSION, "with its settings batches would be others (x)"),
        (
            "{model: {network: {widths: [8, 8]}}, weights: {output: 1, encoder: 1}}",
            DIFFUSION.replace("[4, 8]", "[4, 4]"),
            "arms.taught.teacher.weights: 'encoder': it compares tensors that have other shapes in this teacher; "
            "allowed: output, and layers",
        ),
        (
            '{model: {network: {widths: [4]}}, weights: {"layer unet.down_blocks.1.resnets.0": 1}}', DIFFUSION,
            "the teacher's model has no layer 'unet.down_blocks.1.resnets.0'",
        ),
    ],
)  # fmt: skip
def test_what_cannot_teach_is_refused(sandbox, teacher, model, message):
    assert message in refusal(sandbox, recipe(teacher, model=model))


def test_texts_compare_logits_and_layers_but_not_hidden_states(sandbox):
    wide = "{model: {width: 32}, weights: {%s: 1.0}}"
    message = refusal(sandbox, recipe(wide % "hidden", STORIES, WRITERS))
    assert (
        "'hidden': it compares tensors that have other shapes in this teacher; allowed: logits, and layers" in message
    )
    for term in ("logits", '"layer network.transformer.ln_f"'):
        assert plans(sandbox, recipe(wide % term, STORIES, WRITERS))["taught"][1].fit.teaching.width == 32


def test_closed_forms_have_one_size(sandbox):
    text = recipe("{model: {}, weights: {output: 1.0}}", "{use: gaussian, rows: 40}", "gaussian")
    message = refusal(sandbox, text.replace("train:", "#train:"))
    assert "arms.taught.teacher.model: 'gaussian' is solved in closed form" in message


def test_a_teacher_of_fewer_rows_is_generation_0_of_an_arm_with_these_rows(sandbox):
    text = recipe("{rows: 20, weights: {output: 0.5}}").replace(
        "wide: {data: replace,", "wide: {data: replace, rows: 20,"
    )
    arms = plans(sandbox, text)
    taught = arms["taught"]
    assert taught[0].fit.digest == arms["plain"][0].fit.digest
    teacher = taught[1].fit.teacher
    assert [spec.digest for spec in taught[0].between] == [teacher.digest]
    assert (teacher.plan.rows, teacher.generation, teacher.train.steps) == (20, 0, 3)
    assert taught[2].fit.teacher.digest == teacher.digest
    assert taught[1].fit.teaching is None


def test_an_untrained_teacher_takes_no_update(sandbox):
    taught = plans(sandbox, recipe("{untrained: true, weights: {output: 0.5}}"))["taught"]
    assert taught[1].fit.teacher.train.steps == 0
    assert taught[1].fit.teacher.digest != taught[0].fit.digest


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        (
            "{rows: 40, weights: {output: 1.0}}",
            "teacher.rows: 40 asked for, and generation 0 is fitted to 40 real rows",
        ),
        ("{rows: 0, weights: {output: 1.0}}", "teacher.rows: found 0; allowed: above 0"),
        ("{rows: 20, untrained: true, weights: {output: 1.0}}", "an untrained teacher is fitted to no rows"),
        (
            "{rows: 20, generation: previous, weights: {output: 1.0}}",
            "a teacher with `rows` is a fit to generation 0's",
        ),
        ("{untrained: true, generation: ema, weights: {output: 1.0}}", "a teacher with `untrained` is a fit to"),
    ],
)
def test_controls_that_cannot_be_made_are_refused(sandbox, teacher, message):
    assert message in refusal(sandbox, recipe(teacher))


def test_closed_forms_may_have_a_teacher_of_fewer_rows_and_no_untrained_one(sandbox):
    points = "{use: gaussian, rows: 40}"
    text = recipe("{rows: 20, weights: {output: 1.0}}", points, "gaussian").replace("train: {steps: 3,", "#")
    text = text.replace("[test_loss]", "[variance_ratio]")
    assert plans(sandbox, text)["taught"][1].fit.teacher.plan.rows == 20
    assert "no weights before it is fitted" in refusal(sandbox, text.replace("rows: 20", "untrained: true"))
