"""Folders of Dataset.save_to_disk: the files that the library itself reads, and its progress bars."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from collapse_sim.core.errors import MissingError
from collapse_sim.data.images.image_folder import ImageFolder
from collapse_sim.data.saved_datasets import saved_names, without_progress

from .making import message_of

datasets = pytest.importorskip("datasets")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Twelve rows in three files."""
    datasets.Dataset.from_dict({"number": list(range(12))}).save_to_disk(tmp_path / "set", num_shards=3)
    return tmp_path / "set"


def test_the_files_are_those_that_the_library_reads(saved: Path) -> None:
    """In its order: the rows of the files, one after the other, are the dataset's."""
    read = datasets.load_from_disk(saved)
    assert [str(saved / name) for name in saved_names(saved)] == [file["filename"] for file in read.cache_files]
    parts = [datasets.Dataset.from_file(str(saved / name)) for name in saved_names(saved)]
    assert [number for part in parts for number in part["number"]] == list(range(12))


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{}", '{"_data_files": 3}', '{"_data_files": [3]}', '{"_data_files": [{"name": "a"}]}']
)
def test_a_state_that_the_library_does_not_write(text: str, saved: Path) -> None:
    (saved / "state.json").write_text(text)
    with pytest.raises(MissingError) as caught:
        saved_names(saved)
    assert str(caught.value).startswith(f"{saved}/state.json: not what Dataset.save_to_disk writes (")


def test_a_selection_that_an_old_library_saved_is_refused(saved: Path) -> None:
    """It listed the selected rows in a file of their own, which the library does not read any more."""
    state = saved / "state.json"
    state.write_text(json.dumps({**json.loads(state.read_text()), "_indices_data_files": [{"filename": "i.arrow"}]}))
    assert message_of(ImageFolder(path="set"), saved.parent) == (
        f"{saved}: a selection of rows: save it again with a newer version of datasets"
    )


@pytest.mark.parametrize("shown", [True, False])
def test_progress_bars_are_as_before_afterwards(shown: bool) -> None:
    """Also after an error."""
    before = datasets.are_progress_bars_disabled()
    try:
        (datasets.enable_progress_bars if shown else datasets.disable_progress_bars)()
        within: list[bool] = []
        with contextlib.suppress(RuntimeError), without_progress():
            within.append(datasets.are_progress_bars_disabled())
            raise RuntimeError
        assert within == [True]
        assert datasets.are_progress_bars_disabled() != shown
    finally:
        (datasets.disable_progress_bars if before else datasets.enable_progress_bars)()
