"""The real command line, in this process and in an empty folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from collapse_sim.cli.app import run_app
from tests.analysis.conftest import call as call
from tests.analysis.conftest import write_run as write_run
from tests.conftest import SMALL, artefacts, changed


class Done(NamedTuple):
    """What a command line left on stdout and stderr."""

    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout, which must be one JSON document and nothing else."""
        return json.loads(self.out)


class Shell:
    """`shell("run", "r.yaml", code=2)` gives the command line, checks its exit code and returns what it printed."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.capsys, self.monkeypatch = root, capsys, monkeypatch
        self.store = root / "runs" / ".store"
        self.reading = ""  # the line that the last command began with

    def __call__(self, *argv: object, code: int = 0) -> Done:
        words = [str(word) for word in argv]
        self.monkeypatch.setattr(sys, "argv", ["collapse-sim", *words])
        self.capsys.readouterr()
        found = run_app(words)
        out, err = self.capsys.readouterr()
        self.reading, done = "", Done(out, err)
        if words[:1] in (["run"], ["evaluate"], ["bench"]) and err.startswith("reading "):
            self.reading, _, err = err.partition("\n")  # the first thing that is said, before anything is looked at
            done = Done(out, err)
        assert found == code, f"exit code {found}\n{done.out}\n{done.err}"
        assert ("Traceback" in done.err) == (code == 1), done.err
        return done

    def refused(self, *argv: object, code: int) -> str:
        """The message of a command that is refused before any work: no file is made or changed.

        stdout is empty; a dry run may have printed the plan.
        """
        before = self.files()
        done = self(*argv, code=code)
        assert done.out == "" or "--dry-run" in argv
        assert self.files() == before
        return done.err

    def files(self) -> dict[str, bytes | None]:
        """Everything below the current folder, with its content."""
        return {str(p.relative_to(self.root)): p.read_bytes() if p.is_file() else None for p in self.root.rglob("*")}

    def artefacts(self) -> dict[str, dict[str, str]]:
        """{digest/block: {file: sha256}} of everything committed, as the manifests say."""
        return artefacts(self.store)

    def folders(self, kind: str) -> list[Path]:
        """Where the artefacts of a kind lie."""
        manifests = sorted(self.store.glob("objects/*/*/*/manifest.json"))
        return [path.parent for path in manifests if json.loads(path.read_text())["kind"] == kind]

    def journal(self, event: str, run: str = "tiny") -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in (self.root / "runs" / run / "journal.jsonl").read_text().splitlines()]
        return [line for line in lines if line["event"] == event]


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # bytes are compared, so everything is on the CPU
    for name in ("COLLAPSE_SIM_DATA", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return Shell(tmp_path, capsys, monkeypatch)


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., str]:
    """recipe(("steps: 20", "steps: 30")) writes SMALL, changed so, to r.yaml."""

    def write(*changes: tuple[str, str], text: str = SMALL, name: str = "r.yaml") -> str:
        (tmp_path / name).write_text(changed(text, *changes))
        return name

    return write


@pytest.fixture
def finished(shell: Shell, recipe: Callable[..., str]) -> Shell:
    """SMALL, run; gives `shell`."""
    shell("run", recipe(), "-q")
    return shell
