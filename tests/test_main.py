"""`python -m collapse_sim`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from collapse_sim.cli.app import run_app

ROOT = Path(__file__).parents[1]


def test_python_m_is_the_same_program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    done = subprocess.run(
        [sys.executable, "-m", "collapse_sim", "--help"],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["collapse-sim", "--help"])
    assert run_app(["--help"]) == 0
    assert done.stdout == capsys.readouterr().out
