"""Conventions of the VAE's loss: linear outputs, standardised pixels, the KL term within distillation; its records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from collapse_sim.core.errors import RecipeError
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.data.images.digits import Digits
from collapse_sim.data.sources import REAL, Plan, Source
from collapse_sim.families.base import Conditions
from collapse_sim.families.conv_vae import ConvVAE
from collapse_sim.families.training import Train
from collapse_sim.families.vae import VAE, VAEFamily, VAEModel
from collapse_sim.plan.specs import data_spec, fit_spec
from collapse_sim.recipe.loader import load
from collapse_sim.testing import check_family
from tests.families.small_rows import COLOUR, IMAGES, image_rows

INFO = Info("images", {"image": ((1, 8, 8), "uint8")}, 64, 64, 16)
PIXELS, LATENT, ROWS = 64, 3, 12
MNIST = {"mean": 0.1307, "std": 0.3081}
STANDARDISED = {"reconstruction": "mse", "output_activation": "linear", "standardize": MNIST, "kl_weight": 0.3}
ALL = [
    {},
    {"reconstruction": "mse"},
    {"reconstruction": "mse", "output_activation": "linear"},
    STANDARDISED,
    {"kd_kl": True},
]


def images(rows: int = ROWS) -> torch.Tensor:
    return torch.randint(0, 256, (rows, 1, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def model_of(family: VAEFamily, seed: int = 0) -> VAEModel:
    torch.manual_seed(seed)
    model = family.build(INFO).eval()
    assert isinstance(model, VAEModel)
    return model


def by_hand(model: VAEModel, x: np.ndarray, eps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of a fully connected VAE, in numpy: what is decoded (n, D), the posterior's mean and log variance (n, latent)."""
    layers = [
        (layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy())
        for layer in (model.encoder[0], model.encoder[2], model.decoder[0], model.decoder[2])  # type: ignore[index]
    ]
    (w1, b1), (w2, b2), (w3, b3), (w4, b4) = layers
    both = np.maximum(x @ w1.T + b1, 0) @ w2.T + b2
    mean, log_variance = both[:, :LATENT], both[:, LATENT:]
    z = mean + np.exp(log_variance / 2) * eps
    return np.maximum(z @ w3.T + b3, 0) @ w4.T + b4, mean, log_variance


def kl_by_hand(mean: np.ndarray, log_variance: np.ndarray) -> np.ndarray:
    """KL(N(mean, variance) || N(0, I)), (n,)."""
    variance = np.exp(log_variance)
    return np.asarray((np.log(1 / np.sqrt(variance)) + (variance + mean**2) / 2 - 0.5).sum(1))


def test_standardised_linear_loss_against_numpy() -> None:
    family = VAE(hidden=16, latent=LATENT, **STANDARDISED)
    model, inputs = model_of(family), family.corrupt({"image": images()}, Draws((0,), "corrupt", 0))
    x = (images().numpy().reshape(ROWS, PIXELS) / 255 - 0.1307) / 0.3081
    decoded, mean, log_variance = by_hand(model, x, inputs["eps"].double().numpy())
    expected = ((decoded - x) ** 2).sum(1) / PIXELS + 0.3 * kl_by_hand(mean, log_variance) / PIXELS
    prediction = family.predict(model, inputs)
    np.testing.assert_allclose(family.row_losses(prediction, inputs).detach(), expected, rtol=1e-4)
    np.testing.assert_allclose(float(family.loss(prediction, inputs).detach()), expected.sum(), rtol=1e-4)


@pytest.mark.parametrize("kd_kl", [False, True])
def test_the_output_term_is_the_loss_with_the_teachers_output_in_the_place_of_the_row(kd_kl: bool) -> None:
    """L_VAE(Ys, Yt): its KL term is the student's own, and is there only where asked for."""
    family = VAE(hidden=16, latent=LATENT, kd_kl=kd_kl, **STANDARDISED)
    inputs = family.corrupt({"image": images()}, Draws((0,), "corrupt", 0))
    x, eps = inputs["x"].double().numpy(), inputs["eps"].double().numpy()
    student, teacher = model_of(family, 0), model_of(family, 1)
    mine, mean, log_variance = by_hand(student, x, eps)
    theirs, _, _ = by_hand(teacher, x, eps)
    expected = ((mine - theirs) ** 2).sum() / PIXELS
    if kd_kl:
        expected += 0.3 * kl_by_hand(mean, log_variance).sum() / PIXELS
    terms = family.distillation(family.predict(student, inputs), family.predict(teacher, inputs), inputs)
    np.testing.assert_allclose(float(terms["output"].detach()), expected, rtol=1e-4)


