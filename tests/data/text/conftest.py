"""A folder of texts of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from .making_texts import HELD_OUT, TRAIN, words_folder, write_txt


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tokenizer of words, the files that `unpacked` reads, and those that `files` holds out."""
    words_folder(tmp_path)
    write_txt(tmp_path / "train.txt", TRAIN)
    write_txt(tmp_path / "validation.txt", HELD_OUT)
    write_txt(tmp_path / "v.txt", ["a b c d", "e"])
    return tmp_path
