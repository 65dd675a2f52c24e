"""Loads named text data sets with the datasets library, from its cache or a hub. No code of a data set is run."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator
from pathlib import Path

from collapse_sim.core.errors import MissingError
from collapse_sim.core.hub import reason_of, refusal

CONVERTED = "refs/convert/parquet"  # the hub's own copy of a data set whose repository contains a script

logger = logging.getLogger(__name__)


@functools.cache
def fetched(name: str, subset: str | None) -> dict[str, list[Path]]:
    """The Arrow files of each part of a data set, cached per process.

    Raises MissingError with the reason; the caller adds the alternatives.
    """
    reason = ""
    for offline in (True, False):
        if not offline:
            reason = refusal("dataset", name)
            if reason:
                break
            logger.info("fetching %s from a hub, once", name)
        for revision in (None,) if offline else (None, CONVERTED):
            try:
                return _load(name, subset, revision, offline)
            except Exception as error:  # the library raises many types for missing servers and unknown names
                reason = reason or reason_of(error)
    raise MissingError(reason)


def _load(name: str, subset: str | None, revision: str | None, offline: bool) -> dict[str, list[Path]]:
    import datasets

    with _quiet(), _offline() if offline else contextlib.nullcontext():
        parts = datasets.load_dataset(name, subset, revision=revision, keep_in_memory=False)
    return {part: [Path(file["filename"]) for file in rows.cache_files] for part, rows in parts.items()}


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Make the library use only its cache."""
    from datasets import config

    previous = config.HF_HUB_OFFLINE
    config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE = previous


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the library's own warnings and progress bars."""
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
