"""Texts in files: txt, JSONL, Parquet and Arrow, read one after the other, so that memory stays flat."""

from __future__ import annotations

import codecs
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from collapse_sim.data.progress import Progress
from collapse_sim.data.remember import Stamps, keep, recall
from collapse_sim.errors import MissingError
from collapse_sim.registry import did_you_mean
from collapse_sim.store.files import digest_of

if TYPE_CHECKING:
    import pyarrow as pa

Format = Literal["txt", "jsonl", "parquet", "arrow"]
SUFFIXES: dict[str, Format] = {
    ".txt": "txt", ".raw": "txt", ".tokens": "txt", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl",
    ".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow",
}  # fmt: skip
CHUNK_BYTES = 1 << 20  # of a txt file, read at a time
BATCH_ROWS = 1000  # of Parquet, read at a time

At = Callable[[int], None]  # told how far a file is read: bytes of txt and JSONL, else rows


class Field(NamedTuple):
    """Where a column's texts are."""

    name: str  # in the file; txt files have one field without a name
    setting: str = ""  # that names it, as in "data.field"; "" when none does


@dataclass(frozen=True)
class TextFile:
    path: Path
    format: Format


@dataclass(frozen=True)
class Source:
    """Files whose texts follow each other: the training texts, or the held-out ones."""

    kind: str  # of data, in messages
    files: tuple[TextFile, ...]
    fields: tuple[Field, ...]
    separator: str | None = None  # of the texts in txt files; None: a file is one text
    articles: bool = False  # what is divided or listed are lines of WikiText, and a text is an article

    def records(self, doing: str) -> Iterator[tuple[str, ...]]:
        """The texts of every record, in the order of `fields`. How far it has come is said as "DOING FILE".

        Raises MissingError: which file, which line or row, what is wrong there.
        """
        records = (record for file in self.files for record in self._of(file, doing))
        if self.articles:  # which may go on in the next file
            records = ((text,) for text in articles(line for (line,) in records))
        return records

    def _of(self, file: TextFile, doing: str) -> Iterator[tuple[str, ...]]:
        total, unit = _size(file)
        at = Progress(f"{self.kind}: {doing} {file.path}, once", total, unit).at
        try:
            if file.format != "txt":
                yield from _READERS[file.format](file.path, self.fields, at)
            elif self.articles:
                yield from ((line,) for line in _txt(file.path, "\n", at))
            else:
                yield from ((text.replace("\r\n", "\n").strip(),) for text in _txt(file.path, self.separator, at))
        except OSError as error:
            raise MissingError(f"{file.path}: cannot be read: {error.strerror or error}") from None

    def stamps(self) -> Stamps:
        taken_ns = time.time_ns()
        return Stamps.of([(str(file.path), file.path.stat()) for file in self.files], taken_ns)


class Survey(NamedTuple):
    """What all texts of a source are known by. JSON when taken as a dict."""

    texts: int
    empty: list[int]  # how many are, of every field
    sha256: str  # over the texts, whatever files they are in


def survey(source: Source) -> Survey:
    """Read and check all texts, when the files are seen for the first time or have changed; else nothing is read.

    Raises MissingError for what cannot be read, and when there is no text.
    """
    files, fields = [[str(file.path), file.format] for file in source.files], [field.name for field in source.fields]
    what = f"texts {digest_of([files, fields, source.separator, source.articles])}"
    place, stamps = source.files[0].path, source.stamps()
    kept = recall(what, place, stamps)
    if kept is not None:
        return Survey(**kept)
    digest, empty, number = Digest(), [0] * len(source.fields), 0
    for texts in source.records("checking"):
        digest.add(texts)
        number += 1
        for i, text in enumerate(texts):
            empty[i] += not text.strip()
    if not number:
        raise MissingError(f"{', '.join(str(file.path) for file in source.files)}: no text in it: it is empty")
    found = Survey(number, empty, digest.hexdigest())
    keep(what, place, stamps, found._asdict())
    return found


