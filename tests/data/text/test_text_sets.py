"""Published sets: every layout of local files, the datasets library's cache, and what is said when there is nothing."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from collapse_sim.core.errors import MissingError
from collapse_sim.data.text import text_hub
from collapse_sim.data.text.text_sets import CNNDailyMail, TinyStories, WikiText, XSum
from collapse_sim.data.text.tokens import Tokenizer, texts_of
from tests.data.making import rows_of

from .making_texts import words_folder, write_records, write_txt
from .test_text_plain import ARTICLES, PUBLISHED

TRAIN, HELD_OUT = ["a b", "c", "d"], ["e", "f a"]
PARTS = {"train": TRAIN, "validation": HELD_OUT}
STORIES = TinyStories(tokenizer="words", length=6, pack=False)
WIKI = WikiText(tokenizer="words", length=6, pack=False)
WIKI_103 = WIKI.model_copy(update={"subset": "wikitext-103-raw-v1"})
SUMMARIES = (CNNDailyMail(tokenizer="words"), "article", "highlights"), (XSum(tokenizer="words"), "document", "summary")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No data set in a cache, and no way out."""
    from datasets import config

    def blocked(*_: object, **__: object) -> None:
        raise OSError("the network is blocked")

    monkeypatch.setattr(socket, "getaddrinfo", blocked)
    monkeypatch.setattr(socket.socket, "connect", blocked)
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "no cache")
    text_hub.fetched.cache_clear()
    words_folder(tmp_path)
    return tmp_path


def texts(data: Any, folder: Path, column: str = "tokens") -> list[list[str]]:
    tokenizer = data.inspect(folder).text()
    return [texts_of(part[column], tokenizer) for part in rows_of(data, folder)]


@pytest.mark.parametrize(
    "names", ["{}.jsonl", "{}.csv", "{}.parquet", "{}", "{}-00000-of-00001.parquet", "data/{}-0.parquet"]
)
@pytest.mark.parametrize(("data", "source", "target"), SUMMARIES)
def test_pairs_in_every_layout(data: Any, source: str, target: str, names: str, folder: Path) -> None:
    for part, lines in PARTS.items():
        write_records(folder / data.name / names.format(part), **{source: lines, target: lines[::-1]})
    assert texts(data, folder, "source") == [TRAIN, HELD_OUT]
    assert texts(data, folder, "target") == [TRAIN[::-1], HELD_OUT[::-1]]
    assert data.inspect(folder).kind == "pairs"


def test_shards_are_read_in_order(folder: Path) -> None:
    for number, text in enumerate(TRAIN):
        write_records(folder / "cnn_dailymail/3.0.0" / f"train-{number}.parquet", article=[text], highlights=[""])
    write_records(folder / "cnn_dailymail/3.0.0/validation-0.parquet", article=HELD_OUT, highlights=HELD_OUT)
    assert texts(SUMMARIES[0][0], folder, "source") == [TRAIN, HELD_OUT]


def test_shards_that_are_not_there(folder: Path) -> None:
    """A download that was broken off, and links of a hub's cache whose files are gone."""
    place = folder / "xsum" / "data"
    for number in (0, 2, 3):
        write_records(place / f"train-{number:05}-of-00004.parquet", document=["a"], summary=["b"])
    write_records(place / "validation-00000-of-00001.parquet", document=["e"], summary=["f"])
    xsum = SUMMARIES[1][0]
    with pytest.raises(
        MissingError, match=rf"xsum: {place} lacks 1 of the 4 shards that .* belongs to, first number 00001"
    ):
        xsum.inspect(folder)
    shard = place / "train-00001-of-00004.parquet"
    shard.symlink_to("nowhere")
    with pytest.raises(MissingError, match=rf"xsum: {shard}: a link to a file that is not there: get it again"):
        xsum.inspect(folder)
    shard.unlink()
    write_records(shard, document=["c"], summary=["d"])
    assert xsum.inspect(folder).pool == 4


@pytest.mark.parametrize(
    "names",
    [
        ("train.txt", "validation.txt"),
        ("TinyStories-train.txt", "TinyStories-valid.txt"),
        ("TinyStoriesV2-GPT4-train.txt", "TinyStoriesV2-GPT4-valid.txt"),
    ],
)
def test_stories_as_they_are_published(names: tuple[str, str], folder: Path) -> None:
    for name, stories in zip(names, PARTS.values(), strict=True):
        write_txt(folder / "tinystories" / name, stories)
    assert texts(STORIES, folder) == [TRAIN, HELD_OUT]
    moved = STORIES.model_copy(update={"path": str(folder / "elsewhere")})
    (folder / "tinystories").rename(folder / "elsewhere")
    assert texts(moved, folder) == [TRAIN, HELD_OUT]
    assert moved.describe() == STORIES.describe()


VALIDATION = " = V = \n \n f\n"


