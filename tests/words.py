"""Texts of a few words and models of them, quick to fit: components for recipes of tests, `use: tests.words:Words`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from collapse_sim.core.component import Component
from collapse_sim.data.base import Columns, Info, RowSource
from collapse_sim.data.text.tokens import PAD_TOKEN_ID, Tokenizer, row_of
from collapse_sim.families.base import Inputs

VOCABULARY = ["the", "king", "queen", "cat", "saw", "ran", "|", "<b>", "\x1b[31m", "*", "日本語"]
TOKENIZER = Tokenizer.of_words(VOCABULARY)
LENGTH = 12
ROWS, HELD_OUT = 40, 12


def sentences(n: int, seed: int, shortest: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(VOCABULARY, rng.integers(shortest, LENGTH + 2))) for _ in range(n)]


def ids(texts: list[str], length: int = LENGTH, *, begin: bool = True) -> np.ndarray:
    rows = [row_of(found, length, TOKENIZER, begin=begin, cut_ends=False) for found in TOKENIZER.encode(texts)]
    return np.stack(rows).astype(TOKENIZER.dtype)


class Held:
    """Rows that are in memory."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def read(self, first: int, last: int) -> Columns:
        return {name: column[first:last] for name, column in self.columns.items()}


class Words(Component):
    """Texts; some are empty, and some are cut."""

    kind: ClassVar[str] = "text"
    seeded: ClassVar[bool] = False

    def inspect(self, folder: Path) -> Info:
        columns = {"tokens": ((LENGTH,), TOKENIZER.dtype)}
        return Info("text", columns, ROWS, ROWS, HELD_OUT, tokenizer=TOKENIZER)

    def open(self, folder: Path) -> tuple[RowSource, RowSource]:
        return tuple(Held({"tokens": ids(sentences(n, seed))}) for n, seed in ((ROWS, 1), (HELD_OUT, 2)))  # type: ignore[return-value]


class WordPairs(Component):
    """Sources, and targets that are their first words."""

    kind: ClassVar[str] = "pairs"
    seeded: ClassVar[bool] = False

    def inspect(self, folder: Path) -> Info:
        columns = {"source": ((LENGTH,), TOKENIZER.dtype), "target": ((4,), TOKENIZER.dtype)}
        return Info("pairs", columns, ROWS, ROWS, HELD_OUT, tokenizer=TOKENIZER)

    def open(self, folder: Path) -> tuple[RowSource, RowSource]:
        return tuple(Held(pairs(n, seed)) for n, seed in ((ROWS, 1), (HELD_OUT, 2)))  # type: ignore[return-value]


def pairs(n: int, seed: int) -> dict[str, np.ndarray]:
    sources = sentences(n, seed, shortest=1)
    targets = [" ".join(source.split()[:2]) for source in sources]
    return {"source": ids(sources, begin=False), "target": ids(targets, 4, begin=False)}


