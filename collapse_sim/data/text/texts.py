"""What all kinds of texts share: settings, the split, and the conversion from files to rows of token ids."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from collapse_sim.core.errors import MissingError, RecipeError
from collapse_sim.core.hashing import digest_of
from collapse_sim.data.base import Info, RowSource
from collapse_sim.data.held_out import check_rows, held_out_index, shuffled_split
from collapse_sim.data.split import Divided
from collapse_sim.data.text.text_rows import PackedRows, Stream, TextRows, TokenColumn
from collapse_sim.data.text.text_source import TextSource, TextSummary, survey
from collapse_sim.data.text.text_tokens import Tokenised, Tokens, tokens_of
from collapse_sim.data.text.tokenizers_made import BPE, Learned, TokenizerSetting, tokenizer_of
from collapse_sim.data.text.tokens import Tokenizer

Count = Annotated[int, Field(gt=0)]
Length = Annotated[int, Field(ge=2)]

HELD_OUT = 0.05  # share of the texts, if no file of held-out texts is given
MAX_SHARED = 0.5  # share of the texts in a held-out file; if more are trained on, the files were mixed up

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TextSources:
    """The files of the training and the held-out texts."""

    train: TextSource
    validation: TextSource | None  # None: some of the training texts are held out
    held_out: float | int = HELD_OUT  # in that case: the share or number of texts to hold out


@dataclass(frozen=True, eq=False)
class TokenizedPart:
    """The real or the held-out texts, tokenised."""

    tokens: tuple[Tokens, ...]  # for each field
    texts: np.ndarray  # (n,) int64: indices of the texts of this part, ascending


@dataclass(frozen=True, eq=False)
class Prepared:
    """Tokenised texts."""

    tokenizer: Tokenizer
    real: TokenizedPart
    held_out: TokenizedPart
    seen: int  # held-out texts that are also among the real ones
    empty: tuple[int, ...]  # number of empty texts in each field, of all texts
    fingerprint: str  # sha256 of texts and tokenizer


class TextSettings(Divided):
    """Settings that every kind of texts has."""

    tokenizer: TokenizerSetting
    """A name on a hub, a folder (relative to the data folder, or absolute), or {bpe: 2000}: learned from real texts."""
    end_token: str | None = None
    """The token that ends texts, for a tokenizer by name or folder; default: its own end-of-text token."""
    tokenizer_revision: str | None = None
    """A branch, tag or commit of a tokenizer on a hub; default: the main branch."""
    rows: Count | None = None
    """Number of real rows that generation 0 is fitted to; default: all. The other real rows are the reserve."""
    held_out_rows: Count | None = None
    """Largest number of held-out rows to use, a fixed random choice; default: all."""

    name: ClassVar[str]  # in a recipe
    kind: ClassVar[str]
    seeded: ClassVar[bool] = False
    metrics: ClassVar[tuple[str, ...]] = ("rare_words",)  # added unless the recipe lists them
    # The tokenizer is identified by its content instead (Info.fingerprint).
    not_in_key: ClassVar[tuple[str, ...]] = ("tokenizer", "end_token", "tokenizer_revision")

    @model_validator(mode="after")
    def _learned_ones_have_their_own(self) -> Self:
        given = [name for name in ("end_token", "tokenizer_revision") if getattr(self, name) is not None]
        if given and isinstance(self.tokenizer, BPE):
            raise ValueError(f"{' and '.join(given)}: for a tokenizer by name or folder, this one is learned; remove")
        return self

    def parts(self, folder: Path) -> TextSources:
        """The files. Raises MissingError, which names the searched places and the accepted files."""
        raise NotImplementedError


class PlainTexts(TextSettings):
    """Texts for language models: column "tokens" (length,)."""

    length: Length = 128
    """Tokens per row, including begin and end tokens."""
    pack: bool = True
    """true: all texts are joined and cut into blocks of `length`; false: one text per row, truncated to `length`."""

    kind: ClassVar[str] = "text"

    def inspect(self, folder: Path) -> Info:
        """Checks and tokenises all texts once. Raises MissingError for wrong files, RecipeError for wrong settings."""
        prepared, real, held_out = self._open(folder)
        for name, rows in (("real", real), ("held-out", held_out)):
            if isinstance(rows, PackedRows) and not len(rows):
                raise RecipeError(
                    f"data.length: the {name} texts have {len(rows.stream):,} tokens, including ends of texts, "
                    f"fewer than one block of {self.length}: lower `length`, set `pack: false`, or provide more text"
                )
        if self.pack:
            logger.info(
                "%s, %s empty; %s and %s blocks of %d tokens",
                _text_counts(self, prepared), f"{prepared.empty[0]:,}", f"{len(real):,}", f"{len(held_out):,}",
                self.length,
            )  # fmt: skip
        else:
            logger.info("%s; %s", _text_counts(self, prepared), _length_report("tokens", 0, prepared, (real, held_out)))
        columns = {"tokens": ((self.length,), prepared.tokenizer.dtype)}
        return text_info(self, prepared, len(real), len(held_out), columns, packed=self.pack)

    def open(self, folder: Path) -> tuple[RowSource, RowSource]:
        _, real, held_out = self._open(folder)
        return real, held_out.select(held_out_index(self, len(held_out)))

    def _open(self, folder: Path) -> tuple[Prepared, TextRows | PackedRows, TextRows | PackedRows]:
        prepared = prepare(self, folder, ("",))
        return prepared, self._rows(prepared, prepared.real), self._rows(prepared, prepared.held_out)

    def _rows(self, prepared: Prepared, part: TokenizedPart) -> TextRows | PackedRows:
        (tokens,) = part.tokens
        if self.pack:
            return PackedRows(Stream(tokens, part.texts, prepared.tokenizer), self.length)
        columns = {"tokens": TokenColumn(tokens, self.length, begin=True, cut_ends=False)}
        return TextRows(columns, part.texts, prepared.tokenizer)


class PairedTexts(TextSettings):
    """Pairs of texts for encoder-decoders: columns "source" (source_length,) and "target" (target_length,)."""

    source_length: Length = 512
    """Tokens per source, including the end token; longer sources are truncated, and still end with it."""
    target_length: Length = 128
    """Tokens per target, including the end token; longer targets are truncated, and still end with it."""
    prefix: str = ""
    """Text that is put before each source, such as T5's "summarize: "."""

    kind: ClassVar[str] = "pairs"

    def inspect(self, folder: Path) -> Info:
        """Checks and tokenises all texts once. Raises MissingError for wrong files, RecipeError for wrong settings."""
        prepared = prepare(self, folder, (self.prefix, ""))
        dtype = prepared.tokenizer.dtype
        columns = {"source": ((self.source_length,), dtype), "target": ((self.target_length,), dtype)}
        real, held_out = self._rows(prepared, prepared.real), self._rows(prepared, prepared.held_out)
        reports = [_length_report(name, number, prepared, (real, held_out)) for number, name in enumerate(columns)]
        logger.info("%s; %s", _text_counts(self, prepared), "; ".join(reports))
        return text_info(self, prepared, len(real), len(held_out), columns, packed=False)

    def open(self, folder: Path) -> tuple[RowSource, RowSource]:
        prepared = prepare(self, folder, (self.prefix, ""))
        held_out = self._rows(prepared, prepared.held_out)
        return self._rows(prepared, prepared.real), held_out.select(held_out_index(self, len(held_out)))

    def _rows(self, prepared: Prepared, part: TokenizedPart) -> TextRows:
        lengths = {"source": self.source_length, "target": self.target_length}
        columns = {
            name: TokenColumn(tokens, lengths[name], begin=False, cut_ends=True)
            for name, tokens in zip(lengths, part.tokens, strict=True)
        }
        return TextRows(columns, part.texts, prepared.tokenizer)


