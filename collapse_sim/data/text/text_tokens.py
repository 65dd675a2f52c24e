"""Texts are tokenised once: the ids of all texts lie end to end in a file of the cache, which is memory-mapped.

They lie in tokens/DIGEST below the cache folder (remember.py): a file of ids and a file of offsets for every column, a
file of hashes of the texts, and the hashes of these files, which are compared once a process before they are used.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import functools
import hashlib
import logging
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock, Timeout

from collapse_sim.core.errors import MissingError, StoreError
from collapse_sim.core.files import explained, file_hash, sync
from collapse_sim.core.hashing import digest_of
from collapse_sim.core.readable import fault
from collapse_sim.data.remember import cache_folder, seal, unsealed
from collapse_sim.data.text.long_texts import encode
from collapse_sim.data.text.text_source import Digest, TextSource, TextSummary
from collapse_sim.data.text.tokens import Tokenizer

FORMAT = 2  # raised when the same texts begin to give other files
BATCH_CHARACTERS = 1 << 20  # tokenised at a time
BATCH_TEXTS = 1000  # at most
SEAL = "files.json"  # the sizes and hashes of the others
HASHES = "texts.hashes"
HASH_BYTES = 8  # of a text
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)  # of a disk that has none

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


@dataclass(frozen=True, eq=False)
class Tokenised:
    """A source's texts as tokens."""

    columns: tuple[Tokens, ...]  # of every field
    hashes: np.ndarray  # (texts,) uint64: equal for equal texts, of all fields together; 0 where all are empty


def tokens_of(source: TextSource, found: TextSummary, tokenizer: Tokenizer, prefixes: Sequence[str]) -> Tokenised:
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
_verified: set[tuple[str, int, int, int, int]] = set()  # files whose hashes this process has compared, or made


def _cached(digest: str) -> Path | None:
    try:
        return cache_folder() / "tokens" / digest
    except RuntimeError:
        return None


def _opened(folder: Path, texts: int, tokenizer: Tokenizer, columns: int) -> Tokenised | None:
    """None when there are no files, or they are not what was written, which is said."""
    if not folder.is_dir():
        return None
    files = unsealed(folder / SEAL)
    wrong = _damage(folder, files, columns) if files else "no hashes"
    if wrong:
        logger.info("%s: damaged (%s), so the texts are tokenised again", folder, wrong)
        return None
    found = tuple(
        Tokens(_mapped(folder / f"{column}.ids", tokenizer.dtype), _mapped(folder / f"{column}.offsets", "int64"))
        for column in range(columns)
    )
    hashes = _mapped(folder / HASHES, "uint64")
    assert {len(hashes), *map(len, found)} == {texts}
    return Tokenised(found, hashes)


def _names(columns: int) -> list[str]:
    return [HASHES, *(f"{column}.{kind}" for column in range(columns) for kind in ("ids", "offsets"))]


def _damage(folder: Path, files: Mapping[str, Any], columns: int) -> str:
    """What is wrong with the files of a folder; "" when they are those that were written. Each is read once a process:
    a GB a second."""
    if sorted(files) != sorted(_names(columns)):
        return "other files"
    for name, sha256 in files.items():
        path = folder / name
        if wrong := fault(path):
            return f"{name}: {wrong}"
        try:
            stamp = _stamp(path)
            if stamp not in _verified:
                if file_hash(path) != sha256:
                    return f"{name}: its hash is another one"
                _verified.add(stamp)
        except OSError as error:
            return f"{name}: {error.strerror}"
    return ""


def _stamp(path: Path) -> tuple[str, int, int, int, int]:
    found = path.stat()
    return str(path), found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _mapped(path: Path, dtype: str) -> np.ndarray:
    if path.stat().st_size == 0:
        return np.empty(0, dtype)  # which cannot be mapped
    return np.memmap(path, dtype, "r")


def _make(digest: str, source: TextSource, found: TextSummary, tokenizer: Tokenizer, prefixes: Sequence[str]) -> Path:
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
                if not isinstance(lock, contextlib.nullcontext):
                    for left in target.parent.glob(f"{target.name}.*.tmp"):  # of a process that was killed
                        shutil.rmtree(left, ignore_errors=True)
                _build(target, source, found, tokenizer, prefixes)
    _made_here[digest] = target
    return target


