"""Files are read once: later starts only list them, and see every change. Nothing depends on what is kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from collapse_sim.core.errors import MissingError
from collapse_sim.data import data_files, file_cache
from collapse_sim.data.images import image_survey
from collapse_sim.data.images.image_folder import ImageFolder

from .making import tagged, write_pictures

FILES, ARRAY = ImageFolder(path="pictures"), ImageFolder(path="pictures.npy")


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by one whenever files are read for their hash."""
    made: list[str] = []
    look, content_hash = image_survey._summarise, data_files.content_hash

    def looking(listing: Any) -> Any:
        made.append("files")
        return look(listing)

    def hashing(**arrays: Any) -> Any:
        made.append("array")
        return content_hash(**arrays)

    monkeypatch.setattr(image_survey, "_summarise", looking)
    monkeypatch.setattr("collapse_sim.data.images.image_folder.content_hash", hashing)
    return made


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    images = tagged(9, 8, 8)
    write_pictures(tmp_path / "pictures", images)
    np.save(tmp_path / "pictures.npy", images)
    return tmp_path


@pytest.mark.parametrize("data", [FILES, ARRAY])
def test_a_second_start_reads_nothing(data: Any, data_dir: Path, cache: Path, looks: list[str]) -> None:
    infos = [data.inspect(data_dir) for _ in range(3)]
    assert len(looks) == 1
    assert infos[0] == infos[1] == infos[2]
    assert len(list(cache.rglob("*"))) == 2  # a folder and a file


def test_other_settings_need_no_second_look_but_are_checked(data_dir: Path, cache: Path, looks: list[str]) -> None:
    Image.fromarray(np.zeros((5, 6, 3), np.uint8)).save(data_dir / "pictures" / "small.png")
    assert ImageFolder(path="pictures", channels=3, size=4).inspect(data_dir).shape("image") == (3, 4, 4)
    assert ImageFolder(path="pictures", channels=1, crop=5).inspect(data_dir).shape("image") == (1, 5, 5)
    with pytest.raises(MissingError, match=r"9 L \(such as 0000.png\), 1 RGB \(such as small.png\)") as caught:
        FILES.inspect(data_dir)
    assert "9 of 8x8 (such as 0000.png), 1 of 5x6 (such as small.png)" in str(caught.value)
    assert len(looks) == 1


def _rewrite(folder: Path) -> None:
    """Other pixels, the same length, the old time of change: only the time that no program can set tells."""
    path = folder / "0004.png"
    before = path.stat()
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


@pytest.mark.parametrize(
    "change",
    [
        _rewrite,
        lambda folder: (folder / "0004.png").rename(folder / "0004b.png"),
        lambda folder: (folder / "0004.png").unlink(),
        lambda folder: Image.fromarray(tagged(1, 8, 8, first=99)[0]).save(folder / "new.png"),
    ],
)
def test_every_change_is_seen(change: Any, data_dir: Path, cache: Path, looks: list[str]) -> None:
    before = FILES.inspect(data_dir).fingerprint
    change(data_dir / "pictures")
    after = FILES.inspect(data_dir).fingerprint
    assert len(looks) == 2
    assert before != after


def test_files_of_this_moment_are_not_trusted_yet(
    data_dir: Path, cache: Path, looks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file changed twice within one tick of the disk's clock looks unchanged."""
    monkeypatch.setattr(file_cache, "SETTLED_NS", 10**12)
    FILES.inspect(data_dir)
    FILES.inspect(data_dir)
    assert len(looks) == 2
    assert not cache.exists()


def test_unreadable_files_are_looked_at_again(data_dir: Path, cache: Path, looks: list[str]) -> None:
    """It may have been the disk or the network."""
    (data_dir / "pictures" / "0003.png").write_bytes(b"")
    for _ in range(2):
        with pytest.raises(MissingError, match="1 unreadable"):
            FILES.inspect(data_dir)
    assert len(looks) == 2


@pytest.mark.parametrize("text", ["", "{", "[]", '{"stamps": 1}', '{"found": {}}'])
@pytest.mark.parametrize("data", [FILES, ARRAY])
def test_a_damaged_note_is_made_anew(data: Any, text: str, data_dir: Path, cache: Path, looks: list[str]) -> None:
    info = data.inspect(data_dir)
    (note,) = cache.rglob("*.json")
    note.write_text(text)
    assert data.inspect(data_dir) == info
    assert len(looks) == 2
    assert data.inspect(data_dir) == info
    assert len(looks) == 2


@pytest.mark.parametrize("data", [FILES, ARRAY])
def test_no_flipped_letter_of_a_note_changes_what_is_found(
    data: Any, data_dir: Path, cache: Path, looks: list[str]
) -> None:
    """What a note says proves itself: a damaged one is made anew, and does not give other rows or another key."""
    info = data.inspect(data_dir)
    (note,) = cache.rglob("*.json")
    whole = note.read_bytes()
    for place in range(0, len(whole), 7):
        spoilt = bytearray(whole)
        spoilt[place] ^= 1
        note.write_bytes(spoilt)
        assert data.inspect(data_dir) == info
        assert note.read_bytes() in (whole, spoilt)  # made anew, or only the place in words differs
    assert len(looks) > 10


@pytest.mark.parametrize("data", [FILES, ARRAY])
def test_a_cache_that_cannot_be_written_to_is_no_error(
    data: Any, data_dir: Path, cache: Path, looks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (data_dir / "a file").touch()
    monkeypatch.setenv("COLLAPSE_SIM_CACHE", str(data_dir / "a file"))
    assert data.inspect(data_dir) == data.inspect(data_dir)
    assert len(looks) == 2


def test_where_it_lies(data_dir: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value, place in (
        ("COLLAPSE_SIM_CACHE", "mine", "mine"),
        ("XDG_CACHE_HOME", "xdg", "xdg/collapse-sim"),
        ("HOME", "home", "home/.cache/collapse-sim"),
    ):
        monkeypatch.setenv(name, str(data_dir / value))
        FILES.inspect(data_dir)
        assert len(list((data_dir / place).rglob("*.json"))) == 1
        monkeypatch.delenv(name)
