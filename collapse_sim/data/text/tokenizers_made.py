"""The tokenizer of texts: one by name or folder, or byte pairs learned from the real rows."""

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
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from collapse_sim.core.errors import MissingError, StoreError
from collapse_sim.core.hashing import digest_of
from collapse_sim.core.hub import PretrainedFiles, find, reason_of
from collapse_sim.data.remember import cache_folder, seal, unsealed
from collapse_sim.data.text.long_texts import words
from collapse_sim.data.text.tokens import END_OF_TEXT, Tokenizer

if TYPE_CHECKING:
    import tokenizers

FORMAT = 2  # raised when the same texts begin to give other tokenizers
HEARD_WITHIN_S = 0.2  # a signal
BYTES = 256  # tokens that there are always, and END_OF_TEXT

logger = logging.getLogger(__name__)


class BPE(BaseModel):
    """Byte-level byte-pair encoding (Sennrich et al. 2016; Radford et al. 2019), learned from the real rows alone."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    bpe: Annotated[int, Field(ge=BYTES + 1)]
    """tokens: 256 bytes, the end of text, and what is learned."""
    lower_case: bool = False
    """Texts are read, and written again, without capitals: fewer words for a small model."""


TokenizerSetting = Annotated[str, Field(min_length=1)] | BPE


@dataclass(frozen=True)
class Learned:
    """The texts that byte pairs are learned from."""

    texts: Callable[[], Iterator[str]]
    known_by: tuple[Any, ...]  # JSON: what decides them, by content


def tokenizer_of(setting: TokenizerSetting, data_dir: Path, learned: Learned) -> Tokenizer:
    """What a recipe's `tokenizer` means. What it takes long to make is kept in the cache.

    Raises MissingError when there is none of that name, or it has no end of text.
    """
    if isinstance(setting, BPE):
        key = ["bpe", setting.bpe, setting.lower_case, learned.known_by, importlib.metadata.version("tokenizers")]
        return _kept(key, lambda: _learn(setting, learned.texts()))
    try:
        found = find(setting, data_dir, "tokenizer")
        versions = [importlib.metadata.version(name) for name in ("transformers", "tokenizers")]
        return _kept(["folder", found.sha256, versions], lambda: _read(found))
    except MissingError as error:
        raise MissingError(f"data.tokenizer: {error}") from error


def _kept(key: list[Any], make: Callable[[], Tokenizer]) -> Tokenizer:
    """A tokenizer from the cache, or a new one, which is put there if anything can be."""
    path: Path | None = None
    with contextlib.suppress(RuntimeError):  # there is no home folder
        path = cache_folder() / "tokenizers" / f"{digest_of([FORMAT, *key])}.json"
        kept = unsealed(path)
        if kept is not None:
            return Tokenizer(kept["definition"], kept["begin"], kept["end"], kept["pad"])
    made = make()
    with contextlib.suppress(OSError, StoreError):
        if path is not None:
            seal(path, {"definition": made.definition, "begin": made.begin, "end": made.end, "pad": made.pad})
    return made


def _learn(setting: BPE, texts: Iterator[str]) -> Tokenizer:
    """Byte pairs by count, equal counts by their tokens' numbers: the same whatever the number of threads."""
    from tokenizers import Tokenizer as Made
    from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

    made = Made(models.BPE())
    if setting.lower_case:
        made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=setting.bpe,
        min_frequency=2,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    _train(made, trainer, words(texts))
    found = made.get_vocab_size()
    if found < setting.bpe:
        logger.warning("bpe: %d tokens and not %d: the texts have no more pairs that occur twice", found, setting.bpe)
    return Tokenizer(made.to_str(), 0, 0, 0)


def _train(made: tokenizers.Tokenizer, trainer: tokenizers.trainers.BpeTrainer, texts: Iterator[str]) -> None:
    """In another thread: the library waits for threads of its own, and Ctrl-C would not be heard before all is read."""
    stop = threading.Event()
    wanted = itertools.takewhile(lambda _: not stop.is_set(), texts)
    with ThreadPoolExecutor(1) as pool:
        learning = pool.submit(made.train_from_iterator, wanted, trainer)
        try:
            while not wait([learning], timeout=HEARD_WITHIN_S).done:
                pass
            learning.result()
        except BaseException:
            stop.set()
            raise


def _read(found: PretrainedFiles) -> Tokenizer:
    """A folder's tokenizer as transformers reads it; nothing of it is run but tokenizers' own code."""
    from transformers import AutoTokenizer

    try:
        read = AutoTokenizer.from_pretrained(
            str(found.folder), use_fast=True, local_files_only=True, trust_remote_code=False
        )
        definition = str(read.backend_tokenizer.to_str())
    except AttributeError:
        raise MissingError(
            f"{found.name}: no fast tokenizer can be made of the files in {found.folder}; needed: tokenizer.json, "
            "as save_pretrained writes it"
        ) from None
    except Exception as error:  # transformers has many for files that are not what it expects
        why = reason_of(error)
        raise MissingError(f"{found.name}: the tokenizer in {found.folder} cannot be read: {why}") from None
    begin, end, pad = read.bos_token_id, read.eos_token_id, read.pad_token_id
    if end is None:
        raise MissingError(
            f"{found.name}: the tokenizer in {found.folder} has no token that ends texts: set `eos_token` in its "
            "tokenizer_config.json, or take another tokenizer"
        )
    return Tokenizer(definition, int(end if begin is None else begin), int(end), int(end if pad is None else pad))
