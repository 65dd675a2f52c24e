"""What all kinds of texts share: settings, the split, and the way from files to rows of token ids."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from collapse_sim.core.errors import MissingError, RecipeError
from collapse_sim.core.hashing import digest_of
from collapse_sim.data.base import Info, RowSource
from collapse_sim.data.held_out import check_rows, held_out_index, shuffled_split
from collapse_sim.data.split import Divided
from collapse_sim.data.text.text_rows import PackedRows, Stream, TextRows, TokenColumn
from collapse_sim.data.text.text_source import TextSource, TextSummary, survey
from collapse_sim.data.text.text_tokens import Tokenised, Tokens, tokens_of
from collapse_sim.data.text.tokenizers_made import Learned, TokenizerSetting, tokenizer_of
from collapse_sim.data.text.tokens import Tokenizer

Count = Annotated[int, Field(gt=0)]
Length = Annotated[int, Field(ge=2)]

HELD_OUT = 0.05  # of the texts, where there are none that are held out by themselves
MOST = 0.5  # of the held-out texts of a file of their own; if more are trained on, the files were mixed up

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TextSources:
    """Where the texts are."""

    train: TextSource
    validation: TextSource | None  # None: some of the training texts are held out
    held_out: float | int = HELD_OUT  # then: a share or a number of texts


@dataclass(frozen=True, eq=False)
class TokenizedPart:
    """The real or the held-out texts, tokenised."""

    tokens: tuple[Tokens, ...]  # of every field
    texts: np.ndarray  # (n,) int64: which of them, ascending


@dataclass(frozen=True, eq=False)
class Prepared:
    """Tokenised texts."""

    tokenizer: Tokenizer
    real: TokenizedPart
    held_out: TokenizedPart
    seen: int  # held-out texts that are also among the real ones
    empty: tuple[int, ...]  # texts of every field that are, of all
    fingerprint: str  # sha256 of texts and tokenizer


class TextSettings(Divided):
    """Settings that every kind of texts has."""

    tokenizer: TokenizerSetting
    """A name, or a folder below the data folder; or {bpe: 2000}, learned from the real rows."""
    rows: Count | None = None
    """Real rows that generation 0 is fitted to; default: all; the rest is the reserve."""
    held_out_rows: Count | None = None
    """At most so many held-out rows, a fixed random choice; default: all."""

    name: ClassVar[str]  # in a recipe
    kind: ClassVar[str]
    seeded: ClassVar[bool] = False
    metrics: ClassVar[tuple[str, ...]] = ("rare_words",)  # measured unless a recipe has them itself
    not_in_key: ClassVar[tuple[str, ...]] = ("tokenizer",)  # what is known by its content (Info.fingerprint)

    def parts(self, folder: Path) -> TextSources:
        """The files. Raises MissingError: where they were looked for, and what would do."""
        raise NotImplementedError


class PlainTexts(TextSettings):
    """Texts for language models: column "tokens" (length,)."""

    length: Length = 128
    """Tokens of a row, begin and end included."""
    pack: bool = True
    """true: all texts joined, and cut into blocks of `length`; false: one text a row, cut to `length`."""

    kind: ClassVar[str] = "text"

    def inspect(self, folder: Path) -> Info:
        """Checks and tokenises all texts, once. Raises MissingError for files, RecipeError for settings."""
        prepared, real, held_out = self._open(folder)
        for name, rows in (("real", real), ("held-out", held_out)):
            if isinstance(rows, PackedRows) and not len(rows):
                raise RecipeError(
                    f"data.length: the {name} texts have {len(rows.stream):,} tokens, ends of texts included, "
                    f"fewer than one block of {self.length}: lower `length`, set `pack: false`, or bring more text"
                )
        if self.pack:
            logger.info(
                "%s, %s empty; %s and %s blocks of %d tokens",
                _counts(self, prepared), f"{prepared.empty[0]:,}", f"{len(real):,}", f"{len(held_out):,}", self.length,
            )  # fmt: skip
        else:
            logger.info("%s; %s", _counts(self, prepared), _cut("tokens", 0, prepared, (real, held_out)))
        columns = {"tokens": ((self.length,), prepared.tokenizer.dtype)}
        return text_info(self, prepared, len(real), len(held_out), columns, packed=self.pack)

    def open(self, folder: Path) -> tuple[RowSource, RowSource]:
        _, real, held_out = self._open(folder)
        return real, held_out.some(held_out_index(self, len(held_out)))

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
    """Tokens of a source, its end included; longer ones are cut, and end all the same."""
    target_length: Length = 128
    """Of a target."""
    prefix: str = ""
    """Before every source, as in T5's "summarize: "."""

    kind: ClassVar[str] = "pairs"

    def inspect(self, folder: Path) -> Info:
        """Checks and tokenises all texts, once. Raises MissingError for files, RecipeError for settings."""
        prepared = prepare(self, folder, (self.prefix, ""))
        dtype = prepared.tokenizer.dtype
        columns = {"source": ((self.source_length,), dtype), "target": ((self.target_length,), dtype)}
        real, held_out = self._rows(prepared, prepared.real), self._rows(prepared, prepared.held_out)
        cut = [_cut(name, number, prepared, (real, held_out)) for number, name in enumerate(columns)]
        logger.info("%s; %s", _counts(self, prepared), "; ".join(cut))
        return text_info(self, prepared, len(real), len(held_out), columns, packed=False)

    def open(self, folder: Path) -> tuple[RowSource, RowSource]:
        prepared = prepare(self, folder, (self.prefix, ""))
        held_out = self._rows(prepared, prepared.held_out)
        return self._rows(prepared, prepared.real), held_out.some(held_out_index(self, len(held_out)))

    def _rows(self, prepared: Prepared, part: TokenizedPart) -> TextRows:
        lengths = {"source": self.source_length, "target": self.target_length}
        columns = {
            name: TokenColumn(tokens, lengths[name], begin=False, cut_ends=True)
            for name, tokens in zip(lengths, part.tokens, strict=True)
        }
        return TextRows(columns, part.texts, prepared.tokenizer)


