"""Folders written by Dataset.save_to_disk of the datasets library, and suppression of that library's progress bars."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from collapse_sim.core.errors import MissingError
from collapse_sim.data.data_files import read_text

STATE, SPLITS = "state.json", "dataset_dict.json"  # written by save_to_disk of Dataset and of DatasetDict


def saved_names(folder: Path) -> list[str]:
    """The names of the Arrow files of such a folder, in order.

    Raises MissingError when state.json is not valid, and for a selection of rows: old versions of the library store the
    selected indices separately, and new versions would read all rows.
    """
    try:
        state = json.loads(read_text(folder / STATE))
        names = [str(entry["filename"]) for entry in state["_data_files"]]
        selected = state.get("_indices_data_files")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MissingError(f"{folder / STATE}: not what Dataset.save_to_disk writes ({error}): save it again") from None
    if selected:
        raise MissingError(f"{folder}: a selection of rows: save it again with a newer version of datasets")
    return names


@contextlib.contextmanager
def without_progress() -> Iterator[None]:
    """Disable the library's progress bars."""
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
