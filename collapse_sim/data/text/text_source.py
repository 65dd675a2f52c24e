"""Texts in files: txt, JSONL, CSV, TSV, Parquet and Arrow, read one after the other, so that memory stays flat."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from collapse_sim.core.errors import MissingError
from collapse_sim.core.hashing import digest_of
from collapse_sim.data.progress import Progress
from collapse_sim.data.remember import FileStats, load, store
from collapse_sim.data.text.text_columns import arrow, parquet, parquet_rows
from collapse_sim.data.text.text_fields import At, Field
from collapse_sim.data.text.text_plain import articles, plain
from collapse_sim.data.text.text_records import comma_table, json_lines, tab_table

Format = Literal["txt", "jsonl", "csv", "tsv", "parquet", "arrow"]
SUFFIXES: dict[str, Format] = {
    ".txt": "txt", ".raw": "txt", ".tokens": "txt", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl",
    ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow",
}  # fmt: skip
READERS: dict[Format, Callable[[Path, Sequence[Field], At], Iterator[tuple[str, ...]]]] = {
    "jsonl": json_lines,
    "csv": comma_table,
    "tsv": tab_table,
    "parquet": parquet,
    "arrow": arrow,
}


@dataclass(frozen=True)
class TextFile:
    path: Path
    format: Format


@dataclass(frozen=True)
class TextSource:
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
        if file.format == "parquet":  # the others do not say how many rows they have
            total, unit = parquet_rows(file.path), "rows"
        else:
            total, unit = file.path.stat().st_size, "bytes"
        at = Progress(f"{self.kind}: {doing} {file.path}, once", total, unit).at
        try:
            if file.format != "txt":
                yield from READERS[file.format](file.path, self.fields, at)
            elif self.articles:
                yield from ((line,) for line in plain(file.path, "\n", at))
            else:
                yield from ((text.replace("\r\n", "\n").strip(),) for text in plain(file.path, self.separator, at))
        except OSError as error:
            raise MissingError(f"{file.path}: cannot be read: {error.strerror or error}") from None

    def stamps(self) -> FileStats:
        taken_ns = time.time_ns()
        return FileStats.of([(str(file.path), file.path.stat()) for file in self.files], taken_ns)


class TextSummary(NamedTuple):
    """What all texts of a source are known by. JSON when taken as a dict."""

    texts: int
    empty: list[int]  # how many are, of every field
    sha256: str  # over the texts, whatever files they are in


def survey(source: TextSource) -> TextSummary:
    """Read and check all texts, when the files are seen for the first time or have changed; else nothing is read.

    Raises MissingError for what cannot be read, and when there is no text.
    """
    files, fields = [[str(file.path), file.format] for file in source.files], [field.name for field in source.fields]
    what = f"texts {digest_of([files, fields, source.separator, source.articles])}"
    place, stamps = source.files[0].path, source.stamps()
    kept = load(what, place, stamps)
    if kept is not None:
        return TextSummary(**kept)
    digest, empty, number = Digest(), [0] * len(source.fields), 0
    for texts in source.records("checking"):
        digest.add(texts)
        number += 1
        for i, text in enumerate(texts):
            empty[i] += not text.strip()
    if not number:
        raise MissingError(f"{', '.join(str(file.path) for file in source.files)}: no text in it: it is empty")
    found = TextSummary(number, empty, digest.hexdigest())
    store(what, place, stamps, found._asdict())
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
