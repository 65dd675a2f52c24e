"""`python -m collapse_sim`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from collapse_sim.__main__ import WAITING, share_cores
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


@pytest.mark.parametrize(
    ("chosen", "added"),
    [
        ({}, {"OMP_WAIT_POLICY": "PASSIVE"}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {}),
        ({"GOMP_SPINCOUNT": "1000"}, {}),
        ({"KMP_BLOCKTIME": "200"}, {}),
    ],
)
def test_threads_sleep_while_they_wait_unless_the_user_has_chosen(
    chosen: dict[str, str], added: dict[str, str]
) -> None:
    environment = dict(chosen)
    share_cores(environment)
    assert environment == chosen | added


def test_that_is_chosen_before_torch_is_imported() -> None:
    program = (
        "import os, sys\nimport collapse_sim.__main__ as program\nassert 'torch' not in sys.modules\n"
        "sys.argv = ['collapse-sim', '--version']\n"
        "try:\n    program.main()\nexcept SystemExit:\n    pass\n"
        "assert os.environ['OMP_WAIT_POLICY'] == 'PASSIVE'\nassert 'torch' not in sys.modules\n"
    )
    environment = {name: value for name, value in os.environ.items() if name not in WAITING}
    subprocess.run([sys.executable, "-c", program], env=environment | {"PYTHONPATH": str(ROOT)}, check=True)
