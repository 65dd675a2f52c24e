"""Small stories drawn from a grammar: text whose true distribution is known."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.data.split import Validated
from collapse_sim.data.text import grammar_world
from collapse_sim.data.text.pcfg import END, Grammar, Parsed
from collapse_sim.data.text.tokens import PAD_TOKEN_ID, Tokenizer
from collapse_sim.data.toys.simulated import in_blocks

UNKNOWN = Parsed([], False)
TRUTHS = ("true_grammar", "log_probability", "productions", "entropy", "entropy_per_token")


class GrammarText(Validated):
    """Texts of a grammar (data/text/pcfg.py), drawn separately for each seed, and their known properties.

    Word i of the grammar is token i, and its END is the tokenizer's token that begins and ends texts. Rows passed to
    the methods may have any length; a row without an end, or with anything after it, is not a text of the grammar.
    """

    rows: Annotated[int, Field(gt=0)] = 2000
    """Number of real rows that generation 0 is fitted to."""
    fresh_rows: Annotated[int, Field(ge=0)] = 0
    """Number of further real rows, for the strategy `fresh`."""
    held_out_rows: Annotated[int, Field(gt=0)] = 1000
    """Number of rows that are never trained on."""
    tail: Annotated[float, Field(ge=0.0, le=4.0)] = 1.2
    """Exponent of Zipf's law for the choices; 0: all are equally likely, so none is rare."""

    kind: ClassVar[str]
    seeded: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("rare_words",)  # added unless the recipe lists them

    def true_grammar(self) -> Grammar:
        """The grammar of the text that is learned: its productions, and how often each is used."""
        raise NotImplementedError

    def columns(self) -> dict[str, int]:
        """Tokens per row of each column."""
        raise NotImplementedError

    def text(self, uniform: Sequence[float]) -> list[int]:
        """One row, its columns concatenated, from `choices` numbers in [0, 1)."""
        raise NotImplementedError

    def choices(self) -> int:
        raise NotImplementedError

    def parsed(self, rows: Mapping[str, Tensor]) -> list[Parsed]:
        """The derivation of each row's text, as far as the grammar allows one."""
        raise NotImplementedError

    def inspect(self, folder: Path) -> Info:
        """`folder` is not used."""
        tokenizer = tokenizer_of(self.true_grammar().words)
        return Info(
            kind=self.kind,
            columns={name: ((length,), tokenizer.dtype) for name, length in self.columns().items()},
            rows=self.rows,
            pool=self.rows + self.fresh_rows,
            held_out=self.held_out_rows,
            known_truths=TRUTHS,
            tokenizer=tokenizer,
        )

    def simulate(self, rows: int, draws: Draws) -> dict[str, Tensor]:
        """Columns (rows, L) int16, or (S, rows, L) with stacked draws; row i does not depend on `rows`."""
        choices, columns = self.choices(), self.columns()

        def block(block_rows: int) -> Tensor:
            uniform = draws.uniform(block_rows, choices)
            texts = [self.text(row) for row in uniform.reshape(-1, choices).tolist()]
            return torch.tensor(texts, dtype=torch.int16, device=draws.device).reshape(*uniform.shape[:-1], -1)

        tokens = torch.split(in_blocks(rows, block), list(columns.values()), dim=-1)
        return {name: column.contiguous() for name, column in zip(columns, tokens, strict=True)}

    def log_probability(self, rows: Mapping[str, Tensor]) -> Tensor:
        """(n,) float64: log probability of each row's text, in nats; -inf if it is not a text of the grammar."""
        grammar = self.true_grammar()
        values = [grammar.log_probability(used) if complete else -torch.inf for used, complete in self.parsed(rows)]
        return torch.tensor(values, dtype=torch.float64)

    def productions(self, rows: Mapping[str, Tensor]) -> Tensor:
        """(P,) int64: how often the rows use each production, up to where a text departs from the grammar.

        Single wrong words are skipped, so a choice is counted whatever comes before or after it (Grammar.parse).
        """
        used = torch.tensor([number for text in self.parsed(rows) for number in text.productions], dtype=torch.int64)
        return used.bincount(minlength=len(self.true_grammar().productions))

    def entropy(self) -> float:
        """The exact entropy of a text, in nats, which is the loss of a perfect model."""
        return self.true_grammar().entropy

    def entropy_per_token(self) -> float:
        """Entropy in nats per token; words and the end of a text count as tokens, its begin does not."""
        grammar = self.true_grammar()
        return grammar.entropy / (grammar.mean_words + 1)


class GrammarStories(GrammarText):
    """Stories of an animal: who it is, where it goes, what it finds there, and how the story ends (grammar_world.py).

    Who it is decides where it goes, what it eats, its name (which is repeated), and how the story ends.
    """

    length: Annotated[int, Field(gt=0)] | None = None
    """Tokens per row; default: those of the longest story, 48 with begin and end."""

    kind: ClassVar[str] = "text"

    @model_validator(mode="after")
    def _long_enough(self) -> GrammarStories:
        longest = self.true_grammar().longest + 2
        if self.length is not None and self.length < longest:
            raise ValueError(f"length: {self.length} tokens would truncate stories; the longest has {longest}")
        return self

    def true_grammar(self) -> Grammar:
        return grammar_world.story(self.tail)

    def columns(self) -> dict[str, int]:
        return {"tokens": self.length or self.true_grammar().longest + 2}

    def choices(self) -> int:
        return self.true_grammar().choices

    def text(self, uniform: Sequence[float]) -> list[int]:
        grammar = self.true_grammar()
        return padded([END, *grammar.sentence(grammar.draw(uniform)), END], self.columns()["tokens"])

    def parsed(self, rows: Mapping[str, Tensor]) -> list[Parsed]:
        tokens = rows["tokens"]
        begins = (tokens[:, 0] == END).tolist()
        parsed = parse(self.true_grammar(), tokens[:, 1:])
        return [text if begin else UNKNOWN for text, begin in zip(parsed, begins, strict=True)]


def parse(grammar: Grammar, rows: Tensor, facts: Iterable[Collection[str]] = itertools.repeat(())) -> list[Parsed]:
    """Parse (n, L) rows of words, END and PAD_TOKEN_ID, each with the facts that it must state."""
    parsed = []
    for row, row_facts in zip(rows.tolist(), facts, strict=False):
        words = row[: row.index(END)] if END in row else [token for token in row if token != PAD_TOKEN_ID]
        productions, complete = grammar.parse(words, row_facts)
        ended = END in row and set(row[len(words) + 1 :]) <= {PAD_TOKEN_ID}
        parsed.append(Parsed(productions, complete and ended))
    return parsed


def padded(row: list[int], length: int) -> list[int]:
    """A row padded with PAD_TOKEN_ID to `length`."""
    return row + [PAD_TOKEN_ID] * (length - len(row))


@lru_cache(maxsize=8)
def tokenizer_of(words: tuple[str, ...]) -> Tokenizer:
    return Tokenizer.of_words(words)
