"""The user's own texts: txt, JSONL, CSV, TSV, Parquet or Arrow files, for language models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from collapse_sim.core.errors import RecipeError
from collapse_sim.data.held_out import ShareOrCount
from collapse_sim.data.text import text_fields
from collapse_sim.data.text.text_places import find_files, same_files
from collapse_sim.data.text.text_source import TextSource
from collapse_sim.data.text.texts import HELD_OUT, PlainTexts, TextSettings, TextSources
from collapse_sim.data.text.tokens import END_OF_TEXT

Name = Annotated[str, Field(min_length=1)]
Names = Name | Annotated[tuple[Name, ...], Field(min_length=1)]
Format = Literal["auto", "txt", "jsonl", "csv", "tsv", "parquet", "arrow"]


class OwnFiles(TextSettings):
    """Settings of texts in files of any name."""

    train: Names
    """Files to train on: a path, a pattern such as books/*.txt, or a list; relative to the data folder, or absolute."""
    validation: Names | None = None
    """Files of held-out texts, given like `train`; default: some of the texts in `train` are held out."""
    held_out: ShareOrCount | None = None
    """Without `validation`: the share (0.05) or number (500) of the texts in `train` to hold out; default: 0.05."""
    format: Format = "auto"
    """Format of all files; auto: by the ending of each name."""

    @model_validator(mode="after")
    def _held_out_once(self) -> OwnFiles:
        if self.validation is not None and self.held_out is not None:
            raise ValueError("`held_out` takes texts from `train`, `validation` names those to hold out: set only one")
        return self

    def of_files(self, folder: Path, fields: tuple[text_fields.Field, ...], separator: str | None) -> TextSources:
        """The parts that `train` and `validation` name. Raises MissingError, RecipeError."""
        forced = None if self.format == "auto" else self.format

        def source(setting: str, names: str | tuple[str, ...]) -> TextSource:
            files = find_files(f"data.{setting}", names, folder, forced)
            return TextSource(self.name, files, fields, separator)

        train = source("train", self.train)
        validation = None if self.validation is None else source("validation", self.validation)
        for training_path, path in same_files(train.files, validation.files) if validation else ():
            linked = f", as {training_path}" if training_path != path else ""
            raise RecipeError(
                f"data.validation: {path} is also among the files of `train`{linked}: what is trained on cannot be "
                "held out: name other files, or leave `validation` out"
            )
        return TextSources(train, validation, self.held_out or HELD_OUT)


class TextFiles(PlainTexts, OwnFiles):
    """Your own texts: separated in txt files, or one per row of JSONL, CSV, TSV, Parquet or Arrow."""

    separator: Name | None = END_OF_TEXT
    """String between the texts in a txt file; null: the whole file is one text."""
    field: Name = "text"
    """Field or column of the text in the other formats."""

    name: ClassVar[str] = "text_files"
    not_in_key: ClassVar[tuple[str, ...]] = ("train", "validation", "format", "separator", "field")

    def parts(self, folder: Path) -> TextSources:
        return self.of_files(folder, (text_fields.Field(self.field, "data.field"),), self.separator)
