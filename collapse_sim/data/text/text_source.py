"""Texts in txt, JSONL, CSV, TSV, Parquet and Arrow files, read one by one, so that memory use stays constant."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from collapse_sim.core.errors import MissingError
from collapse_sim.core.hashing import digest_of
from collapse_sim.data.file_cache import FileStats, load, store
from collapse_sim.data.progress import Progress
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
    """Files whose texts are read in sequence: the training texts, or the held-out ones."""

    kind: str  # kind of data, for messages
    files: tuple[TextFile, ...]
    fields: tuple[Field, ...]
    separator: str | None = None  # between the texts in txt files; None: a file is one text
    articles: bool = False  # the records are lines of WikiText, and a text is an article

    def records(self, doing: str) -> Iterator[tuple[str, ...]]:
        """The texts of each record, in the order of `fields`. Progress is logged as "DOING FILE".

        Raises MissingError, which names the file, the line or row, and the problem.
        """
        records = (record for file in self.files for record in self._of(file, doing))
        if self.articles:  # an article may continue in the next file
            records = ((text,) for text in articles(line for (line,) in records))
        return records

    def _of(self, file: TextFile, doing: str) -> Iterator[tuple[str, ...]]:
        if file.format == "parquet":  # other formats do not state their number of rows
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
    """A summary that identifies all texts of a source. As a dict it is valid JSON."""

    texts: int
    empty: list[int]  # number of empty texts in each field
    sha256: str  # over the texts, independent of how they are stored in files


def survey(source: TextSource) -> TextSummary:
    """Read and check all texts, if the files are new or have changed; otherwise nothing is read.

    Raises MissingError for files that cannot be read, and when there is no text.
    """
    files, fields = [[str(file.path), file.format] for file in source.files], [field.name for field in source.fields]
    name = f"texts {digest_of([files, fields, source.separator, source.articles])}"
    first_path, stamps = source.files[0].path, source.stamps()
    cached = load(name, first_path, stamps)
    if cached is not None:
        return TextSummary(**cached)
    digest, empty, count = Digest(), [0] * len(source.fields), 0
    for texts in source.records("checking"):
        digest.add(texts)
        count += 1
        for i, text in enumerate(texts):
            empty[i] += not text.strip()
    if not count:
        raise MissingError(f"{', '.join(str(file.path) for file in source.files)}: empty: there are no texts in it")
    summary = TextSummary(count, empty, digest.hexdigest())
    store(name, first_path, stamps, summary._asdict())
    return summary


class Digest:
    """sha256 over texts: for each text its length and then its bytes."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()

    def add(self, texts: Sequence[str]) -> None:
        for text in texts:
            content = text.encode()
            self._sha256.update(len(content).to_bytes(8, "little") + content)

    def hexdigest(self) -> str:
        return self._sha256.hexdigest()
