"""Replacing the tokens that a model is most certain of."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from collapse_sim.core.component import Component
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Data, Info
from collapse_sim.data.text.tokens import PAD_TOKEN_ID
from collapse_sim.families.base import ModelFamily, Rows
from collapse_sim.families.hooks import PredictsTokens
from collapse_sim.remedies.base import Choice, Judge, Pool
from collapse_sim.remedies.row_vectors import TEXTS, text_column


class TokenEditing(Component):
    """Tokens that a model gives more than `threshold` are drawn again (ToEdit, Zhu et al. 2025, arXiv 2412.14689).

    A token of probability p > threshold is replaced by a draw from softmax(log p / beta) over the model's `choices`
    most likely tokens, which may be the token itself. All probabilities are those of the unedited text. The paper edits
    human text by a language model of its own; here generated text is edited (`pool: past`: real text, too) by a model
    of the chain. Begin, end and padding are neither replaced nor drawn, so that texts keep their lengths.

    The report has the share of the tokens that were drawn again (`edited`), and that changed (`changed`).
    """

    threshold: Annotated[float, Field(gt=0.0, le=1.0)] = 0.99
    """Probability above which a token is drawn again; 1: none is."""
    choices: Annotated[int, Field(gt=0)] = 8
    """Number of most likely tokens that are drawn from."""
    beta: Annotated[float, Field(gt=0.0)] = 1.5
    """Divides log p of these tokens, as a temperature."""
    by: Judge = "model"
    """Whose probabilities. model: which generated the texts (`pool: past`: the newest one); origin: generation 0's."""
    pool: Literal["generation", "past"] = "generation"
    """The candidates. generation: each generation's samples. past: all rows that the strategy offers to a fit, real
    ones included, of which as many are kept, at random, as there are real rows (or as its `budget`)."""

    @property
    def keeps_all(self) -> bool:
        return self.threshold == 1

    def candidates(self, rows: int) -> int:
        """As many as are kept."""
        return rows

    def check(self, data: Data, info: Info, family: ModelFamily) -> None:
        """Raises ValueError unless rows are texts and the family predicts tokens."""
        if info.kind not in TEXTS:
            raise ValueError(f"it edits texts; this data is of the kind {info.kind}. For points and images use `pull`")
        if not isinstance(family, PredictsTokens):
            raise ValueError(
                f"it needs the probability of every token, which {type(family).__name__} models do not offer: use "
                "causal_lm or seq2seq"
            )

    def choose(self, pool: Pool, rows: int, draws: Draws) -> Choice:
        assert isinstance(pool.family, PredictsTokens)
        assert pool.evaluated is not None
        index = draws.permutation(len(pool))[:rows].sort().values
        columns = {name: column[index] for name, column in pool.columns.items()}
        family, tokenizer = pool.family, pool.info.text()
        special = {tokenizer.begin, tokenizer.end, tokenizer.pad}

        def edit(model: nn.Module, piece: Rows, piece_draws: Draws) -> Tensor:
            return self.edited(family, model, piece, piece_draws, special)

        name = text_column(pool.info)
        both = pool.evaluated(self.by, columns, edit)
        new, again = both[:, 0], both[:, 1].bool()
        old = columns[name].long()
        count = max(1, int((old != PAD_TOKEN_ID).sum()))
        report = {"edited": int(again.sum()) / count, "changed": int((new != old).sum()) / count}
        return Choice(index, columns=columns | {name: new.to(columns[name].dtype)}, report=report)

    def edited(self, family: PredictsTokens, model: nn.Module, rows: Rows, draws: Draws, special: set[int]) -> Tensor:
        """(n, 2, L) int64: the texts' tokens after editing, and whether each was drawn again."""
        predicted = family.token_predictions(model, rows)
        tokens = rows[predicted.column].long().clone()
        again = torch.zeros_like(tokens)
        log_p, targets = predicted.log_p, predicted.targets
        own = log_p.gather(2, targets.clamp(min=0).unsqueeze(2)).squeeze(2)
        ordinary = targets >= 0
        for token in special:
            ordinary = ordinary & (targets != token)
        certain = ordinary & (own.exp() > self.threshold)
        allowed = log_p.clone()
        allowed[..., sorted(special)] = -torch.inf
        most, ids = allowed.topk(min(self.choices, log_p.shape[2] - len(special)), 2)
        cumulative = (most / self.beta).softmax(2).cumsum(2)
        uniform = draws.uniform(*targets.shape).to(cumulative).unsqueeze(2)
        place = (uniform >= cumulative).sum(2, keepdim=True).clamp(max=ids.shape[2] - 1)
        drawn = torch.where(certain, ids.gather(2, place).squeeze(2), targets)
        span = slice(predicted.first, predicted.first + targets.shape[1])
        there = ordinary[:, : tokens[:, span].shape[1]]
        tokens[:, span] = torch.where(there, drawn[:, : there.shape[1]], tokens[:, span])
        again[:, span] = certain[:, : there.shape[1]].long()
        return torch.stack([tokens, again], 1)
