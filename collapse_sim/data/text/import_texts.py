"""Generated texts: JSONL, CSV, TSV, Parquet, Arrow or txt files, or a dataset on disk, through the data's tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from collapse_sim.core.errors import MissingError
from collapse_sim.core.hashing import digest_of
from collapse_sim.data.base import Info
from collapse_sim.data.imported_rows import ImportedRows
from collapse_sim.data.text import text_fields
from collapse_sim.data.text.text_places import find_files
from collapse_sim.data.text.text_rows import PackedRows, Stream, TextRows, TokenColumn
from collapse_sim.data.text.text_source import TextSource, survey
from collapse_sim.data.text.text_tokens import tokens_of
from collapse_sim.data.text.tokens import END_OF_TEXT

FIELDS: Mapping[str, str] = {"tokens": "text"}  # column of token ids -> the field of its texts; others: the same name
KIND = "rows_from"  # begins messages


def text_rows(path: Path, info: Info) -> ImportedRows:
    """The texts at `path` as rows of the data: one text per row, or for packed data all texts joined and cut.

    Fields are `text`, for pairs `source` and `target`, taken as they are (a `prefix` is part of them). Raises
    MissingError for other files, for lacking fields and for texts that are too few for one block.
    """
    tokenizer = info.text()
    files = find_files(KIND, str(path), Path(), None)
    fields = tuple(text_fields.Field(FIELDS.get(column, column)) for column in info.columns)
    if len(fields) > 1 and any(file.format == "txt" for file in files):
        raise MissingError(f"{path}: txt files have no fields; needed: {' and '.join(field.name for field in fields)}")
    source = TextSource(KIND, files, fields, END_OF_TEXT)
    summary = survey(source)
    tokens = tokens_of(source, summary, tokenizer, ("",) * len(fields)).columns
    texts = np.arange(summary.texts)
    rows: TextRows | PackedRows
    if info.packed:
        rows = PackedRows(Stream(tokens[0], texts, tokenizer), info.shape("tokens")[0])
    else:
        plain = "tokens" in info.columns  # rows of language models begin with a token of their own, those of pairs end
        columns = {
            name: TokenColumn(column, info.shape(name)[0], begin=plain, cut_ends=not plain)
            for name, column in zip(info.columns, tokens, strict=True)
        }
        rows = TextRows(columns, texts, tokenizer)
    layout = {name: list(shape) for name, (shape, _) in info.columns.items()}
    content = digest_of([summary.sha256, tokenizer.sha256, layout, info.packed])
    return ImportedRows(str(path), len(rows), tuple(info.columns), content, lambda: rows)
