from __future__ import annotations

import io

from rich.console import Console

from collapse_sim.core.events import JobProgress, JobStarted, OnNode
from collapse_sim.ui.frame import _body, frame
from collapse_sim.ui.node_lines import MOST_LINES, nodes
from collapse_sim.ui.state import State
from collapse_sim.ui.symbols import UNICODE
from tests.ui.conftest import after, started


def busy(*places: tuple[str, int], then: tuple[OnNode, ...] = ()) -> State:
    events = [
        OnNode(node, process, JobStarted("fit", f"{node}{process}", 1, ("a",), (process,))) for node, process in places
    ]
    return after(started(), *events, *then)


def lines(state: State) -> list[str]:
    return [line.plain for line in nodes(state)]


def test_every_job_has_a_line_with_its_node_and_progress():
    progress = OnNode("n1", 1, JobProgress("fit", "n11", 1, ("a",), (1,), 50, 200, "steps"))
    shown = lines(busy(("n1", 1), ("n20", 2), then=(progress,)))
    assert len(shown) == 2
    assert shown[0].startswith("n1   fitting a, generation 1, seed 1")
    assert shown[0].endswith("25%")
    assert shown[1].startswith("n20  fitting a, generation 1, seed 2")


def test_many_jobs_are_counted_by_node_and_many_nodes_are_added_up():
    two = lines(busy(*[(node, process) for node in ("n1", "n2") for process in range(6)]))
    assert two == ["n1  6 jobs: 6 fitting", "n2  6 jobs: 6 fitting"]
    many = lines(busy(*[(f"n{i:02}", 1) for i in range(MOST_LINES + 4)]))
    assert len(many) == MOST_LINES
    assert many[-1].split() == ["5", "nodes", "more", "5", "jobs"]


def test_control_characters_in_a_nodes_name_do_not_reach_the_terminal():
    assert "\x1b" not in lines(busy(("n\x1b[2J", 1)))[0]


def test_the_dashboard_has_the_lines():
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(frame(busy(("n1", 1), ("n2", 2)), 100, 40))
    text = console.export_text()
    assert "n1  fitting a" in text
    assert "n2  fitting a" in text


def test_other_processes_are_shown_below_this_ones_job():
    state = busy(("process 2", 2))
    state.apply(JobStarted("fit", "own", 1, ("a",), (0,)))
    shown = [line.plain.rstrip() for line in _body(state, 100, "", 0.0, UNICODE)]
    assert shown[1].startswith("fitting")
    assert shown[-1].startswith("process 2  fitting a, generation 1, seed 2")
