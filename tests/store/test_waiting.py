"""Waiting for what other processes make: what is done first, how long it lasts, what it costs, and how it ends."""

from __future__ import annotations

import itertools
import os
import re
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from collapse_sim.core.errors import InterruptedRunError, UnderWayElsewhereError, code_of
from collapse_sim.core.events import Note, Waiting
from collapse_sim.store import machine_lock, waiting
from collapse_sim.store import store as store_module
from collapse_sim.store.jobs import Job, Request
from collapse_sim.store.lease import lease
from collapse_sim.store.machine_lock import EXPIRED_S, MachineLock, locked
from collapse_sim.store.process import environment, host
from collapse_sim.store.spec import Spec
from collapse_sim.store.store import Store
from collapse_sim.store.waiting import GRACE_S, SLICE_S, Idle, Others, Patience
from tests.store.processes import FORK, OTHER

SPEC = Spec("fit", 3, {"name": "a"})
SEEDS = (0, 1, 2)
WANTED = [Request(SPEC, SEEDS, ("replace", "mix"))]


def lock_of(root: Path, seed: int) -> Path:
    return root / "locks" / f"{SPEC.digest}-s{seed}.lock"


@pytest.fixture
def events() -> list[Any]:
    return []


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


class Build:
    def __init__(self) -> None:
        self.seeds: list[int] = []

    def __call__(self, jobs: Sequence[Job], folders: Sequence[Path]) -> dict[int, Exception]:
        for job, folder in zip(jobs, folders, strict=True):
            self.seeds.append(job.seeds[0])
            (folder / "file").write_text("x")
        return {}


def test_a_process_without_work_says_what_is_under_way_elsewhere_and_ends(store: Store, events: list[Any]) -> None:
    """What nobody makes is made before. By whom and since when is in the message."""
    store.patience, build = Patience(forever=False, grace_s=0.3), Build()
    (receiver, sender), over = FORK.Pipe(duplex=False), FORK.Event()

    def work() -> None:
        with lease(store.root), locked(lock_of(store.root, 1)):
            sender.send(os.getpid())
            over.wait(60)

    other = FORK.Process(target=work)
    other.start()
    pid, begun = receiver.recv(), time.monotonic()
    with pytest.raises(UnderWayElsewhereError) as ended:
        store.make_all(WANTED, build, events.append)
    took_s = time.monotonic() - begun
    over.set()
    other.join(60)
    assert build.seeds == [0, 2]
    assert took_s >= 0.3
    message = str(ended.value)
    assert message.startswith("nothing to begin for 0 s: 1 artefact is under way elsewhere: ")
    pattern = rf"fit: replace / mix, generation 3, seed 1, by process {pid} on {host()} since (20\d\d-\S+ \S+)"
    match = re.search(pattern, message)
    assert match is not None, message
    since = time.mktime(time.strptime(match[1], "%Y-%m-%d %H:%M:%S"))
    assert abs(time.time() - since) < 60
    assert code_of(ended.value) == 7, "0 would say that the run is finished"
    assert list((store.root / "locks").iterdir()) == [], "nothing is left held"


def test_a_short_job_of_another_process_ends_nobody(store: Store, events: list[Any]) -> None:
    store.patience, build = Patience(forever=False), Build()
    lock = MachineLock(lock_of(store.root, 1))
    lock.acquire()
    threading.Timer(0.5, lock.release).start()
    assert store.make_all(WANTED, build, events.append)["made"] == 3
    assert build.seeds == [0, 2, 1]


def test_one_that_waits_goes_on_when_the_others_are_done(store: Store, events: list[Any]) -> None:
    """Beyond the time after which it would have ended: it then says once what it waits for."""
    store.patience, build = Patience(forever=True, grace_s=0.1), Build()
    lock = MachineLock(lock_of(store.root, 1))
    lock.acquire()
    threading.Timer(0.7, lock.release).start()
    assert store.make_all(WANTED, build, events.append)["made"] == 3
    notes = [event for event in events if isinstance(event, Note)]
    assert len(notes) == 1
    assert notes[0].level == "info"
    assert "1 artefact is under way elsewhere: fit: replace / mix, generation 3, seed 1, by process" in notes[0].message


def test_other_work_comes_before_waiting(store: Store, events: list[Any]) -> None:
    """Memory is given back when waiting begins, not before; a process that had work is patient again."""
    order: list[str] = []
    lock, left = MachineLock(lock_of(store.root, 1)), [True, True, False]

    def meanwhile() -> bool:
        order.append("other work")
        return left.pop(0) if left else False

    def rest() -> None:
        order.append("rest")
        lock.release()

    lock.acquire()
    store.patience = Patience(forever=False, grace_s=30.0, rest=rest)
    assert store.make_all(WANTED, Build(), events.append, meanwhile=meanwhile)["made"] == 3
    assert order == ["other work"] * 3 + ["rest"]


def test_without_waiting_what_others_make_is_left_to_them(store: Store, events: list[Any]) -> None:
    build = Build()
    with locked(lock_of(store.root, 1)):
        assert store.make_all(WANTED, build, events.append, meanwhile=None)["made"] == 2
    assert build.seeds == [0, 2]


