"""Tokenizers by folder are those of transformers; learned ones are the same everywhere and see no held-out text."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from collapse_sim.core.errors import MissingError
from collapse_sim.data.text.text_files import TextFiles
from collapse_sim.data.text.tokenizers_made import BPE, Learned, tokenizer_of
from collapse_sim.data.text.tokens import END_OF_TEXT
from collapse_sim.recipe.problems import validate
from tests.data.making import message_of

from .making_texts import LINES, MAKERS, NOTHING_LEARNED, named, words_folder, write_txt
from .making_texts import files as reading


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLLAPSE_SIM_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize(("name", "marks"), [("gpt2", (400, 400, 400)), ("t5", (1, 1, 0)), ("llama", (1, 2, 2))])
def test_a_folder_is_what_transformers_reads_in_it(name: str, marks: tuple[int, ...], folder: Path) -> None:
    from transformers import AutoTokenizer

    place = MAKERS[name](folder / name)
    tokenizer, theirs = named(name, folder), AutoTokenizer.from_pretrained(place)
    if name == "gpt2":
        marks = (theirs.eos_token_id,) * 3
    assert (tokenizer.begin, tokenizer.end, tokenizer.pad) == marks
    expected = theirs(LINES, add_special_tokens=False)["input_ids"]
    assert [ids.tolist() for ids in tokenizer.encode(LINES)] == expected
    for ids in expected:
        assert tokenizer.decode(ids) == theirs.decode(ids, skip_special_tokens=True)


def test_an_end_for_a_tokenizer_without_one(folder: Path) -> None:
    """Any token may end texts; it begins them, too, and pads, if there is none for that."""
    place = words_folder(folder)
    config = json.loads((place / "tokenizer_config.json").read_text())
    bare = {name: value for name, value in config.items() if name not in ("bos_token", "eos_token", "pad_token")}
    (place / "tokenizer_config.json").write_text(json.dumps(bare))
    with pytest.raises(MissingError, match=r"or the data's `end_token`, to one of its tokens, such as <\|endoftext\|>"):
        named("words", folder)
    found = tokenizer_of("words", folder, NOTHING_LEARNED, "c")
    assert (found.begin, found.end, found.pad) == (3, 3, 3)
    assert tokenizer_of("words", folder, NOTHING_LEARNED, "d").end == 4
    with pytest.raises(MissingError, match=r"words has no token 'x' \(`end_token`\): set"):
        tokenizer_of("words", folder, NOTHING_LEARNED, "x")
    (place / "tokenizer_config.json").write_text(json.dumps(config))
    other = tokenizer_of("words", folder, NOTHING_LEARNED, "c")
    assert (other.begin, other.end, other.pad) == (0, 3, 0)


def test_a_learned_vocabulary_has_its_own_end() -> None:
    _, complaints = validate(
        TextFiles, {"train": "a.txt", "tokenizer": {"bpe": 300}, "end_token": "c", "tokenizer_revision": "v2"}
    )
    assert [message for _, message in complaints] == [
        "end_token and tokenizer_revision: for a tokenizer by name or folder, this one is learned; remove"
    ]


@pytest.mark.parametrize("name", MAKERS)
def test_a_second_start_needs_no_transformers(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    MAKERS[name](folder / name)
    first = named(name, folder)
    monkeypatch.setitem(sys.modules, "transformers", None)
    (folder / name).rename(folder / "moved")
    assert named("moved", folder).sha256 == first.sha256
    (note,) = (folder / "cache" / "tokenizers").iterdir()
    note.write_text("{")
    with pytest.raises(ImportError):
        named("moved", folder)


def test_a_tokenizer_without_an_end_is_refused(folder: Path) -> None:
    place = words_folder(folder)
    config = json.loads((place / "tokenizer_config.json").read_text())
    (place / "tokenizer_config.json").write_text(json.dumps({**config, "eos_token": None}))
    with pytest.raises(MissingError, match=r"words: the tokenizer in .*words has no token that ends texts: set `eos"):
        named("words", folder)


def test_a_damaged_tokenizer(folder: Path) -> None:
    (words_folder(folder) / "tokenizer.json").write_text('{"version": ')
    with pytest.raises(MissingError, match=r"words: the tokenizer in .*words cannot be read: "):
        named("words", folder)


def test_a_reason_on_a_later_line_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As transformers' own, of a library that is not there, is."""
    from transformers import AutoTokenizer

    def fail(*_: object, **__: object) -> None:
        raise ImportError("\nT5Converter requires the SentencePiece library\n")

    words_folder(folder)
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", fail)
    with pytest.raises(MissingError, match=r"cannot be read: T5Converter requires the SentencePiece library$"):
        named("words", folder)


# Learned byte pairs.


def texts(**settings: Any) -> TextFiles:
    return TextFiles(**{"train": "t.txt", "validation": "v.txt", "tokenizer": {"bpe": 320}, "length": 8, **settings})


@pytest.fixture
def files(folder: Path) -> Path:
    write_txt(folder / "t.txt", LINES * 3)
    write_txt(folder / "v.txt", ["zyzzyva zyzzyva zyzzyva"])
    return folder