def prepare(settings: TextSettings, folder: Path, prefixes: tuple[str, ...]) -> Prepared:
    """Find, check and tokenise the texts; what was done before is not done again.

    Raises MissingError for files and tokenizers, RecipeError when no text is left to train on.
    """
    parts = settings.parts(folder)
    surveys = {source: survey(source) for source in (parts.train, parts.validation) if source is not None}
    train = surveys[parts.train]
    if parts.validation is None:
        real, held_out = _split(parts, train)
    else:
        if train.sha256 == surveys[parts.validation].sha256:
            raise RecipeError(
                f"{_setting(settings)}: the same texts as those to train on, so nothing is held out: name others, or "
                "leave it out"
            )
        real, held_out = np.arange(train.texts), np.arange(surveys[parts.validation].texts)
    learned = Learned(lambda: _texts(parts.train, real), (train.sha256, len(real), train.texts))
    tokenizer = tokenizer_of(settings.tokenizer, folder, learned)
    tokens = {source: tokens_of(source, found, tokenizer, prefixes) for source, found in surveys.items()}
    trained, held = tokens[parts.train], tokens[parts.validation or parts.train]
    seen = _seen_in_training(settings, parts, trained, real, held, held_out)
    return Prepared(
        tokenizer,
        TokenizedPart(trained.columns, real),
        TokenizedPart(held.columns, held_out),
        seen,
        tuple(map(sum, zip(*(found.empty for found in surveys.values()), strict=True))),
        digest_of([[found.sha256 for found in surveys.values()], tokenizer.sha256]),
    )


def _split(parts: TextSources, found: TextSummary) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the real and of the held-out texts: a fixed random choice, each in the order of the files."""
    texts = found.texts
    where = ", ".join(str(file.path) for file in parts.train.files)
    if texts < 2:
        divided = any(file.format == "txt" for file in parts.train.files)
        raise MissingError(
            f"{where}: one text; needed: at least one to train on and one held out: name a file of held-out texts with "
            f"`validation`{', or divide it with `separator`' if divided else ', or bring more texts'}"
        )
    train, validation = shuffled_split(parts.held_out, texts, "texts")
    return np.sort(train), np.sort(validation)


def _setting(settings: TextSettings) -> str:
    """What names the held-out texts."""
    return "data.validation" if "validation" in type(settings).model_fields else f"{settings.name}, its validation part"


def _seen_in_training(
    settings: TextSettings,
    parts: TextSources,
    trained: Tokenised,
    real: np.ndarray,
    held: Tokenised,
    held_out: np.ndarray,
) -> int:
    """How many held-out texts, or pairs, are also among the real ones, word by word; empty ones do not count.

    Raises RecipeError when most are and a recipe names them: such files were mixed up. Where they are chosen out of
    `train`, that has its texts many times, and only its owner knows whether it should.
    """
    hashes = held.hashes[held_out]
    seen = int((np.isin(hashes, trained.hashes[real]) & (hashes != 0)).sum())
    if parts.validation is not None and seen > MOST * len(held_out):
        raise RecipeError(
            f"{_setting(settings)}: {seen:,} of {len(held_out):,} held-out texts are also among those to train on, "
            "word by word: what is trained on cannot be held out: name other files, or leave it out"
        )
    return seen


def _texts(source: TextSource, chosen: np.ndarray) -> Iterator[str]:
    """All fields of the chosen texts."""
    wanted = np.zeros(chosen[-1] + 1, bool)
    wanted[chosen] = True
    for number, texts in enumerate(source.records("learning a vocabulary from")):
        if number < len(wanted) and wanted[number]:
            yield from texts


def _counts(settings: TextSettings, prepared: Prepared) -> str:
    real, held_out = len(prepared.real.texts), len(prepared.held_out.texts)
    seen = f" ({prepared.seen:,} of them also among the real texts, word by word)" if prepared.seen else ""
    return f"{settings.name}: {real:,} texts and {held_out:,} held out{seen}"


def _cut(name: str, number: int, prepared: Prepared, parts: Sequence[TextRows | PackedRows]) -> str:
    """What is to be known of the texts of a column."""
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
    """Raises RecipeError when more rows are asked for than there are."""
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
