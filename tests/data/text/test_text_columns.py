"""Columns of Parquet and Arrow files that are not what they should be."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.making import message_of

from .making_texts import files, write_records


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow", "t.feather"])
def test_two_columns_of_one_name(name: str, folder: Path) -> None:
    """As a join of two tables writes them. Others than the wanted one may be there twice."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [pa.array(["a", "b"]), pa.array(["c", "d"]), pa.array(["e", "f"])]
    for names, fine in ((["id", "text", "text"], False), (["id", "id", "text"], True)):
        table = pa.Table.from_arrays(columns, names=names)
        if name == "t.parquet":
            pq.write_table(table, folder / name)
        else:
            new = pa.ipc.new_stream if name == "t.arrow" else pa.ipc.new_file
            with pa.OSFile(str(folder / name), "wb") as file, new(file, table.schema) as writer:
                writer.write_table(table)
        if fine:
            assert files(name, length=2).inspect(folder).pool == 2
        else:
            assert f"{folder / name}: two columns called 'text': rename one" in message_of(files(name), folder)


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow"])
def test_columns_that_are_not_what_they_should_be(name: str, folder: Path) -> None:
    import pyarrow as pa

    place = write_records(folder / name, text=["a"] * 1500 + [None, "b"], story=["a"] * 1502)
    assert f"{place}: row 1500 (counted from 0): 'text' is null; needed: a string" in message_of(files(name), folder)
    expected = f"{place}: no field 'tale'; there are text, story: set `data.field` to one of them"
    assert message_of(files(name, field="tale"), folder) == expected
    write_records(folder / name, text=[1, 2])
    assert message_of(files(name), folder) == f"{place}: 'text' is a column of int64; needed: strings"
    broken = pa.StringArray.from_buffers(2, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"a\xff"))
    write_records(folder / name, text=broken)
    if name == "t.arrow":
        assert f"{place}: row 1: not UTF-8: 0xff in 'text'" in message_of(files(name), folder)


def test_a_truncated_arrow_file(folder: Path) -> None:
    place = write_records(folder / "t.arrow", text=["a b c d e f"] * 50)
    place.write_bytes(place.read_bytes()[:-300])
    assert f"{place}: not a complete Arrow file (" in message_of(files("t.arrow"), folder)
