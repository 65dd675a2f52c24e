"""Jobs that are built together: claimed, computed by one call, committed each by itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from collapse_sim.core.errors import InterruptedRunError
from collapse_sim.core.events import JobFailed, Note, Waiting
from collapse_sim.store.jobs import Job, Request
from collapse_sim.store.locks import Lock
from collapse_sim.store.spec import Spec
from collapse_sim.store.store import Store


def request(name: str, seeds: tuple[int, ...] = (0, 1)) -> Request:
    return Request(Spec("fit", 0, {"name": name}), seeds, (name,))


def pairs(jobs: Sequence[Job]) -> list[Sequence[Job]]:
    return [jobs[i : i + 2] for i in range(0, len(jobs), 2)]


class Builder:
    """Writes a file per job; the groups that it was asked for, and jobs that fail."""

    def __init__(self, *failing: tuple[str, int], error: type[BaseException] = ValueError) -> None:
        self.groups: list[list[tuple[str, int]]] = []
        self._failing, self._error = failing, error

    def __call__(self, jobs: Sequence[Job], folders: Sequence[Path]) -> None:
        names = [(str(job.spec.description["name"]), job.seeds[0]) for job in jobs]
        self.groups.append(names)
        for name, folder in zip(names, folders, strict=True):
            if name in self._failing:
                raise self._error(f"{name} fails")
            (folder / "file").write_text(repr(name))


@pytest.fixture
def events() -> list[Any]:
    return []


def contents(store: Store, requested: Request) -> dict[int, str]:
    stored = [seed for seed in requested.seeds if store.has(requested.spec, seed)]
    return {seed: store.block(requested.spec, seed).file("file").read_text() for seed in stored}


def test_a_group_is_one_call_and_its_members_are_artefacts_of_their_own(tmp_path, events):
    store, build = Store(tmp_path), Builder()
    requests = [request("a"), request("b", (0,))]
    counts = store.make_all(requests, build, events.append, pairs)
    assert build.groups == [[("a", 0), ("a", 1)], [("b", 0)]]
    assert counts["made"] == 3
    assert contents(store, requests[0]) == {0: "('a', 0)", 1: "('a', 1)"}
    manifests = [
        json.loads((store.block(requests[0].spec, seed).folder / "manifest.json").read_text()) for seed in (0, 1)
    ]
    digest = requests[0].spec.digest
    assert [manifest["group"] for manifest in manifests] == [[f"{digest}/s0", f"{digest}/s1"]] * 2
    assert "group" not in json.loads(store.block(requests[1].spec, 0).file("manifest.json").read_text())
    assert store.make_all(requests, build, events.append, pairs) == {"reused": 3}


def test_one_that_fails_does_not_end_the_others_of_its_group(tmp_path, events):
    store, build = Store(tmp_path), Builder(("a", 1))
    wanted = request("a", (0, 1))
    counts = store.make_all([wanted], build, events.append, pairs)
    assert build.groups == [[("a", 0), ("a", 1)], [("a", 0)], [("a", 1)]]
    assert counts["made"] == 1
    assert contents(store, wanted) == {0: "('a', 0)"}
    assert [event.seeds for event in events if isinstance(event, JobFailed)] == [(1,)]
    assert any(isinstance(event, Note) and "one by one" in event.message for event in events)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_requested_stop_ends_a_group_without_a_second_attempt(tmp_path, events):
    store, build = Store(tmp_path), Builder(("a", 1), error=InterruptedRunError)
    with pytest.raises(InterruptedRunError):
        store.make_all([request("a")], build, events.append, pairs)
    assert build.groups == [[("a", 0), ("a", 1)]]


def test_a_member_that_another_process_is_making_is_left_to_it(tmp_path, events):
    """The others are made at once; it is awaited last."""
    store, build = Store(tmp_path), Builder()
    wanted = request("a", (0, 1, 2))
    lock = Lock(tmp_path / "locks" / f"{wanted.spec.digest}-s1.lock")
    lock.acquire(timeout=0)

    def emit(event: object) -> None:
        events.append(event)
        if sum(isinstance(event, Waiting) for event in events) == 2:
            lock.release()

    counts = store.make_all([wanted], build, emit, lambda jobs: [jobs])
    assert build.groups == [[("a", 0), ("a", 2)], [("a", 1)]]
    assert counts["made"] == 3
