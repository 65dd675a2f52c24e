"""Class-conditional diffusion and flows: labels in training, classifier-free guidance, what is combined with it."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from collapse_sim.core import registry
from collapse_sim.data.base import Info
from collapse_sim.families.base import Conditions
from collapse_sim.families.ddpm import DDPM
from collapse_sim.families.denoiser import Denoising, GivenLabels
from collapse_sim.families.flow_matching import FlowMatching
from collapse_sim.families.labels import NO_LABEL
from collapse_sim.testing import check_family

from .denoising import POINTS, SMALL, LabelledOracle, draws, rows_of
from .small_rows import IMAGES, image_rows

LABELLED_POINTS = Info("points", {"x": ((2,), "float64"), "label": ((), "int64")}, 64, 64, 16, classes=3)
WIDTHS = {"widths": (16, 16, 16)}
FAMILIES = sorted(name for name in registry.names("families") if issubclass(registry.load("families", name), Denoising))


def labelled_points(count: int = 40) -> dict[str, torch.Tensor]:
    return {**rows_of(LABELLED_POINTS, count), "label": torch.arange(count) % 3}


@pytest.mark.parametrize("scale", [pytest.param(1.0, marks=pytest.mark.slow), 2.5])
@pytest.mark.parametrize("name", FAMILIES)
def test_contract(name, scale) -> None:
    family = registry.load("families", name)
    settings = {"conditional": True, "guidance_scale": scale}
    few = {"timesteps": 25, "schedule": "linear"} if name == "ddpm" else {}
    check_family(family(network=SMALL, flip=True, **few, **settings), IMAGES, image_rows(IMAGES), 2e-5)
    check_family(family(network=WIDTHS, **few, **settings), LABELLED_POINTS, labelled_points(), 2e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_scale_of_guidance_is_in_the_key_of_samples_only(name) -> None:
    family = registry.load("families", name)
    assert "guidance_scale" in family.sampling
    assert {"conditional", "label_dropout", "guidance_scale"}.isdisjoint(family().describe())
    assert family(conditional=True, guidance_scale=2).describe()["guidance_scale"] == 2


@pytest.mark.parametrize("name", FAMILIES)
def test_labels_are_dropped_at_random_and_nothing_else_changes(name) -> None:
    family, rows = registry.load("families", name), labelled_points(6000)
    plain = family().corrupt({"x": rows["x"]}, draws())
    for rate in (0.0, 0.1, 0.4):
        inputs = family(conditional=True, label_dropout=rate).corrupt(rows, draws())
        dropped = inputs["label"] == NO_LABEL
        assert float(dropped.float().mean()) == pytest.approx(rate, abs=4 * (rate * (1 - rate) / 6000) ** 0.5)
        assert torch.equal(inputs["label"][~dropped], rows["label"][~dropped])
        for of_class in range(3):  # whatever the class
            assert float(dropped[rows["label"] == of_class].float().mean()) == pytest.approx(rate, abs=0.05)
        assert plain.tensors.keys() == inputs.tensors.keys() - {"label"}
        assert all(torch.equal(inputs[column], tensor) for column, tensor in plain.tensors.items())


def velocity(x, t, label):
    """Of classes 0, 1, 2 and rows without a label: straight to the right, by 1, 2, 3 and 10."""
    speed = torch.where(label == NO_LABEL, 10.0, 1.0 + label)
    return torch.stack([speed, torch.zeros_like(speed)], 1)


@pytest.mark.parametrize("scale", [1.0, 0.5, 3.0])
def test_guidance_against_a_flow_whose_end_is_known(scale) -> None:
    """From noise z the flow ends at z + u + s (c - u), c and u the speeds with and without the label."""
    label = torch.tensor([0, 1, 2, 1])
    family = FlowMatching(conditional=True, guidance_scale=scale, sampling_steps=4)
    samples = family.sample(LabelledOracle((2,), velocity, 3), Conditions(4, {"label": label}), draws("sample"))
    assert torch.equal(samples["label"], label)
    expected = draws("sample").normal(4, 2)
    expected[:, 0] += 10 + scale * (1.0 + label - 10)
    torch.testing.assert_close(samples["x"].float(), expected)


def test_guidance_is_ho_and_salimans_with_a_scale_of_one_plus_w() -> None:
    """Equation 6: (1 + w) eps(x, c) - w eps(x)."""
    x, t, label, w = torch.randn(3, 2), torch.zeros(3), torch.tensor([2, 0, 1]), 0.7
    model = DDPM(network=WIDTHS, conditional=True).build(LABELLED_POINTS).eval()
    given, free = model(x, t, label)[0], model(x, t, torch.full((3,), NO_LABEL))[0]
    torch.testing.assert_close(GivenLabels(model, label, 1 + w)(x, t)[0], (1 + w) * given - w * free)
    assert torch.equal(GivenLabels(model, label, 1.0)(x, t)[0], given)
    assert not torch.allclose(given, free)


def test_without_guidance_the_network_is_called_once() -> None:
    calls: list[torch.Tensor] = []
    oracle = LabelledOracle((2,), lambda x, t, label: calls.append(label) or x, 3)
    for scale, expected in ((1.0, 4), (2.0, 8)):
        calls.clear()
        family = FlowMatching(conditional=True, guidance_scale=scale, sampling_steps=4, solver="euler")
        family.sample(oracle, Conditions(2, {"label": torch.tensor([0, 1])}), draws("sample"))
        assert len(calls) == expected


def test_sims_and_temperature_are_of_the_guided_network() -> None:
    """Both are affine in the network's output, so that their order makes no difference."""
    x, t, label = torch.randn(3, 2), torch.tensor([3, 7, 20]), torch.tensor([2, 0, 1])
    for target in ("epsilon", "v"):
        family = DDPM(network=WIDTHS, conditional=True, timesteps=25, schedule="linear", target=target)
        model, auxiliary = (family.build(LABELLED_POINTS).eval() for _ in range(2))
        inner = GivenLabels(family.guided(model, auxiliary, 0.5), label, 2.0)
        sides = [GivenLabels(each, label, 2.0)(x, t)[0] for each in (model, auxiliary)]
        torch.testing.assert_close(inner(x, t)[0], 1.5 * sides[0] - 0.5 * sides[1])
        _, cold = family.tempered(model, 0.5)
        _, cold_outside = family.tempered(GivenLabels(model, label, 2.0), 0.5)
        torch.testing.assert_close(GivenLabels(cold, label, 2.0)(x, t)[0], cold_outside(x, t)[0])


