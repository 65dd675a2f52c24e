"""grammar and what grammar_pairs shares with it: rows of the distribution they tell, which other means find too."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from collapse_sim.data.base import Data, conditions_of
from collapse_sim.data.text.grammar_pairs import GrammarPairs
from collapse_sim.data.text.grammar_stories import GrammarStories, GrammarText
from collapse_sim.data.text.tokens import PAD_TOKEN_ID, texts_of
from tests.data.making import draws

from .deriving import probability
from .making_texts import row_of

KINDS = [GrammarStories(), GrammarStories(tail=0.0, length=60), GrammarPairs(), GrammarPairs(tail=2.0)]


def named(data: object) -> str:
    return f"{type(data).__name__}-{data.tail}" if isinstance(data, GrammarText) else ""


@pytest.mark.parametrize("data", KINDS, ids=named)
def test_first_rows_do_not_depend_on_how_many_are_drawn(data: Any) -> None:
    whole = data.simulate(600, draws(0))
    for rows in (1, 7, 255, 256, 257):
        for name, column in data.simulate(rows, draws(0)).items():
            assert torch.equal(column, whole[name][:rows]), (name, rows)


@pytest.mark.parametrize("data", KINDS, ids=named)
def test_stacked_slices_equal_single_seeds(data: Any) -> None:
    stacked = data.simulate(300, draws(3, 1, 4, stacked=True))
    for slot, seed in enumerate((3, 1, 4)):
        for name, column in data.simulate(300, draws(seed)).items():
            assert torch.equal(stacked[name][slot], column)
    assert all(not torch.equal(column[0], column[1]) for column in stacked.values())


@pytest.mark.parametrize("data", KINDS, ids=named)
def test_columns_are_what_inspect_promises(data: Any) -> None:
    data = data.model_copy(update={"rows": 50, "fresh_rows": 30, "held_out_rows": 20})
    info = data.inspect(Path("/nowhere"))
    assert data.seeded
    assert (info.kind, info.rows, info.pool, info.held_out, info.fingerprint) == (data.kind, 50, 80, 20, "")
    assert not info.packed
    assert conditions_of(data, None) == ()
    rows = data.simulate(info.pool, draws(0))
    assert list(rows) == list(info.columns) == (["tokens"] if info.kind == "text" else ["source", "target"])
    for name, (shape, dtype) in info.columns.items():
        assert rows[name].shape == (info.pool, *shape)
        assert str(rows[name].dtype) == f"torch.{dtype}" == "torch.int16"
    assert all(callable(getattr(data, name)) for name in info.known_truths)
    assert isinstance(data, Data)


@pytest.mark.parametrize("data", KINDS, ids=named)
def test_rows_are_as_tokens_has_them(data: Any) -> None:
    """Begin (of stories), words, end, PAD_TOKEN_ID; and the text gives the same words again."""
    tokenizer = data.inspect(Path()).text()
    assert tokenizer.begin == tokenizer.end == 0
    for name, column in data.simulate(200, draws(0)).items():
        texts = texts_of(column.numpy(), tokenizer)
        for row, text in zip(column.tolist(), texts, strict=True):
            words = tokenizer.encode([text])[0].tolist()
            begun = [0, *words, 0] if name == "tokens" else [*words, 0]
            assert row == begun + [PAD_TOKEN_ID] * (len(row) - len(begun))
            assert text.endswith(" .")


@pytest.mark.parametrize("data", [GrammarStories(), GrammarStories(tail=2.0)], ids=named)
def test_probability_is_the_sum_over_all_derivations(data: Any) -> None:
    rows = data.simulate(60, draws(5))
    texts = texts_of(rows["tokens"].numpy(), data.inspect(Path()).text())
    expected = [math.log(probability(data.true_grammar(), text.split())) for text in texts]
    np.testing.assert_allclose(data.log_probability(rows).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("data", KINDS, ids=named)
def test_rows_follow_what_is_told(data: Any) -> None:
    """Entropy, uses and misses against 5,000 rows, which all parse."""
    grammar, rows = data.true_grammar(), data.simulate(5000, draws(2))
    found = data.log_probability(rows)
    assert found.isfinite().all()
    assert abs(float(found.mean()) + data.entropy()) < 4 * float(found.std()) / 5000**0.5
    target = rows["tokens"][:, 1:] if data.kind == "text" else rows["target"]
    lengths = (target != PAD_TOKEN_ID).sum(1).double()
    assert abs(float(lengths.mean()) - 1 - grammar.mean_words) < 4 * float(lengths.std()) / 5000**0.5
    assert data.entropy_per_token() == pytest.approx(data.entropy() / (grammar.mean_words + 1))
    counts = torch.zeros(5000, len(grammar.productions), dtype=torch.float64)
    for number, (used, _) in enumerate(data.parsed(rows)):
        counts[number] = torch.tensor(used).bincount(minlength=counts.shape[1])
    assert torch.equal(counts.sum(0).long(), data.productions(rows))
    uses = torch.from_numpy(grammar.uses)  # of a rare one about Poisson: too few found must not make the error small
    errors = (torch.maximum(counts.std(0), uses.sqrt()) / 5000**0.5).clamp(min=1 / 5000)
    assert ((counts.mean(0) - uses).abs() < 5 * errors).all()
    missed = torch.from_numpy(grammar.missed)
    errors = (missed * (1 - missed) / 5000).sqrt().clamp(min=1 / 5000)
    assert (((counts == 0).double().mean(0) - missed).abs() < 5 * errors).all()


def test_productions_of_whole_texts_add_up() -> None:
    data = GrammarStories()
    grammar, used = data.true_grammar(), data.productions(data.simulate(500, draws(0)))
    starts = [number for number, p in enumerate(grammar.productions) if p.left == "Story"]
    assert int(used[starts].sum()) == 500
    for left in ("Day", "Went", "Then", "Hero", "Animal"):
        assert int(used[grammar.of[left]].sum()) == 500
    led_to = sum(int(used[n]) for n, p in enumerate(grammar.productions) if "<Toy>" in p.right)
    assert int(used[grammar.of["Toy"]].sum()) == led_to > 0


STORY = (
    "Once there was a shy fox called Pip . One day Pip went to the hill and saw the sea . At last Pip was shy no more ."
)


@pytest.mark.parametrize(
    ("what", "is_one"),
    [
        (STORY, True),
        (STORY.replace("fox called Pip", "fox called Rusty"), False),  # whose name does not come back
        (STORY.replace("Pip", "Rusty"), True),
        (STORY.replace("Pip", "Daisy"), False),  # no fox's name
        (STORY.replace("a shy", "a lazy"), False),  # and the ending is of a shy one
        (STORY.replace("hill and saw the sea", "river and saw the sea"), False),
        (STORY.replace("At last", "Supper was cheese . At last"), True),
        (STORY.replace("At last", "Supper was fish . At last"), False),  # a fox has none
        (STORY.removesuffix(" ."), False),
        (STORY + " .", False),
        ("", False),
    ],
)
def test_what_is_a_story(what: str, is_one: bool) -> None:
    data = GrammarStories(length=60)
    assert bool(data.log_probability({"tokens": row_of(data, what)}).isfinite()) == is_one


@pytest.mark.parametrize("number", range(6))
def test_a_corrupted_row_is_none_of_the_grammar(number: int) -> None:
    data = GrammarStories()
    row = row_of(data, STORY)[0].tolist()
    end = row.index(0, 1)
    corrupted = [
        [5, *row[1:]],  # no begin
        [*row[:end], 3, *row[end + 1 :]],  # no end
        [*row[:end], *row[end + 1 :], PAD_TOKEN_ID],
        [*row[: end + 1], 3, *row[end + 2 :]],  # something behind the end
        [*row[:4], 266, *row[5:]],  # no word
        [*row[:4], PAD_TOKEN_ID, *row[4:-1]],
    ][number]
    found = data.log_probability({"tokens": torch.tensor([corrupted, row])})
    assert found.isinf().tolist() == [True, False]
    assert found.dtype == torch.float64


def test_swapped_words_are_none_of_the_grammar() -> None:
    data, numbers = GrammarStories(), random.Random(1)
    tokens = data.simulate(300, draws(0))["tokens"]
    for row in tokens:
        place = numbers.randrange(1, int((row != PAD_TOKEN_ID).sum()) - 2)
        row[[place, place + 1]] = row[[place + 1, place]]  # neighbours are never the same word
    assert data.log_probability({"tokens": tokens}).isinf().all()


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (GrammarStories, {"length": 40}, "length: 40 tokens would truncate stories; the longest has 48"),
        (GrammarStories, {"tail": -1}, "greater than or equal to 0"),
        (GrammarStories, {"rows": 0}, "greater than 0"),
        (GrammarPairs, {"length": 60}, "Extra inputs"),
        (GrammarPairs, {"tail": float("nan")}, "less than or equal to 4"),
    ],
)
def test_bad_settings(kind: Any, settings: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        kind(**settings)
