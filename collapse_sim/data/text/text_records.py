"""Reads records of texts from JSON lines, and from CSV and TSV tables with a header."""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from collapse_sim.core.errors import MissingError
from collapse_sim.data.text.text_bytes import decoded_line, opened
from collapse_sim.data.text.text_fields import At, Field, find_field, no_field

CELL_CHARACTERS = 1 << 26  # maximum per table cell; more means a quotation mark that is never closed


def json_lines(path: Path, fields: Sequence[Field], at: At) -> Iterator[tuple[str, ...]]:
    """One object per line; lines with only whitespace are skipped."""
    first = True
    with opened(path) as (file, position):
        for number, line in enumerate(file, 1):
            where = f"{path}:{number}"
            content = line.removeprefix(codecs.BOM_UTF8)
            if not content.strip():
                continue
            record = _object(where, content, _array(path, content) if first else "")
            first = False
            yield tuple(_text(where, record, field, content) for field in fields)
            at(position())


def _array(path: Path, line: bytes) -> str:
    """Advice for the message if a file that begins with this line has no object in it."""
    if not line.lstrip().startswith(b"["):
        return ""
    return f" (a JSON array is not read: jq -c '.[]' {path.name} > {path.stem}.jsonl converts it)"


def _object(where: str, line: bytes, advice: str) -> dict[str, Any]:
    text = decoded_line(where, line)
    needed = f"needed: one JSON object per line{advice}"
    try:
        record = json.loads(text.rstrip())  # so that error columns are within the text
    except json.JSONDecodeError as error:
        raise MissingError(f"{where}: broken JSON: {error.msg} at column {error.colno}; {needed}") from None
    except (ValueError, RecursionError) as error:
        raise MissingError(f"{where}: broken JSON: {error}; {needed}") from None
    if not isinstance(record, dict):
        raise MissingError(f"{where}: found {_name(record)}; {needed}")
    return record


def _text(where: str, record: dict[str, Any], field: Field, line: bytes) -> str:
    if field.name not in record:
        raise no_field(where, field, list(record))
    if line.count(json.dumps(field.name).encode()) > 1:  # maybe a repeated name, of which Python keeps the last
        find_field(where, field, _names(line))
    text = record[field.name]
    if not isinstance(text, str):
        raise MissingError(f"{where}: {field.name!r} is {_name(text)}; needed: a string")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = ascii(text[error.start])[1:-1]
        raise MissingError(f"{where}: {field.name!r} has half a character, {half}: the text was cut there") from None
    return text


def _names(line: bytes) -> list[str]:
    """The names of an object's entries, including repetitions."""
    pairs: list[tuple[str, Any]] = json.loads(line, object_pairs_hook=list)
    return [name for name, _ in pairs]


def _name(value: Any) -> str:
    """The type of a JSON value, in words."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def comma_table(path: Path, fields: Sequence[Field], at: At) -> Iterator[tuple[str, ...]]:
    """CSV."""
    return _table(path, fields, at, ",")


def tab_table(path: Path, fields: Sequence[Field], at: At) -> Iterator[tuple[str, ...]]:
    """TSV, with the same quotation marks as CSV."""
    return _table(path, fields, at, "\t")


def _table(path: Path, fields: Sequence[Field], at: At, delimiter: str) -> Iterator[tuple[str, ...]]:
    """One record per row below a row of names (RFC 4180); empty rows are skipped."""
    csv.field_size_limit(CELL_CHARACTERS)  # for the whole process
    delimiters = "commas" if delimiter == "," else "tabs"
    with opened(path) as (file, position):
        rows = csv.reader(_lines(path, file), delimiter=delimiter, strict=True)
        names: list[str] = []
        indices: list[int] = []
        while True:
            where = f"{path}:{rows.line_num + 1}"
            try:
                row = next(rows, None)
            except csv.Error as error:
                raise MissingError(
                    f"{where}: broken quotation marks: {error}; a text that contains {delimiters}, line breaks or "
                    'quotation marks must be enclosed in "", with quotation marks in it doubled'
                ) from None
            if row is None:
                return
            if not row:
                continue
            if not names:
                names = [name.strip() for name in row]
                indices = [_field_index(where, field, names, delimiters) for field in fields]
                continue
            if len(row) != len(names):
                raise MissingError(
                    f"{where}: {len(row)} columns, but the first row names {len(names)}: a text that contains "
                    f'{delimiters} or line breaks must be enclosed in ""'
                )
            yield tuple(row[index] for index in indices)
            at(position())


def _field_index(where: str, field: Field, names: list[str], delimiters: str) -> int:
    try:
        return find_field(where, field, names)
    except MissingError as error:
        raise MissingError(f"{error} (the first row must name the columns, separated by {delimiters})") from None


def _lines(path: Path, file: Iterator[bytes]) -> Iterator[str]:
    for number, line in enumerate(file, 1):
        yield decoded_line(f"{path}:{number}", line.removeprefix(codecs.BOM_UTF8) if number == 1 else line)
