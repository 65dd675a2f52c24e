"""export and sample of texts: what other programs read is what tokenizer and store say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import tokenizers
import torch
from safetensors.torch import load_file

from collapse_sim.data.base import Info
from collapse_sim.data.text.tokens import PAD_TOKEN_ID
from collapse_sim.run import sample_files
from collapse_sim.store.rowfile import RowFile
from tests.words import PAIRS, TEXT, TOKENIZER, VOCABULARY

DOCS = Path(__file__).parents[2] / "docs"
NAMES = {"stories": TEXT, "summaries": PAIRS}


@pytest.fixture(params=NAMES)
def finished(request, shell, recipe, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    shell("run", recipe(text=NAMES[request.param]), "-q")
    shell.name = request.param
    return shell


def stored(shell, generation: int) -> dict[str, np.ndarray]:
    """The samples of a generation that all arms share."""
    (found,) = [
        RowFile(folder / "samples.safetensors").columns
        for folder in shell.folders("samples")
        if json.loads((folder / "manifest.json").read_text())["description"]["generation"] == generation
    ]
    return found


def in_words(row: np.ndarray) -> str:
    """By hand: token i is word i - 1, token 0 begins and ends texts."""
    return " ".join(VOCABULARY[token - 1] for token in row if token > 0)


def wanted(shell) -> list[dict[str, str]]:
    columns = stored(shell, 0)
    if shell.name == "stories":
        return [{"text": in_words(row)} for row in columns["tokens"]]
    pairs = zip(columns["source"], columns["target"], strict=True)
    return [{"source": in_words(source), "target": in_words(target)} for source, target in pairs]


def test_texts_come_back_from_every_format(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(sample_files, "CHUNK_ROWS", 7)  # 30 rows are five chunks
    name = finished.name
    out = finished("export", name, "--to", "a", "--generation", 0).out.split()
    assert out == [f"a/{p}" for p in ("weights.safetensors", "config.json", *TOKENIZER_FILES, "samples.jsonl", *CARDS)]
    lines = (tmp_path / "a" / "samples.jsonl").read_text(encoding="utf-8").split("\n")
    assert lines.pop() == ""
    assert [json.loads(line) for line in lines] == wanted(finished)
    assert any("日本語" in line for line in lines)  # not escaped: a person can read it

    finished("export", name, "--to", "b", "--generation", 0, "--samples", "dataset")
    dataset = datasets.load_from_disk(str(tmp_path / "b" / "dataset"))
    assert list(dataset.features) == list(wanted(finished)[0])
    assert all(feature == datasets.Value("string") for feature in dataset.features.values())
    assert dataset.to_list() == wanted(finished)

    finished("export", name, "--to", "c", "--generation", 0, "--samples", "npz")
    arrays = np.load(tmp_path / "c" / "samples.npz")
    columns = stored(finished, 0)
    assert set(arrays) == set(columns)
    for column, rows in columns.items():
        np.testing.assert_array_equal(arrays[column], rows)
        assert arrays[column].dtype == np.int16
        assert (rows == PAD_TOKEN_ID).any()
    finished("export", name, "--to", "d", "--samples", "none")
    assert not list((tmp_path / "d").glob("samples*"))


CARDS = ("README.md", "DATASET_CARD.md")
TOKENIZER_FILES = ("tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json")


def test_text_makes_no_pictures(finished):
    what = "rows of text" if finished.name == "stories" else "pairs"
    text = finished.refused("export", finished.name, "--to", "no", "--samples", "png", code=2)
    assert f"--samples png: {what} make no pictures; allowed: jsonl, dataset, npz, none" in text
    kind, more = ("text", ", .txt") if finished.name == "stories" else ("pairs", "")
    text = finished.refused("sample", finished.name, "--out", "x.png", code=2)
    assert f"--out x.png: not for data of kind {kind}; allowed: .npz, .jsonl{more}\n" in text
    if kind == "pairs":
        assert "allowed: .npz, .jsonl" in finished.refused("sample", finished.name, "--out", "x.txt", code=2)


def test_a_model_is_built_again_with_its_tokenizer(finished, tmp_path):
    finished("export", finished.name, "--to", "there")
    example = (DOCS / "export.md").read_text().split("```python\n")[1].split("```")[0]
    there: dict[str, Any] = {}
    exec(example.replace("FOLDER", "there"), there)
    info: Info = there["info"]
    assert (info.text().sha256, info.packed) == (TOKENIZER.sha256, False)
    assert {name: info.shape(name)[0] for name in info.columns} == {
        name: column.shape[1] for name, column in stored(finished, 0).items()
    }
    exported = load_file(tmp_path / "there" / "weights.safetensors")
    assert all(torch.equal(tensor, exported[name]) for name, tensor in there["model"].state_dict().items())
    tokenizer = tokenizers.Tokenizer.from_file(str(tmp_path / "there" / "tokenizer" / "tokenizer.json"))
    assert tokenizer.encode("the king").ids == [1, 2]


def test_samples_as_text(finished, tmp_path):
    for name in ("a.jsonl", "b.jsonl", "c.npz"):
        finished("sample", finished.name, "--out", name, "--rows", 20, "--generation", 0)
    found = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()]
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    columns = np.load(tmp_path / "c.npz")
    last = "tokens" if finished.name == "stories" else "target"
    assert [list(row.values())[-1] for row in found] == [in_words(row) for row in columns[last]]
    assert found != wanted(finished)[:20]
    if finished.name == "stories":
        finished("sample", "stories", "--out", "d.txt", "--rows", 20, "--generation", 0)
        texts = (tmp_path / "d.txt").read_text(encoding="utf-8").split("\n<|endoftext|>\n")
        assert texts == [*(row["text"] for row in found), ""]
