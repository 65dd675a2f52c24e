"""Which steps are compiled: one program for many fits, a decision that is recorded, and equal bytes after a stop."""

from __future__ import annotations

import json

import pytest
import torch

from collapse_sim.core.errors import InterruptedRunError
from collapse_sim.core.events import Note
from collapse_sim.core.replays import FEWEST
from collapse_sim.engine import programs
from collapse_sim.engine.checkpoint import SWITCHES_FILE
from collapse_sim.engine.fit import SingleStep
from collapse_sim.engine.programs import Programs
from collapse_sim.engine.stacked import StackedStep
from collapse_sim.families.vae import VAE
from collapse_sim.run import session
from collapse_sim.store import sealed
from tests.conftest import SMALL, TINY, changed
from tests.core.replaying import Recordings
from tests.engine.compiling import paying
from tests.engine.test_stacked import GROUPED, beside, fits, stopping

STEPS = 60
LONG = changed(SMALL, ("steps: 20,", f"steps: {STEPS},"))


def compiled_steps(sandbox):
    """{digest and seeds: what the manifest of the fit says}"""
    return {key: manifest["machine"].get("compiled") for key, (_, manifest) in fits(sandbox).items()}


def test_compiled_fits_are_the_eager_ones_up_to_rounding(sandbox, made):
    sandbox.run(TINY)
    other = beside(sandbox, "other")
    other.run(TINY, compiled="on")
    eager, compiled = fits(sandbox), fits(other)
    assert eager.keys() == compiled.keys()
    for key, (state, _) in eager.items():
        for name, tensor in state.items():
            torch.testing.assert_close(compiled[key][0][name], tensor, rtol=1e-2, atol=1e-3)
    assert all(value is None for value in compiled_steps(sandbox).values())
    for changes in compiled_steps(other).values():
        whole, *smaller = sorted(changes.values())  # the last batch of an epoch is smaller, and has its own program
        assert whole == [0]
        assert all(len(steps) == 1 and steps[0] > 0 for steps in smaller)


def test_cells_of_a_grid_share_a_program(sandbox, made):
    """Sixteen cells with other weights, one of them without a teacher: two programs, of one shape."""
    weights = [(a, b) for a in (0, 0.1, 0.5, 1.0) for b in (0, 0.2, 0.4, 0.8)]
    cells = [
        f"  w{i}: {{data: accumulate, teacher: {{generation: 0, weights: {{output: {a}, mean: {b}}}}}}}\n"
        for i, (a, b) in enumerate(weights)
    ]
    recipe = changed(
        SMALL, ("steps: 20, batch_size: 32", "steps: 3, batch_size: 50"), ("evaluate: every 5 steps", "evaluate: never")
    ).replace("keep: best", "keep: last")
    head = recipe[: recipe.index("arms:")]
    sandbox.run(head + "arms:\n" + "".join(cells) + "metrics: [test_loss]\n", compiled="on")
    assert len(fits(sandbox)) == 17
    assert all(list(changes.values()) == [[0]] for changes in compiled_steps(sandbox).values())
    assert made[0].count == made[0].compilations == 2


@pytest.mark.parametrize("ensemble", ["off", pytest.param("16", marks=pytest.mark.slow)])
def test_a_stopped_fit_goes_on_to_the_same_bytes(sandbox, monkeypatch, made, ensemble):
    recipe = GROUPED if ensemble == "16" else SMALL
    sandbox.run(recipe, compiled="on", ensemble=ensemble)
    other = beside(sandbox, "other")
    stopping(monkeypatch, StackedStep if ensemble == "16" else SingleStep, "take")
    with pytest.raises(InterruptedRunError):
        other.run(recipe, compiled="on", ensemble=ensemble)
    records = list((other.root / ".store" / "partial").rglob(SWITCHES_FILE))
    assert records
    assert all([0] in [entry["steps"] for entry in sealed.read(path)["switches"].values()] for path in records)
    other.run(recipe, compiled="on", ensemble=ensemble)
    assert other.artefacts() == sandbox.artefacts()
    assert compiled_steps(other) == compiled_steps(sandbox)


def test_groups_are_compiled_too(sandbox, made):
    sandbox.run(GROUPED)
    other = beside(sandbox, "other")
    other.run(GROUPED, ensemble="16", compiled="on")
    for key, (state, manifest) in fits(other).items():
        assert "group" in manifest
        assert any(shapes.startswith("2 fits: ") for shapes in manifest["machine"]["compiled"])
        for name, tensor in fits(sandbox)[key][0].items():
            torch.testing.assert_close(state[name], tensor, rtol=1e-2, atol=1e-3)