class Digest:
    """sha256 over texts: their lengths, then their bytes."""

    def __init__(self) -> None:
        self._made = hashlib.sha256()

    def add(self, texts: Sequence[str]) -> None:
        for text in texts:
            content = text.encode()
            self._made.update(len(content).to_bytes(8, "little") + content)

    def hexdigest(self) -> str:
        return self._made.hexdigest()


# Plain text.


def _txt(path: Path, separator: str | None, at: At) -> Iterator[str]:
    """What lies between separators; nothing before a first and after a last one, if there is nothing but space."""
    pieces = _pieces(path, separator.encode() if separator else None, at)
    held = next(pieces, None)
    if held is not None and held[1].startswith(codecs.BOM_UTF8):
        held = (held[0] + len(codecs.BOM_UTF8), held[1].removeprefix(codecs.BOM_UTF8))
    first = True
    while held is not None:
        following = next(pieces, None)
        text = _decoded(path, *held)
        if text.strip() or not (first or following is None):
            yield text
        first, held = False, following


def _pieces(path: Path, separator: bytes | None, at: At) -> Iterator[tuple[int, bytes]]:
    """(where it begins, what lies between two separators)."""
    with path.open("rb") as file:
        if separator is None:
            yield 0, file.read()
            return
        rest, start, seen = bytearray(), 0, 0
        while chunk := file.read(CHUNK_BYTES):
            rest += chunk
            begin = 0
            while (end := rest.find(separator, max(begin, seen))) >= 0:
                yield start + begin, bytes(rest[begin:end])
                begin = end + len(separator)
            del rest[:begin]
            start += begin
            seen = max(0, len(rest) - len(separator) + 1)  # no separator begins before
            at(start)
        yield start, bytes(rest)


def _decoded(path: Path, start: int, content: bytes) -> str:
    """`content`, which begins at the byte `start` of the file, as text."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        where = start + error.start
        with path.open("rb") as file:
            line, left = 1, where
            while left and (chunk := file.read(min(CHUNK_BYTES, left))):
                line, left = line + chunk.count(b"\n"), left - len(chunk)
        raise MissingError(_no_utf8(f"{path}:{line}", content[error.start], f"at byte {where}")) from None


def _no_utf8(where: str, byte: int, place: str) -> str:
    return f"{where}: no UTF-8: 0x{byte:02x} {place}; save the file as UTF-8 (iconv -f LATIN1 -t UTF-8 converts)"


def articles(lines: Iterator[str]) -> Iterator[str]:
    """WikiText's lines as articles: each begins with a heading " = Title = " after an empty line.

    Empty lines are left out, all others are kept as they are: the published files have them as " ", the hub's as "".
    """
    article: list[str] = []
    after_empty = True
    for line in lines:
        line = line.rstrip("\r\n")
        words = line.split()
        heading = len(words) > 2 and words[0] == words[-1] == "=" and "=" not in (words[1], words[-2])
        if heading and after_empty and article:
            yield "\n".join(article)
            article = []
        after_empty = not words
        if words:
            article.append(line)
    if article:
        yield "\n".join(article)


# JSONL.


def _jsonl(path: Path, fields: Sequence[Field], at: At) -> Iterator[tuple[str, ...]]:
    """One object a line; lines with nothing but space are left out."""
    read = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            where = f"{path}:{number}"
            read += len(line)
            content = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if not content.strip():
                continue
            record = _object(where, content)
            yield tuple(_text(where, record, field) for field in fields)
            at(read)


def _object(where: str, line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line.decode().rstrip())  # the end of the line is no column
    except UnicodeDecodeError as error:
        raise MissingError(_no_utf8(where, line[error.start], f"at byte {error.start} of the line")) from None
    except json.JSONDecodeError as error:
        raise MissingError(
            f"{where}: broken JSON: {error.msg} at column {error.colno}; needed: one JSON object a line"
        ) from None
    except (ValueError, RecursionError) as error:
        raise MissingError(f"{where}: broken JSON: {error}; needed: one JSON object a line") from None
    if not isinstance(record, dict):
        raise MissingError(f"{where}: found {_name(record)}; needed: one JSON object a line")
    return record


def _text(where: str, record: dict[str, Any], field: Field) -> str:
    if field.name not in record:
        raise MissingError(_no_field(where, field, list(record)))
    text = record[field.name]
    if not isinstance(text, str):
        raise MissingError(f"{where}: {field.name!r} is {_name(text)}; needed: a string")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = ascii(text[error.start])[1:-1]
        raise MissingError(f"{where}: {field.name!r} has half a character, {half}: it was cut within it") from None
    return text


def _no_field(where: str, field: Field, there: list[str]) -> str:
    hint = f": set `{field.setting}` to one of them" if field.setting else ""
    return f"{where}: no field {field.name!r}{did_you_mean(field.name, there)}; there are {', '.join(there)}{hint}"


def _name(value: Any) -> str:
    """A JSON value in words."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


