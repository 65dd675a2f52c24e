"""Every family computes on one device, as torch's fake tensors show without a GPU; and what mixes devices is found."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torchdiffeq

from collapse_sim.core import registry
from collapse_sim.data.base import Info
from collapse_sim.families.base import Inputs
from collapse_sim.families.classifier import Classifier
from collapse_sim.families.conformer import Conformer
from collapse_sim.families.conv_vae import ConvVAE
from collapse_sim.families.ddpm import DDPM
from collapse_sim.families.edm import EDM
from collapse_sim.families.flow import Flow
from collapse_sim.families.flow_matching import FlowMatching
from collapse_sim.families.gaussian import Gaussian
from collapse_sim.families.gmm import GMM
from collapse_sim.families.kde import KDE
from collapse_sim.families.linear import LinearRegression
from collapse_sim.families.network import Network
from collapse_sim.families.vae import VAE
from collapse_sim.testing import check_device
from tests.families.graphs import MOLECULES, conformations
from tests.families.small_rows import IMAGES, POINTS, REGRESSION, image_rows, regression
from tests.families.wording import PACKED, PAIRS, T5, TEXT, TINY, blocks, pairs, texts


class Unsampled(Classifier):
    """A classifier refuses to be sampled."""

    def sample(self, model, conditions, draws):
        return {}


SMALL, MLP = Network(widths=(8, 16), layers=1), Network(widths=(8, 8, 8))
LARGE = Info("images", {"image": ((1, 32, 32), "uint8")}, 64, 64, 16)
SHORT = replace(PACKED, columns={"tokens": ((5,), "int16")})
LABELLED = replace(POINTS, columns={**POINTS.columns, "label": ((), "int64")}, classes=3)
FEW = {"timesteps": 24, "sampling_steps": 2}
SEEDS = {"x": torch.randn(3, 20, 3, dtype=torch.float64)}
ALONE = {"x": SEEDS["x"][0]}
CASES = {
    "ddpm": (DDPM(network=SMALL, flip=True, **FEW), IMAGES, image_rows(IMAGES)),
    "ddpm, ddim": (DDPM(network=MLP, sampler="ddim", eta=1.0, **FEW), POINTS, ALONE),
    "ddpm, dpm-solver++": (DDPM(network=MLP, sampler="dpm-solver++", **FEW), POINTS, ALONE),
    "flow_matching": (FlowMatching(network=SMALL, sampling_steps=2), IMAGES, image_rows(IMAGES)),
    "flow_matching, coupled": (
        FlowMatching(network=MLP, coupling="optimal_transport", solver="euler", sampling_steps=2),
        POINTS,
        ALONE,
    ),
    "flow_matching, dopri5": (FlowMatching(network=MLP, solver="dopri5"), POINTS, ALONE),
    "edm": (EDM(network=SMALL, flip=True, sampling_steps=2), IMAGES, image_rows(IMAGES)),
    "edm, churn": (EDM(network=MLP, sampling_steps=2, s_churn=1.0), POINTS, ALONE),
    "ddpm, conditional": (DDPM(network=SMALL, conditional=True, guidance_scale=2.0, **FEW), IMAGES, image_rows(IMAGES)),
    "flow_matching, conditional": (
        FlowMatching(network=MLP, conditional=True, guidance_scale=2.0, sampling_steps=2),
        LABELLED,
        {**ALONE, "label": torch.zeros(20, dtype=torch.int64)},
    ),
    "vae": (VAE(hidden=16, latent=3), IMAGES, image_rows(IMAGES)),
    "vae, conditional": (VAE(hidden=16, latent=3, conditional=True), IMAGES, image_rows(IMAGES)),
    "conv_vae, conditional": (ConvVAE(width=8, depth=1, conditional=True), IMAGES, image_rows(IMAGES)),
    "conv_vae": (ConvVAE(), LARGE, image_rows(LARGE)),
    "classifier": (Unsampled(), IMAGES, image_rows(IMAGES)),
    "flow": (Flow(hidden=16), POINTS, ALONE),
    "gaussian": (Gaussian(), POINTS, SEEDS),
    "gmm": (GMM(), POINTS, SEEDS),
    "kde": (KDE(), POINTS, SEEDS),
    "linear": (LinearRegression(), REGRESSION, regression(20)),
    "causal_lm": (TINY, TEXT, texts(8)),
    "causal_lm, greedy": (TINY.model_copy(update={"decoding": "greedy"}), TEXT, texts(8)),
    "causal_lm, packed": (TINY, SHORT, {"tokens": blocks(8)["tokens"][:, :5]}),
    "seq2seq": (T5, PAIRS, pairs(8)),
    "conformer": (Conformer(width=8, layers=2, timesteps=24, sampling_steps=2), MOLECULES, conformations(8)),
}


def one_step(velocity, x, times, **options):
    """In place of torchdiffeq's adaptive solver, whose number of steps depends on values."""
    return torch.stack([x + velocity(t, x) for t in times])