def test_kl_within_the_term_with_bce() -> None:
    """It adds kl_weight KL(q || prior) / D to the term, of the student alone, and nothing to the others."""
    without, within = (VAE(hidden=16, latent=LATENT, kl_weight=0.7, kd_kl=flag) for flag in (False, True))
    inputs = without.corrupt({"image": images()}, Draws((0,), "corrupt", 0))
    student, teacher = (without.predict(model_of(without, seed), inputs) for seed in (0, 1))
    kl = kl_by_hand(student.mean.detach().numpy(), student.log_variance.detach().numpy()).sum()
    less, more = (family.distillation(student, teacher, inputs) for family in (without, within))
    added = (more["output"] - less["output"]).detach()
    np.testing.assert_allclose(float(added), 0.7 * kl / PIXELS, rtol=1e-4, atol=1e-5)
    assert torch.equal(more["mean"], less["mean"])
    assert torch.equal(more["variance"], less["variance"])


@pytest.mark.parametrize("settings", ALL)
def test_row_losses_are_each_rows_own_and_add_up(settings: dict[str, object]) -> None:
    family = VAE(hidden=16, latent=LATENT, **settings)
    model, inputs = model_of(family), family.corrupt({"image": images()}, Draws((0,), "corrupt", 0))
    rows = family.row_losses(family.predict(model, inputs), inputs)
    assert rows.shape == (ROWS,)
    alone = [family.loss(family.predict(model, part), part) for part in inputs.split(ROWS)]
    torch.testing.assert_close(rows, torch.stack(alone), rtol=1e-5, atol=1e-6)
    assert len(set(rows.tolist())) == ROWS


def test_row_losses_of_the_convolutional_vae() -> None:
    family = ConvVAE(width=8, depth=1, latent=LATENT)
    model, inputs = model_of(family), family.corrupt({"image": images()}, Draws((0,), "corrupt", 0))
    rows = family.row_losses(family.predict(model, inputs), inputs)
    alone = [family.loss(family.predict(model, part), part) for part in inputs.split(ROWS)]
    torch.testing.assert_close(rows, torch.stack(alone), rtol=1e-5, atol=1e-6)


class _Given(nn.Module):
    """A network that gives these values, (D,) or (n, D), whatever it is shown."""

    def __init__(self, values: torch.Tensor) -> None:
        super().__init__()
        self.values = values

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.values.expand(len(x), self.values.shape[-1])


def test_samples_are_taken_back_to_intensities() -> None:
    """0 is the mean, 1 one standard deviation above; what lies outside of black and white is clipped."""
    wanted = [0, 33, 112, 255, 255, 0]
    given = [-0.1307 / 0.3081, 0.0, 1.0, (1 - 0.1307) / 0.3081, 5.0, -3.0]
    assert wanted[1:3] == [round(255 * 0.1307), round(255 * (0.1307 + 0.3081))]
    family = VAE(latent=LATENT, **STANDARDISED)
    model = VAEModel((1, 2, 3), nn.Identity(), _Given(torch.tensor(given)))
    sampled = family.sample(model, Conditions(2, {}), Draws((0,), "sample", 0))["image"]
    assert sampled.dtype == torch.uint8
    assert sampled.tolist() == [[[wanted[:3], wanted[3:]]]] * 2
    linear = VAE(latent=LATENT, reconstruction="mse", output_activation="linear")
    model = VAEModel((1, 2, 3), nn.Identity(), _Given(torch.tensor([-0.2, 0.0, 0.4, 1.0, 1.3, 0.1])))
    assert linear.sample(model, Conditions(1, {}), Draws((0,), "sample", 0))["image"].flatten().tolist() == [
        0, 0, 102, 255, 255, 26,
    ]  # fmt: skip


def test_every_intensity_comes_back() -> None:
    """A model that decodes what it was shown samples the bytes that it was shown."""
    family = VAE(latent=LATENT, **STANDARDISED)
    shown = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    values = family.corrupt({"image": shown}, Draws((0,), "corrupt", 0))["x"]
    model = VAEModel((1, 16, 16), nn.Identity(), _Given(values))
    assert torch.equal(family.sample(model, Conditions(1, {}), Draws((0,), "sample", 0))["image"], shown)


