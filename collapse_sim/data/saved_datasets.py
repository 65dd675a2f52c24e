"""Folders that Dataset.save_to_disk of the datasets library makes, of texts or of images, and that library's bars."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from collapse_sim.core.errors import MissingError
from collapse_sim.data.data_files import read_text

STATE, SPLITS = "state.json", "dataset_dict.json"  # in folders that Dataset.save_to_disk and DatasetDict's make


def saved_names(place: Path) -> list[str]:
    """The names of the Arrow files of such a folder, in order.

    Raises MissingError when its list of them is another file, and for a selection of the rows: old versions of the
    library list the selected ones beside the files, and new ones would take all.
    """
    try:
        state = json.loads(read_text(place / STATE))
        names = [str(entry["filename"]) for entry in state["_data_files"]]
        chosen = state.get("_indices_data_files")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MissingError(f"{place / STATE}: not what Dataset.save_to_disk writes ({error}): save it again") from None
    if chosen:
        raise MissingError(f"{place}: a selection of rows: save it again with a newer version of datasets")
    return names


@contextlib.contextmanager
def without_progress() -> Iterator[None]:
    """The library draws no bars."""
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
