"""Checkpoints of fits: what is continued from where, and that a damaged one is passed over."""

from __future__ import annotations

from pathlib import Path

import pytest

from collapse_sim.engine import checkpoint
from collapse_sim.store import sealed
from collapse_sim.store.lease import owner_of
from tests.conftest import SMALL, TINY, Sandbox, artefacts
from tests.odd_files import put
from tests.store.processes import OTHER, elsewhere


def stopped_fit(sandbox, monkeypatch, saves: int = 3) -> Path:
    """The folder with the checkpoints of a fit that was killed."""

    class Killed(BaseException):
        pass

    seen = []

    def boundary(name: str) -> None:
        seen.append(name)
        if seen.count("checkpoint") == saves:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "boundary", boundary)
        with pytest.raises(Killed):
            sandbox.run(SMALL, checkpoint_s=0.0)
    (partial,) = (sandbox.root / ".store" / "partial").iterdir()
    return partial


def restored(monkeypatch) -> list[int]:
    """Steps at which fits are continued from now on."""
    steps: list[int] = []
    original = checkpoint._apply
    monkeypatch.setattr(
        checkpoint, "_apply", lambda run, state, t: (steps.append(state["step"]), original(run, state, t))
    )
    return steps


@pytest.mark.parametrize("age_s", [30.0, 900.0])
def test_unfinished_work_of_another_machine_is_continued(sandbox, monkeypatch, age_s):
    """From a copy, as long as the other one may still be at it."""
    partial = stopped_fit(sandbox, monkeypatch)
    theirs = partial.rename(partial.with_name(partial.name.replace(owner_of(partial.name), OTHER)))
    elsewhere(sandbox.root / ".store", age_s)
    steps = restored(monkeypatch)
    sandbox.run(SMALL)
    assert steps == [3]
    assert theirs.exists() == (age_s < 600)


def spoil_json(json_file: Path, tensors: Path) -> None:
    json_file.write_text(json_file.read_text().replace('"step": 3', '"step": 1'))


def spoil_scaler(json_file: Path, tensors: Path) -> None:
    json_file.write_text(json_file.read_text().replace('"loss_steps": ', '"loss_steps": 1'))


def another_fits(json_file: Path, tensors: Path) -> None:
    content = sealed.read(json_file)
    json_file.write_text(sealed.text({**content, "fit": "0" * 64 + "-s0"}))


def nested(json_file: Path, tensors: Path) -> None:
    json_file.write_text("[" * 100000)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, dict[str, str]]:
    """The artefacts of a run that nothing happened to."""
    other = Sandbox(tmp_path_factory.mktemp("undisturbed"))
    other.run(SMALL)
    return other.artefacts()


def pipe_for_json(json_file: Path, tensors: Path) -> None:
    put("pipe", json_file)


def pipe_for_tensors(json_file: Path, tensors: Path) -> None:
    put("pipe", tensors)


def folder_for_both(json_file: Path, tensors: Path) -> None:
    put("folder", json_file)
    put("folder", tensors)


@pytest.mark.parametrize(
    "spoil",
    [spoil_json, spoil_scaler, another_fits, nested, pipe_for_json, pipe_for_tensors, folder_for_both],
)
def test_a_damaged_checkpoint_is_passed_over(sandbox, monkeypatch, undisturbed, spoil):
    """The one before it counts, and the result is what it would have been."""
    partial = stopped_fit(sandbox, monkeypatch)
    spoil(partial / "step-000000003.json", partial / "step-000000003.safetensors")
    steps = restored(monkeypatch)
    sandbox.run(SMALL)
    assert steps == [2]
    assert sandbox.artefacts() == undisturbed
    assert not list((sandbox.root / ".store" / "partial").iterdir())


def test_a_damaged_checkpoint_gives_way_to_the_older(sandbox, monkeypatch):
    from collapse_sim.engine import checkpoint

    sandbox.run(TINY, run="whole")
    reference = sandbox.artefacts()
    other = type(sandbox)(sandbox.root / "other")
    other.root.mkdir()
    saves = []

    class Killed(BaseException):
        pass

    def boundary(name):
        saves.append(name)
        if saves.count("checkpoint") == 5:
            raise Killed

    monkeypatch.setattr(checkpoint, "boundary", boundary)
    with pytest.raises(Killed):
        other.run(TINY, checkpoint_s=0.0)
    kept = sorted((other.root / ".store" / "partial").rglob("step-*.safetensors"))
    kept[-1].write_bytes(kept[-1].read_bytes()[:-7] + b"garbage")
    monkeypatch.setattr(checkpoint, "boundary", lambda name: None)
    restored = []
    original = checkpoint._apply
    monkeypatch.setattr(
        checkpoint, "_apply", lambda run, state, t: (restored.append(state["step"]), original(run, state, t))
    )
    other.run(TINY, checkpoint_s=0.0)
    assert restored == [4]
    assert other.artefacts() == reference == artefacts(sandbox.root / ".store")