def test_the_encoder_sees_standardised_pixels() -> None:
    family = VAE(hidden=16, latent=LATENT, **STANDARDISED)
    model = model_of(family)
    x = (images().numpy().reshape(ROWS, PIXELS) / 255 - 0.1307) / 0.3081
    _, mean, log_variance = by_hand(model, x, np.zeros((ROWS, LATENT)))
    found_mean, found_variance = family.encode(model, {"image": images()})
    np.testing.assert_allclose(found_mean.detach(), mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found_variance.detach(), np.exp(log_variance), rtol=1e-4)


def test_bce_of_grey_pixels_is_at_least_their_entropy() -> None:
    """With the true intensities as its output the loss is the pixels' binary entropy and not 0; that of mse is 0."""
    x = images().flatten(1).double() / 255
    p = x.clamp(1e-12, 1 - 1e-12)
    entropy = -(p * p.log() + (1 - p) * (1 - p).log()).mean(1)
    family = VAE(latent=LATENT, kl_weight=0.0)
    inputs = family.corrupt({"image": images()}, Draws((0,), "corrupt", 0))
    perfect = VAEModel((1, 8, 8), _Given(torch.zeros(2 * LATENT)), _Given(p.logit().float()))
    prediction = family.predict(perfect, inputs)
    torch.testing.assert_close(family.row_losses(prediction, inputs).double(), entropy, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"output_activation": "linear"}, "`reconstruction: bce` cannot"),
        ({"standardize": MNIST}, "`output_activation: sigmoid` never reaches"),
        ({"standardize": MNIST, "reconstruction": "mse"}, "`output_activation: sigmoid` never reaches"),
        ({**STANDARDISED, "standardize": {"mean": 0.1, "std": 0.0}}, "greater than 0"),
        ({**STANDARDISED, "standardize": {"mean": float("nan"), "std": 1.0}}, "finite"),
        ({**STANDARDISED, "standardize": {"mean": 0.1}}, "std"),
    ],
)
@pytest.mark.parametrize("kind", [VAE, ConvVAE])
def test_settings_that_do_not_go_together(kind: type[VAEFamily], settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        kind(**settings)


def test_a_recipe_is_told_where(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "data: digits\nmodel:\n  use: vae\n  standardize: {mean: 0.1, std: 0.3}\ntrain: {steps: 1}\ngenerations: 1\n"
        "seeds: 1\narms: {replace: {data: replace}}\nmetrics: [test_loss]\n"
    )
    with pytest.raises(RecipeError, match=r"mine\.yaml:[23]: model: `standardize` gives pixel values outside"):
        load(recipe)


def test_units_say_what_the_loss_is_of() -> None:
    assert [VAE(**settings).loss_unit for settings in ALL[:4]] == [  # type: ignore[arg-type]
        "nats per pixel",
        "squared intensity per pixel",
        "squared intensity per pixel",
        "squared standardised intensity per pixel",
    ]


def test_every_setting_is_in_the_key() -> None:
    data = data_spec(Digits(), INFO)
    plan = Plan((Source(REAL, INFO.rows),))
    shifted = {**STANDARDISED, "standardize": {**MNIST, "mean": 0.13}}
    digests = {
        fit_spec(0, VAE(**settings), Train(steps=1), plan, data, {}).digest  # type: ignore[arg-type]
        for settings in [*ALL, shifted]
    }
    assert len(digests) == len(ALL) + 1


@pytest.mark.parametrize("info", [IMAGES, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"reconstruction": "mse"},
        {"reconstruction": "mse", "output_activation": "linear"},
        {"reconstruction": "mse", "output_activation": "linear", "standardize": {"mean": 0.1307, "std": 0.3081}},
        {"kd_kl": True},
    ],
    ids=["bce", "mse", "linear", "standardised", "kl in the term"],
)
def test_vae(info, settings):
    check_family(VAE(hidden=16, latent=3, **settings), info, image_rows(info))


def test_vae_of_the_paper_has_887k_parameters():
    info = Info("images", {"image": ((1, 32, 32), "uint8")}, 1, 1, 1)
    model = VAE(hidden=420, latent=20).build(info)
    assert sum(p.numel() for p in model.parameters()) == 887_264


def test_vae_loss_is_the_negative_elbo_per_pixel():
    """Against torch.distributions on one batch."""
    family, info = VAE(hidden=16, latent=3), IMAGES
    from collapse_sim.core.randomness import Draws

    rows = image_rows(info)
    model = family.build(info)
    inputs = family.corrupt(rows, Draws((0,), "corrupt", 1))
    prediction = family.predict(model, inputs)
    x = rows["image"].flatten(1) / 255
    posterior = torch.distributions.Normal(prediction.mean, (0.5 * prediction.log_variance).exp())
    kl = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum()
    p = prediction.decoded.sigmoid()
    cross_entropy = -(x * p.log() + (1 - x) * (1 - p).log()).sum()
    torch.testing.assert_close(family.loss(prediction, inputs), (cross_entropy + kl) / 64, rtol=1e-4, atol=1e-4)


