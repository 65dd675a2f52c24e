"""A file system in memory that fails, hangs and counts as a test wants it to: fragile://, known to fsspec."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

URL = "fragile://bucket/prefix"
Before = Callable[[str, str], None]  # (operation, path): called before each operation


class Fragile(MemoryFileSystem):
    protocol = "fragile"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    calls: ClassVar[list[tuple[str, str]]] = []
    before: ClassVar[Before] = staticmethod(lambda operation, path: None)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + str(path).removeprefix("fragile://").strip("/")

    @classmethod
    def fail(cls, *operations: str, error: Exception | None = None) -> None:
        """From now on, these operations fail."""

        def before(operation: str, path: str) -> None:
            if operation in operations:
                raise error or ConnectionError("unreachable")

        cls.before = staticmethod(before)

    @classmethod
    def work(cls) -> None:
        """From now on, nothing fails."""
        cls.before = staticmethod(lambda operation, path: None)

    def _note(self, operation: str, path: str) -> None:
        type(self).calls.append((operation, path))
        type(self).before(operation, path)

    def ls(self, path, detail=True, **kwargs):
        self._note("ls", path)
        return super().ls(path, detail=detail, **kwargs)

    def cat_file(self, path, start=None, end=None, **kwargs):
        self._note("read", path)
        return super().cat_file(path, start=start, end=end, **kwargs)

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        self._note("write", path)
        return super().pipe_file(path, value, mode=mode, **kwargs)

    def put_file(self, lpath, rpath, **kwargs):
        self._note("write", rpath)
        return super().put_file(lpath, rpath, **kwargs)

    def rm_file(self, path):
        self._note("remove", path)
        return super().rm_file(path)


fsspec.register_implementation("fragile", Fragile, clobber=True)


@contextmanager
def fragile() -> Iterator[type[Fragile]]:
    """An empty one; nothing of it is left afterwards."""
    Fragile.store.clear()
    Fragile.pseudo_dirs[:] = [""]
    Fragile.calls.clear()
    Fragile.work()
    try:
        yield Fragile
    finally:
        Fragile.work()
        Fragile.store.clear()


@contextmanager
def hanging(meanwhile: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Every operation hangs, after it has called `meanwhile`; at the end of the block it fails, so that nothing is
    written later."""
    over = threading.Event()

    def before(operation: str, path: str) -> None:
        meanwhile()
        over.wait(60)
        raise PermissionError("too late")

    Fragile.before = staticmethod(before)
    try:
        yield
    finally:
        over.set()
        Fragile.work()


def contents() -> dict[str, bytes]:
    """{path: content} of what is in it."""
    return {path: file.getvalue() for path, file in Fragile.store.items()}


def overwrite(path: str, content: bytes) -> None:
    Fragile().open(path, "wb", data=content)
