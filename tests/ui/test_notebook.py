"""The display of a run in a notebook, without a notebook: what it sends to IPython."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from collapse_sim.core.events import JobFailed, Note
from collapse_sim.ui import notebook
from collapse_sim.ui.notebook import NotebookDisplay, in_notebook, page
from collapse_sim.ui.state import State


class Shown:
    """Takes the place of IPython.display."""

    def __init__(self) -> None:
        self.bundles: list[dict[str, str]] = []
        self.displays = 0

    def display(self, bundle: dict[str, str], *, raw: bool, display_id: bool) -> Shown:
        assert raw
        assert display_id
        self.displays += 1
        self.bundles.append(bundle)
        return self

    def update(self, bundle: dict[str, str], *, raw: bool) -> None:
        assert raw
        self.bundles.append(bundle)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    shown, module = Shown(), ModuleType("IPython.display")
    module.display = shown.display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return shown


def told(tell: Any) -> State:
    """The state of the story, as it is shown event by event."""
    state = State()
    display = NotebookDisplay(state)
    for _, event in tell():
        state.apply(event)
        display(event)
    return state


def test_one_display_is_updated(tell, shown, monkeypatch, capsys):
    monkeypatch.setattr(notebook, "EVERY_S", 0.0)
    state = told(tell)
    assert shown.displays == 1
    assert len(shown.bundles) > 10
    first, last = shown.bundles[0], shown.bundles[-1]
    assert first["text/plain"].startswith("demo: ")
    assert '<progress value="0"' in first["text/html"]
    lines = last["text/plain"].splitlines()
    assert lines[0] == first["text/plain"]
    assert [line.split("/")[0] for line in lines[1:-1]] == [f"generation {k}" for k in range(state.generations + 1)]
    assert lines[-1].startswith("finished after ")
    cells = len(state.arms) * (state.generations + 1)
    assert f'<progress value="{cells}" max="{cells}"></progress>' in last["text/html"]
    for arm in state.arms:
        assert f"<th>{arm}</th>" in last["text/html"]
    assert "\x1b" not in capsys.readouterr().err


def test_between_generations_it_is_drawn_twice_a_second(tell, shown):
    state = told(tell)
    assert 2 <= len(shown.bundles) < 2 + (state.generations + 1) + 5
    assert "finished after" in shown.bundles[-1]["text/plain"]


def test_warnings_are_lines(shown, capsys):
    display = NotebookDisplay(State())
    display(Note("short of disk"))
    display(Note("for the curious", "info"))
    display(JobFailed("fit", "ab", 1, ("a",), (0,), "it is not finite", True))
    assert capsys.readouterr().err.splitlines() == ["warning: short of disk", "warning: diverged: it is not finite"]
    assert shown.bundles == []


def test_names_are_text():
    state = State(name="<b>x", arms=["<script>"], generations=1, show="loss")
    html = page(state, ["<i>run"])
    assert "<script>" not in html
    assert "<i>" not in html
    assert "<th>&lt;script&gt;</th><td></td><td></td>" in html


@pytest.mark.parametrize(
    ("modules", "inside"),
    [
        ({}, False),
        ({"IPython": SimpleNamespace(get_ipython=lambda: None)}, False),
        ({"IPython": SimpleNamespace(get_ipython=lambda: SimpleNamespace())}, False),  # IPython on a terminal
        ({"IPython": SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))}, True),
    ],
)
def test_a_notebook_is_known_by_its_kernel(modules, inside):
    assert in_notebook(modules) is inside