def test_every_family_has_a_case() -> None:
    assert set(registry.names("families")) == {name.split(",")[0] for name in CASES}


@pytest.mark.parametrize("case", CASES)
def test_families_compute_on_the_device(case, monkeypatch) -> None:
    monkeypatch.setattr(torchdiffeq, "odeint", one_step)
    check_device(*CASES[case])


def noise_on_the_cpu(self, rows, draws):
    inputs = VAE.corrupt(self, rows, draws)
    return Inputs({name: tensor + torch.zeros(tensor.shape) for name, tensor in inputs.tensors.items()}, 1)


def with_a_table(self, info):
    model = VAE.build(self, info)
    model.table = torch.ones(3)  # no buffer: `model.to` leaves it where it is
    return model


def weight_on_the_cpu(self, rows, draws):
    inputs = VAE.corrupt(self, rows, draws)
    return Inputs({**inputs.tensors, "weight": torch.ones(inputs.count)}, inputs.count)


FAULTS = {
    "corrupt gives a tensor on cpu": {"corrupt": weight_on_the_cpu},
    "corrupt does not work on a CUDA device: .*two devices": {"corrupt": noise_on_the_cpu},
    "predict does not work on a CUDA device: .*two devices": {
        "build": with_a_table,
        "predict": lambda self, model, inputs: VAE.predict(self, model, inputs)._replace(
            mean=VAE.predict(self, model, inputs).mean * model.table
        ),
    },
    "loss does not work on a CUDA device: .*two devices": {
        "loss": lambda self, prediction, inputs: VAE.loss(self, prediction, inputs) * torch.ones(1)
    },
    "distillation gives a tensor on cpu": {
        "distillation": lambda self, *given: {n: t.cpu() for n, t in VAE.distillation(self, *given).items()}
    },
    "sample gives a tensor on cpu": {
        "sample": lambda self, *given: {n: t.cpu() for n, t in VAE.sample(self, *given).items()}
    },
    "row_losses gives a tensor on cpu": {
        "row_losses": lambda self, *given: VAE.row_losses(self, *given).cpu(),
        "loss": lambda self, *given: VAE.row_losses(self, *given).sum(),
    },
    "encode gives a tensor on cpu": {"encode": lambda self, *given: tuple(t.cpu() for t in VAE.encode(self, *given))},
}


@pytest.mark.parametrize("problem", FAULTS)
def test_tensors_on_the_cpu_are_found(problem) -> None:
    family = type("Faulty", (VAE,), FAULTS[problem])(hidden=16, latent=3)
    with pytest.raises(AssertionError, match=problem):
        check_device(family, IMAGES, {name: column[:8] for name, column in image_rows(IMAGES).items()})


def test_a_fault_in_fits_computed_together_is_found() -> None:
    """A prediction that is only wrong under vmap."""

    class Faulty(VAE):
        def predict(self, model, inputs):
            prediction = super().predict(model, inputs)
            if torch._C._functorch.is_batchedtensor(prediction.mean):
                return prediction._replace(mean=prediction.mean + torch.zeros(3))
            return prediction

    with pytest.raises(AssertionError, match=r"fits computed together does not work on a CUDA device: .*two devices"):
        check_device(Faulty(hidden=16, latent=3), IMAGES, image_rows(IMAGES))