def prepare(settings: TextSettings, folder: Path, prefixes: tuple[str, ...]) -> Prepared:
    """Find, check and tokenise the texts; earlier results are reused.

    Raises MissingError for wrong files and tokenizers, RecipeError when no text is left to train on.
    """
    parts = settings.parts(folder)
    surveys = {source: survey(source) for source in (parts.train, parts.validation) if source is not None}
    train = surveys[parts.train]
    if parts.validation is None:
        real, held_out = _split(parts, train)
    else:
        if train.sha256 == surveys[parts.validation].sha256:
            raise RecipeError(
                f"{_setting(settings)}: the same texts as those to train on, so nothing is held out: name other files, "
                "or leave it out"
            )
        real, held_out = np.arange(train.texts), np.arange(surveys[parts.validation].texts)
    learned = Learned(lambda: _chosen_texts(parts.train, real), (train.sha256, len(real), train.texts))
    tokenizer = tokenizer_of(settings.tokenizer, folder, learned, settings.end_token, settings.tokenizer_revision)
    tokens = {source: tokens_of(source, summary, tokenizer, prefixes) for source, summary in surveys.items()}
    train_tokens, held_out_tokens = tokens[parts.train], tokens[parts.validation or parts.train]
    seen = _seen_in_training(settings, parts, train_tokens, real, held_out_tokens, held_out)
    return Prepared(
        tokenizer,
        TokenizedPart(train_tokens.columns, real),
        TokenizedPart(held_out_tokens.columns, held_out),
        seen,
        tuple(map(sum, zip(*(summary.empty for summary in surveys.values()), strict=True))),
        digest_of([[summary.sha256 for summary in surveys.values()], tokenizer.sha256]),
    )


