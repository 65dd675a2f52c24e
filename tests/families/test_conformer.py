"""Diffusion of conformations: its symmetries, the process and its samplers against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from collapse_sim.core.randomness import Draws
from collapse_sim.families.base import Conditions, Rows
from collapse_sim.families.conformer import LEAST_SIGMA, Conformer, mean_over_atoms
from collapse_sim.families.ddpm import alphas_cumprod
from collapse_sim.testing import check_compiled, check_family
from tests.families.graphs import MOLECULES, A, ChangedDraws, conformations, rotation

SMALL = {"width": 8, "layers": 2, "timesteps": 25}
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"schedule": "linear", "target": "epsilon"},
        {"sampler": "ddim", "sampling_steps": 5},
        {"sampler": "dpm-solver++", "sampling_steps": 5},
    ],
    ids=["v", "epsilon", "ddim", "dpm-solver++"],
)
def test_contract(settings) -> None:
    check_family(Conformer(**SMALL, **settings), MOLECULES, conformations(), 2e-5)


def test_compiled_steps_are_eager_ones() -> None:
    check_compiled(Conformer(**SMALL), MOLECULES, conformations())


def lively(family: Conformer) -> torch.nn.Module:
    """A model that moves atoms far: a new one hardly moves them."""
    torch.manual_seed(0)
    model = family.build(MOLECULES).eval()
    for layer in model.layers:
        torch.nn.init.normal_(layer.move.weight, std=2.0)
    return model.requires_grad_(False)


def losses(family: Conformer, model: torch.nn.Module, rows: Rows, draws: Draws) -> torch.Tensor:
    inputs = family.corrupt(rows, draws)
    return family.row_losses(family.predict(model, inputs), inputs)


def same(noise: torch.Tensor) -> torch.Tensor:
    return noise


@pytest.mark.parametrize("target", ["v", "epsilon"])
@pytest.mark.parametrize("mirrored", [False, True])
def test_rotations_and_translations_change_no_loss(target, mirrored) -> None:
    """Molecules and noise turned alike, and molecules moved anywhere: the same loss of every row."""
    family = Conformer(**SMALL, target=target, schedule="linear")
    model, rows, turn = lively(family), conformations(), rotation(mirrored=mirrored).float()
    plain = losses(family, model, rows, ChangedDraws(same))
    untrained = losses(family, family.build(MOLECULES), rows, ChangedDraws(same))
    assert (plain - untrained).abs().max() > 0.01  # the network's output matters
    moved = {**rows, "positions": rows["positions"] @ turn + torch.tensor([5.0, -2.0, 1.0])}
    torch.testing.assert_close(
        losses(family, model, moved, ChangedDraws(lambda noise: noise @ turn)), plain, atol=1e-4, rtol=1e-3
    )
    only_rows = losses(family, model, moved, ChangedDraws(same))
    assert (only_rows - plain).abs().max() > 0.01


def test_permutations_of_atoms_change_no_loss() -> None:
    family = Conformer(**SMALL)
    model, rows, order = lively(family), conformations(), torch.tensor([3, 5, 0, 1, 4, 2])
    permuted = {
        "positions": rows["positions"][:, order],
        "atoms": rows["atoms"][:, order],
        "bonds": rows["bonds"][:, order][:, :, order],
    }
    plain = losses(family, model, rows, ChangedDraws(same))
    torch.testing.assert_close(
        losses(family, model, permuted, ChangedDraws(lambda noise: noise[:, order])), plain, atol=1e-4, rtol=1e-3
    )
    assert (losses(family, model, permuted, ChangedDraws(same)) - plain).abs().max() > 0.01


def test_a_turned_start_gives_a_turned_sample() -> None:
    """With the noise of all steps turned, too."""
    family = Conformer(**SMALL)
    model, rows, turn = lively(family), conformations(6), rotation().float()
    given = Conditions(6, {name: rows[name] for name in family.conditions})
    plain, turned = (
        family.sample(model, given, ChangedDraws(change, "sample"))["positions"]
        for change in (same, lambda noise: noise @ turn)
    )
    torch.testing.assert_close(turned, plain @ turn, atol=1e-3, rtol=1e-3)


def test_samples_are_centred_and_keep_their_graphs() -> None:
    family = Conformer(**SMALL)
    rows = conformations(6)
    model = family.build(MOLECULES).eval()
    with torch.no_grad():
        given = Conditions(6, {name: rows[name] for name in family.conditions})
        samples = family.sample(model, given, Draws((0,), "sample", 0))
    assert set(samples) == set(MOLECULES.columns)
    for name in family.conditions:
        assert torch.equal(samples[name], rows[name])
    torch.testing.assert_close(samples["positions"].sum(1), torch.zeros(6, 3), atol=1e-4, rtol=0)
    assert not samples["positions"][rows["atoms"] == 0].any()


@pytest.mark.parametrize("target", ["v", "epsilon"])
def test_targets_give_back_the_row(target) -> None:
    """x_t and the target contain row and noise, both without a centre of mass and without padding."""
    family, rows = Conformer(**SMALL, target=target, schedule="linear", scale=3.0), conformations()
    inputs = family.corrupt(rows, Draws((0,), "corrupt", 0))
    kept = alphas_cumprod(25, "linear", False, CPU)[inputs["t"]].view(-1, 1, 1)
    a, s = kept.sqrt(), (1 - kept).sqrt()
    row = a * inputs["x"] - s * inputs["target"] if target == "v" else (inputs["x"] - s * inputs["target"]) / a
    torch.testing.assert_close(row, rows["positions"] / 3, atol=1e-3, rtol=0)
    torch.testing.assert_close(inputs["x"].sum(1), torch.zeros(40, 3), atol=1e-5, rtol=0)
    assert not inputs["x"][rows["atoms"] == 0].any()


def test_the_loss_is_a_mean_over_atoms() -> None:
    output, target = torch.zeros(2, 3, 3), torch.zeros(2, 3, 3)
    output[0, 0] = torch.tensor([1.0, 2.0, 2.0])
    output[1, :2] = 1.0
    atoms = torch.tensor([[6, 0, 0], [6, 6, 0]])
    assert mean_over_atoms(output, target, atoms).tolist() == [3.0, 1.0]


class Oracle(torch.nn.Module):
    """The best network for positions from N(mean, spread^2), in the network's unit."""

    def __init__(self, mean: torch.Tensor, spread: float, kept: torch.Tensor) -> None:
        super().__init__()
        self.mean, self.spread, self.kept = mean, spread, kept

    def forward(self, x, t, atoms, bonds):
        kept = self.kept[t].view(-1, 1, 1)
        a, s = kept.sqrt(), (1 - kept).sqrt()
        clean = self.mean + a * self.spread**2 * (x - a * self.mean) / (kept * self.spread**2 + 1 - kept)
        return (clean - x) * (s + LEAST_SIGMA) / s


