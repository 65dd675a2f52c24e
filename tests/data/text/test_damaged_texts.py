"""Text files that are damaged or of another kind (text_bytes, text_plain, text_records, text_columns, text_source).

The message says where, what is there and what would do.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tests.data.making import message_of

from .making_texts import files

LINE = b'{"text": "a"}\n'
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 5\n"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("t.txt", b"", "{place}: empty: there are no texts in it"),
        ("t.txt", b" \n<|endoftext|> \n", "{place}: empty: there are no texts in it"),
        (
            "t.txt",
            b"a\nb <|endoftext|>\nc \xe9t\xe9",
            "{place}:3: not UTF-8: 0xe9 at byte 20; save the file as UTF-8 (",
        ),
        ("t.txt", b"\xff\xfea\0b\0", "{place}: UTF-16, by its first bytes; needed: UTF-8: iconv -f UTF-16 -t UTF-8"),
        ("t.jsonl", b"\xfe\xff\0{\0", "{place}: UTF-16, by its first bytes; needed: UTF-8: iconv -f UTF-16 -t UTF-8"),
        ("t.csv", "text\na".encode("utf-32"), "{place}: UTF-32, by its first bytes; needed: UTF-8: iconv -f UTF-32"),
        ("t.txt", b"PK\x03\x04 and more", "{place}: compressed with zip, by its first bytes: decompress it"),
        ("t.jsonl", b"\x28\xb5\x2f\xfd and more", "{place}: compressed with zstd, by its first bytes: decompress it"),
        (
            "t.txt",
            b"a\nb\0\0",
            "{place}:2: a NUL byte at byte 3, which no text has: the file was not written completely",
        ),
        ("t.txt", "a b".encode("utf-16-le"), "{place}:1: a NUL byte at byte 1, which no text has: "),
        ("t.jsonl", LINE + bytes(99), "{place}:2: a NUL byte at byte 0 of the line, which no text has: "),
        ("t.csv", b"text\na\n" + bytes(99), "{place}:3: a NUL byte at byte 0 of the line, which no text has: "),
        ("t.txt", POINTER, "{place}: a pointer of git-lfs, and not the file itself: install git-lfs and run `git lfs"),
        ("t.parquet", POINTER, "{place}: a pointer of git-lfs, and not the file itself: install git-lfs"),
        ("t.arrow", POINTER, "{place}: a pointer of git-lfs, and not the file itself: install git-lfs"),
        (
            "t.txt",
            gzip.compress(b"a b c" * 99, mtime=0)[:-9],
            "{place}: not a complete gzip file (Compressed file ended before",
        ),
        (
            "t.jsonl.gz",
            gzip.compress(LINE, mtime=0) + b"and more",
            "{place}: not a complete gzip file (Not a gzipped file",
        ),
        (
            "t.csv",
            gzip.compress(b"text\na\n", mtime=0)[:-7] + b"1234567",
            "{place}: not a complete gzip file (CRC check failed",
        ),
        ("t.csv", b"", "{place}: empty: there are no texts in it"),
        ("t.csv", b"text\n", "{place}: empty: there are no texts in it"),
        (
            "t.csv",
            b"id;body\n1;a\n",
            "{place}:1: no field 'text'; there are id;body: set `data.field` to one of them (the",
        ),
        (
            "t.tsv",
            b"text,id\na,1\n",
            "there are text,id: set `data.field` to one of them (the first row must name the ",
        ),
        ("t.csv", b"text,text\na,b\n", "{place}:1: two columns called 'text': rename one"),
        (
            "t.csv",
            b'text\n"a\nb"\n\nc,d\n',
            "{place}:5: 2 columns, but the first row names 1: a text that contains commas",
        ),
        ("t.csv", b"text,id\na\n", "{place}:2: 1 columns, but the first row names 2"),
        (
            "t.tsv",
            b'text\na\n"b" c\n',
            "{place}:3: broken quotation marks: '\t' expected after '\"'; a text that contains",
        ),
        ("t.csv", b'text\na\n"b\nc\nd\n', "{place}:3: broken quotation marks: unexpected end of data"),
        ("t.csv", b"text\na\nb\n\xe9", "{place}:4: not UTF-8: 0xe9 at byte 0 of the line"),
        (
            "t.json",
            b'[{"text": "a"}]',
            "{place}:1: found a list; needed: one JSON object per line (a JSON array is not read: ",
        ),
        ("t.json", b'[\n {"text": "a"}\n]', "jq -c '.[]' t.json > t.jsonl converts it)"),
        ("t.jsonl", LINE + b'{"text": "a", "text": "b"}', "{place}:2: two columns called 'text': rename one"),
        ("t.jsonl", b"", "{place}: empty: there are no texts in it"),
        ("t.jsonl", b"\n\n", "{place}: empty: there are no texts in it"),
        ("t.jsonl", LINE * 2 + b'{"text": "\xff"}', "{place}:3: not UTF-8: 0xff at byte 10 of the line"),
        (
            "t.jsonl",
            LINE + b'\n{"text": "a"',
            "{place}:3: broken JSON: Expecting ',' delimiter at column 13; needed: one",
        ),
        ("t.jsonl", LINE + b'{"text": "a"} x', "{place}:2: broken JSON: Extra data at column 15"),
        ("t.jsonl", b"[" * 100_000, "{place}:1: broken JSON: "),
        ("t.jsonl", LINE + b'["a", "b"]', "{place}:2: found a list; needed: one JSON object per line"),
        ("t.jsonl", LINE + b'{"story": "a", "txt": 1}', "{place}:2: no field 'text', did you mean 'txt'?; there are "),
        ("t.jsonl", b'{"id": 3}', "there are id: set `data.field` to one of them"),
        ("t.jsonl", b'{"text": 3}', "{place}:1: 'text' is a number; needed: a string"),
        ("t.jsonl", LINE + b'{"text": null}', "{place}:2: 'text' is null; needed: a string"),
        ("t.jsonl", b'{"text": ["a"]}', "{place}:1: 'text' is a list; needed: a string"),
        ("t.jsonl", b'{"text": "\\ud83d"}', "{place}:1: 'text' has half a character, \\ud83d: the text was cut there"),
        ("t.parquet", b"PAR1 and no more", "{place}: not a complete Parquet file ("),
        ("t.parquet", b"", "{place}: not a complete Parquet file ("),
        ("t.arrow", b"nothing at all", "{place}: not a complete Arrow file ("),
        ("t.arrow", b"ARROW1\0\0", "{place}: not a complete Arrow file ("),
    ],
)
def test_files_that_are_not_what_they_should_be(name: str, content: bytes, expected: str, folder: Path) -> None:
    (folder / name).write_bytes(content)
    text = message_of(files(name), folder)
    assert expected.format(place=folder / name) in text