# Parquet and Arrow.


def _parquet(path: Path, fields: Sequence[Field], at: At) -> Iterator[tuple[str, ...]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _check_fields(path, fields, file.schema_arrow)
            row = 0
            for batch in file.iter_batches(BATCH_ROWS, columns=[field.name for field in fields]):
                yield from _rows(path, fields, batch, row)
                row += len(batch)
                at(row)
    except pa.ArrowException as error:
        raise MissingError(_damaged(path, "Parquet", error)) from None


def _arrow(path: Path, fields: Sequence[Field], at: At) -> Iterator[tuple[str, ...]]:
    """A stream, as the datasets library writes, or a file (Feather, version 2)."""
    import pyarrow as pa

    try:
        with pa.OSFile(str(path)) as file:
            reader, row = _reader(file), 0
            _check_fields(path, fields, reader.schema)
            stream = isinstance(reader, pa.RecordBatchStreamReader)
            for batch in reader if stream else map(reader.get_batch, range(reader.num_record_batches)):
                yield from _rows(path, fields, batch, row)
                row += len(batch)
                at(file.tell() if stream else 0)
    except pa.ArrowException as error:
        raise MissingError(_damaged(path, "Arrow", error)) from None


def _reader(file: pa.OSFile) -> pa.RecordBatchStreamReader | pa.RecordBatchFileReader:
    import pyarrow as pa

    magic = file.read(6)
    file.seek(0)
    return pa.ipc.open_file(file) if magic == b"ARROW1" else pa.ipc.open_stream(file)


def _rows(path: Path, fields: Sequence[Field], batch: pa.RecordBatch, first: int) -> Iterator[tuple[str, ...]]:
    return zip(*(_strings(path, field, batch.column(field.name), first) for field in fields), strict=True)


def _strings(path: Path, field: Field, column: pa.Array, first: int) -> list[str]:
    texts: list[str] = []
    for row, value in enumerate(column, first):
        try:
            text = value.as_py()
        except UnicodeDecodeError as error:
            bad = error.object[error.start]
            raise MissingError(_no_utf8(f"{path}: row {row}", bad, f"in {field.name!r}")) from None
        if text is None:
            raise MissingError(f"{path}: row {row} (counted from 0): {field.name!r} is null; needed: a string")
        texts.append(text)
    return texts


def _check_fields(path: Path, fields: Sequence[Field], schema: pa.Schema) -> None:
    import pyarrow as pa

    for field in fields:
        if field.name not in schema.names:
            raise MissingError(_no_field(str(path), field, list(schema.names)))
        found = schema.field(field.name).type
        kind = found.value_type if pa.types.is_dictionary(found) else found
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
            raise MissingError(f"{path}: {field.name!r} is a column of {found}; needed: strings")


def _damaged(path: Path, format: str, error: Exception) -> str:
    return f"{path}: not a whole {format} file ({str(error).partition(chr(10))[0].rstrip('.')}): get it again"


_READERS: dict[Format, Callable[[Path, Sequence[Field], At], Iterator[tuple[str, ...]]]] = {
    "jsonl": _jsonl,
    "parquet": _parquet,
    "arrow": _arrow,
}


def _size(file: TextFile) -> tuple[int, str]:
    """What progress is measured by. Arrow streams do not say how many rows they have."""
    if file.format != "parquet":
        return file.path.stat().st_size, "bytes"
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(file.path).num_rows), "rows"
    except (pa.ArrowException, OSError) as error:
        raise MissingError(_damaged(file.path, "Parquet", error)) from None