@pytest.mark.parametrize(("sampler", "steps"), [("ddpm", 200), ("ddim", 200), ("dpm-solver++", 50)])
def test_samplers_with_a_model_that_knows_the_truth(sampler, steps) -> None:
    """Mean and variance of Gaussian positions around a conformation: without the centre of mass, n - 1 of n."""
    family = Conformer(width=8, layers=1, timesteps=200, sampler=sampler, sampling_steps=steps, scale=2.0)
    rows = {name: column[1:2].expand(4000, *column.shape[1:]) for name, column in conformations(2).items()}
    mean = rows["positions"][0] / 2
    oracle = Oracle(mean, 0.5, alphas_cumprod(200, "cosine", False, CPU))
    given = Conditions(4000, {name: rows[name] for name in family.conditions})
    x = family.sample(oracle, given, Draws((0,), "sample", 0))["positions"]
    torch.testing.assert_close(x.mean(0), 2 * mean, atol=0.08, rtol=0)
    assert float(x.std(0).square().mean().sqrt()) == pytest.approx(2 * 0.5 * math.sqrt((A - 1) / A), rel=0.04)


@pytest.mark.slow
def test_it_learns_a_conformation() -> None:
    """Bonds of 1.2 and 1.6 Å at a right angle, in any orientation."""
    family = Conformer(width=32, layers=2, timesteps=50, scale=0.7)
    torch.manual_seed(0)
    model = family.build(MOLECULES)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    shape = torch.tensor([[1.2, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.6, 0.0]])
    rows = {
        "positions": shape.expand(64, 3, 3),
        "atoms": torch.tensor([6, 6, 8], dtype=torch.uint8).expand(64, 3),
        "bonds": torch.tensor([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=torch.uint8).expand(64, 3, 3),
        "molecule": torch.zeros(64, dtype=torch.int64),
    }
    for step in range(500):
        inputs = family.corrupt(rows, Draws((0,), "corrupt", 0, step))
        loss = family.loss(family.predict(model, inputs), inputs) / inputs.count
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        given = Conditions(64, {name: rows[name] for name in family.conditions})
        x = family.sample(model, given, Draws((0,), "sample", 0))["positions"]
    for one, other, length in ((0, 1, 1.2), (1, 2, 1.6), (0, 2, 2.0)):
        assert float((x[:, one] - x[:, other]).norm(dim=1).median()) == pytest.approx(length, abs=0.1)


def test_rows_at_once_shrink_with_the_square_of_the_atoms() -> None:
    family = Conformer(width=64)
    small, large = (family.rows_at_once(family.build(MOLECULES), {"atoms": torch.zeros(3, n)}) for n in (16, 64))
    assert small == 16 * large > 16
    assert family.rows_at_once(family.build(MOLECULES), {"atoms": torch.zeros(3, 10**4)}) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": "epsilon"}, "target: epsilon does not fit schedule: cosine"),
        ({"timesteps": 20, "schedule": "linear"}, "timesteps: the linear schedule needs more than 20, found 20"),
        ({"timesteps": 100, "sampling_steps": 30}, "sampling_steps: must divide timesteps: 100"),
        ({"scale": 0.0}, "scale"),
    ],
)
def test_settings_that_do_not_fit_together(settings, message) -> None:
    with pytest.raises(ValidationError, match=message):
        Conformer(**settings)
