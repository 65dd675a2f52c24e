"""Shared by the tests of families."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.families.wording import PAIRS, T5, TEXT, TINY, built


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with two exported models, `writer/` and `summarizer/`."""
    data = tmp_path_factory.mktemp("models")
    for name, family, info in (("writer", TINY, TEXT), ("summarizer", T5, PAIRS)):
        (data / "exported").mkdir()
        family.export(built(family, info), info, data / "exported")
        shutil.move(data / "exported" / "transformers", data / name)
        (data / "exported").rmdir()
    return data