OBJECTIVES = """
  golden: {data: accumulate, weighting: golden}
  layer: {data: accumulate, teacher: {generation: 0, weights: {layer decoder.0: 9.0}}}
  other layer: {data: accumulate, teacher: {generation: 0, weights: {layer decoder.1: 9.0}}}
  criterion: {data: accumulate, teacher: {generation: 0, weights: {layer decoder.1: 9.0}, criterion: cosine}}
metrics:"""
WORDS = """
name: words
data: {use: grammar, rows: 40, held_out_rows: 10}
model: {use: causal_lm, preset: tiny, width: 8, layers: 1}
train: {steps: 4, batch_size: 40, evaluate: never}
generations: 1
seeds: [0]
arms:
  plain: {data: replace}
  focal: {data: replace, weighting: focal}
  truncated: {data: replace, weighting: {use: tce, threshold: 0.0039}}
metrics: [test_loss]
"""


@pytest.mark.parametrize(
    ("recipe", "ensemble"),
    [
        pytest.param("images", "off", marks=pytest.mark.slow),
        pytest.param("images", "16", marks=pytest.mark.slow),
        pytest.param("texts", "off", marks=pytest.mark.slow),
    ],
)
def test_fits_that_minimise_something_else_have_programs_of_their_own(sandbox, made, recipe, ensemble):
    """Weights of rows and of tokens, distilled layers, and how these are compared: all in one process."""
    text = WORDS if recipe == "texts" else changed(SMALL, ("\nmetrics:", OBJECTIVES), ("seeds: [0]", "seeds: [0, 1]"))
    sandbox.run(text, ensemble=ensemble)
    other = beside(sandbox, "other")
    other.run(text, ensemble=ensemble, compiled="on")
    eager, compiled = fits(sandbox), fits(other)
    assert all(compiled_steps(other).values())
    assert eager.keys() == compiled.keys()
    for key, (state, _) in eager.items():
        for name, tensor in state.items():
            torch.testing.assert_close(compiled[key][0][name], tensor, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("compiled", ["off", "on"])
def test_a_teacher_of_combined_weights(sandbox, made, compiled):
    teacher = "teacher: {generation: previous, weights: {output: 0.5}}"
    arms = f"  average: {{data: replace, init: previous, merge: average, {teacher}}}\nmetrics:"
    sandbox.run(changed(TINY, ("metrics:", arms)), compiled=compiled)
    assert len(fits(sandbox)) == 2 * (1 + 3 * 2)
    assert all(compiled_steps(sandbox).values()) == (compiled == "on")


def test_auto_never_tries_in_short_fits(sandbox, made):
    sandbox.run(LONG)
    assert made[0].count == 0
    assert set(compiled_steps(sandbox).values()) == {None}


def test_auto_compiles_when_it_has_measured(sandbox, monkeypatch, made):
    """The first fit after a few eager steps, the next ones of the same kind at once."""
    paying(monkeypatch)
    sandbox.run(LONG, seeds=[0, 1])
    by_fit = compiled_steps(sandbox)
    first = {key: changes for key, changes in by_fit.items() if fits(sandbox)[key][1]["generation"] == 0}
    steps = sorted(min(min(s) for s in changes.values()) for changes in first.values())
    assert steps[0] == 0
    assert steps[1] >= programs.WARM_STEPS + programs.TIMED_STEPS


def test_auto_gives_up_a_program_that_is_no_faster(sandbox, monkeypatch, made):
    paying(monkeypatch, compiled_s=0.99)
    sandbox.run(LONG, seeds=[0, 1])
    by_fit = compiled_steps(sandbox)
    given_up = [steps for changes in by_fit.values() for steps in (changes or {}).values()]
    assert given_up
    assert all(len(steps) == 2 and steps[1] - steps[0] < STEPS for steps in given_up)
    assert any(changes is None for changes in by_fit.values())  # the second seed knows


def test_on_leaves_out_the_smaller_last_batch_of_a_long_epoch(sandbox, monkeypatch, made):
    """Also where a fit goes on just before it, so that bytes are equal: 202 rows are 50 batches of 4, and one of 2."""
    recipe = changed(
        SMALL, ("steps: 20, batch_size: 32", "steps: 60, batch_size: 4"), ("digits, rows: 200", "digits, rows: 202")
    )
    sandbox.run(recipe, compiled="on", arms=["replace"])
    assert {len(changes) for changes in compiled_steps(sandbox).values()} == {1}
    other = beside(sandbox, "other")
    with monkeypatch.context() as patch:
        stopping(patch, SingleStep, "take", 50)
        with pytest.raises(InterruptedRunError):
            other.run(recipe, compiled="on", arms=["replace"])
    other.run(recipe, compiled="on", arms=["replace"])
    assert other.artefacts() == sandbox.artefacts()
    assert compiled_steps(other) == compiled_steps(sandbox)


def test_a_decision_is_followed_whatever_the_times_are_now(sandbox, monkeypatch, made):
    """Stopped after auto has compiled; the process that continues would not have."""
    with monkeypatch.context() as patch:
        paying(patch)
        sandbox.run(LONG)
    other = beside(sandbox, "other")
    with monkeypatch.context() as patch:
        paying(patch)
        take, calls = SingleStep.take, []

        def stopped(self, members):
            calls.append(1)
            if len(calls) == 50:
                members[0].context.stop.signal_number = 2
            return take(self, members)

        patch.setattr(SingleStep, "take", stopped)
        with pytest.raises(InterruptedRunError):
            other.run(LONG)
    (record,) = (other.root / ".store" / "partial").rglob(SWITCHES_FILE)
    assert any(entry["steps"] for entry in sealed.read(record)["switches"].values())
    other.run(LONG)
    generation_0 = [key for key, (_, manifest) in fits(other).items() if manifest["generation"] == 0]
    for key in generation_0:
        assert compiled_steps(other)[key] == compiled_steps(sandbox)[key]
        for name, tensor in fits(sandbox)[key][0].items():
            assert torch.equal(tensor, fits(other)[key][0][name])


class Sums(VAE):
    """Its loss reads a value, so it cannot be traced."""

    def loss(self, prediction, inputs):
        assert float(inputs["x"].sum()) >= 0
        return super().loss(prediction, inputs)


def test_a_family_that_cannot_be_traced_is_computed_eagerly(sandbox, made, monkeypatch):
    recipe = SMALL.replace("use: vae,", f"use: '{__name__}:Sums',")
    notes = []
    step = Programs.step

    def listening(self, key, who, objective, arguments, machine, emit):
        def both(event):
            notes.extend([event] if isinstance(event, Note) and event.level == "warning" else [])
            emit(event)

        return step(self, key, who, objective, arguments, machine, both)

    monkeypatch.setattr(Programs, "step", listening)
    sandbox.run(recipe, compiled="on")
    assert len(notes) == 1
    assert "Sums: its steps are not compiled" in notes[0].message
    other = beside(sandbox, "other")
    other.run(recipe, compiled="off")
    assert other.artefacts() == sandbox.artefacts()
    assert not any(compiled_steps(sandbox).values())


def test_off_ends_compiled_steps_and_the_manifest_says_where(sandbox, monkeypatch, made):
    with monkeypatch.context() as patch:
        stopping(patch, SingleStep, "take")
        with pytest.raises(InterruptedRunError):
            sandbox.run(SMALL, compiled="on")
    sandbox.run(SMALL, compiled="off")
    (changes,) = [changes for changes in compiled_steps(sandbox).values() if changes]
    assert [0, 7] in changes.values()


def test_a_damaged_record_is_no_record(sandbox, monkeypatch, made):
    with monkeypatch.context() as patch:
        stopping(patch, SingleStep, "take")
        with pytest.raises(InterruptedRunError):
            sandbox.run(SMALL, compiled="on")
    (record,) = (sandbox.root / ".store" / "partial").rglob(SWITCHES_FILE)
    record.write_text(json.dumps({"fit": "x"}))
    sandbox.run(SMALL, compiled="on")
    changes = [steps for own in compiled_steps(sandbox).values() for steps in own.values()]
    assert [7] in changes


@pytest.mark.slow
def test_one_real_program_and_equal_bytes_after_a_stop(sandbox, monkeypatch, capfd):
    """Compiled to machine code: nothing on stdout, no warning, the eager result up to rounding."""
    recipe = changed(SMALL, ("batch_size: 32", "batch_size: 50"))  # whole batches
    sandbox.run(recipe, compiled="on", arms=["replace"])
    assert capfd.readouterr().out == ""
    assert [list(changes.values()) for changes in compiled_steps(sandbox).values()] == [[[0]], [[0]]]
    other = beside(sandbox, "other")
    with monkeypatch.context() as patch:
        stopping(patch, SingleStep, "take")
        with pytest.raises(InterruptedRunError):
            other.run(recipe, compiled="on", arms=["replace"])
    other.run(recipe, compiled="on", arms=["replace"])
    assert other.artefacts() == sandbox.artefacts()
    eager = beside(sandbox, "eager")
    eager.run(recipe, compiled="off", arms=["replace"])
    for key, (state, _) in fits(eager).items():
        for name, tensor in state.items():
            torch.testing.assert_close(fits(sandbox)[key][0][name], tensor, rtol=1e-2, atol=1e-3)


ACCUMULATED = TINY.replace("batch_size: 32,", "batch_size: 32, accumulate: 2,")


@pytest.mark.parametrize("recipe", [TINY, ACCUMULATED], ids=["whole batches", "micro-batches"])
@pytest.mark.parametrize("ensemble", ["off", "auto"])
def test_a_run_with_recorded_steps_has_the_same_bytes(sandbox, monkeypatch, recipe, ensemble):
    recordings, found = Recordings(), []
    for record in (lambda device: None, recordings.of):
        monkeypatch.setattr(session, "Programs", lambda mode, record=record: Programs(mode, "eager", record))
        sandbox.run(recipe, ensemble=ensemble, compiled="on")
        found.append(
            {
                name: {f: h for f, h in files.items() if f != "manifest.json"}
                for name, files in sandbox.artefacts().items()
            }
        )
        (sandbox.root / ".store").rename(sandbox.root / f"store {len(found)}")
        (sandbox.root / "run").rename(sandbox.root / f"run {len(found)}")
    assert found[0] == found[1]
    assert recordings.made > 0
    assert min(recordings.replays[0], recordings.replays[1]) > FEWEST * recordings.made