def test_the_encoder_reads_rows_without_their_label() -> None:
    family, rows = DDPM(network=SMALL, conditional=True), image_rows(IMAGES)
    model = family.build(IMAGES).eval()
    other = {**rows, "label": (rows["label"] + 1) % 10}
    features = [family.encode_noised(model, of, 0.5, draws("noise")) for of in (rows, other)]
    assert torch.equal(*features)


def test_a_trajectory_is_of_the_labels_asked_for() -> None:
    family = FlowMatching(conditional=True, sampling_steps=4)
    oracle = LabelledOracle((2,), velocity, 3)
    frames = family.trajectory(oracle, Conditions(2, {"label": torch.tensor([0, 2])}), 3, draws("sample"))
    torch.testing.assert_close((frames[-1] - frames[0])[:, 0].float(), torch.tensor([1.0, 3.0]))


def test_it_learns_where_each_class_is() -> None:
    """Three classes around points on a line, with few updates of a small network: samples are near their own."""
    generator = torch.Generator().manual_seed(0)
    label = torch.arange(600) % 3
    centres = torch.tensor([[-4.0, 0.0], [0.0, 0.0], [4.0, 0.0]], dtype=torch.float64)
    x = centres[label] + 0.3 * torch.randn(600, 2, dtype=torch.float64, generator=generator)
    family = FlowMatching(network={"widths": (32, 32)}, conditional=True, scale=3.0, sampling_steps=10)
    torch.manual_seed(0)
    model = family.build(LABELLED_POINTS)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for step in range(400):
        inputs = family.corrupt({"x": x, "label": label}, draws(step=step))
        optimizer.zero_grad()
        (family.loss(family.predict(model, inputs), inputs) / inputs.count).backward()
        optimizer.step()
    asked = torch.arange(300) % 3
    with torch.no_grad():
        samples = family.sample(model.eval(), Conditions(300, {"label": asked}), draws("sample"))
    nearest = torch.cdist(samples["x"], centres).argmin(1)
    assert float((nearest == asked).double().mean()) > 0.95
    for of_class in range(3):
        assert float((samples["x"][asked == of_class].mean(0) - centres[of_class]).norm()) < 0.5


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"guidance_scale": 2.0}, "guidance_scale: is for conditional: true, found 2 without it"),
        ({"label_dropout": 0.2}, r"label_dropout: is for conditional: true, found 0\.2 without it"),
        (
            {"conditional": True, "label_dropout": 0.0, "guidance_scale": 2.0},
            "guidance_scale: 2 needs a network that was trained on rows without labels",
        ),
        ({"conditional": True, "guidance_scale": 0.0}, "greater than 0"),
        ({"conditional": True, "label_dropout": 1.0}, "less than 1"),
    ],
)
def test_settings_that_do_not_fit_together(name, settings, message) -> None:
    with pytest.raises(ValidationError, match=message):
        registry.load("families", name)(**settings)


@pytest.mark.parametrize("name", FAMILIES)
def test_data_without_labels_is_refused(name) -> None:
    with pytest.raises(ValueError, match="conditional: needs rows with labels, and this data has none"):
        registry.load("families", name)(conditional=True).check(POINTS)
