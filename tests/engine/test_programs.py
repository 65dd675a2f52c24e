"""Compiled programs: one for all fits of an architecture, refused where they would compute something else."""

from __future__ import annotations

import pytest
import torch

from collapse_sim.core.errors import MissingError, RecipeError
from collapse_sim.core.machine import Machine, open_device
from collapse_sim.engine import programs
from collapse_sim.engine.objective import SingleObjective, trimmed
from collapse_sim.engine.programs import NotCompiledError, Program, Programs, Times, check_compiler, compile_mode
from collapse_sim.engine.training_loss import TrainingLoss
from collapse_sim.families.flow_matching import FlowMatching
from collapse_sim.families.network import Network
from collapse_sim.families.vae import VAE
from collapse_sim.testing import CPU
from tests.families.small_rows import IMAGES, POINTS, image_rows
from tests.families.wording import draws

ROWS = image_rows(IMAGES)


class Reads(VAE):
    """Its loss reads a value, which a program without values cannot."""

    def loss(self, prediction, inputs):
        loss = super().loss(prediction, inputs)
        return loss if float(inputs["x"].sum()) > 0 else 2 * loss


class Counts(VAE):
    """Its loss changes with a number that Python keeps, which is built into a program."""

    def loss(self, prediction, inputs):
        CALLS.append(1)
        return super().loss(prediction, inputs) * len(CALLS)


CALLS: list[int] = []


class Hides(VAE):
    """A tensor of each model that is neither a parameter nor a buffer."""

    def build(self, info):
        model = super().build(info)
        model.hidden_scale = [torch.rand(())]
        return model

    def predict(self, model, inputs):
        prediction = super().predict(model, inputs)
        return prediction._replace(decoded=prediction.decoded * model.hidden_scale[0])


def objective_of(family, info=IMAGES, rows=ROWS, seed=0):
    with CPU.seeded(seed):
        model = family.build(info)
    objective = SingleObjective(TrainingLoss(family), model, None, {}, CPU)
    return objective, objective.arguments(trimmed(family, model, family.corrupt(rows, draws())))


def test_a_program_serves_models_that_it_was_not_made_with():
    family = VAE(hidden=8, latent=2)
    objective, arguments = objective_of(family)
    program = Program(objective, arguments, CPU, "eager")
    other, others = objective_of(family, seed=1)
    assert torch.equal(program(others), other(**others))
    assert not torch.equal(program(others), program(arguments))


@pytest.mark.parametrize(
    ("family", "info", "problem"),
    [
        (FlowMatching(network=Network(widths=(8, 8), dropout=0.5)), POINTS, "draws random numbers"),
        (Counts(hidden=8, latent=2), IMAGES, "compiled, its loss is"),
    ],
)
def test_what_would_compute_something_else_is_refused(family, info, problem):
    CALLS.clear()
    rows = ROWS if info is IMAGES else {"x": torch.randn(40, 3, dtype=torch.float64)}
    objective, arguments = objective_of(family, info, rows)
    with pytest.raises(NotCompiledError, match=problem):
        Program(objective, arguments, CPU, "eager")


def test_making_a_program_changes_no_gradient():
    objective, arguments = objective_of(VAE(hidden=8, latent=2))
    Program(objective, arguments, CPU, "eager")
    assert all(tensor.grad is None for tensor in arguments["student"].values())


def test_a_tensor_that_is_no_argument_is_refused():
    objective, arguments = objective_of(Hides(hidden=8, latent=2))
    known, notes = Programs("on", "eager"), []
    assert known.step("one", "Hides", objective, lambda: arguments, CPU, notes.append) is None
    assert "FakeTensor" in notes[-1].message


def test_a_reason_is_noted_once():
    known, notes = Programs("on", "eager"), []
    for seed in (0, 1):
        objective, arguments = objective_of(Reads(hidden=8, latent=2), seed=seed)
        for key in ("one", "two"):
            assert known.step(key, "Reads", objective, lambda own=arguments: own, CPU, notes.append) is None
    warnings = [note.message for note in notes if note.level == "warning"]
    assert len(warnings) == 1
    assert warnings[0].startswith("Reads: its steps are not compiled: ")
    assert known.count == 0


def test_without_a_compiler_auto_goes_on_and_on_says_what_to_install(monkeypatch):
    monkeypatch.setattr(Machine, "compiler_problem", lambda self: "there is no compiler: install one")
    known, notes = Programs("auto"), []
    objective, arguments = objective_of(VAE(hidden=8, latent=2))
    assert known.step("one", "vae", objective, lambda: arguments, CPU, notes.append) is None
    assert notes[-1].message == "vae: its steps are not compiled: there is no compiler: install one"
    with pytest.raises(MissingError, match="--compile on: there is no compiler: install one; or use --compile auto"):
        check_compiler("on", CPU)
    check_compiler("auto", CPU)
    check_compiler("off", CPU)


def test_no_other_setting_is_accepted():
    assert [compile_mode(mode) for mode in ("auto", "on", "off")] == ["auto", "on", "off"]
    with pytest.raises(RecipeError, match="--compile yes: allowed: auto, on, off"):
        compile_mode("yes")


@pytest.mark.parametrize(("compiled", "message"), [("yes", "allowed: auto, on, off"), ("on", "install the package")])
def test_bad_settings_are_refused_before_anything_is_made(sandbox, monkeypatch, compiled, message):
    from tests.conftest import TINY

    monkeypatch.setattr(type(open_device("cpu")), "compiler_problem", lambda self: "install the package g++")
    with pytest.raises((RecipeError, MissingError), match=message):
        sandbox.run(TINY, compiled=compiled)
    assert not (sandbox.root / ".store").exists()
    assert not (sandbox.root / "run").exists()


def test_times_are_medians_without_the_first_steps():
    times = Times()
    for seconds in [9.0] * programs.WARM_STEPS + [1.0] * (programs.TIMED_STEPS - 1):
        times.add(seconds, compiled=False)
    assert times.of(compiled=False) is None
    times.add(100.0, compiled=False)
    times.add(100.0, compiled=False)  # enough is known
    assert times.of(compiled=False) == 1.0
    assert times.of(compiled=True) is None
