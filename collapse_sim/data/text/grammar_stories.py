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
    """Texts of a grammar (data/text/pcfg.py), drawn anew for every seed, and what is known of them.

    Word i of the grammar is token i, and its END is the tokenizer's token that begins and ends texts. Rows that are
    asked about may be of any length; a row that has no end, or anything behind it, is none of the grammar's.
    """

    rows: Annotated[int, Field(gt=0)] = 2000
    """Rows that generation 0 is fitted to."""
    fresh_rows: Annotated[int, Field(ge=0)] = 0
    """Real rows beyond these, for the strategy `fresh`."""
    held_out_rows: Annotated[int, Field(gt=0)] = 1000
    """Rows that are never trained on."""
    tail: Annotated[float, Field(ge=0.0, le=4.0)] = 1.2
    """Exponent of Zipf's law of choices: 0 has no rare ones."""

    kind: ClassVar[str]
    seeded: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("rare_words",)  # measured unless a recipe has them itself

    def true_grammar(self) -> Grammar:
        """Of the text that is learnt: its productions, and how often each is used."""
        raise NotImplementedError

    def columns(self) -> dict[str, int]:
        """Tokens of a row of each column."""
        raise NotImplementedError

    def text(self, uniform: Sequence[float]) -> list[int]:
        """One row, the columns behind each other, from as many numbers of [0, 1) as `choices` says."""
        raise NotImplementedError

    def choices(self) -> int:
        raise NotImplementedError

    def parsed(self, rows: Mapping[str, Tensor]) -> list[Parsed]:
        """The derivation of each row's text, as far as it is one of the grammar's."""
        raise NotImplementedError

    def inspect(self, folder: Path) -> Info:
        """`folder` is not looked at."""
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

        made = torch.split(in_blocks(rows, block), list(columns.values()), dim=-1)
        return {name: column.contiguous() for name, column in zip(columns, made, strict=True)}

    def log_probability(self, rows: Mapping[str, Tensor]) -> Tensor:
        """(n,) float64: of each row's text, in nats; -inf where it is none of the grammar's."""
        grammar = self.true_grammar()
        values = [grammar.log_probability(used) if whole else -torch.inf for used, whole in self.parsed(rows)]
        return torch.tensor(values, dtype=torch.float64)

    def productions(self, rows: Mapping[str, Tensor]) -> Tensor:
        """(P,) int64: how often rows use each production, up to where a text stops being one of the grammar's.

        Single wrong words do not stop it, so a choice is counted whatever came before or comes after it (pcfg.parse).
        """
        used = torch.tensor([number for text in self.parsed(rows) for number in text.productions], dtype=torch.int64)
        return used.bincount(minlength=len(self.true_grammar().productions))

    def entropy(self) -> float:
        """Of a text, in nats, exact: a perfect model's loss is that."""
        return self.true_grammar().entropy

    def entropy_per_token(self) -> float:
        """In nats; words and the end of a text are tokens, its begin is none."""
        grammar = self.true_grammar()
        return grammar.entropy / (grammar.mean_words + 1)


class GrammarStories(GrammarText):
    """Stories of an animal: who it is, where it goes, what it finds there, and how that ends (grammar_world.py).

    Who it is decides where it goes, what it eats, its name, which comes back, and how it ends.
    """

    length: Annotated[int, Field(gt=0)] | None = None
    """Tokens of a row; the longest story has 48 with begin and end."""

    kind: ClassVar[str] = "text"

    @model_validator(mode="after")
    def _long_enough(self) -> GrammarStories:
        longest = self.true_grammar().longest + 2
        if self.length is not None and self.length < longest:
            raise ValueError(f"length: {self.length} tokens would cut stories; the longest has {longest}")
        return self

    def true_grammar(self) -> Grammar:
        return grammar_world.story(self.tail)

    def columns(self) -> dict[str, int]:
        return {"tokens": self.length or self.true_grammar().longest + 2}

    def choices(self) -> int:
        return self.true_grammar().choices

    def text(self, uniform: Sequence[float]) -> list[int]:
        grammar = self.true_grammar()
        return filled([END, *grammar.sentence(grammar.draw(uniform)), END], self.columns()["tokens"])

    def parsed(self, rows: Mapping[str, Tensor]) -> list[Parsed]:
        tokens = rows["tokens"]
        begun = (tokens[:, 0] == END).tolist()
        found = parse(self.true_grammar(), tokens[:, 1:])
        return [text if right else UNKNOWN for text, right in zip(found, begun, strict=True)]


def parse(grammar: Grammar, rows: Tensor, facts: Iterable[Collection[str]] = itertools.repeat(())) -> list[Parsed]:
    """Parse (n, L) rows of words, END and PAD_TOKEN_ID, each with the facts that it has to say."""
    found = []
    for row, said in zip(rows.tolist(), facts, strict=False):
        words = row[: row.index(END)] if END in row else [token for token in row if token != PAD_TOKEN_ID]
        productions, whole = grammar.parse(words, said)
        ended = END in row and set(row[len(words) + 1 :]) <= {PAD_TOKEN_ID}
        found.append(Parsed(productions, whole and ended))
    return found


def filled(row: list[int], length: int) -> list[int]:
    """A row with PAD_TOKEN_ID behind it."""
    return row + [PAD_TOKEN_ID] * (length - len(row))


@lru_cache(maxsize=8)
def tokenizer_of(words: tuple[str, ...]) -> Tokenizer:
    return Tokenizer.of_words(words)