@pytest.mark.parametrize(
    "place", ["wikitext/wikitext-2-raw-v1", "wikitext/wikitext-2-raw", "wikitext-2-raw", "wikitext"]
)
def test_wikitext_as_published_and_as_a_hub_has_it(place: str, folder: Path) -> None:
    """A hub's rows are lines, in shards that may end within an article."""
    Tokenizer.of_words(["=", *"abcdefg", "Robert", "Life", "Second", "V"]).save(folder / "words")
    for part, name, content in (("train", "train", PUBLISHED), ("validation", "valid", VALIDATION)):
        write_txt(folder / "published" / place / f"wiki.{name}.raw", [content])
        rows = [line if line.strip() else "" for line in content.splitlines(keepends=True)]
        for shard, some in enumerate((rows[:4], rows[4:])):
            write_records(folder / "hub" / place / f"{part}-{shard:05}-of-00002.parquet", text=some or [""])
    data = WIKI.model_copy(update={"tokenizer": str(folder / "words"), "length": 40})
    published, hub = (data.inspect(folder / source) for source in ("published", "hub"))
    assert (published.pool, published.held_out) == (2, 1)
    assert hub.fingerprint == published.fingerprint
    assert texts(data, folder / "hub") == [[" ".join(text.split()) for text in ARTICLES], ["= V = f"]]


# What is not below the data folder.


@pytest.mark.parametrize(
    ("data", "hub", "subset", "fields"),
    [
        (SUMMARIES[0][0], "abisee/cnn_dailymail", "3.0.0", SUMMARIES[0][1:]),
        (SUMMARIES[1][0], "EdinburghNLP/xsum", None, SUMMARIES[1][1:]),
        (STORIES, "roneneldan/TinyStories", None, ["text"]),
        (WIKI, "Salesforce/wikitext", "wikitext-2-raw-v1", ["text"]),
        (WIKI_103, "Salesforce/wikitext", "wikitext-103-raw-v1", ["text"]),
    ],
)
def test_the_datasets_library_is_asked(
    data: Any, hub: str, subset: str | None, fields: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For its cache first; nothing else but names is passed on, and no code of a data set may run."""
    import datasets

    for part, lines in PARTS.items():
        write_records(folder / "disk" / part, **dict.fromkeys(fields, lines))
    asked: list[Any] = []

    def load(*given: object, **settings: object) -> datasets.DatasetDict:
        asked.append((given, settings, datasets.config.HF_HUB_OFFLINE))
        return datasets.DatasetDict({part: datasets.load_from_disk(folder / "disk" / part) for part in PARTS})

    monkeypatch.setattr(datasets, "load_dataset", load)
    info = data.inspect(folder)
    assert (info.pool, info.held_out) == ((1, 1) if data.name == "wikitext" else (3, 2))
    rows_of(data, folder)
    assert asked == [((hub, subset), {"revision": None, "keep_in_memory": False}, True)]
    assert not datasets.config.HF_HUB_OFFLINE


@pytest.mark.parametrize("data", [SUMMARIES[0][0], SUMMARIES[1][0], STORIES, WIKI])
def test_what_is_said_without_data_and_network(data: Any, folder: Path) -> None:
    with pytest.raises(MissingError) as caught:
        data.inspect(folder)
    first, *advice = str(caught.value).splitlines()
    assert first.startswith(f"{data.name}: no data in {folder}/{data.name}")
    assert "could not be fetched from a hub (" in first
    assert "the network is blocked" in first
    text = "\n".join(advice)
    assert "looked for: train.parquet and validation.parquet; train.jsonl and validation.jsonl; " in text
    for words in ("with the fields", "`data.path`, --data-dir or COLLAPSE_SIM_DATA", "save_to_disk("):
        assert words in text
    assert ("TinyStoriesV2-GPT4-train.txt" in text) == (data is STORIES)
    assert ("wiki.train.raw and wiki.valid.raw" in text) == (data is WIKI)


def test_the_advice_makes_what_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line of Python at its end is run as it stands, on a stand-in for the hub."""
    import datasets

    with pytest.raises(MissingError) as caught:
        STORIES.inspect(folder)
    program = str(caught.value).splitlines()[-1].strip().removeprefix('python -c "').removesuffix('"')
    stored = datasets.DatasetDict({part: datasets.Dataset.from_dict({"text": PARTS[part]}) for part in PARTS})
    with monkeypatch.context() as patch:
        patch.setattr(datasets, "load_dataset", lambda name: stored)
        exec(program, {})
    assert texts(STORIES, folder) == [TRAIN, HELD_OUT]


def test_half_a_set(folder: Path) -> None:
    write_records(folder / "xsum" / "train.jsonl", document=["a"], summary=["b"])
    with pytest.raises(MissingError, match=rf"xsum: {folder}/xsum lacks validation\.jsonl"):
        SUMMARIES[1][0].inspect(folder)


def test_lengths_of_the_paper() -> None:
    data = CNNDailyMail(tokenizer="t5-small")
    assert (data.source_length, data.target_length, data.prefix) == (1024, 128, "")


def test_a_folder_is_named_once(folder: Path) -> None:
    """A subset that is called like its archive's folder."""
    with pytest.raises(MissingError) as caught:
        WikiText(tokenizer="words", subset="wikitext-2-raw").inspect(folder)
    looked = str(caught.value).partition("no data in ")[2].partition(", and ")[0].split(" or ")
    assert looked == [f"{folder}/wikitext/wikitext-2-raw", f"{folder}/wikitext-2-raw", f"{folder}/wikitext"]
