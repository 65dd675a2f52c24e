"""The convolutional VAE: its contract, its sizes, its losses against torch.distributions, and that it learns."""

import pytest
import torch
from pydantic import ValidationError

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.families.base import Conditions
from collapse_sim.families.conv_vae import ConvVAE
from collapse_sim.testing import check_family


def info_of(*shape):
    return Info("images", {"image": (shape, "uint8")}, 64, 64, 16)


def images(n, *shape):
    generator = torch.Generator().manual_seed(0)
    return {"image": torch.randint(0, 256, (n, *shape), generator=generator, dtype=torch.uint8)}


@pytest.mark.parametrize(("shape", "depth"), [((1, 8, 8), 1), ((1, 8, 8), 3), ((3, 12, 12), 2)])
@pytest.mark.parametrize("reconstruction", ["bce", "mse"])
def test_contract(shape, depth, reconstruction):
    family = ConvVAE(width=8, depth=depth, latent=3, reconstruction=reconstruction)
    check_family(family, info_of(*shape), images(32, *shape))


def test_contract_of_linear_outputs():
    scaled = {"mean": 0.5, "std": 0.25}
    family = ConvVAE(
        width=8, depth=1, latent=3, reconstruction="mse", output_activation="linear", standardize=scaled, kd_kl=True
    )
    check_family(family, info_of(3, 8, 8), images(32, 3, 8, 8))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 32, 32), "1 or 3 channels, found 2"),
        ((3, 32, 16), "square images, found 32x16: set `data.size`"),
        ((1, 28, 28), "28 pixels are not divisible by 16: set depth: 2 or less, or `data.size` to 32"),
        ((1, 33, 33), "33 pixels are not divisible by 16: set `data.size` to 48"),
        ((1, 8, 8), "8 pixels are not divisible by 16: set depth: 3 or less, or `data.size` to 16"),
    ],
)
def test_images_that_do_not_fit(shape, message):
    with pytest.raises(ValueError, match=message):
        ConvVAE(depth=4).check(info_of(*shape))


@pytest.mark.parametrize("setting", [{"width": 12}, {"depth": 0}, {"latent": 0}, {"hidden": 420}])
def test_settings_that_do_not_fit(setting):
    with pytest.raises(ValidationError):
        ConvVAE(**setting)


def test_parameters_are_those_of_its_convolutions():
    """Counted by hand, for 3x64x64 pixels: levels of 32, 64, 128, 256 and 512 channels, a last image of 2x2."""
    ins, outs = [3, 32, 64, 128, 256, 512, 256, 128, 64, 32], [32, 64, 128, 256, 512, 256, 128, 64, 32, 32]
    levels = sum(16 * i * o + o + 2 * o for i, o in zip(ins, outs, strict=True))  # weights, biases, normalisation
    flat = 512 * 2 * 2
    ends = (flat * 256 + 256) + (128 * flat + flat) + (9 * 32 * 3 + 3)
    model = ConvVAE(width=32, depth=5, latent=128).build(info_of(3, 64, 64))
    assert sum(p.numel() for p in model.parameters()) == levels + ends


def test_loss_with_mse_is_a_gaussian_elbo_up_to_scale():
    """mse + w KL / D is 2 sigma^2 / D times the negative ELBO at sigma^2 = w / 2, without its constant."""
    family, rows, pixels, weight = ConvVAE(width=8, depth=2, reconstruction="mse", kl_weight=0.3), 16, 3 * 8 * 8, 0.3
    model = family.build(info_of(3, 8, 8))
    inputs = family.corrupt(images(rows, 3, 8, 8), Draws((0,), "corrupt", 0))
    prediction = family.predict(model, inputs)
    likelihood = torch.distributions.Normal(prediction.decoded.sigmoid(), (weight / 2) ** 0.5)
    constant = torch.distributions.Normal(0.0, (weight / 2) ** 0.5).log_prob(torch.zeros(())) * rows * pixels
    posterior = torch.distributions.Normal(prediction.mean, (0.5 * prediction.log_variance).exp())
    kl = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum()
    elbo = likelihood.log_prob(inputs["x"]).sum() - constant - kl
    torch.testing.assert_close(family.loss(prediction, inputs), -weight / pixels * elbo)


def test_it_learns_a_few_images():
    """Blots at places of their own: reconstructions come near, and most of the variance is explained."""
    y, x = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    blots = [(255 * torch.exp(-((x - a) ** 2 + (y - b) ** 2) / 8)).to(torch.uint8) for a in (3, 8, 13) for b in (4, 11)]
    rows = {"image": torch.stack(blots)[:, None]}
    family = ConvVAE(width=8, depth=2, latent=4, reconstruction="mse", kl_weight=0.01)
    torch.manual_seed(0)
    model = family.build(info_of(1, 16, 16))
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for step in range(150):
        inputs = family.corrupt(rows, Draws((0,), "corrupt", 0, step))
        optimizer.zero_grad()
        family.loss(family.predict(model, inputs), inputs).backward()
        optimizer.step()
    mean, variance = family.encode(model, rows)
    assert mean.shape == variance.shape == (6, 4)
    assert variance.min() > 0
    truth = rows["image"].flatten(1) / 255
    error = (model.decoder(mean).sigmoid() - truth).square().mean()
    assert error < 0.1 * truth.var(0).mean()
    sampled = family.sample(model, Conditions(7, {}), Draws((0,), "sample", 0))["image"]
    assert sampled.shape == (7, 1, 16, 16)
    assert sampled.float().std(0).mean() > 10