def _split(parts: TextSources, summary: TextSummary) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the real and of the held-out texts: a fixed random choice, each in the order of the files."""
    texts = summary.texts
    where = ", ".join(str(file.path) for file in parts.train.files)
    if texts < 2:
        divided = any(file.format == "txt" for file in parts.train.files)
        raise MissingError(
            f"{where}: one text; needed: at least one to train on and one held out: name a file of held-out texts with "
            f"`validation`{', or split it with `separator`' if divided else ', or provide more texts'}"
        )
    train, validation = shuffled_split(parts.held_out, texts, "texts")
    return np.sort(train), np.sort(validation)


def _setting(settings: TextSettings) -> str:
    """The setting that names the held-out texts, for messages."""
    return "data.validation" if "validation" in type(settings).model_fields else f"{settings.name}, its validation part"


def _seen_in_training(
    settings: TextSettings,
    parts: TextSources,
    train_tokens: Tokenised,
    real: np.ndarray,
    held_out_tokens: Tokenised,
    held_out: np.ndarray,
) -> int:
    """The number of held-out texts, or pairs, that are identical to real ones; empty texts do not count.

    Raises RecipeError when most are and they have their own files: these were mixed up. If they are chosen from
    `train`, its texts are repeated, which may be intended.
    """
    hashes = held_out_tokens.hashes[held_out]
    seen = int((np.isin(hashes, train_tokens.hashes[real]) & (hashes != 0)).sum())
    if parts.validation is not None and seen > MAX_SHARED * len(held_out):
        raise RecipeError(
            f"{_setting(settings)}: {seen:,} of {len(held_out):,} held-out texts are also among those to train on, "
            "word for word: what is trained on cannot be held out: name other files, or leave it out"
        )
    return seen


def _chosen_texts(source: TextSource, chosen: np.ndarray) -> Iterator[str]:
    """All fields of the chosen texts."""
    mask = np.zeros(chosen[-1] + 1, bool)
    mask[chosen] = True
    for number, texts in enumerate(source.records("learning a vocabulary from")):
        if number < len(mask) and mask[number]:
            yield from texts


def _text_counts(settings: TextSettings, prepared: Prepared) -> str:
    real, held_out = len(prepared.real.texts), len(prepared.held_out.texts)
    seen = f" ({prepared.seen:,} of them also among the real texts, word for word)" if prepared.seen else ""
    return f"{settings.name}: {real:,} texts and {held_out:,} held out{seen}"


def _length_report(name: str, number: int, prepared: Prepared, parts: Sequence[TextRows | PackedRows]) -> str:
    """The numbers of empty and of truncated texts in a column, for the log."""
    rows = [part for part in parts if isinstance(part, TextRows)]
    cut = sum(part.columns[name].cut(part.texts) for part in rows)
    return f"{name}: {prepared.empty[number]:,} empty, {cut:,} cut at {rows[0].columns[name].length}"


def text_info(
    settings: TextSettings,
    prepared: Prepared,
    pool: int,
    held_out: int,
    columns: Mapping[str, tuple[tuple[int, ...], str]],
    *,
    packed: bool,
) -> Info:
    """The Info of text data. Raises RecipeError when more rows are requested than there are."""
    check_rows(settings, pool, held_out)
    return Info(
        kind=settings.kind,
        columns=columns,
        rows=settings.rows or pool,
        pool=pool,
        held_out=settings.held_out_rows or held_out,
        fingerprint=prepared.fingerprint,
        tokenizer=prepared.tokenizer,
        packed=packed,
    )
