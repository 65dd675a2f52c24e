"""Named sets of texts through the datasets library: its cache, or else a hub. No code of a data set is ever run."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator
from pathlib import Path

from collapse_sim.core.errors import MissingError
from collapse_sim.core.hub import reason_of, refusal

CONVERTED = "refs/convert/parquet"  # the hub's own copy of a set whose repository holds a script

logger = logging.getLogger(__name__)


@functools.cache
def fetched(name: str, subset: str | None) -> dict[str, list[Path]]:
    """The Arrow files of every part of a data set, once a process.

    Raises MissingError: why it could not be had; the caller says what else would do.
    """
    why = ""
    for offline in (True, False):
        if not offline:
            why = refusal("dataset", name)
            if why:
                break
            logger.info("fetching %s from a hub, once", name)
        for revision in (None,) if offline else (None, CONVERTED):
            try:
                return _load(name, subset, revision, offline)
            except Exception as error:  # the library has many for a server that is not there or knows no such name
                why = why or reason_of(error)
    raise MissingError(why)


def _load(name: str, subset: str | None, revision: str | None, offline: bool) -> dict[str, list[Path]]:
    import datasets

    with _quiet(), _offline() if offline else contextlib.nullcontext():
        parts = datasets.load_dataset(name, subset, revision=revision, keep_in_memory=False)
    return {part: [Path(file["filename"]) for file in rows.cache_files] for part, rows in parts.items()}


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """The library looks into its cache only."""
    from datasets import config

    before = config.HF_HUB_OFFLINE
    config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE = before


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's own warnings and bars."""
    from datasets.utils import disable_progress_bars, enable_progress_bars
    from datasets.utils.tqdm import are_progress_bars_disabled

    shown = not are_progress_bars_disabled()
    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    levels = [client.level for client in loggers]
    for client in loggers:
        client.setLevel(logging.ERROR)
    disable_progress_bars()
    try:
        yield
    finally:
        for client, level in zip(loggers, levels, strict=True):
            client.setLevel(level)
        if shown:
            enable_progress_bars()
