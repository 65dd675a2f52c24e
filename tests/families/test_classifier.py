"""The classifier behind the metrics: it learns, and gives the same features whatever rows it is shown with."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.families.base import ModelFamily
from collapse_sim.families.classifier import Classifier
from collapse_sim.metrics.feature_maps import ClassifierFeatures
from collapse_sim.testing import check_family, check_row_losses
from tests.families.small_rows import IMAGES, image_rows


@pytest.fixture
def digits_info() -> Info:
    columns = {"image": ((1, 8, 8), "uint8"), "label": ((), "int64")}
    return Info("images", columns, 1437, 1437, 360, classes=10, fingerprint="abc")


def draws() -> Draws:
    return Draws((0,), "corrupt", 0)


def batch(rows: int, shape: tuple[int, ...] = (1, 8, 8)) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(rows)
    images = torch.randint(0, 256, (rows, *shape), dtype=torch.uint8, generator=generator)
    return {"image": images, "label": torch.randint(0, 10, (rows,), generator=generator)}


@pytest.mark.slow
def test_learns_real_digits(digits_info):
    """With the settings that the feature map asks for: at least 97 % of held-out digits right."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = torch.from_numpy(found.images / 16 * 255).round().to(torch.uint8)[:, None]
    labels = torch.from_numpy(found.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1))
    train_rows, held_out = order[:1437], order[1437:]
    family, train = ClassifierFeatures().network()
    torch.manual_seed(1)
    model = family.build(digits_info)
    optimizer = torch.optim.AdamW(model.parameters(), train.learning_rate, train.betas, weight_decay=train.weight_decay)
    for step in range(train.steps):
        pick = train_rows[torch.randint(len(train_rows), (train.batch_size,))]
        inputs = family.corrupt({"image": images[pick], "label": labels[pick]}, draws())
        loss = family.loss(family.predict(model, inputs), inputs) / inputs.count
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = train.learning_rate * min(
            (step + 1) / train.warmup_steps, 0.5 * (1 + math.cos(math.pi * step / train.steps))
        )
        optimizer.step()
    guessed = ClassifierFeatures().classified(model.eval(), images[held_out])[1].argmax(1)
    assert float((guessed == labels[held_out]).double().mean()) >= 0.97


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 17), (1, 28, 28), (3, 32, 32), (1, 8, 64)])
def test_takes_images_of_any_size(shape, digits_info):
    info = dataclasses.replace(digits_info, columns={"image": (shape, "uint8"), "label": ((), "int64")})
    family = Classifier(features=12)
    family.check(info)
    model = family.build(info)
    prediction = family.predict(model, family.corrupt(batch(3, shape), draws()))
    assert (prediction.logits.shape, prediction.features.shape) == ((3, 10), (3, 12))


def test_rows_do_not_influence_each_other(digits_info):
    family, rows = Classifier(), batch(32)
    model = family.build(digits_info).train()
    together = family.predict(model, family.corrupt(rows, draws()))
    for i in (0, 31):
        alone = family.predict(
            model, family.corrupt({name: column[i : i + 1] for name, column in rows.items()}, draws())
        )
        torch.testing.assert_close(alone.features, together.features[i : i + 1], rtol=1e-4, atol=1e-5)


def test_one_batch_is_four_micro_batches(digits_info):
    family, rows = Classifier(), batch(32)
    model = family.build(digits_info)
    inputs = family.corrupt(rows, draws())
    assert inputs.count == 32

    def gradients(parts: int) -> list[torch.Tensor]:
        model.zero_grad()
        for part in inputs.split(parts):
            (family.loss(family.predict(model, part), part) / inputs.count).backward()
        return [p.grad.clone() for p in model.parameters()]

    for whole, pieces in zip(gradients(1), gradients(4), strict=True):
        torch.testing.assert_close(whole, pieces, rtol=1e-4, atol=1e-6)


def test_loss_is_summed_cross_entropy(digits_info):
    family = Classifier()
    inputs = family.corrupt(batch(5), draws())
    with torch.no_grad():
        prediction = family.predict(family.build(digits_info), inputs)
    picked = prediction.logits.log_softmax(1)[torch.arange(5), inputs["label"]]
    assert float(family.loss(prediction, inputs)) == pytest.approx(-float(picked.sum()), rel=1e-5)


def test_contract():
    assert isinstance(Classifier(), ModelFamily)
    assert Classifier().distillation(None, None, None) == {}
    with pytest.raises(ValueError, match="a classifier cannot be sampled"):
        Classifier().sample(None, None, None)


def test_check_says_what_would_do(digits_info):
    with pytest.raises(ValueError, match="fitted to labelled images, but this data has no labels"):
        Classifier().check(dataclasses.replace(digits_info, classes=0))
    with pytest.raises(ValueError, match="at least 8x8 pixels, found 6x8: resize or pad them"):
        Classifier().check(dataclasses.replace(digits_info, columns={"image": ((1, 6, 8), "uint8")}))
    with pytest.raises(ValueError, match="takes images, found data of kind 'points'"):
        Classifier().check(Info("points", {"x": ((2,), "float64")}, 1, 1, 1))


def test_parts_add_up():
    family = Classifier()
    rows = image_rows(IMAGES)
    inputs = family.corrupt(rows, Draws((0,), "corrupt", 0))
    model = family.build(IMAGES).eval()
    whole = family.loss(family.predict(model, inputs), inputs)
    parts = sum(family.loss(family.predict(model, part), part) for part in inputs.split(8))
    torch.testing.assert_close(whole, parts, rtol=1e-5, atol=1e-4)
    check_row_losses(family, model, inputs)


def test_a_family_only_for_metrics_refuses_to_generate():
    """The contract, with all other checks."""
    check_family(Classifier(width=4, features=8), IMAGES, image_rows(IMAGES))

    class Generating(Classifier):
        def sample(self, model, conditions, draws):
            return {}

    with pytest.raises(AssertionError, match="only_for_metrics: `sample` did not raise ValueError"):
        check_family(Generating(width=4, features=8), IMAGES, image_rows(IMAGES))