LABELLED = Info("images", {"image": ((1, 8, 8), "uint8"), "label": ((), "int64")}, 64, 64, 16, classes=4)
CONDITIONAL = {
    "vae": VAE(hidden=16, latent=LATENT, conditional=True),
    "conv_vae": ConvVAE(width=8, depth=2, latent=LATENT, conditional=True),
}


def labelled(rows: int = 40) -> dict[str, torch.Tensor]:
    return {"image": images(rows), "label": torch.arange(rows) % 4}


@pytest.mark.parametrize("name", CONDITIONAL)
def test_contract_of_a_conditional_model(name: str) -> None:
    check_family(CONDITIONAL[name], LABELLED, labelled())


@pytest.mark.parametrize("name", CONDITIONAL)
def test_encoder_and_decoder_both_get_the_label(name: str) -> None:
    """The same images, noise and latents with other labels are encoded and decoded otherwise."""
    family, rows = CONDITIONAL[name], labelled()
    torch.manual_seed(0)
    model = family.build(LABELLED).eval()
    other = {**rows, "label": (rows["label"] + 1) % 4}
    first, second = (family.predict(model, family.corrupt(of, Draws((0,), "corrupt", 0))) for of in (rows, other))
    assert bool(((first.mean - second.mean).abs().amax(1) > 1e-6).all())
    z = torch.randn(40, LATENT)
    decoded = [model.decode(z, of["label"]) for of in (rows, other)]
    assert bool(((decoded[0] - decoded[1]).abs().amax(1) > 1e-6).all())


def test_a_conditional_vae_against_numpy() -> None:
    """The label, one-hot, follows the pixels and the latents (Sohn et al. 2015)."""
    family, rows = CONDITIONAL["vae"], labelled(ROWS)
    torch.manual_seed(0)
    model = family.build(LABELLED).eval()
    inputs = family.corrupt(rows, Draws((0,), "corrupt", 0))
    hot = np.eye(4)[rows["label"].numpy()]
    x = rows["image"].numpy().reshape(ROWS, PIXELS) / 255
    weights = [parameter.detach().double().numpy() for parameter in model.parameters()]
    both = np.maximum(np.concatenate([x, hot], 1) @ weights[0].T + weights[1], 0) @ weights[2].T + weights[3]
    mean, log_variance = both[:, :LATENT], both[:, LATENT:]
    z = mean + np.exp(log_variance / 2) * inputs["eps"].double().numpy()
    decoded = np.maximum(np.concatenate([z, hot], 1) @ weights[4].T + weights[5], 0) @ weights[6].T + weights[7]
    prediction = family.predict(model, inputs)
    np.testing.assert_allclose(prediction.decoded.detach(), decoded, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CONDITIONAL)
def test_a_conditional_vae_generates_what_it_is_asked_for(name: str) -> None:
    """Four grey levels, one for each class."""
    label = torch.arange(80) % 4
    rows = {"image": (80 * label).to(torch.uint8)[:, None, None, None].expand(80, 1, 8, 8).clone(), "label": label}
    family = CONDITIONAL[name].model_copy(update={"reconstruction": "mse", "kl_weight": 0.1})
    torch.manual_seed(0)
    model = family.build(LABELLED)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(200):
        inputs = family.corrupt(rows, Draws((0,), "corrupt", 0, step))
        optimizer.zero_grad()
        (family.loss(family.predict(model, inputs), inputs) / inputs.count).backward()
        optimizer.step()
    asked = torch.tensor([2, 0, 3, 1, 2])
    with torch.no_grad():
        samples = family.sample(model.eval(), Conditions(5, {"label": asked}), Draws((0,), "sample", 0))
    assert torch.equal(samples["label"], asked)
    means = samples["image"].double().mean((1, 2, 3))
    assert float((means - 80 * asked).abs().max()) < 25


@pytest.mark.parametrize("name", CONDITIONAL)
def test_a_conditional_vae_needs_labels(name: str) -> None:
    with pytest.raises(ValueError, match="conditional: needs rows with labels, and this data has none"):
        CONDITIONAL[name].check(INFO)


@pytest.mark.parametrize("family", [VAE, ConvVAE])
def test_without_labels_its_key_is_what_it_was(family: type[VAEFamily]) -> None:
    assert "conditional" not in family().describe()
    assert family(conditional=True).describe()["conditional"] is True
