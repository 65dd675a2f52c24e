"""Threads that a process does not wait for."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from collapse_sim.core.daemons import Daemons


def test_results_and_errors_are_those_of_the_tasks():
    pool = Daemons(2, "test")
    futures = [pool.submit(lambda number=number: 12 // number) for number in (0, 3)]
    with pytest.raises(ZeroDivisionError):
        futures[0].result(10)
    assert futures[1].result(10) == 4


def test_no_more_tasks_than_threads_run_at_once():
    pool, running, most, guard = Daemons(3, "test"), 0, 0, threading.Lock()

    def task() -> None:
        nonlocal running, most
        with guard:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with guard:
            running -= 1

    for future in [pool.submit(task) for _ in range(12)]:
        future.result(10)
    assert most == 3


def test_what_is_cancelled_in_time_is_not_begun():
    pool, go, begun = Daemons(1, "test"), threading.Event(), []
    first = pool.submit(go.wait)
    second = pool.submit(lambda: begun.append("second"))
    assert second.cancel()
    go.set()
    assert first.result(10)
    pool.submit(lambda: None).result(10)  # the thread is past the second
    assert begun == []


def test_threads_end_when_nothing_is_left_and_begin_again():
    pool, done = Daemons(2, "closing"), []
    futures = [pool.submit(lambda number=number: done.append(number)) for number in range(5)]
    pool.close()
    for future in futures:
        future.result(10)
    for thread in [thread for thread in threading.enumerate() if thread.name.startswith("closing")]:
        thread.join(10)
        assert not thread.is_alive()
    assert sorted(done) == [0, 1, 2, 3, 4]
    assert pool.submit(lambda: "more").result(10) == "more"


def test_a_process_ends_while_a_task_hangs():
    code = "import threading, collapse_sim.core.daemons as d; d.Daemons(1, 'x').submit(threading.Event().wait)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
