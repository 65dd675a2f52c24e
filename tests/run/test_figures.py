"""Pictures of a run: which rows they show, and when they are drawn."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from collapse_sim.analysis import image_grids, molecule_pictures, scatter
from collapse_sim.analysis.scatter import points_by_generations
from collapse_sim.core.machine import open_device
from collapse_sim.core.randomness import Draws
from collapse_sim.engine import artefacts
from collapse_sim.engine.work import JobContext
from collapse_sim.families.base import Conditions
from collapse_sim.run import figures
from tests.remedies.chains_of import FLOW, VAE, digits, experiment_of, ran
from tests.run.points import GAUSSIAN
from tests.run.small_molecules import CONFORMATIONS


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """What was drawn: samples, real rows, and the note of every picture."""
    calls: list[tuple] = []
    draw = points_by_generations

    def noting(samples, real, path, note):
        calls.append((samples, real, note))
        draw(samples, real, path, note)

    monkeypatch.setattr(scatter, "points_by_generations", noting)
    return calls


def test_a_run_shows_its_first_seed(sandbox, drawn):
    sandbox.run(GAUSSIAN)
    assert (sandbox.root / "run" / "pictures" / "arms-by-generations.png").stat().st_size > 1000
    samples, real, note = drawn[-1]
    assert list(samples) == ["replace", "accumulate"]
    assert [list(by_generation) for by_generation in samples.values()] == [[0, 1, 2, 3]] * 2
    assert real.shape == (60, 2)  # not the reserve
    assert note.startswith("Grey: 60 real rows. Seed 5")
    assert np.array_equal(samples["replace"][0], samples["accumulate"][0])  # generation 0 is shared
    sandbox.run(GAUSSIAN.replace("[5, 3]", "[5]"), run="alone")
    for arm, by_generation in drawn[-1][0].items():
        for k, rows in by_generation.items():
            assert np.array_equal(rows, samples[arm][k])


def test_quick_generations_share_a_picture(sandbox, drawn):
    sandbox.run(GAUSSIAN)
    assert [list(samples["replace"]) for samples, *_ in drawn] == [[0], [0, 1, 2, 3]]  # the first and the last


def test_slow_generations_are_drawn_as_they_come(sandbox, drawn, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("collapse_sim.run.figures.SCATTER_EVERY_S", 0.0)
    sandbox.run(GAUSSIAN)
    assert [list(samples["replace"]) for samples, *_ in drawn] == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3]]


def test_quick_generations_share_a_picture_of_images(sandbox, monkeypatch: pytest.MonkeyPatch):
    """Each takes the longer the more generations there are: drawn for each, a run's cost would grow with its square."""
    shown: list[list[int]] = []
    draw = image_grids.arms_by_generations

    def noting(images, real, path):
        shown.append(sorted(images["plain"]))
        draw(images, real, path)

    monkeypatch.setattr(image_grids, "arms_by_generations", noting)
    recipe = digits(VAE, "init: previous").replace("generations: 1", "generations: 3")
    ran(sandbox, recipe)
    assert shown == [[0], [0, 1, 2, 3]]
    monkeypatch.setattr(figures, "OVERVIEW_EVERY_S", 0.0)
    ran(sandbox, recipe)
    assert [0, 1, 2] in shown


def test_an_old_picture_is_drawn_again(sandbox, drawn):
    sandbox.run(GAUSSIAN)
    path = sandbox.root / "run" / "pictures" / "arms-by-generations.png"
    os.utime(path, (0, 0))
    sandbox.run(GAUSSIAN)
    assert len(drawn) == 4
    assert path.stat().st_mtime > 0


def test_points_of_more_dimensions_say_which_are_shown(sandbox, drawn):
    sandbox.run(GAUSSIAN.replace("dimensions: 2", "dimensions: 4").replace("generations: 3", "generations: 1"))
    assert drawn[-1][2].endswith("the first 2 of 4 coordinates")


@pytest.mark.slow
def test_the_picture_of_denoising_is_that_of_the_guided_model(sandbox):
    """Its last frame is what the two models give together."""
    axes = "guidance: {use: sims, w: 2, train: {steps: 3, learning_rate: 0.1}}"
    arms, store = ran(sandbox, digits(FLOW, axes))
    experiment, cpu = experiment_of(sandbox, digits(FLOW, axes)), open_device("cpu")
    shown = figures._trajectories(experiment, 0, JobContext(store, cpu, lambda event: None, sandbox.root), 2)
    plan = arms["remedy"][0]
    models = [artefacts.model(store, spec, (3,), cpu) for spec in plan.samples.models]
    with torch.no_grad():
        guided = plan.fit.family.guided(*models, 2).eval()
        rows = plan.fit.family.sample(guided, Conditions(2, {}), Draws((3,), "denoising", 0))["image"]
    np.testing.assert_array_equal(shown["remedy"][-1], rows.numpy())
    assert not np.array_equal(shown["plain"][-1], shown["remedy"][-1])


def test_conformations_are_those_of_their_molecules_in_all_generations(sandbox, monkeypatch: pytest.MonkeyPatch):
    """Beside the real conformations that they were made for; every arm shows the same molecules, each once."""
    calls: list[tuple] = []
    draw = molecule_pictures.conformations_by_generations
    monkeypatch.setattr(
        molecule_pictures, "conformations_by_generations", lambda *given: calls.append(given) or draw(*given)
    )
    sandbox.run(CONFORMATIONS)
    assert (sandbox.root / "run" / "pictures" / "arms-by-generations.png").stat().st_size > 5000
    samples, real, path, note = calls[-1]
    assert path.name == "arms-by-generations.png"
    assert note.startswith("Seed 3.")
    assert list(samples) == ["replace", "accumulate+distill"]
    for arm, by_generation in samples.items():
        assert list(by_generation) == [0, 1, 2]
        graphs = np.concatenate([real[arm].atoms, real[arm].bonds.reshape(4, -1)], axis=1)
        assert len(np.unique(graphs, axis=0)) == 4  # all that are not held out
        for drawn in by_generation.values():
            np.testing.assert_array_equal(drawn.atoms, real[arm].atoms)
            np.testing.assert_array_equal(drawn.bonds, real[arm].bonds)
    np.testing.assert_array_equal(real["replace"].positions, real["accumulate+distill"].positions)
    first = [by_generation[0].positions for by_generation in samples.values()]
    np.testing.assert_array_equal(*first)  # generation 0 is shared
    assert not np.array_equal(first[0], samples["replace"][1].positions)
