"""Provides the tokenizer of texts: by name or folder, or with byte pairs learned from the real rows."""

from __future__ import annotations

import contextlib
import importlib.metadata
import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from collapse_sim.core.errors import MissingError, StoreError
from collapse_sim.core.hashing import digest_of
from collapse_sim.core.hub import PretrainedFiles, find, reason_of
from collapse_sim.data.file_cache import cache_folder, seal, unsealed
from collapse_sim.data.text.long_texts import words
from collapse_sim.data.text.tokens import END_OF_TEXT, Tokenizer

if TYPE_CHECKING:
    import tokenizers

FORMAT = 2  # raised when the same texts give different tokenizers
POLL_S = 0.2  # interval at which signals such as Ctrl-C are handled
BYTES = 256  # tokens in every learned vocabulary, in addition to END_OF_TEXT

logger = logging.getLogger(__name__)


class BPE(BaseModel):
    """Byte-level byte-pair encoding (Sennrich et al. 2016; Radford et al. 2019), learned only from the real rows."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    bpe: Annotated[int, Field(ge=BYTES + 1)]
    """Number of tokens: 256 bytes, the end of text, and learned pairs."""
    lower_case: bool = False
    """Convert all texts to lower case, so that a small model has fewer words to learn."""


TokenizerSetting = Annotated[str, Field(min_length=1)] | BPE


@dataclass(frozen=True)
class Learned:
    """The texts that byte pairs are learned from."""

    texts: Callable[[], Iterator[str]]
    known_by: tuple[Any, ...]  # JSON: identifies the texts by content


def tokenizer_of(
    setting: TokenizerSetting,
    data_dir: Path,
    learned: Learned,
    end_token: str | None = None,
    revision: str | None = None,
) -> Tokenizer:
    """The tokenizer that a recipe's `tokenizer` stands for, cached because it may take long to create.

    `end_token` ends texts in place of the tokenizer's own token. Raises MissingError when none of that name and
    revision exists, or when it has no end-of-text token.
    """
    if isinstance(setting, BPE):
        key = ["bpe", setting.bpe, setting.lower_case, learned.known_by, importlib.metadata.version("tokenizers")]
        return _from_cache(key, lambda: _learn(setting, learned.texts()))
    try:
        files = find(setting, data_dir, "tokenizer", revision)
        versions = [importlib.metadata.version(name) for name in ("transformers", "tokenizers")]
        end = [] if end_token is None else [end_token]
        return _from_cache(["folder", files.sha256, versions, *end], lambda: _read(files, end_token))
    except MissingError as error:
        raise MissingError(f"data.tokenizer: {error}") from error


def _from_cache(key: list[Any], make: Callable[[], Tokenizer]) -> Tokenizer:
    """A tokenizer from the cache, or a new one, which is cached if the folder is writable."""
    path: Path | None = None
    with contextlib.suppress(RuntimeError):  # there is no home folder
        path = cache_folder() / "tokenizers" / f"{digest_of([FORMAT, *key])}.json"
        cached = unsealed(path)
        if cached is not None:
            return Tokenizer(cached["definition"], cached["begin"], cached["end"], cached["pad"])
    tokenizer = make()
    with contextlib.suppress(OSError, StoreError):
        if path is not None:
            seal(
                path,
                {
                    "definition": tokenizer.definition,
                    "begin": tokenizer.begin,
                    "end": tokenizer.end,
                    "pad": tokenizer.pad,
                },
            )
    return tokenizer


def _learn(setting: BPE, texts: Iterator[str]) -> Tokenizer:
    """Learn byte pairs by count, equal counts by token ids: the result does not depend on the number of threads."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

    backend = Backend(models.BPE())
    if setting.lower_case:
        backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=setting.bpe,
        min_frequency=2,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    _train(backend, trainer, words(texts))
    size = backend.get_vocab_size()
    if size < setting.bpe:
        logger.warning("bpe: %d tokens instead of %d: the texts have no more pairs that occur twice", size, setting.bpe)
    return Tokenizer(backend.to_str(), 0, 0, 0)


def _train(backend: tokenizers.Tokenizer, trainer: tokenizers.trainers.BpeTrainer, texts: Iterator[str]) -> None:
    """Train in another thread: the library blocks until all is read, and Ctrl-C would not be handled before that."""
    stop = threading.Event()
    until_stopped = itertools.takewhile(lambda _: not stop.is_set(), texts)
    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(backend.train_from_iterator, until_stopped, trainer)
        try:
            while not wait([training], timeout=POLL_S).done:
                pass
            training.result()
        except BaseException:
            stop.set()
            raise


class TokenizerInFolder(NamedTuple):
    """A tokenizer as transformers reads it; marks that it does not have are None."""

    definition: str
    begin: int | None
    end: int | None
    pad: int | None
    numbers: dict[str, int]  # the id of every token


def tokenizer_in(files: PretrainedFiles) -> TokenizerInFolder:
    """A folder's tokenizer, read by transformers; no code in the folder is run. Raises MissingError when it cannot be
    read."""
    from transformers import AutoTokenizer

    try:
        backend = AutoTokenizer.from_pretrained(
            str(files.folder), use_fast=True, local_files_only=True, trust_remote_code=False
        )
        definition = str(backend.backend_tokenizer.to_str())
    except AttributeError:
        raise MissingError(
            f"{files.name}: no fast tokenizer can be created from the files in {files.folder}; needed: tokenizer.json, "
            "as save_pretrained writes it"
        ) from None
    except Exception as error:  # transformers raises many types for unexpected files
        reason = reason_of(error)
        raise MissingError(f"{files.name}: the tokenizer in {files.folder} cannot be read: {reason}") from None
    return TokenizerInFolder(
        definition, backend.bos_token_id, backend.eos_token_id, backend.pad_token_id, dict(backend.get_vocab())
    )


def _read(files: PretrainedFiles, end_token: str | None) -> Tokenizer:
    read = tokenizer_in(files)
    end = read.end if end_token is None else read.numbers.get(end_token)
    if end is None:
        lacking = "no token that ends texts" if end_token is None else f"no token {end_token!r} (`end_token`)"
        marks = [token for token in read.numbers if token[:1] in "<[" and token[-1:] in ">]"][:5]
        advice = f", such as {', '.join(marks)}" if marks else ""
        raise MissingError(
            f"{files.name}: the tokenizer in {files.folder} has {lacking}: set `eos_token` in its "
            f"tokenizer_config.json, or the data's `end_token`, to one of its tokens{advice}; or use another tokenizer"
        )
    begin, pad = (end if mark is None else mark for mark in (read.begin, read.pad))
    return Tokenizer(read.definition, begin, end, pad)
