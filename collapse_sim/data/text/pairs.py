"""The user's own pairs of texts, such as articles and their summaries: files with two fields or columns."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from collapse_sim.core.errors import RecipeError
from collapse_sim.data.text.text_fields import Field
from collapse_sim.data.text.text_files import Name, OwnFiles
from collapse_sim.data.text.texts import PairedTexts, TextSources


class Pairs(PairedTexts, OwnFiles):
    """Your own pairs of texts: a model is given the source and generates the target."""

    source: Name = "source"
    """Field or column of the text that is given."""
    target: Name = "target"
    """Field or column of the text to be generated."""

    name: ClassVar[str] = "pairs"
    not_in_key: ClassVar[tuple[str, ...]] = ("train", "validation", "format", "source", "target")

    def parts(self, folder: Path) -> TextSources:
        parts = self.of_files(folder, (Field(self.source, "data.source"), Field(self.target, "data.target")), None)
        for setting, part in (("train", parts.train), ("validation", parts.validation)):
            for file in part.files if part else ():
                if file.format == "txt":
                    raise RecipeError(
                        f"data.{setting}: {file.path.name} is a txt file, which cannot contain pairs; needed: JSONL, "
                        f"CSV, TSV, Parquet or Arrow with the fields {self.source!r} and {self.target!r}"
                    )
        return parts