def test_byte_pairs_write_every_text_and_export(files: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = texts().inspect(files).text()
    assert (tokenizer.begin, tokenizer.end, tokenizer.pad, tokenizer.token(0)) == (0, 0, 0, END_OF_TEXT)
    assert tokenizer.size == 320
    unseen = [*LINES, "Ünseen ✓ \x00 text", " \n "]
    assert [tokenizer.decode(ids) for ids in tokenizer.encode(unseen)] == unseen
    (files / "out").mkdir()
    tokenizer.save(files / "out")
    loaded = AutoTokenizer.from_pretrained(files / "out")
    assert loaded(unseen)["input_ids"] == [ids.tolist() for ids in tokenizer.encode(unseen)]
    assert (loaded.bos_token_id, loaded.eos_token_id, loaded.pad_token_id) == (0, 0, 0)
    assert named("out", files).encode(["over"])[0].tolist() == tokenizer.encode(["over"])[0].tolist()


def test_ctrl_c_while_byte_pairs_are_learned(folder: Path) -> None:
    """It is heard at once, and not when all texts have been read."""
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        for read in range(10**6):
            if read == 1000:
                os.kill(os.getpid(), signal.SIGINT)
            yield "the cat sat on the mat"

    with pytest.raises(KeyboardInterrupt):
        tokenizer_of(BPE(bpe=300), folder, Learned(endless, ("endless",)))
    assert 1000 <= read < 10**6 - 1
    assert not list(folder.rglob("*.json"))  # nothing that was learned from a part is kept


def test_byte_pairs_without_capitals(files: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = texts(tokenizer={"bpe": 320, "lower_case": True}).inspect(files).text()
    assert tokenizer.decode(tokenizer.encode(["A GREAT Ünseen"])[0]) == "a great ünseen"
    assert tokenizer.sha256 != texts().inspect(files).text().sha256
    (files / "out").mkdir()
    tokenizer.save(files / "out")
    loaded = AutoTokenizer.from_pretrained(files / "out")
    assert loaded("A GREAT Ünseen")["input_ids"] == tokenizer.encode(["a great ünseen"])[0].tolist()


def test_only_real_texts_are_learned_from(files: Path) -> None:
    """A pair within held-out texts makes no token, whether they have a file or are taken out of `train`."""
    seen = texts().inspect(files).text()
    write_txt(files / "v.txt", ["quite another text"])
    assert texts().inspect(files).text().sha256 == seen.sha256
    rare = ["zyzzyva " * 9, "zyzzyva " * 9]
    write_txt(files / "t.txt", ["the cat"] * 20 + rare)
    order = np.random.RandomState(0).permutation(22)
    words = {}
    for held_out in (1, 21):
        info = texts(validation=None, held_out=held_out, tokenizer={"bpe": 300}, pack=False).inspect(files)
        vocabulary = json.loads(info.text().definition)["model"]["vocab"]
        words[held_out] = any("z" in token and len(token) > 1 for token in vocabulary)
        assert words[held_out] == any(number in order[held_out:] for number in (20, 21))
    assert set(words.values()) == {True, False}


@pytest.mark.slow
def test_byte_pairs_are_the_same_in_every_process(files: Path) -> None:
    """Neither the order of hashes nor the number of threads matters."""
    program = (
        "import sys; from pathlib import Path; from collapse_sim.data.text.text_files import TextFiles;"
        "print(TextFiles(train='t.txt', validation='v.txt', tokenizer={'bpe': 320}, length=8)"
        ".inspect(Path(sys.argv[1])).fingerprint)"
    )
    made = []
    for number, threads in (("1", "1"), ("2", "3")):
        env = {**os.environ, "PYTHONHASHSEED": number, "RAYON_NUM_THREADS": threads}
        env["COLLAPSE_SIM_CACHE"] = str(files / number)
        command = [sys.executable, "-c", program, str(files)]
        made.append(subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout.strip())
    assert made == [texts().inspect(files).fingerprint] * 2


def test_what_the_trainer_of_tokenizers_learns(files: Path) -> None:
    """The vocabulary is that of the library's own byte-level trainer."""
    from tokenizers import ByteLevelBPETokenizer

    theirs = ByteLevelBPETokenizer()
    stripped = [line.strip() for line in LINES]
    theirs.train_from_iterator(stripped * 3, 320, min_frequency=2, special_tokens=[END_OF_TEXT], show_progress=False)
    ours = json.loads(texts().inspect(files).text().definition)["model"]
    assert ours["vocab"] == theirs.get_vocab()


def test_fewer_tokens_than_asked_for_are_said(files: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_txt(files / "t.txt", ["ab ab"] * 4)
    info = texts(tokenizer={"bpe": 1000}).inspect(files)
    assert info.text().size == 257 + 2  # "ab" and " ab"
    message, *_ = [message for message in caplog.messages if message.startswith("bpe")]
    assert message == "bpe: 259 tokens instead of 1000: the texts have no more pairs that occur twice"


def test_an_unknown_tokenizer(folder: Path) -> None:
    write_txt(folder / "v.txt", ["a b c d", "e"])
    text = message_of(reading("v.txt", validation=None, held_out=1, tokenizer="/no/where"), folder)
    assert text.startswith("data.tokenizer: /no/where: no such tokenizer: there is no folder /no/where")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"tokenizer": {"bpe": 100}}, [(("tokenizer", "bpe"), "found 100; allowed: at least 257")]),
        ({"tokenizer": {"bqe": 300}}, [(("tokenizer", "bpe"), "missing; it has no default")]),
        ({"tokenizer": 3}, [(("tokenizer",), "found 3; allowed: text, or a mapping")]),
        ({}, [(("tokenizer",), "missing; it has no default")]),
    ],
)
def test_the_tokenizer_of_a_recipe(settings: dict[str, Any], expected: list[Any]) -> None:
    _, complaints = validate(TextFiles, {"train": "t.txt", **settings})
    assert expected[0] in complaints
    instance, complaints = validate(TextFiles, {"train": ["t.txt", "u.txt"], "tokenizer": {"bpe": 300}})
    assert complaints == []
    assert instance.train == ("t.txt", "u.txt")
