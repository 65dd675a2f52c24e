"""Texts are read and tokenised once; nothing depends on what is kept, and processes do not disturb each other."""

from __future__ import annotations

import errno
import os
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from collapse_sim.core.errors import MissingError, StoreError
from collapse_sim.data.text import text_tokens
from collapse_sim.data.text.pairs import Pairs
from collapse_sim.data.text.text_files import TextFiles
from collapse_sim.data.text.text_source import TextSource
from tests.data.making import rows_of

from .making_texts import random_texts, words_folder, write_records, write_txt

DATA = TextFiles(train="t.txt", validation="v.txt", tokenizer="words", length=5)
LEARNED = TextFiles(train="t.txt", tokenizer={"bpe": 260}, length=5)
PAIRS = Pairs(train="p.jsonl", held_out=2, tokenizer="words", source_length=5, target_length=5)


@pytest.fixture
def folder(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files, and an empty cache."""
    monkeypatch.setattr(text_tokens, "_folders_of_process", {})
    words_folder(tmp_path)
    write_txt(tmp_path / "t.txt", random_texts(30))
    write_txt(tmp_path / "v.txt", random_texts(20, seed=1))
    write_records(tmp_path / "p.jsonl", source=random_texts(9), target=random_texts(9, seed=2))
    return tmp_path


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by one whenever a file is read from the beginning."""
    made: list[str] = []
    records = TextSource.records

    def reading(self: TextSource, doing: str) -> Any:
        made.append(doing)
        return records(self, doing)

    monkeypatch.setattr(TextSource, "records", reading)
    return made


def all_rows(data: Any, folder: Path) -> list[list[list[int]]]:
    return [column.tolist() for part in rows_of(data, folder) for column in part.values()]


@pytest.mark.parametrize(
    ("data", "first"),
    [
        (DATA, ["checking"] * 2 + ["tokenising"] * 2),
        (LEARNED, ["checking", "learning a vocabulary from", "tokenising"]),
        (PAIRS, ["checking", "tokenising"]),
    ],
)
def test_a_second_start_reads_no_text(data: Any, first: list[str], folder: Path, passes: list[str]) -> None:
    info, rows = data.inspect(folder), all_rows(data, folder)
    assert passes == first
    text_tokens._folders_of_process.clear()  # as in another process
    again = data.inspect(folder)
    assert (again.fingerprint, again.columns, again.pool) == (info.fingerprint, info.columns, info.pool)
    assert all_rows(data, folder) == rows
    assert passes == first


def test_other_lengths_need_no_tokenising(folder: Path, passes: list[str]) -> None:
    DATA.inspect(folder)
    for settings in ({"length": 9}, {"pack": False}, {"rows": 3}, {"train": str(folder / "t.txt")}):
        DATA.model_copy(update=settings).inspect(folder)
    assert "tokenising" not in passes[4:]


def test_a_change_is_seen(folder: Path, passes: list[str]) -> None:
    before = all_rows(DATA, folder)
    path = folder / "t.txt"
    found = path.stat()
    path.write_text(path.read_text().replace("a", "b"))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert all_rows(DATA, folder) != before
    assert passes.count("tokenising") == 3


def _truncated(place: Path) -> None:
    (file,) = place.glob("0.ids")
    file.write_bytes(file.read_bytes()[:-2])


@pytest.mark.parametrize(
    "damage",
    [
        _truncated,
        lambda place: (place / "0.offsets").unlink(),
        lambda place: (place / "0.offsets").write_bytes(b"123"),
        lambda place: shutil.rmtree(place),
        lambda place: place.rename(place.with_suffix(".0123abcd.tmp")),  # as a killed process leaves it
        lambda place: (place / "files.json").unlink(),
        lambda place: (shutil.rmtree(place), place.write_text("a file")),  # type: ignore[func-returns-value]
        lambda place: ((place / "0.ids").unlink(), os.mkfifo(place / "0.ids")),  # type: ignore[func-returns-value]
        lambda place: ((place / "files.json").unlink(), os.mkfifo(place / "files.json")),  # type: ignore[func-returns-value]
        lambda place: ((place / "0.ids").unlink(), (place / "0.ids").symlink_to("0.ids")),
    ],
)
def test_damaged_tokens_are_made_anew(damage: Callable[[Path], object], folder: Path, passes: list[str]) -> None:
    before = all_rows(DATA, folder)
    for place in [path for path in (folder / "cache" / "tokens").iterdir() if path.is_dir()]:
        damage(place)
    assert all_rows(DATA, folder) == before
    assert passes.count("tokenising") == 4
    assert {path.suffix for path in (folder / "cache" / "tokens").iterdir()} == {"", ".lock"}


@pytest.mark.parametrize("data", [LEARNED, PAIRS])
def test_no_flipped_bit_gives_other_rows(data: Any, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In any file of the cache: what is damaged is named and made again."""
    caplog.set_level("INFO", logger="collapse_sim")
    info, expected = data.inspect(folder), all_rows(data, folder)
    draws = random.Random(0)
    kept = [path for path in (folder / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert len(kept) >= 6
    for path in kept:
        for _ in range(6):
            whole = path.read_bytes()
            place = draws.randrange(len(whole))
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << draws.randrange(8)]) + whole[place + 1 :])
            text_tokens._folders_of_process.clear()  # as in another process
            text_tokens._verified.clear()
            caplog.clear()
            assert data.inspect(folder).fingerprint == info.fingerprint
            assert all_rows(data, folder) == expected
            assert any("damaged (" in said and str(path.parent) in said for said in caplog.messages), (
                f"{path.name} at {place}"
            )
            assert path.read_bytes() == whole


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_disk_without_locks(number: int, folder: Path, passes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    expected = all_rows(DATA, folder)
    shutil.rmtree(folder / "cache")
    text_tokens._folders_of_process.clear()
    passes.clear()
    monkeypatch.setattr("collapse_sim.data.text.text_tokens.FileLock.acquire", refused)
    for _ in range(2):
        assert all_rows(DATA, folder) == expected
        text_tokens._folders_of_process.clear()
    assert passes.count("tokenising") == 2  # they are kept


@pytest.mark.parametrize(
    "make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to(path)], ids=["pipe", "folder", "loop"]
)
def test_notes_that_are_no_files(make: Callable[[Path], object], folder: Path) -> None:
    expected = all_rows(LEARNED, folder)
    for path in [path for path in (folder / "cache").rglob("*.json") if path.name != "files.json"]:
        path.unlink()
        make(path)
    text_tokens._folders_of_process.clear()
    assert all_rows(LEARNED, folder) == expected


@pytest.mark.parametrize("data", [DATA, LEARNED, PAIRS])
def test_a_cache_that_cannot_be_written_to_is_no_error(
    data: Any,
    folder: Path,
    passes: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    expected = all_rows(data, folder)
    (folder / "a file").touch()
    monkeypatch.setenv("COLLAPSE_SIM_CACHE", str(folder / "a file"))
    text_tokens._folders_of_process.clear()
    passes.clear()
    place = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(text_tokens, "_temporary", lambda: place)
    for _ in range(2):
        assert all_rows(data, folder) == expected
    assert passes.count("tokenising") == len({path.name for path in place.iterdir()})  # once, for this process


def test_the_temporary_folder_ends_with_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[tuple[Callable[..., object], Path]] = []
    monkeypatch.setattr(
        "collapse_sim.data.text.text_tokens.atexit.register", lambda end, place, **_: ends.append((end, place))
    )
    place = text_tokens._temporary.__wrapped__()
    ((end, named),) = ends
    assert place.is_dir()
    assert named == place
    end(place)
    assert not place.exists()


def test_a_full_disk_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(text_tokens._Column, "write", full)
    with pytest.raises(StoreError, match="No space left on device"):
        DATA.inspect(folder)
    assert not [path for path in (folder / "cache" / "tokens").iterdir() if path.suffix != ".lock"]


def test_two_at_once_tokenise_once(folder: Path, passes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    write = text_tokens._write

    def slowly(*given: Any) -> None:
        time.sleep(0.1)
        write(*given)

    monkeypatch.setattr(text_tokens, "_write", slowly)
    made: list[list[list[list[int]]]] = []
    workers = [threading.Thread(target=lambda: made.append(all_rows(DATA, folder))) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert passes.count("tokenising") == 2
    assert made[0] == made[1] == made[2]


def test_texts_that_change_while_they_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept under a hash has that hash."""
    records = TextSource.records

    def changing(self: TextSource, doing: str) -> Iterator[tuple[str, ...]]:
        for texts in records(self, doing):
            yield tuple(text + " a" for text in texts) if doing == "tokenising" else texts

    monkeypatch.setattr(TextSource, "records", changing)
    with pytest.raises(MissingError, match=r"t\.txt: changed while being read: run the command again"):
        DATA.inspect(folder)
    assert not [path for path in (folder / "cache" / "tokens").iterdir() if path.suffix != ".lock"]


def test_batches_make_no_difference(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = all_rows(PAIRS, folder)
    monkeypatch.setenv("COLLAPSE_SIM_CACHE", str(folder / "another"))
    text_tokens._folders_of_process.clear()
    monkeypatch.setattr(text_tokens, "BATCH_TEXTS", 2)
    assert all_rows(PAIRS, folder) == expected


def test_tokens_are_mapped(folder: Path) -> None:
    real: Any = DATA.open(folder)[0]
    assert isinstance(real.stream.tokens.ids, np.memmap)
    assert real.stream.tokens.ids.dtype == "int16"
