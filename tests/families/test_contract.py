"""Every family obeys the contract that the engine builds on."""

import pytest
import torch

from collapse_sim.data.base import Info
from collapse_sim.families.classifier import Classifier
from collapse_sim.families.denoiser import mean_square
from collapse_sim.families.flow_matching import FlowMatching
from collapse_sim.families.gaussian import Gaussian, GaussianModel
from collapse_sim.families.linear import LinearRegression
from collapse_sim.families.network import Network
from collapse_sim.families.vae import VAE
from collapse_sim.testing import check_closed_form, check_family, check_row_losses

IMAGES = Info("images", {"image": ((1, 8, 8), "uint8"), "label": ((), "int64")}, 64, 64, 16, classes=10)
COLOUR = Info("images", {"image": ((3, 12, 10), "uint8")}, 64, 64, 16)
POINTS = Info("points", {"x": ((3,), "float64")}, 50, 50, 10)
REGRESSION = Info("regression", {"x": ((3,), "float64"), "y": ((), "float64")}, 50, 50, 10, constants={"noise": 1.0})


def images(info):
    generator = torch.Generator().manual_seed(0)
    shape = info.shape("image")
    rows = {"image": torch.randint(0, 256, (40, *shape), generator=generator, dtype=torch.uint8)}
    if info.classes:
        rows["label"] = torch.randint(0, info.classes, (40,), generator=generator)
    return rows


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
    check_family(VAE(hidden=16, latent=3, **settings), info, images(info))


def test_vae_of_the_paper_has_887k_parameters():
    info = Info("images", {"image": ((1, 32, 32), "uint8")}, 1, 1, 1)
    model = VAE(hidden=420, latent=20).build(info)
    assert sum(p.numel() for p in model.parameters()) == 887_264


def test_vae_loss_is_the_negative_elbo_per_pixel():
    """Against torch.distributions on one batch."""
    family, info = VAE(hidden=16, latent=3), IMAGES
    from collapse_sim.core.randomness import Draws

    rows = images(info)
    model = family.build(info)
    inputs = family.corrupt(rows, Draws((0,), "corrupt", 1))
    prediction = family.predict(model, inputs)
    x = rows["image"].flatten(1) / 255
    posterior = torch.distributions.Normal(prediction.mean, (0.5 * prediction.log_variance).exp())
    kl = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum()
    p = prediction.decoded.sigmoid()
    cross_entropy = -(x * p.log() + (1 - x) * (1 - p).log()).sum()
    torch.testing.assert_close(family.loss(prediction, inputs), (cross_entropy + kl) / 64, rtol=1e-4, atol=1e-4)


def test_gaussian():
    x = torch.randn(3, 50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 + 1
    check_closed_form(Gaussian(), POINTS, {"x": x})


def test_gaussian_loss_and_term_against_torch_distributions():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 50, 3, dtype=torch.float64, generator=generator)
    family = Gaussian()
    fitted = family.solve(POINTS, {"x": x}, None, {}, None)
    prediction = family.predict(fitted, None)
    inputs = family.corrupt({"x": x}, None)
    normal = torch.distributions.MultivariateNormal(prediction.mean, prediction.covariance)
    expected = -normal.log_prob(x.transpose(0, 1)).sum(0)
    torch.testing.assert_close(family.loss(prediction, inputs), expected)
    torch.testing.assert_close(family.row_losses(prediction, inputs), -normal.log_prob(x.transpose(0, 1)).T)
    other = family.predict(family.build_ensemble(POINTS, 2), None)
    standard = torch.distributions.MultivariateNormal(other.mean, other.covariance)
    cross_entropy = standard.entropy() + torch.distributions.kl_divergence(standard, normal)
    torch.testing.assert_close(family.distillation(prediction, other, inputs)["output"], 50 * cross_entropy)


def test_gaussian_samples_have_the_models_moments():
    from collapse_sim.core.randomness import Draws
    from collapse_sim.families.base import Conditions

    covariance = torch.tensor([[[2.0, 0.6], [0.6, 0.5]]], dtype=torch.float64)
    model = GaussianModel(torch.tensor([[1.0, -2.0]], dtype=torch.float64), covariance)
    draws = Draws((0,), "sample", 0, dtype=torch.float64, stacked=True)
    x = Gaussian().sample(model, Conditions(200_000, {}), draws)["x"][0]
    torch.testing.assert_close(x.mean(0), model.mean[0], atol=0.01, rtol=0)
    torch.testing.assert_close(x.T.cov(), covariance[0], atol=0.02, rtol=0)


def test_singular_covariance_has_infinite_loss():
    x = torch.ones(1, 5, 3, dtype=torch.float64)
    family = Gaussian()
    fitted = family.solve(POINTS, {"x": x}, None, {}, None)
    inputs = family.corrupt({"x": x}, None)
    assert family.loss(family.predict(fitted, inputs), inputs).isinf().all()


def regression(rows):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, rows, 3, dtype=torch.float64, generator=generator)
    return {"x": x, "y": torch.randn(3, rows, dtype=torch.float64, generator=generator)}


def test_linear():
    check_closed_form(LinearRegression(), REGRESSION, regression(50))


def test_linear_is_minimum_norm_when_underdetermined():
    rows = regression(2)
    fitted = LinearRegression().solve(REGRESSION, rows, None, {}, None)
    import numpy as np

    for s in range(3):
        expected, *_ = np.linalg.lstsq(rows["x"][s].numpy(), rows["y"][s].numpy(), rcond=None)
        np.testing.assert_allclose(fitted.weights[s].numpy(), expected, atol=1e-10)


def test_classifier():
    family = Classifier()
    from collapse_sim.core.randomness import Draws

    rows = images(IMAGES)
    inputs = family.corrupt(rows, Draws((0,), "corrupt", 0))
    model = family.build(IMAGES).eval()
    whole = family.loss(family.predict(model, inputs), inputs)
    parts = sum(family.loss(family.predict(model, part), part) for part in inputs.split(8))
    torch.testing.assert_close(whole, parts, rtol=1e-5, atol=1e-4)
    check_row_losses(family, model, inputs)


def squares(self, prediction, inputs):
    return mean_square(prediction.output, inputs["target"]).sum()


WRONG_ROWS = {
    "must add up to the loss": lambda self, prediction, inputs: mean_square(prediction.output, inputs["target"]) / 2,
    "returns \\(2,\\) for 32 rows": lambda self, prediction, inputs: inputs["t"].new_zeros(2),
    "depends on others": lambda self, prediction, inputs: (
        mean_square(prediction.output, inputs["target"]).mean().expand(len(inputs["t"]))
    ),
}


@pytest.mark.parametrize("problem", WRONG_ROWS)
def test_wrong_losses_of_rows_are_found(problem):
    wrong = {"row_losses": WRONG_ROWS[problem], "loss": squares}
    family = type("Wrong", (FlowMatching,), wrong)(network=Network(widths=(8, 8)))
    with pytest.raises(AssertionError, match=problem):
        check_family(family, POINTS, {"x": torch.randn(32, 3, dtype=torch.float64)})
