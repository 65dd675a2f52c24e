"""Times by which `--compile auto` decides, for tests."""

from __future__ import annotations

from collapse_sim.engine import programs
from collapse_sim.engine.programs import Programs


def paying(monkeypatch, *, compiled_s=0.5):
    """All work is long enough, and a step, or a row, takes 1 s eagerly and `compiled_s` compiled."""
    monkeypatch.setattr(programs, "LEAST_REMAINING_S", 0.0)
    monkeypatch.setattr(programs, "EXPECTED_COMPILE_S", 0.0)
    monkeypatch.setattr(Programs, "expected_s", lambda self: 0.0)
    add = programs.Times.add
    monkeypatch.setattr(
        programs.Times,
        "add",
        lambda self, seconds, *, compiled: add(self, compiled_s if compiled else 1.0, compiled=compiled),
    )