def test_one_that_dies_elsewhere_is_taken_over_while_waiting(
    store: Store, events: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process is patient for longer than it takes to know that a machine is gone."""
    assert GRACE_S > 1.5 * EXPIRED_S
    monkeypatch.setattr(machine_lock, "EXPIRED_S", 0.4)
    path = lock_of(store.root, 1)
    path.with_name(f"{path.name}.held").write_text(f"{OTHER} 12 34 word")
    store.patience, build = Patience(forever=False, grace_s=30.0), Build()
    assert store.make_all(WANTED, build, events.append)["made"] == 3
    assert build.seeds == [0, 2, 1]


def test_a_lock_that_is_held_is_reported_once(store: Store, events: list[Any]) -> None:
    others = Others(store.root)
    job = Job(SPEC, (1,), ("replace",))
    with locked(lock_of(store.root, 1)):
        assert [others.lock(job, events.append) for _ in range(3)] == [None] * 3
        assert [type(event) for event in events] == [Waiting]
        (line,) = others.under_way()
        assert line.startswith(f"fit: replace, generation 3, seed 1, by process {os.getpid()} since 20")
    assert others.under_way() == [], "nobody has it any more"
    lock = others.lock(job, events.append)
    assert lock is not None
    lock.release()


def test_a_holder_of_an_older_version_has_no_time(store: Store, events: list[Any]) -> None:
    path = lock_of(store.root, 1)
    path.with_name(f"{path.name}.held").write_text(f"{OTHER} 12 34 word")
    others = Others(store.root)
    assert others.lock(Job(SPEC, (1,), ("replace",)), events.append) is None
    assert others.under_way() == ["fit: replace, generation 3, seed 1, by process 12"]


class Clock:
    """Time that passes while something sleeps, or as long as asking takes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.sleeps = 1000.0, list[float]()
        monkeypatch.setattr(waiting.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(waiting.time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds


@pytest.mark.parametrize(("asking_s", "most"), [(0.0, 480), (1.0, 175)])
def test_asking_is_gentle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asking_s: float, most: int) -> None:
    """An hour: at first every 0.05 s, so that short jobs are hardly waited for, later every 10 s; where a round of
    asking takes long, it takes a twentieth of the time."""
    clock = Clock(monkeypatch)
    idle = Idle(Patience(), Others(tmp_path), lambda: None, lambda event: None)
    rounds = list[float]()
    while clock.now < 1000 + 3600:
        clock.now += asking_s
        idle.pause(Job(SPEC, (1,), ("a",)))
        rounds.append(clock.now - 1000)
    assert 0.9 * most < len(rounds) <= most
    if not asking_s:
        assert rounds[0] == pytest.approx(0.05)
        for before, after in itertools.pairwise(rounds):
            assert after - before <= max(0.06, 0.06 * after), "what is lost when a lock comes free"


def wait_for_ever(idle: Idle) -> None:
    while True:
        idle.pause(Job(SPEC, (1,), ("a",)))


def test_a_wish_to_stop_is_heard_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, checks = Clock(monkeypatch), list[float]()

    def check_stop() -> None:
        checks.append(clock.now)
        if clock.now > 1500:
            raise InterruptedRunError("stop")

    idle = Idle(Patience(), Others(tmp_path), check_stop, lambda event: None)
    with pytest.raises(InterruptedRunError):
        wait_for_ever(idle)
    assert max(clock.sleeps) <= SLICE_S <= 0.1
    assert clock.now < 1500 + 2 * SLICE_S
    assert max(after - before for before, after in itertools.pairwise(checks)) <= SLICE_S + 1e-9


def test_one_that_meets_others_goes_elsewhere_in_the_list(store: Store, events: list[Any]) -> None:
    """Fifty processes that have the first fifty jobs: the next one does not try them all in turn."""
    seeds, tried = tuple(range(100)), list[int]()
    plain = store.others.lock

    def lock(job: Job, emit: Any) -> MachineLock | None:
        tried.append(job.seeds[0])
        return None if job.seeds[0] < 50 and len(tried) < 75 else plain(job, emit)

    store.others.lock = lock  # type: ignore[method-assign]
    build = Build()
    store.make_all([Request(SPEC, seeds, ("a",))], build, events.append)
    assert sorted(build.seeds) == list(seeds)
    assert tried.index(build.seeds[0]) < 40, "one chance in 2 ** 40 or so"


def test_another_version_s_artefacts_are_used_and_that_is_told_once(
    store: Store, events: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = environment()["collapse-sim"]
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "environment", lambda: {"collapse-sim": "0.0.1"})
        store.make_all(WANTED, Build(), events.append)
        store.make_all(WANTED, Build(), events.append)
    assert not [event for event in events if isinstance(event, Note)], "what this process has made is its own"
    again = Store(store.root)
    assert again.make_all(WANTED, Build(), events.append) == {"reused": 3}
    (note,) = (event for event in events if isinstance(event, Note))
    assert note.level == "warning"
    assert f"artefacts that collapse-sim 0.0.1 has made, and this is {own}: they are used" in note.message


def test_patience_does_not_end_while_something_that_was_begun_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores in another process of this run, for example. Others are asked as seldom as without it."""
    clock = Clock(monkeypatch)
    patience = Patience(forever=False, working=lambda: clock.now < 1500)
    idle = Idle(patience, Others(tmp_path), lambda: None, lambda event: None)
    with pytest.raises(UnderWayElsewhereError):
        wait_for_ever(idle)
    assert 1500 + GRACE_S - 2 * waiting.LONGEST_S <= clock.now <= 1500 + GRACE_S + waiting.LONGEST_S
