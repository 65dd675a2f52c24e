"""Tokenises texts once: the ids of all texts are concatenated in a file of the cache, which is memory-mapped.

The files are in tokens/DIGEST below the cache folder (file_cache.py): ids and offsets for each column, hashes of the
texts, and the hashes of these files, which are verified once per process before use.
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
from collapse_sim.core.files import explain_write_errors, file_hash, sync
from collapse_sim.core.hashing import digest_of
from collapse_sim.core.readable import file_problem
from collapse_sim.data.file_cache import cache_folder, seal, unsealed
from collapse_sim.data.text.long_texts import encode
from collapse_sim.data.text.text_source import Digest, TextSource, TextSummary
from collapse_sim.data.text.tokens import Tokenizer

FORMAT = 2  # raised when the same texts give different files
BATCH_CHARACTERS = 1 << 20  # characters tokenised at a time
BATCH_TEXTS = 1000  # largest number of texts per batch
SEAL = "files.json"  # the hashes of the other files
HASHES = "texts.hashes"
HASH_BYTES = 8  # bytes of a text's hash
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)  # errors of file systems without locks

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Tokens:
    """The ids of a column's texts, without begin and end tokens."""

    ids: np.ndarray  # (all tokens,), the tokenizer's dtype, memory-mapped
    offsets: np.ndarray  # (texts + 1,) int64, memory-mapped: text i is ids[offsets[i] : offsets[i + 1]]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def lengths(self, texts: np.ndarray) -> np.ndarray:
        """(n,) indices of texts -> (n,) int64, number of tokens of each."""
        return np.asarray(self.offsets[texts + 1] - self.offsets[texts])

    def text(self, number: int) -> np.ndarray:
        """The ids of one text."""
        return self.ids[self.offsets[number] : self.offsets[number + 1]]


@dataclass(frozen=True, eq=False)
class Tokenised:
    """A source's texts as tokens."""

    columns: tuple[Tokens, ...]  # for each field
    hashes: np.ndarray  # (texts,) uint64 over all fields of a text: equal for equal texts; 0 if all fields are empty


def tokens_of(source: TextSource, summary: TextSummary, tokenizer: Tokenizer, prefixes: Sequence[str]) -> Tokenised:
    """The tokens of each field of a source, with the field's prefix before each text; created if not cached.

    `summary` is the result of `survey`. Raises MissingError when the files have changed since.
    """
    digest = digest_of([FORMAT, summary.sha256, tokenizer.sha256, list(prefixes)])
    for folder in _folders_of_process.get(digest), _cache_path(digest):
        tokens = _open(folder, summary.texts, tokenizer, len(prefixes)) if folder else None
        if tokens is not None:
            return tokens
    folder = _create(digest, source, summary, tokenizer, prefixes)
    tokens = _open(folder, summary.texts, tokenizer, len(prefixes))
    assert tokens is not None
    return tokens


_folders_of_process: dict[str, Path] = {}  # digest -> folder where this process has written the files
_verified: set[tuple[str, int, int, int, int]] = set()  # files whose hashes this process has verified, or written


def _cache_path(digest: str) -> Path | None:
    try:
        return cache_folder() / "tokens" / digest
    except RuntimeError:
        return None


def _open(folder: Path, texts: int, tokenizer: Tokenizer, column_count: int) -> Tokenised | None:
    """The tokens in a folder; None when there is no folder, or when it is damaged, which is logged."""
    if not folder.is_dir():
        return None
    files = unsealed(folder / SEAL)
    wrong = _damage(folder, files, column_count) if files else "no hashes"
    if wrong:
        logger.info("%s: damaged (%s), so the texts are tokenised again", folder, wrong)
        return None
    columns = tuple(
        Tokens(_mapped(folder / f"{column}.ids", tokenizer.dtype), _mapped(folder / f"{column}.offsets", "int64"))
        for column in range(column_count)
    )
    hashes = _mapped(folder / HASHES, "uint64")
    assert {len(hashes), *map(len, columns)} == {texts}
    return Tokenised(columns, hashes)


def _names(columns: int) -> list[str]:
    return [HASHES, *(f"{column}.{kind}" for column in range(columns) for kind in ("ids", "offsets"))]


def _damage(folder: Path, files: Mapping[str, Any], columns: int) -> str:
    """What is wrong with the files of a folder; "" when they are those that were written. Each file is read once per
    process, at 1 GB per second."""
    if sorted(files) != sorted(_names(columns)):
        return "other files"
    for name, sha256 in files.items():
        path = folder / name
        if wrong := file_problem(path):
            return f"{name}: {wrong}"
        try:
            stamp = _stamp(path)
            if stamp not in _verified:
                if file_hash(path) != sha256:
                    return f"{name}: its hash differs"
                _verified.add(stamp)
        except OSError as error:
            return f"{name}: {error.strerror}"
    return ""


