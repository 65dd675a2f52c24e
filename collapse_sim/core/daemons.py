"""Threads that do not keep a process from ending, for work that may hang: transfers over a network."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Daemons:
    """At most `most` threads, begun when they are needed, which take tasks in turn."""

    def __init__(self, most: int, name: str) -> None:
        self._most, self._name = most, name
        self._tasks: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._threads = 0

    def submit(self, task: Callable[[], T]) -> Future[T]:
        """The result of a task, once it is there. A future that is cancelled before its turn is not begun."""
        future: Future[T] = Future()
        self._tasks.put((future, task))
        if self._threads < self._most:
            self._threads += 1
            threading.Thread(target=self._work, name=f"{self._name}-{self._threads}", daemon=True).start()
        return future

    def close(self) -> None:
        """Let the threads end after the tasks that they were given; a later task begins new ones."""
        for _ in range(self._threads):
            self._tasks.put(None)
        self._threads = 0

    def _work(self) -> None:
        while (item := self._tasks.get()) is not None:
            future, task = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(task())
            except BaseException as error:
                future.set_exception(error)
