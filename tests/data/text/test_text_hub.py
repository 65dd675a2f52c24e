"""Named sets out of the datasets library: its cache first, then a hub, then the hub's own copy."""

from __future__ import annotations

import logging
from pathlib import Path

import datasets
import pytest
from datasets.utils.tqdm import are_progress_bars_disabled

from collapse_sim.core.errors import MissingError
from collapse_sim.data.text import text_hub

from .making_texts import write_records

PARTS = ("train", "validation")


@pytest.fixture(autouse=True)
def _nothing_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer of an earlier test, and a hub that may be asked."""
    text_hub.fetched.cache_clear()
    monkeypatch.setattr(text_hub, "refusal", lambda kind, name: "")


@pytest.fixture
def stored(tmp_path: Path) -> datasets.DatasetDict:
    write_records(tmp_path / "disk", document=["a"], summary=["b"])
    return datasets.DatasetDict(dict.fromkeys(PARTS, datasets.load_from_disk(tmp_path / "disk")))


def test_a_set_whose_repository_holds_a_script(stored: datasets.DatasetDict, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its script is not run: the hub's own copy is taken."""
    asked: list[object] = []

    def load(*_: object, revision: str | None, **__: object) -> datasets.DatasetDict:
        asked.append(revision)
        if revision is None:
            raise RuntimeError("Dataset scripts are no longer supported, but found xsum.py")
        return stored

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert text_hub.fetched("EdinburghNLP/xsum", None).keys() == set(PARTS)
    assert asked == [None, None, "refs/convert/parquet"]


def test_what_is_in_the_cache_is_asked_of_no_hub_and_once(
    stored: datasets.DatasetDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline: list[bool] = []

    def load(*_: object, **__: object) -> datasets.DatasetDict:
        offline.append(datasets.config.HF_HUB_OFFLINE)
        return stored

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(text_hub, "refusal", lambda kind, name: pytest.fail("a hub is asked"))
    for _ in range(2):
        parts = text_hub.fetched("EdinburghNLP/xsum", None)
        assert parts == dict.fromkeys(PARTS, sorted((tmp_path / "disk").glob("*.arrow")))
    assert offline == [True]


def test_the_hubs_first_reason_is_told_and_the_library_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its warnings and progress bars are off only while it works; a set that is not found is asked for again."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    client = logging.getLogger("datasets")
    monkeypatch.setattr(client, "level", logging.INFO)
    shown = not are_progress_bars_disabled()
    datasets.enable_progress_bars()
    offline: list[bool] = []

    def load(*_: object, **__: object) -> None:
        offline.append(datasets.config.HF_HUB_OFFLINE)
        assert are_progress_bars_disabled()
        assert client.level == logging.ERROR
        raise RuntimeError(f"reason {len(offline)}")

    monkeypatch.setattr(datasets, "load_dataset", load)
    try:
        for _ in range(2):
            offline.clear()
            with pytest.raises(MissingError, match=r"^reason 2$"):
                text_hub.fetched("no/such", None)
            assert offline == [True, False, False]
            assert not datasets.config.HF_HUB_OFFLINE
            assert not are_progress_bars_disabled()
            assert client.level == logging.INFO
    finally:
        if not shown:
            datasets.disable_progress_bars()


def test_a_hub_that_may_not_be_asked_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        assert datasets.config.HF_HUB_OFFLINE
        raise RuntimeError("not in the cache")

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(text_hub, "refusal", lambda kind, name: f"no {kind} called {name} may be fetched")
    with pytest.raises(MissingError, match=r"^no dataset called no/such may be fetched$"):
        text_hub.fetched("no/such", None)
