"""A few seconds of what `make torture` does for longer: damage, and kills at random moments."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


def torture(name: str, *options: str) -> dict:
    """In a process of its own, because it forks."""
    command = [sys.executable, "-m", f"tests.torture.{name}", *options]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False, cwd=root)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_damage_is_named_or_mended():
    counts = torture("flip", "--seconds", "0", "--at-least", "8", "--seed", "7")
    assert counts.pop("cases") == []
    assert counts["silent"] == counts["traceback"] == counts["hang"] == 0
    assert counts["named"] + counts["repaired"] + counts["harmless"] == counts["damaged"] == 8


@pytest.mark.slow
def test_kills_at_random_moments_end_in_the_same_bytes():
    counts = torture("kill", "--seconds", "0", "--at-least", "3", "--seed", "3")
    assert counts.pop("cases") == []
    assert counts["kills"] > 2
    assert counts["differing"] == counts["traceback"] == counts["leftovers"] == counts["warnings"] == 0


@pytest.mark.slow
def test_disks_that_fill_up_lose_nothing():
    counts = torture("full", "--seconds", "0", "--at-least", "2", "--seed", "5")
    if "skipped" in counts:
        pytest.skip(counts["skipped"])
    assert counts.pop("cases") == []
    assert counts["full"] >= 2
    for wrong in ("silent", "traceback", "hang", "lost", "differing", "leftovers"):
        assert counts[wrong] == 0, wrong
