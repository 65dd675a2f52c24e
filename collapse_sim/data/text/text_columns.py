"""Reads text columns of Parquet and Arrow files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from collapse_sim.core.errors import MissingError
from collapse_sim.core.readable import check_pointer, file_problem
from collapse_sim.data.text.text_bytes import no_utf8
from collapse_sim.data.text.text_fields import At, Field, find_field

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 1000  # Parquet rows read at a time


def parquet(path: Path, fields: Sequence[Field], at: At) -> Iterator[tuple[str, ...]]:
    """The rows of a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with _open(path) as file, pq.ParquetFile(file) as table:
            _check_fields(path, fields, table.schema_arrow)
            row = 0
            for batch in table.iter_batches(BATCH_ROWS, columns=[field.name for field in fields]):
                yield from _rows(path, fields, batch, row)
                row += len(batch)
                at(row)
    except pa.ArrowException as error:
        raise MissingError(_damaged(path, "Parquet", error)) from None


def parquet_rows(path: Path) -> int:
    """The number of rows of a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with _open(path) as file:
            return int(pq.read_metadata(file).num_rows)
    except pa.ArrowException as error:
        raise MissingError(_damaged(path, "Parquet", error)) from None


def arrow(path: Path, fields: Sequence[Field], at: At) -> Iterator[tuple[str, ...]]:
    """The rows of an Arrow stream, as written by the datasets library, or of an Arrow file (Feather, version 2)."""
    import pyarrow as pa

    try:
        with _open(path) as file:
            reader, row = _reader(file), 0
            _check_fields(path, fields, reader.schema)
            stream = isinstance(reader, pa.RecordBatchStreamReader)
            for batch in reader if stream else map(reader.get_batch, range(reader.num_record_batches)):
                yield from _rows(path, fields, batch, row)
                row += len(batch)
                at(file.tell() if stream else 0)
    except pa.ArrowException as error:
        raise MissingError(_damaged(path, "Arrow", error)) from None


def _open(path: Path) -> BinaryIO:
    """Open a file in Python, since pyarrow does not accept names that are not UTF-8."""
    wrong = file_problem(path)
    if wrong:
        raise MissingError(f"{path}: {wrong}")
    check_pointer(path)
    return path.open("rb")


def _reader(file: BinaryIO) -> pa.RecordBatchStreamReader | pa.RecordBatchFileReader:
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
            raise MissingError(no_utf8(f"{path}: row {row}", bad, f"in {field.name!r}")) from None
        if text is None:
            raise MissingError(f"{path}: row {row} (counted from 0): {field.name!r} is null; needed: a string")
        texts.append(text)
    return texts


def _check_fields(path: Path, fields: Sequence[Field], schema: pa.Schema) -> None:
    import pyarrow as pa

    for field in fields:
        type_ = schema.field(find_field(str(path), field, list(schema.names))).type
        kind = type_.value_type if pa.types.is_dictionary(type_) else type_
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
            raise MissingError(f"{path}: {field.name!r} is a column of {type_}; needed: strings")


def _damaged(path: Path, format: str, error: Exception) -> str:
    return f"{path}: not a complete {format} file ({str(error).partition(chr(10))[0].rstrip('.')}): get it again"
