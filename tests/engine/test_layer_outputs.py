"""Distillation from a layer's output: against the families' own terms, by hand for texts, in groups, and bad paths."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from collapse_sim.core.errors import RecipeError
from collapse_sim.core.randomness import Draws
from collapse_sim.engine.fit import backward
from collapse_sim.engine.layer_outputs import layer_distance
from collapse_sim.engine.stacked import StackedObjective
from collapse_sim.engine.training_loss import TrainingLoss
from collapse_sim.families.flow_matching import FlowMatching
from collapse_sim.families.network import Network
from collapse_sim.families.vae import VAE
from collapse_sim.testing import CPU
from tests.families.small_rows import IMAGES, POINTS, image_rows
from tests.families.wording import PAIRS, T5, TEXT, TINY, built, pairs, texts

LINEAR = VAE(hidden=8, latent=2, reconstruction="mse", output_activation="linear")
DENOISER = FlowMatching(network=Network(widths=(8, 8)))


def passes(family, info, rows, layers, criterion="mse"):
    """A student's and a teacher's forward pass for the same batch."""
    objective = TrainingLoss(family, layers=layers, criterion=criterion)
    inputs = family.corrupt(rows, Draws((0,), "corrupt", 0))
    student, teacher = built(family, info, 0), built(family, info, 1)
    return objective, student, teacher, inputs


def points():
    return {"x": torch.randn(32, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))}


@pytest.mark.parametrize(
    ("family", "info", "rows", "path", "term"),
    [
        (LINEAR, IMAGES, {"image": image_rows(IMAGES)["image"]}, "decoder.2", "output"),
        (DENOISER, POINTS, points(), "last", "output"),
        (DENOISER, POINTS, points(), "hidden.0", "encoder"),
        (TINY, TEXT, texts(), "network.transformer.ln_f", "hidden"),
    ],
    ids=["vae", "denoiser", "middle", "text"],
)
def test_a_layer_is_the_familys_own_term(family, info, rows, path, term):
    """The last layer's output is the family's `output`, and so on: value and gradients; `hidden` is a cosine."""
    criterion = "cosine" if term == "hidden" else "mse"
    objective, student, teacher, inputs = passes(family, info, rows, (path,), criterion)
    gradients = []
    for name in (f"layer {path}", term):
        student.zero_grad()
        loss = backward(objective, student, inputs, CPU, CPU.scaler(), teacher, {name: 3.0})
        gradients.append([loss, *(p.grad.clone() for p in student.parameters() if p.grad is not None)])
    for own, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(own, reference, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("criterion", ["mse", "cosine", "kl"])
def test_texts_by_hand(criterion):
    """A mean over the values of each token that is in use, summed over these tokens."""
    path = "network.transformer.h.0"
    objective, student, teacher, inputs = passes(TINY, TEXT, texts(), (path,), criterion)
    with torch.no_grad():
        own, target = objective.predict(student, inputs), objective.predict(teacher, inputs)
        term = objective.terms(own, target, inputs)[f"layer {path}"]
    (one,), (other,) = own.layers[path], target.layers[path]
    used = inputs["tokens"][:, 1 : 1 + one.shape[1]] >= 0
    used = F.pad(used, (0, one.shape[1] - used.shape[1]))
    a, b = one[used], other[used]
    expected = {
        "mse": (a - b).square().mean(-1),
        "cosine": 1 - (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1)),
        "kl": (b.softmax(-1) * (b.log_softmax(-1) - a.log_softmax(-1))).sum(-1),
    }[criterion].sum()
    torch.testing.assert_close(term, expected, rtol=1e-4, atol=1e-5)


def test_an_encoders_layer_counts_its_own_tokens():
    """A row's distance is the mean over its source, and counts as its target does."""
    path = "network.encoder.block.0"
    objective, student, teacher, inputs = passes(T5, PAIRS, pairs(), (path,))
    with torch.no_grad():
        own, target = objective.predict(student, inputs), objective.predict(teacher, inputs)
        (one,), (other,) = own.layers[path], target.layers[path]
        lengths = (inputs["source"] >= 0).sum(1).tolist()
        squares = (one - other).square().mean(-1)
        rows = torch.stack([each[:n].mean() if n else each.sum() * 0 for each, n in zip(squares, lengths, strict=True)])
        term = objective.terms(own, target, inputs)[f"layer {path}"]
    torch.testing.assert_close(term, (rows * T5.row_counts(inputs)).sum(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("criterion", ["mse", "cosine", "kl"])
def test_a_student_equal_to_its_teacher_has_no_term_and_no_gradient(criterion):
    objective, student, _, inputs = passes(DENOISER, POINTS, points(), ("hidden.1",), criterion)
    passed = objective.predict(student, inputs)
    term = objective.terms(passed, objective.predict(built(DENOISER, POINTS, 0), inputs), inputs)["layer hidden.1"]
    assert float(term.detach()) == pytest.approx(0.0, abs=1e-5)
    gradients = torch.autograd.grad(term, list(student.parameters()), allow_unused=True)
    assert all(float(g.abs().max()) < 1e-4 for g in gradients if g is not None)


def test_models_computed_together_have_the_same_terms():
    """Hooks see the batched outputs of torch.func.vmap."""
    objective, first, teacher, inputs = passes(DENOISER, POINTS, points(), ("hidden.0", "last"))
    models = [first, built(DENOISER, POINTS, 2)]
    own = {"layer hidden.0": [0.5, 2.0], "layer last": [1.0, 0.0]}
    stacked = {
        name: torch.stack([m.get_parameter(name).detach() for m in models]) for name, _ in first.named_parameters()
    }
    with torch.no_grad():
        target = objective.predict(teacher, inputs)
        together = StackedObjective(objective, first, CPU)(
            stacked, [inputs, inputs], [target, target], {name: torch.tensor(each) for name, each in own.items()}
        )
    for i, model in enumerate(models):
        weights = {name: each[i] for name, each in own.items()}
        alone = backward(objective, model, inputs, CPU, CPU.scaler(), teacher, weights)
        torch.testing.assert_close(together[i], alone, rtol=1e-5, atol=1e-6)


def test_micro_batches_add_up():
    objective, student, teacher, inputs = passes(TINY, TEXT, texts(), ("network.transformer.h.1",))
    losses = [
        backward(objective, student, inputs, CPU, CPU.scaler(), teacher, {"layer network.transformer.h.1": 1.0}, parts)
        for parts in (1, 4)
    ]
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-5)


def test_a_layer_that_is_not_computed_or_not_of_rows():
    _, _, _, inputs = passes(DENOISER, POINTS, points(), ("last",))
    with pytest.raises(RecipeError, match="layer last: the model's forward pass computes no output of it"):
        layer_distance(DENOISER, "mse", "last", {}, {}, inputs)
    output = {"last": (torch.zeros(3, 2),)}
    with pytest.raises(RecipeError, match=r"layer last: its output is of shape \(3, 2\) for 32 rows"):
        layer_distance(DENOISER, "mse", "last", output, output, inputs)