class Table(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(TOKENIZER.size, TOKENIZER.size)


class Bigram(Component):
    """The next word given the last one."""

    prompted: bool = True  # whether it offers `continuations`

    kinds: ClassVar[tuple[str, ...]] = ("text",)
    columns: ClassVar[tuple[str, ...]] = ("tokens",)
    terms: ClassVar[tuple[str, ...]] = ()

    def check(self, info: Info) -> None: ...

    def build(self, info: Info) -> nn.Module:
        return Table()

    def corrupt(self, rows: Any, draws: Any) -> Inputs:
        tokens = rows["tokens"].long()
        return Inputs({"tokens": tokens}, (tokens[:, 1:] != PAD_TOKEN_ID).sum().clamp(min=1))

    def predict(self, model: Any, inputs: Inputs) -> torch.Tensor:
        logits: torch.Tensor = model.table(inputs["tokens"][:, :-1].clamp(min=0))
        return logits

    def loss(self, prediction: torch.Tensor, inputs: Inputs) -> torch.Tensor:
        return nn.functional.cross_entropy(
            prediction.transpose(1, 2), inputs["tokens"][:, 1:], ignore_index=PAD_TOKEN_ID, reduction="sum"
        )

    def distillation(self, student: Any, teacher: Any, inputs: Inputs) -> dict[str, torch.Tensor]:
        return {}

    def sample(self, model: Any, conditions: Any, draws: Any) -> dict[str, torch.Tensor]:
        start = torch.zeros(conditions.rows, 1, dtype=torch.int64)
        return {"tokens": self._on(model, start, draws, LENGTH)}

    def _on(self, model: Any, rows: torch.Tensor, draws: Any, length: int) -> torch.Tensor:
        ended = torch.zeros(len(rows), dtype=torch.bool)
        while rows.shape[1] < length:
            odds = model.table(rows[:, -1].clamp(min=0)).softmax(-1).cumsum(-1)
            word = (odds < draws.uniform(len(rows), 1)).sum(-1).clamp(max=TOKENIZER.size - 1)
            word[ended] = PAD_TOKEN_ID
            ended |= word == TOKENIZER.end
            rows = torch.cat([rows, word[:, None]], 1)
        return rows.to(getattr(torch, TOKENIZER.dtype))

    def __getattr__(self, name: str) -> Any:
        if name == "continuations" and self.prompted:
            return self._continuations
        return super().__getattr__(name)  # type: ignore[misc]

    def _continuations(self, model: Any, prompts: torch.Tensor, draws: Any) -> torch.Tensor:
        return self._on(model, prompts.long(), draws, LENGTH)


class FirstWord(Bigram):
    """The target is written by a bigram, whatever the source."""

    kinds: ClassVar[tuple[str, ...]] = ("pairs",)
    columns: ClassVar[tuple[str, ...]] = ("source", "target")
    conditions: ClassVar[tuple[str, ...]] = ("source",)

    def corrupt(self, rows: Any, draws: Any) -> Inputs:
        start = torch.zeros(len(rows["target"]), 1, dtype=torch.int64)
        return super().corrupt({"tokens": torch.cat([start, rows["target"].long()], 1)}, draws)

    def sample(self, model: Any, conditions: Any, draws: Any) -> dict[str, torch.Tensor]:
        start = torch.zeros(conditions.rows, 1, dtype=torch.int64)
        return {"source": conditions.columns["source"], "target": self._on(model, start, draws, 5)[:, 1:]}


class Lengths(Component):
    """The mean number of words of samples: a metric that keeps its rows."""

    kinds: ClassVar[tuple[str, ...] | None] = ("text",)
    needs: ClassVar[tuple[str, ...]] = ("samples",)
    better: ClassVar[Literal["lower", "higher"] | None] = None

    def check(self, *args: Any) -> None: ...

    def score(self, evaluation: Any) -> float:
        return self.sum_up(self.score_rows(evaluation))

    def score_rows(self, evaluation: Any) -> dict[str, torch.Tensor]:
        rows = evaluation.rows("samples")["tokens"]
        return {"words": (rows > 0).sum(1)}

    def sum_up(self, columns: Any) -> float:
        return float(columns["words"].double().mean())

    def histogram(self, columns: Any) -> tuple[str, torch.Tensor]:
        return "words a text", columns["words"]


TEXT = """
name: stories
data: {use: 'tests.words:Words'}
model: {use: 'tests.words:Bigram'}
train: {steps: 20, batch_size: 8, learning_rate: 0.3}
samples: 30
generations: 2
seeds: [3]
arms: {replace: {data: replace}, accumulate: {data: accumulate}}
metrics: [{use: 'tests.words:Lengths', as: words / text}, test_loss]
"""
PAIRS = """
name: summaries
data: {use: 'tests.words:WordPairs'}
model: {use: 'tests.words:FirstWord'}
train: {steps: 20, batch_size: 8, learning_rate: 0.3}
samples: 30
generations: 2
seeds: [3]
arms: {replace: {data: replace}, accumulate: {data: accumulate}}
metrics: [test_loss]
"""