def _stamp(path: Path) -> tuple[str, int, int, int, int]:
    status = path.stat()
    return str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _mapped(path: Path, dtype: str) -> np.ndarray:
    if path.stat().st_size == 0:
        return np.empty(0, dtype)  # an empty file cannot be mapped
    return np.memmap(path, dtype, "r")


def _create(
    digest: str, source: TextSource, summary: TextSummary, tokenizer: Tokenizer, prefixes: Sequence[str]
) -> Path:
    """Create the files in the cache, or if it is not writable, in a folder that is removed when the process ends."""
    target = _cache_path(digest)
    lock = _acquire_lock(target, source) if target else None
    if target is None or lock is None:
        target = _temporary() / digest
        with explain_write_errors(target):
            _build(target, source, summary, tokenizer, prefixes)
    else:
        with lock, explain_write_errors(target, "COLLAPSE_SIM_CACHE"):
            if _open(target, summary.texts, tokenizer, len(prefixes)) is None:  # another process may have created it
                if not isinstance(lock, contextlib.nullcontext):
                    for leftover in target.parent.glob(f"{target.name}.*.tmp"):  # of a killed process
                        shutil.rmtree(leftover, ignore_errors=True)
                _build(target, source, summary, tokenizer, prefixes)
    _folders_of_process[digest] = target
    return target


def _acquire_lock(target: Path, source: TextSource) -> AbstractContextManager[object] | None:
    """A lock that only one process at a time holds for these texts; None if the folder is not writable.

    On file systems without locks several processes may tokenise the same texts; the first to finish is used.
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


def _build(
    target: Path, source: TextSource, summary: TextSummary, tokenizer: Tokenizer, prefixes: Sequence[str]
) -> None:
    """Write next to the target, then move into place."""
    scratch = target.with_suffix(f".{uuid.uuid4().hex[:8]}.tmp")
    scratch.mkdir()
    try:
        _write(scratch, source, summary, tokenizer, prefixes)
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target, ignore_errors=True)  # it is damaged, otherwise it would have been used
        else:
            target.unlink(missing_ok=True)
        try:
            scratch.replace(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if _open(target, summary.texts, tokenizer, len(prefixes)) is None:  # else another process has created it
                raise StoreError(
                    f"{target}: damaged, and cannot be removed: remove it, or choose another folder with "
                    "COLLAPSE_SIM_CACHE"
                ) from None
            return
        _verified.update(_stamp(target / name) for name in _names(len(prefixes)))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write(
    folder: Path, source: TextSource, summary: TextSummary, tokenizer: Tokenizer, prefixes: Sequence[str]
) -> None:
    digest = Digest()
    with ExitStack() as stack:
        columns = [_Column(stack, folder, number, tokenizer, prefix) for number, prefix in enumerate(prefixes)]
        hashes = _HashedFile(stack, folder / HASHES)
        for batch in _batches(source.records("tokenising")):
            for texts in batch:
                digest.add(texts)
            hashes.write(b"".join(map(_hash, batch)))
            for column, texts in zip(columns, zip(*batch, strict=True), strict=True):
                column.write(texts)
    if digest.hexdigest() != summary.sha256:
        paths = ", ".join(str(file.path) for file in source.files)
        raise MissingError(f"{paths}: changed while being read: run the command again")
    files = [hashes, *(file for column in columns for file in column.files)]
    for file in files:
        sync(file.path)
    seal(folder / SEAL, {file.path.name: file.sha256.hexdigest() for file in files})


def _hash(texts: Sequence[str]) -> bytes:
    """The hash of one record; zeros if it is empty."""
    if not any(text.strip() for text in texts):
        return bytes(HASH_BYTES)
    digest = hashlib.blake2b(digest_size=HASH_BYTES)
    for text in texts:
        content = text.encode()
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.digest()


class _HashedFile:
    """A file that is written, with the hash of what was written."""

    def __init__(self, stack: ExitStack, path: Path) -> None:
        self.path, self.sha256 = path, hashlib.sha256()
        self._file: BinaryIO = stack.enter_context(path.open("wb"))

    def write(self, content: bytes) -> None:
        self._file.write(content)
        self.sha256.update(content)


class _Column:
    """Writes a column's ids and offsets, batch by batch."""

    def __init__(self, stack: ExitStack, folder: Path, number: int, tokenizer: Tokenizer, prefix: str) -> None:
        self._tokenizer, self._prefix, self._tokens_written = tokenizer, prefix, 0
        self.files = [_HashedFile(stack, folder / f"{number}.{kind}") for kind in ("ids", "offsets")]
        self.files[1].write(np.zeros(1, np.int64).tobytes())

    def write(self, texts: Sequence[str]) -> None:
        ids = encode([self._prefix + text for text in texts], self._tokenizer)
        ends = self._tokens_written + np.cumsum([len(text) for text in ids], dtype=np.int64)
        self.files[0].write(np.concatenate(ids).astype(self._tokenizer.dtype).tobytes())
        self.files[1].write(ends.tobytes())
        self._tokens_written = int(ends[-1])


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
