"""Checkpoints of fits: what is continued from where, and that a damaged one is passed over."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from collapse_sim.core.ranks import Ranks
from collapse_sim.engine import checkpoint
from collapse_sim.engine.checkpoint import Checkpoints
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
        checkpoint, "_apply", lambda run, state, *rest: (steps.append(state["step"]), original(run, state, *rest))
    )
    return steps


@pytest.mark.parametrize("age_s", [30.0, 900.0])
def test_unfinished_work_of_another_machine_is_continued(sandbox, monkeypatch, age_s):
    """From a copy, as long as the other one may still be at it."""
    partial = stopped_fit(sandbox, monkeypatch)
    theirs = partial.rename(partial.with_name(partial.name.replace(owner_of(partial.name), OTHER)))
    for path in (*theirs.iterdir(), theirs):
        os.utime(path, (time.time() - age_s, time.time() - age_s))
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
        checkpoint, "_apply", lambda run, state, *rest: (restored.append(state["step"]), original(run, state, *rest))
    )
    other.run(TINY, checkpoint_s=0.0)
    assert restored == [4]
    assert other.artefacts() == reference == artefacts(sandbox.root / ".store")


class Run:
    """A small fit: what is trained, and where it is."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 0.05)
        self.scaler = torch.amp.GradScaler("cpu", enabled=False)
        self.average: AveragedModel | None = AveragedModel(self.model, avg_fn=lambda a, b, _: 0.9 * a + 0.1 * b)
        self.maps: nn.Module | None = None
        self.step = self.skipped = self.loss_steps = 0
        self.history: list[dict[str, Any]] = []
        self.best_loss, self.best_state = float("inf"), None
        self.loss_sum = torch.zeros((), dtype=torch.float64)

    def train(self, steps: int) -> None:
        for _ in range(steps):
            rows = torch.randn(8, 3, generator=torch.Generator().manual_seed(self.step))
            self.optimizer.zero_grad()
            loss = (self.model(rows) - rows.sum(1, keepdim=True)).square().mean()
            loss.backward()
            self.optimizer.step()
            assert self.average is not None
            self.average.update_parameters(self.model)
            self.step += 1
            self.loss_steps += 1
            value = float(loss.detach())
            self.loss_sum += value
            self.history.append({"step": self.step, "loss": value})
            if value < self.best_loss:
                self.best_loss = value
                self.best_state = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}

    def state(self) -> dict[str, Any]:
        assert self.average is not None
        tensors = {
            "model": self.model.state_dict(), "average": self.average.state_dict(), "best": self.best_state or {},
            "loss": {"sum": self.loss_sum},
            "optimizer": {f"{i}/{n}": t for i, s in self.optimizer.state_dict()["state"].items() for n, t in s.items()},
        }  # fmt: skip
        plain = {f"{group}/{name}": t.tolist() for group, named in tensors.items() for name, t in named.items()}
        return plain | {
            "step": self.step, "history": self.history, "best_loss": self.best_loss, "loss_steps": self.loss_steps,
        }  # fmt: skip


def test_a_fit_that_is_continued_is_the_one_that_never_stopped(tmp_path: Path) -> None:
    """Bit by bit: weights, moments of AdamW, averages, buffers of norms, the best so far, and what was recorded."""
    whole, stopped, continued = Run(0), Run(0), Run(1)
    whole.train(9)
    folder = tmp_path / "digest-s0@token"
    for _ in range(4):
        stopped.train(1)
        Checkpoints(folder, Ranks()).save(stopped)
    Checkpoints(folder, Ranks()).restore(continued, pytest.fail)
    assert continued.state() == stopped.state()
    continued.train(5)
    assert continued.state() == whole.state()


def test_two_checkpoints_are_kept_and_any_process_continues_them(tmp_path: Path) -> None:
    run, folder = Run(0), tmp_path / "digest-s0@token"
    assert Checkpoints(folder, Ranks()).newest() is None
    fresh = Run(1)
    Checkpoints(folder, Ranks()).restore(fresh, pytest.fail)  # none yet: from the start
    assert fresh.step == 0
    for _ in range(4):
        run.train(3)
        Checkpoints(folder, Ranks()).save(run)
    names = sorted(path.name for path in folder.iterdir())
    assert names == [f"step-{step:09d}.{end}" for step in (9, 12) for end in ("json", "safetensors")]
    assert Checkpoints(folder, Ranks()).newest() == folder / "step-000000012.safetensors"
    Checkpoints(folder.rename(tmp_path / "digest-s0@another"), Ranks()).restore(fresh, pytest.fail)
    assert fresh.step == 12


@pytest.mark.parametrize("end", ["json", "safetensors"])
def test_every_damage_is_noticed_and_the_older_one_counts(tmp_path: Path, end: str) -> None:
    """A flipped bit anywhere in the newest; if both are damaged, the fit begins anew."""
    folder = tmp_path / "digest-s0@token"
    run, dice = Run(0), random.Random(0)
    for _ in range(2):
        run.train(1)
        Checkpoints(folder, Ranks()).save(run)
    contents = {path: path.read_bytes() for path in folder.iterdir()}
    newest, older = (folder / f"step-00000000{step}.{end}" for step in (2, 1))
    for _ in range(20):
        for path, content in contents.items():
            path.write_bytes(content)
        for count, path in enumerate((newest, older), 1):
            content = bytearray(contents[path])
            content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
            path.write_bytes(content)
            fresh, notes = Run(1), []
            before = fresh.state()
            Checkpoints(folder, Ranks()).restore(fresh, notes.append)
            assert fresh.step == (1 if count == 1 else 0)
            assert len(notes) == 1
            assert count == 1 or fresh.state() == before


def test_how_a_fit_ended_is_told_to_that_fit_only(tmp_path: Path) -> None:
    here = Checkpoints(tmp_path / "digest-s0@token", Ranks())
    assert here.ending() is None
    here.end({"message": "the loss is nan", "step": 7})
    assert here.ending() == {"fit": "digest-s0", "message": "the loss is nan", "step": 7}
    (tmp_path / "other-s0@token").mkdir()
    (tmp_path / "other-s0@token" / "diverged.json").write_bytes(here.ended.read_bytes())
    assert Checkpoints(tmp_path / "other-s0@token", Ranks()).ending() is None
    here.ended.write_text(here.ended.read_text().replace("7", "8"))
    assert here.ending() is None
