"""Texts from elsewhere become the rows that the data makes of the same texts."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import numpy as np
import pytest

from collapse_sim.core.errors import MissingError
from collapse_sim.data.text.import_texts import text_rows
from collapse_sim.data.text.pairs import Pairs
from tests.data.making import rows_of

from .making_texts import TRAIN, unpacked, write_records, write_txt


def read(path: Path, info) -> dict[str, np.ndarray]:
    rows = text_rows(path, info)
    assert len(rows.open()) == rows.rows
    return dict(rows.open().read(0, rows.rows))


def jsonl(path: Path, records) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.mark.parametrize("pack", [False, True])
def test_as_the_data_reads_the_same_texts(folder: Path, pack: bool) -> None:
    data = unpacked(pack=pack)
    info, (real, _) = data.inspect(folder), rows_of(data, folder)
    write_txt(folder / "s.txt", TRAIN)
    datasets.Dataset.from_dict({"text": TRAIN, "more": TRAIN}).save_to_disk(folder / "dataset")
    datasets.Dataset.from_dict({"text": TRAIN}).to_parquet(folder / "s.parquet")
    jsonl(folder / "s.jsonl", [{"text": text, "seed": 0} for text in TRAIN])
    for name in ("s.txt", "s.jsonl", "dataset", "s.parquet"):
        columns = read(folder / name, info)
        np.testing.assert_array_equal(columns["tokens"], real["tokens"])
        assert columns["tokens"].dtype == real["tokens"].dtype


def test_pairs_keep_their_sources(folder: Path) -> None:
    records = [{"source": "a b c", "target": "d"}, {"source": "e", "target": ""}, {"source": "f", "target": "a b"}]
    jsonl(folder / "p.jsonl", records)
    settings = {"validation": "p.jsonl", "tokenizer": "words", "source_length": 3, "target_length": 2}
    jsonl(folder / "q.jsonl", [{"source": "b", "target": "c"}])
    data = Pairs(train="q.jsonl", source="source", target="target", **settings)
    info, (_, held_out) = data.inspect(folder), rows_of(data, folder)
    columns = read(folder / "p.jsonl", info)
    for name in ("source", "target"):
        np.testing.assert_array_equal(columns[name], held_out[name])


def test_the_content_is_of_texts_tokenizer_and_layout(folder: Path) -> None:
    info, longer = unpacked().inspect(folder), unpacked(length=5).inspect(folder)
    jsonl(folder / "a.jsonl", [{"text": text} for text in TRAIN])
    write_txt(folder / "a.txt", TRAIN)
    jsonl(folder / "b.jsonl", [{"text": text} for text in TRAIN[::-1]])
    content = text_rows(folder / "a.jsonl", info).content
    assert text_rows(folder / "a.txt", info).content == content
    assert content not in (text_rows(folder / "b.jsonl", info).content, text_rows(folder / "a.jsonl", longer).content)


def test_what_does_not_fit_is_named(folder: Path) -> None:
    info = unpacked().inspect(folder)
    jsonl(folder / "a.jsonl", [{"txt": "a"}])
    with pytest.raises(MissingError, match=r"a\.jsonl:1: no field 'text', did you mean 'txt'"):
        text_rows(folder / "a.jsonl", info)
    (folder / "b.jsonl").write_text("not JSON\n")
    with pytest.raises(MissingError, match=r"b\.jsonl:1: broken JSON"):
        text_rows(folder / "b.jsonl", info)
    (folder / "c.jsonl").write_text("")
    with pytest.raises(MissingError, match="there are no texts in it"):
        text_rows(folder / "c.jsonl", info)
    write_records(folder / "q.jsonl", source=["b", "a"], target=["c", "d"])
    settings = {"tokenizer": "words", "source_length": 3, "target_length": 2, "held_out": 1}
    pairs = Pairs(train="q.jsonl", source="source", target="target", **settings).inspect(folder)
    write_txt(folder / "p.txt", TRAIN)
    with pytest.raises(MissingError, match=r"p\.txt: txt files have no fields; needed: source and target"):
        text_rows(folder / "p.txt", pairs)
