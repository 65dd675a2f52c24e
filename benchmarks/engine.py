"""Fits through the engine, for the cases: stored artefacts, with everything that belongs to them."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness import Setting
from collapse_sim.core.events import Event, JobProgress
from collapse_sim.data.base import FileData
from collapse_sim.data.images.image_folder import ImageFolder
from collapse_sim.data.sources import RowCounts, generation_zero
from collapse_sim.engine.build import builder
from collapse_sim.engine.work import JobContext
from collapse_sim.families.base import ModelFamily
from collapse_sim.families.training import Train
from collapse_sim.plan.experiment import prepare
from collapse_sim.plan.specs import data_spec, fit_spec
from collapse_sim.recipe.loader import load
from collapse_sim.run.session import Session
from collapse_sim.store.blocks import seconds_of
from collapse_sim.store.jobs import Request
from collapse_sim.store.journal import read
from collapse_sim.store.store import Store

HELD_OUT = 100
_numbers = itertools.count()


class Rates(NamedTuple):
    """Updates per second of a fit."""

    steps: float  # of its second half: without what a fit costs once, as the peers' loops are timed
    whole: float  # of all: reading, building, compiling, storing


def image_rows(folder: Path, rows: int, shape: tuple[int, ...]) -> tuple[ImageFolder, np.ndarray]:
    """Data of `rows` random images of (H, W) or (H, W, 3) and HELD_OUT more, and the images, uint8."""
    images = np.random.default_rng(0).integers(0, 256, (rows + HELD_OUT, *shape), dtype=np.uint8)
    np.save(folder / "images.npy", images)
    return ImageFolder(path=str(folder / "images.npy"), held_out=HELD_OUT), images[:rows]


class Fits:
    """Fits of one family to one kind of data, each stored anew."""

    def __init__(self, setting: Setting, family: ModelFamily, data: FileData, **train: Any) -> None:
        """`train`: settings of Train, with `steps`."""
        self._setting, self._family, self._train = setting, family, train
        self.info = data.inspect(setting.folder)
        self._data = data_spec(data, self.info)
        self._marks: list[tuple[int, float]] = []
        self._work = JobContext(
            Store(setting.folder / "store"), setting.device, self._see, setting.folder, checkpoint_s=1e9
        )
        self._build = builder(self._work)
        self._make(self._data)

    def rates(self) -> Rates:
        """Fit and store once more. Another weight decay of no effect makes it another artefact."""
        train = Train(evaluate="never", **{**self._train, "weight_decay": 0.01 + next(_numbers) * 1e-9})
        plan = generation_zero(RowCounts(self.info.rows, self.info.rows, self.info.pool))
        fit = fit_spec(0, self._family, train, plan, self._data, {})
        self._marks = []
        started = time.perf_counter()
        self._make(fit)
        steps = self._train["steps"]
        whole = steps / (time.perf_counter() - started)
        half = [mark for mark in self._marks if 2 * mark[0] >= steps]
        if len(half) < 2:  # a fit of less than a second
            return Rates(whole, whole)
        (first, begin), (last, end) = half[0], half[-1]
        return Rates((last - first) / (end - begin), whole)

    def _make(self, spec: Any) -> None:
        store = self._work.store
        store.make_all([Request(spec, (0,), ("a",))], self._build, self._work.emit)
        for failure in (*store.failures.others(), *store.failures.diverged()):
            raise failure.error

    def _see(self, event: Event) -> None:
        if isinstance(event, JobProgress) and event.kind == "fit":
            self._marks.append((event.done, time.perf_counter()))


class Finished(NamedTuple):
    """A run that has ended."""

    wall_s: float
    manifests: list[dict[str, Any]]
    journal: list[dict[str, Any]]

    def seconds(self, *kinds: str) -> float:
        """Seconds that artefacts of these kinds took; each member of a group counts its share."""
        return sum(seconds_of(m) for m in self.manifests if m["kind"] in kinds)

    @property
    def processes(self) -> int:
        """How many processes made it."""
        (device,) = {str(line["device"]) for line in self.journal if line["event"] == "session"}
        several = re.search(r"(\d+) processes", device)
        return int(several[1]) if several else 1

    def count(self, kind: str) -> int:
        return sum(len(m["seeds"]) or 1 for m in self.manifests if m["kind"] == kind)


def run(setting: Setting, recipe: str, *, ensemble: str = "auto", **changes: Any) -> Finished:
    """Run a recipe in a new folder; `changes` replace words in capitals."""
    folder = _folder_with(setting, recipe, changes)
    started = time.perf_counter()
    experiment = prepare(load(folder / "recipe.yaml"), setting.folder, setting.device)
    session = Session(experiment, setting.device, folder / "run", folder / ".store", setting.folder, 1e9, ensemble)
    session.run(quiet=True)
    return _finished(folder, time.perf_counter() - started)


def command(setting: Setting, recipe: str, *options: str, **changes: Any) -> Finished:
    """The same by `collapse-sim run`, on the CPU. Raises RuntimeError with its last line when it fails."""
    folder = _folder_with(setting, recipe, changes)
    places = ("--out", str(folder / "run"), "--store", str(folder / ".store"), "--data-dir", str(setting.folder))
    words = (sys.executable, "-m", "collapse_sim", "run", str(folder / "recipe.yaml"), *places, "--device", "cpu", "-q")
    started = time.perf_counter()
    done = subprocess.run([*words, *options], capture_output=True, text=True, check=False)
    wall_s = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return _finished(folder, wall_s)


def _folder_with(setting: Setting, recipe: str, changes: Mapping[str, Any]) -> Path:
    """A new folder with a recipe in which words in capitals are replaced."""
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=setting.folder))
    for name, value in changes.items():
        recipe = recipe.replace(name.upper(), str(value))
    (folder / "recipe.yaml").write_text(recipe, encoding="utf-8")
    return folder


def _finished(folder: Path, wall_s: float) -> Finished:
    paths = (folder / ".store").glob("objects/*/*/*/manifest.json")
    manifests: list[dict[str, Any]] = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    return Finished(wall_s, manifests, read(folder / "run" / "journal.jsonl"))


def environment_without(*names: str, **added: str) -> Mapping[str, str]:
    """This process's environment for another, without some variables and with others."""
    return {**{name: value for name, value in os.environ.items() if name not in names}, **added}
