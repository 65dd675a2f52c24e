"""Makes the small texts and tokenizers that the tests of text data read, and the data that reads them."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from collapse_sim.data.text.grammar_stories import GrammarText
from collapse_sim.data.text.text_files import TextFiles
from collapse_sim.data.text.tokenizers_made import Learned, tokenizer_of
from collapse_sim.data.text.tokens import END_OF_TEXT, PAD_TOKEN_ID, Tokenizer

WORDS = ("a", "b", "c", "d", "e", "f")  # tokens 1 to 6 of the folder "words"
END = 0  # and what begins and ends texts there
NO = PAD_TOKEN_ID

TEXTS = ["a b c", "", "d", "e e e e e", "f", "b a"]
TRAIN, HELD_OUT = TEXTS[:4], TEXTS[4:]  # of train.txt and validation.txt (conftest.py)

LINES = [
    "The quick brown fox jumps over the lazy dog.",
    "Once upon a time there was a little girl who had a red ball.",
    "It's 3 o'clock, and the café isn't open; naïve 東京 readers wait.",
    "Shares of the company rose 4.5 pct to 21 dlrs on Friday.",
    "  Two spaces before,\n\na line between, and\ttabs behind \t",
    "",
    "x",
]


def unpacked(**settings: Any) -> TextFiles:
    """The texts of train.txt and validation.txt, one a row of four tokens."""
    given = {"train": "train.txt", "validation": "validation.txt", "tokenizer": "words", "length": 4, "pack": False}
    return TextFiles(**{**given, **settings})


def files(train: str | Sequence[str], **settings: Any) -> TextFiles:
    """`train` to train on and the texts of v.txt held out, in blocks of four tokens."""
    return TextFiles(**{"train": train, "validation": "v.txt", "tokenizer": "words", "length": 4, **settings})


def words_folder(folder: Path) -> Path:
    """A tokenizer of single words in FOLDER/words."""
    place = folder / "words"
    place.mkdir(parents=True, exist_ok=True)
    Tokenizer.of_words(WORDS).save(place)
    return place


def gpt2_like(folder: Path, size: int = 400) -> Path:
    """Byte pairs, one token that begins and ends texts, none to pad with."""
    from tokenizers import Tokenizer as Made
    from tokenizers import decoders, models, pre_tokenizers, trainers

    made = Made(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        LINES * 3,
        trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, special_tokens=[], show_progress=False),
    )
    return _saved(made, folder, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, unk_token=END_OF_TEXT)


def t5_like(folder: Path) -> Path:
    """Unigrams of words, <pad> 0, </s> 1, <unk> 2, and no token that begins texts; its end is added by itself."""
    from tokenizers import Tokenizer as Made
    from tokenizers import decoders, models, pre_tokenizers, processors, trainers

    made = Made(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    made.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    made.train_from_iterator(
        LINES * 3,
        trainers.UnigramTrainer(vocab_size=120, special_tokens=special, unk_token="<unk>", show_progress=False),
    )
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return _saved(made, folder, eos_token="</s>", pad_token="<pad>", unk_token="<unk>")


def llama_like(folder: Path) -> Path:
    """Byte pairs of whole texts, whose spaces are part of words; <unk> 0, <s> 1, </s> 2."""
    from tokenizers import Tokenizer as Made
    from tokenizers import decoders, models, normalizers, trainers

    made = Made(models.BPE(unk_token="<unk>", fuse_unk=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(content=" ", left=1, right=0)]
    )
    pieces = [word for line in LINES for word in line.split()]
    made.train_from_iterator(
        pieces * 3,
        trainers.BpeTrainer(vocab_size=150, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False),
    )
    return _saved(made, folder, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


MAKERS = {"gpt2": gpt2_like, "t5": t5_like, "llama": llama_like}
NOTHING_LEARNED = Learned(lambda: iter(()), ())


def named(name: str, folder: Path) -> Tokenizer:
    """The tokenizer that a recipe's `tokenizer: NAME` stands for."""
    return tokenizer_of(name, folder, NOTHING_LEARNED)


def _saved(made: Any, folder: Path, **named: str) -> Path:
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(tokenizer_object=made, **named).save_pretrained(folder)
    return folder


def write_txt(path: Path, texts: Sequence[str], separator: str = f"\n{END_OF_TEXT}\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(separator.join(texts), encoding="utf-8")
    return path


def write_records(path: Path, **columns: Sequence[object]) -> Path:
    """JSONL, CSV, TSV, Parquet or Arrow, by the name's ending; or a folder of Dataset.save_to_disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path
    if path.suffix in (".csv", ".tsv"):
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="," if path.suffix == ".csv" else "\t")
            writer.writerows([list(columns), *zip(*columns.values(), strict=True)])
        return path
    import pyarrow as pa
    import pyarrow.feather
    import pyarrow.parquet

    table = pa.table({name: list(texts) for name, texts in columns.items()})
    if path.suffix == ".parquet":
        pa.parquet.write_table(table, path, row_group_size=3)
    elif path.suffix == ".feather":
        pa.feather.write_feather(table, path)
    elif path.suffix == ".arrow":
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    else:
        from datasets import Dataset

        dataset = Dataset.from_dict(dict(columns))
        dataset.save_to_disk(path, num_shards=min(2, len(dataset)))
    return path


def random_texts(number: int, seed: int = 0) -> list[str]:
    """Words of WORDS, 0 to 12 of them."""
    draws = np.random.default_rng(seed)
    return [" ".join(draws.choice(WORDS, draws.integers(0, 13))) for _ in range(number)]


def row_of(data: GrammarText, text: str, column: str = "tokens") -> Tensor:
    """A text as a row of a grammar's data, (1, L)."""
    tokenizer = data.inspect(Path()).text()
    ids = [tokenizer.begin] * (column == "tokens") + tokenizer.encode([text])[0].tolist() + [tokenizer.end]
    return torch.tensor([ids + [PAD_TOKEN_ID] * (data.columns()[column] - len(ids))], dtype=torch.int16)
