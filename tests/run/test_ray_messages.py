from __future__ import annotations

import pickle
import time

from collapse_sim.core.errors import DivergedError, InterruptedRunError, RecipeError, StoreError
from collapse_sim.core.events import Note
from collapse_sim.run.ray_messages import Exchange, NodeReport, Reporting, portable


def test_events_are_sent_while_a_task_runs_and_the_rest_is_left_for_its_outcome():
    sent: list[list] = []
    with Reporting(sent.append) as reports:
        reports.emit(Note("first"))
        deadline = time.monotonic() + 20
        while not sent:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    reports.emit(Note("second"))
    assert [[event.message for event in events] for events in sent] == [["first"]]
    assert [event.message for event in reports.rest()] == ["second"]
    assert reports.rest() == []


def test_the_exchange_gives_each_report_once_and_keeps_addresses():
    exchange = Exchange()
    exchange.put(NodeReport("n", 1, [Note("a")]))
    assert [report.node for report in exchange.take()] == ["n"]
    assert exchange.take() == []
    assert exchange.read("r") is None
    exchange.post("r", ("host", 7))
    assert exchange.read("r") == ("host", 7)


class CannotCopyError(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def test_errors_of_this_package_arrive_as_they_are_and_others_at_least_by_their_text():
    for error in (
        StoreError("full"),
        RecipeError("one", "two"),
        DivergedError("nan", (3, 4)),
        InterruptedRunError("x", 15),
    ):
        copy = pickle.loads(pickle.dumps(portable(error)))
        assert type(copy) is type(error)
        assert str(copy) == str(error)
        assert vars(copy) == vars(error)
    other = portable(CannotCopyError("a", "b"))
    assert str(other) == "CannotCopyError: a b"
