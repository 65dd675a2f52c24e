"""Texts are tokenised once: the ids of all texts lie end to end in a file of the cache, which is memory-mapped.

They lie in tokens/DIGEST below the cache folder (remember.py), a file of ids and a file of offsets for every column.
"""

from __future__ import annotations

import atexit
import functools
import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from filelock import BaseFileLock, FileLock, Timeout

from collapse_sim.data.long_texts import encode
from collapse_sim.data.remember import cache_folder
from collapse_sim.data.text_source import Digest, Source, Survey
from collapse_sim.data.tokens import Tokenizer
from collapse_sim.errors import MissingError
from collapse_sim.store.files import digest_of, explained, sync

FORMAT = 1  # raised when the same texts begin to give other files
BATCH_CHARACTERS = 1 << 20  # tokenised at a time
BATCH_TEXTS = 1000  # at most

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Tokens:
    """The ids of a column's texts, without begin and end."""

    ids: np.ndarray  # (all tokens,), the tokenizer's dtype, memory-mapped
    offsets: np.ndarray  # (texts + 1,) int64, memory-mapped: text i is ids[offsets[i] : offsets[i + 1]]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def lengths(self, texts: np.ndarray) -> np.ndarray:
        """(n,) numbers of texts -> (n,) int64, tokens of each."""
        return np.asarray(self.offsets[texts + 1] - self.offsets[texts])

    def text(self, number: int) -> np.ndarray:
        """The ids of one text."""
        return self.ids[self.offsets[number] : self.offsets[number + 1]]


def tokens_of(source: Source, found: Survey, tokenizer: Tokenizer, prefixes: Sequence[str]) -> tuple[Tokens, ...]:
    """The tokens of every field of a source, each text behind its field's prefix; made when there are none yet.

    `found` is what `survey` says of the source. Raises MissingError when its files have changed since.
    """
    digest = digest_of([FORMAT, found.sha256, tokenizer.sha256, list(prefixes)])
    for place in _made_here.get(digest), _cached(digest):
        known = _opened(place, found.texts, tokenizer, len(prefixes)) if place else None
        if known is not None:
            return known
    place = _make(digest, source, found, tokenizer, prefixes)
    made = _opened(place, found.texts, tokenizer, len(prefixes))
    assert made is not None
    return made


_made_here: dict[str, Path] = {}  # digest -> where this process has put the files


def _cached(digest: str) -> Path | None:
    try:
        return cache_folder() / "tokens" / digest
    except RuntimeError:
        return None


def _opened(folder: Path, texts: int, tokenizer: Tokenizer, columns: int) -> tuple[Tokens, ...] | None:
    """None when there are no files, or they are not whole."""
    found = []
    for column in range(columns):
        try:
            offsets = _mapped(folder / f"{column}.offsets", "int64")
            ids = _mapped(folder / f"{column}.ids", tokenizer.dtype)
        except (OSError, ValueError):
            return None
        if len(offsets) != texts + 1 or offsets[0] != 0 or offsets[-1] != len(ids):
            return None
        found.append(Tokens(ids, offsets))
    return tuple(found)


def _mapped(path: Path, dtype: str) -> np.ndarray:
    if path.stat().st_size == 0:
        return np.empty(0, dtype)  # which cannot be mapped
    return np.memmap(path, dtype, "r")


def _make(digest: str, source: Source, found: Survey, tokenizer: Tokenizer, prefixes: Sequence[str]) -> Path:
    """In the cache, or in a folder that is removed when the process ends, if nothing can be written there."""
    target = _cached(digest)
    lock = _locked(target, source) if target else None
    if target is None or lock is None:
        target = _temporary() / digest
        with explained(target):
            _build(target, source, found, tokenizer, prefixes)
    else:
        with lock, explained(target, "COLLAPSE_SIM_CACHE"):
            if _opened(target, found.texts, tokenizer, len(prefixes)) is None:  # another process may have made it
                _build(target, source, found, tokenizer, prefixes)
    _made_here[digest] = target
    return target


def _locked(target: Path, source: Source) -> BaseFileLock | None:
    """What only one process at a time gets for these texts; None where nothing can be written."""
    lock = FileLock(target.with_suffix(".lock"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("%s: waiting for another process that tokenises the same texts", source.kind)
        lock.acquire()
    except OSError as error:
        logger.info("%s: cannot write: %s; tokens are kept until this process ends", target.parent, error.strerror)
        return None
    return lock


@functools.cache
def _temporary() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="collapse-sim-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _build(target: Path, source: Source, found: Survey, tokenizer: Tokenizer, prefixes: Sequence[str]) -> None:
    """Write beside the target, then move into place. What a killed process has left there is removed."""
    scratch = target.with_suffix(".tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        _write(scratch, source, found, tokenizer, prefixes)
        shutil.rmtree(target, ignore_errors=True)  # damaged, or it would have been taken
        scratch.replace(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write(folder: Path, source: Source, found: Survey, tokenizer: Tokenizer, prefixes: Sequence[str]) -> None:
    digest = Digest()
    with ExitStack() as stack:
        columns = [_Column(stack, folder, number, tokenizer, prefix) for number, prefix in enumerate(prefixes)]
        for batch in _batches(source.records("tokenising")):
            for texts in batch:
                digest.add(texts)
            for column, texts in zip(columns, zip(*batch, strict=True), strict=True):
                column.write(texts)
    if digest.hexdigest() != found.sha256:
        paths = ", ".join(str(file.path) for file in source.files)
        raise MissingError(f"{paths}: changed while it was read: run the command again")
    for path in folder.iterdir():
        sync(path)


class _Column:
    """Writes a column's ids and offsets as they come."""

    def __init__(self, stack: ExitStack, folder: Path, number: int, tokenizer: Tokenizer, prefix: str) -> None:
        self._tokenizer, self._prefix, self._written = tokenizer, prefix, 0
        self._ids: BinaryIO = stack.enter_context((folder / f"{number}.ids").open("wb"))
        self._offsets: BinaryIO = stack.enter_context((folder / f"{number}.offsets").open("wb"))
        self._offsets.write(np.zeros(1, np.int64).tobytes())

    def write(self, texts: Sequence[str]) -> None:
        ids = encode([self._prefix + text for text in texts], self._tokenizer)
        ends = self._written + np.cumsum([len(text) for text in ids], dtype=np.int64)
        self._ids.write(np.concatenate(ids).astype(self._tokenizer.dtype).tobytes())
        self._offsets.write(ends.tobytes())
        self._written = int(ends[-1])


def _batches(records: Iterator[tuple[str, ...]]) -> Iterator[list[tuple[str, ...]]]:
    batch: list[tuple[str, ...]] = []
    characters = 0
    for texts in records:
        batch.append(texts)
        characters += sum(map(len, texts))
        if characters >= BATCH_CHARACTERS or len(batch) >= BATCH_TEXTS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