def _locked(target: Path, source: TextSource) -> AbstractContextManager[object] | None:
    """What only one process at a time gets for these texts; None where nothing can be written.

    Without locks several may tokenise the same texts, and the first to end is taken.
    """
    lock = FileLock(target.with_suffix(".lock"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return lock.acquire(timeout=0)
    except Timeout:
        logger.info("%s: waiting for another process that tokenises the same texts", source.kind)
        return lock.acquire()
    except OSError as error:
        if error.errno in NO_LOCKS:
            return contextlib.nullcontext()
        logger.info("%s: cannot write: %s; tokens are kept until this process ends", target.parent, error.strerror)
        return None


@functools.cache
def _temporary() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="collapse-sim-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _build(target: Path, source: TextSource, found: TextSummary, tokenizer: Tokenizer, prefixes: Sequence[str]) -> None:
    """Write beside the target, then move into place."""
    scratch = target.with_suffix(f".{uuid.uuid4().hex[:8]}.tmp")
    scratch.mkdir()
    try:
        _write(scratch, source, found, tokenizer, prefixes)
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target, ignore_errors=True)  # damaged, or it would have been taken
        else:
            target.unlink(missing_ok=True)
        try:
            scratch.replace(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if _opened(target, found.texts, tokenizer, len(prefixes)) is None:  # else another process made it meanwhile
                raise StoreError(
                    f"{target}: damaged, and cannot be removed: remove it, or choose another place with "
                    "COLLAPSE_SIM_CACHE"
                ) from None
            return
        _verified.update(_stamp(target / name) for name in _names(len(prefixes)))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write(folder: Path, source: TextSource, found: TextSummary, tokenizer: Tokenizer, prefixes: Sequence[str]) -> None:
    digest = Digest()
    with ExitStack() as stack:
        columns = [_Column(stack, folder, number, tokenizer, prefix) for number, prefix in enumerate(prefixes)]
        hashes = _Written(stack, folder / HASHES)
        for batch in _batches(source.records("tokenising")):
            for texts in batch:
                digest.add(texts)
            hashes.write(b"".join(map(_hash, batch)))
            for column, texts in zip(columns, zip(*batch, strict=True), strict=True):
                column.write(texts)
    if digest.hexdigest() != found.sha256:
        paths = ", ".join(str(file.path) for file in source.files)
        raise MissingError(f"{paths}: changed while it was read: run the command again")
    written = [hashes, *(file for column in columns for file in column.files)]
    for file in written:
        sync(file.path)
    seal(folder / SEAL, {file.path.name: file.sha256.hexdigest() for file in written})


def _hash(texts: Sequence[str]) -> bytes:
    """Of one record; zeros for one that is empty."""
    if not any(text.strip() for text in texts):
        return bytes(HASH_BYTES)
    made = hashlib.blake2b(digest_size=HASH_BYTES)
    for text in texts:
        content = text.encode()
        made.update(len(content).to_bytes(8, "little") + content)
    return made.digest()


class _Written:
    """A file, and the hash of what was written."""

    def __init__(self, stack: ExitStack, path: Path) -> None:
        self.path, self.sha256 = path, hashlib.sha256()
        self._file: BinaryIO = stack.enter_context(path.open("wb"))

    def write(self, content: bytes) -> None:
        self._file.write(content)
        self.sha256.update(content)


class _Column:
    """Writes a column's ids and offsets as they come."""

    def __init__(self, stack: ExitStack, folder: Path, number: int, tokenizer: Tokenizer, prefix: str) -> None:
        self._tokenizer, self._prefix, self._written = tokenizer, prefix, 0
        self.files = [_Written(stack, folder / f"{number}.{kind}") for kind in ("ids", "offsets")]
        self.files[1].write(np.zeros(1, np.int64).tobytes())

    def write(self, texts: Sequence[str]) -> None:
        ids = encode([self._prefix + text for text in texts], self._tokenizer)
        ends = self._written + np.cumsum([len(text) for text in ids], dtype=np.int64)
        self.files[0].write(np.concatenate(ids).astype(self._tokenizer.dtype).tobytes())
        self.files[1].write(ends.tobytes())
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
