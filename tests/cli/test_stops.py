"""Ctrl-C and divergence: what is said, what is kept, and how it goes on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import torch

from collapse_sim.cli import doctor_command
from collapse_sim.engine import checkpoint, fit
from collapse_sim.metrics.loss import TestLoss

ROOT = Path(__file__).parents[2]


def until(done, process: subprocess.Popen, seconds: float = 120.0):
    """What `done()` gives, once it gives something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        found = done()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"nothing came of it: {process.communicate(timeout=10)}")


def test_ctrl_c_that_an_import_turns_into_another_error(shell, monkeypatch):

    def import_numpy(*args: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        except KeyboardInterrupt as error:
            raise ImportError("cannot load module more than once per process") from error

    monkeypatch.setattr(doctor_command, "_report", import_numpy)
    assert shell("doctor", code=130) == ("", "")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class Slow(TestLoss):
    """A metric that calls a network a hundred times, and is interrupted at the fourth."""

    calls: ClassVar[list[int]] = []

    def score_rows(self, evaluation):
        return None

    def score(self, evaluation):
        network = torch.nn.Identity()
        for call in range(100):
            if call == 3 and len(self.calls) < 100:
                os.kill(os.getpid(), signal.SIGINT)
            network(torch.zeros(1))
            self.calls.append(call)
        return 1.0


def test_ctrl_c_while_a_metric_is_computed(shell, recipe, monkeypatch):
    """Heard at the network's next call; nothing of the score is kept, and all else is."""
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setattr(Slow, "calls", [])
    name = recipe(("metrics: [test_loss]", f"metrics: [test_loss, {{use: '{__name__}:Slow', as: slow}}]"))
    told = shell("run", name, code=130).err
    assert "interrupted; everything finished is kept; to continue: " in told
    assert Slow.calls == [0, 1, 2]
    assert len(shell.folders("fit")) == 1
    assert len(shell.folders("scores")) == 1
    assert not torch.nn.modules.module._global_forward_pre_hooks
    Slow.calls += range(100)
    shell("run", name)
    assert all(line["metrics"]["slow"] == [1.0] for line in shell.journal("scores"))


def test_ctrl_c_once(shell, recipe, monkeypatch):
    """A real process: a checkpoint, the line that resumes, exit 130; then that line finishes the run. In fp32, which is
    `auto` in this process, but not in another one on a processor with bf16."""
    name = recipe(
        ("steps: 20", "steps: 300"), ("every 5 steps", "never"), ("keep: best", "keep: last, precision: fp32")
    )
    words = ["run", name, "--arm", "replace", "--checkpoint-seconds", "0.05"]
    process = subprocess.Popen(
        [sys.executable, "-m", "collapse_sim", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    try:
        until(lambda: list(shell.store.glob("partial/*/step-*.json")), process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out) == (130, "")
    assert "stopping: taking a checkpoint (Ctrl-C again to stop at once)\n" in err
    assert err.endswith(
        f"interrupted; everything finished is kept; to continue: python -m collapse_sim {' '.join(words)}\n"
    )
    stopped_at = max(int(path.stem.removeprefix("step-")) for path in shell.store.glob("partial/*/step-*.json"))
    status = shell("status", "tiny", "--json").json
    assert (status["status"], status["continue"]) == ("interrupted", f"python -m collapse_sim {' '.join(words)}")

    restored = []
    original = checkpoint._apply
    monkeypatch.setattr(
        checkpoint, "_apply", lambda run, state, *rest: (restored.append(state["step"]), original(run, state, *rest))
    )
    kept = shell.artefacts()
    result = shell(*words, "--json").json
    assert restored == [stopped_at]
    assert kept.items() <= shell.artefacts().items()
    assert result["made"] == len(shell.artefacts()) - len(kept) == 7 - len(kept)
    assert not list((shell.store / "partial").iterdir())
    assert shell("status", "tiny", "--json").json["status"] == "finished"


def test_ctrl_c_twice(shell, recipe, monkeypatch):
    """Stops at once, without a checkpoint; the same command continues."""
    original, calls = fit.backward, []

    def interrupting(*args, **options):
        calls.append(1)
        if len(calls) == 7:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return original(*args, **options)

    name = recipe()
    with monkeypatch.context() as patch:
        patch.setattr(fit, "backward", interrupting)
        done = shell("run", name, code=130)
    assert done.err.endswith("stopped at once, without a checkpoint; to continue: collapse-sim run r.yaml\n")
    assert not list(shell.store.glob("partial/*/step-*"))
    assert shell("run", name, "--json").json["made"] == 9


def test_ctrl_c_before_any_work(shell, recipe, monkeypatch):
    from collapse_sim.data.images.digits import Digits

    def interrupted(*_: object):
        raise KeyboardInterrupt

    monkeypatch.setattr(Digits, "inspect", interrupted)
    shell.refused("run", recipe(), code=130)


WILD = ["--set", "train.learning_rate=1e6", "--set", "train.optimizer=sgd"]


def test_divergence_without_a_checkpoint(shell, recipe):
    done = shell("run", recipe(), *WILD, code=4)
    assert done.out == "runs/tiny\n"
    assert re.search(
        r"error: replace / accumulate\+distill, generation 0, seed 0: the loss became non-finite at step \d+; there is "
        r"no earlier checkpoint of this fit; finished generations are kept: lower train\.learning_rate, or set ",
        done.err,
    )
    assert shell.folders("fit") == []
    assert shell.folders("data") != []
    assert shell("status", "tiny", "--json").json["status"] == "finished"


def test_divergence_names_the_last_good_checkpoint(shell, recipe):
    never = ["--set", "train.evaluate=never", "--set", "train.keep=last"]
    done = shell("run", recipe(), *WILD, *never, "--checkpoint-seconds", "0", code=4)
    found = re.search(r"non-finite at step (\d+); the last good checkpoint is (\S+);", done.err)
    assert found is not None
    step, path = int(found[1]), Path(found[2])
    assert path.is_file()
    assert path.stem == f"step-{step - 1:09d}"


def test_divergence_of_a_later_generation_keeps_the_earlier(shell, recipe, monkeypatch):
    original, taught = fit.backward, []

    def spoiled(training_loss, model, inputs, machine, scaler, teacher=None, *rest):
        loss = original(training_loss, model, inputs, machine, scaler, teacher, *rest)
        taught.extend([1] if teacher is not None else [])
        return loss * float("nan") if len(taught) == 3 else loss

    name = recipe()
    with monkeypatch.context() as patch:
        patch.setattr(fit, "backward", spoiled)
        done = shell("run", name, code=4)
    said = "accumulate+distill, generation 1, seed 0: the loss became non-finite at step 3; "
    assert f"warning: diverged: {said}" in done.err
    assert f"error: {said}" in done.err
    assert [line["generation"] for line in shell.journal("generation")] == [0, 1]
    assert len(shell.folders("fit")) == 2  # generation 0, and generation 1 of the other arm
    assert len(shell.artefacts()) == 7  # all but the model, its samples and its score
    again = shell("run", name, "--json", code=4)
    assert again.json["made"] == 0
    (found,) = again.json["diverged"]
    path = re.search(r"as before: .* or without (\S+)\)", found["message"])[1]
    Path(path).unlink()
    assert shell("run", name, "--json").json["made"] == 3


def test_out_of_memory(shell, recipe, monkeypatch):
    def starved(*_: object, **__: object):
        raise torch.OutOfMemoryError("tried to allocate 9 GiB\nand more lines")

    name = recipe()
    with monkeypatch.context() as patch:
        patch.setattr(fit, "backward", starved)
        done = shell("run", name, code=2)
    assert (
        "error: replace / accumulate+distill, generation 0: out of memory while making fit on cpu: finished work is "
        "kept; lower train.batch_size or sampling.shard, or split batches with train.accumulate. "
        "(tried to allocate 9 GiB)\n"
    ) in done.err
    assert shell("run", name, "--json").json["made"] == 9


def test_a_bug_is_called_a_bug(shell, recipe, monkeypatch):
    monkeypatch.setattr(fit, "backward", lambda *_: 1 / 0)
    done = shell("run", recipe(), code=1)
    assert "ZeroDivisionError: division by zero\n" in done.err
    assert done.err.endswith("error: this is a bug in collapse-sim; please report it with the lines above\n")
    assert done.out == ""
