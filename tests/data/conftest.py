"""An empty cache of what is found out about files."""

from __future__ import annotations

from pathlib import Path

import pytest

from collapse_sim.data import file_cache


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, which takes files that were written just now."""
    monkeypatch.setenv("COLLAPSE_SIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(file_cache, "SETTLED_NS", -(10**12))
    return tmp_path / "cache"
