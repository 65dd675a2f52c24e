"""Shared by all tests: one thread, and small real runs through the whole program."""

from __future__ import annotations

import json
import logging
import signal
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from collapse_sim.core import hub, machine
from collapse_sim.store import journal, recorded, sealed

if TYPE_CHECKING:
    from collapse_sim.run.trackers import Tracker
    from collapse_sim.store.store import Store
    from tests.rank_pool import Pool

torch.set_num_threads(1)

TINY = """
name: tiny
data: {use: digits, rows: 200, held_out_rows: 50, validation_rows: 40}
model: {use: vae, hidden: 16, latent: 2}
train: {steps: 20, batch_size: 32, evaluate: every 5 steps, keep: best}
samples: 150
sampling: {shard: 40}
generations: 2
seeds: [0, 1]
arms:
  replace: {data: replace}
  accumulate+distill: {data: accumulate, teacher: {generation: 0, weights: {output: 0.5, mean: 1.0, variance: 1.0}}}
metrics: [test_loss]
"""


def changed(text: str, *changes: tuple[str, str]) -> str:
    """A recipe with pieces of it replaced; every piece must be there, once."""
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text.lstrip()


SMALL = changed(TINY, ("generations: 2", "generations: 1"), ("seeds: [0, 1]", "seeds: [0]"))  # 10 artefacts, 0.2 s


@pytest.fixture(autouse=True, scope="session")
def _hear_ctrl_c() -> None:
    """As in a terminal: a shell that starts the tests in the background has them ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_logger() -> Iterator[None]:
    """A command sets what the package logs, for its whole process: not for the tests behind it."""
    logger = logging.getLogger("collapse_sim")
    level, handlers = logger.level, logger.handlers
    yield
    logger.setLevel(level)
    logger.handlers = handlers


@pytest.fixture(autouse=True)
def _ask_hubs_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that did not answer in one test may do so in the next."""
    monkeypatch.setattr(hub, "_unreachable", [])


@pytest.fixture(autouse=True)
def _any_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """`precision: auto` is fp32 on every CPU, so that keys and numbers in tests do not depend on the processor."""
    monkeypatch.setattr(machine, "native_bf16", lambda: False)


@pytest.fixture(autouse=True)
def _this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """No command starts other processes without being asked to; those that a test starts have one thread, too."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


class Sandbox:
    """Runs recipes below one folder, in this process, through the same path as the command line."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.events: list[object] = []

    def recipe(self, text: str, name: str = "recipe.yaml") -> Path:
        path = self.root / name
        path.write_text(textwrap.dedent(text))
        return path

    def run(
        self,
        recipe: str | Path,
        run: str = "run",
        checkpoint_s: float = 60.0,
        ensemble: str = "off",
        *,
        compiled: str = "auto",
        overlap: str = "off",
        trackers: Mapping[str, Tracker] | None = None,
        mirror: str | None = None,
        processes: int | None = 1,
        **options: object,
    ) -> dict:
        from collapse_sim.core.machine import open_device
        from collapse_sim.plan.experiment import prepare
        from collapse_sim.recipe.loader import load
        from collapse_sim.run.session import Session

        path = recipe if isinstance(recipe, Path) else self.recipe(recipe)
        experiment = prepare(load(path, **options), self.root / "data")
        device = open_device("cpu")
        session = Session(
            experiment,
            device,
            self.root / run,
            self.root / ".store",
            self.root / "data",
            checkpoint_s,
            ensemble,
            compiled,
            overlap,
            trackers=trackers or {},
            mirror=mirror,
            processes=processes,
        )
        return session.run(quiet=True)

    def loop(self, recipe: str) -> tuple[list[object], Store]:
        """The events that the generation loop alone tells, without a session around it, and its store."""
        from collapse_sim.core.machine import open_device
        from collapse_sim.engine.work import JobContext, Stop
        from collapse_sim.plan.experiment import prepare
        from collapse_sim.recipe.loader import load
        from collapse_sim.run.loop import run_generations
        from collapse_sim.run.session import observers_of
        from collapse_sim.store.run_writer import RunWriter
        from collapse_sim.store.store import Store

        experiment = prepare(load(self.recipe(recipe)), self.root)
        events: list[object] = []
        store = Store(self.root / ".store", Stop().check)
        context, run = JobContext(store, open_device("cpu"), events.append, self.root), RunWriter(self.root / "run")
        run_generations(experiment, run, context, observers_of(experiment, context, run.pictures))
        return events, store

    def journal(self, run: str = "run", event: str | None = None) -> list[dict]:
        lines = [json.loads(line) for line in (self.root / run / "journal.jsonl").read_text().splitlines()]
        return [line for line in lines if event in (None, line["event"])]

    def artefacts(self) -> dict[str, dict[str, str]]:
        """{digest/block: {file: sha256}} of everything committed."""
        return artefacts(self.root / ".store")


def artefacts(store: Path) -> dict[str, dict[str, str]]:
    found = {}
    for path in sorted(store.glob("objects/*/*/*/manifest.json")):
        manifest = json.loads(path.read_text())
        found["/".join(path.parts[-4:-1])] = {name: facts["sha256"] for name, facts in manifest["files"].items()}
    return found


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is found out about data files is not kept in the user's folder."""
    monkeypatch.setenv("COLLAPSE_SIM_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path)


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    """Two processes that make artefacts together."""
    from tests.rank_pool import Pool

    started = Pool()
    yield started
    started.close()


@pytest.fixture
def run_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write a run directory: generations 0 .. done scored for two arms and two seeds."""

    def write(done: int = 1, name: str = "demo", parent: Path = tmp_path, command: list[str] | None = None) -> Path:
        folder = parent / name
        folder.mkdir(parents=True)
        run = {
            "schema": 1,
            "name": name,
            "generations": 2,
            "seeds": [0, 7],
            "arms": ["replace", "accumulate"],
            "baseline": "replace",
            "show": "fid",
            "metrics": {"test_loss": {"better": "lower"}, "fid": {"better": None}},
        }
        (folder / "run.json").write_text(sealed.text(run))
        lines: list[dict[str, Any]] = [{"event": "session", "command": command}] if command else []
        for k in range(done + 1):
            for arm in ("replace", "accumulate"):
                metrics = {"test_loss": [1.0 + k, 2.0 + k], "fid": [10.0 * k, 30.0 * k]}
                lines.append({"event": "scores", "generation": k, "arm": arm, "seeds": [0, 7], "metrics": metrics})
            lines.append({"event": "generation", "generation": k, "made": {"fit": 4}, "reused": {}, "wall_s": 3.0})
        journal.append(folder / "journal.jsonl", lines)
        written: recorded.Scores = {}
        recorded.add(written, lines)
        recorded.write(folder, written)
        return folder

    return write
