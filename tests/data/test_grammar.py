"""grammar and grammar_pairs: rows of the distribution that they tell, which other means find too."""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Data, conditions_of
from collapse_sim.data.text import grammar_world
from collapse_sim.data.text.grammar_pairs import GrammarPairs
from collapse_sim.data.text.grammar_stories import GrammarStories, GrammarText
from collapse_sim.data.text.pcfg import Grammar, Production
from collapse_sim.data.text.tokens import PAD_TOKEN_ID, texts_of

from .deriving import derivations, probability

KINDS = [GrammarStories(), GrammarStories(tail=0.0, length=60), GrammarPairs(), GrammarPairs(tail=2.0)]
PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text()


def named(data: object) -> str:
    return f"{type(data).__name__}-{data.tail}" if isinstance(data, GrammarText) else ""


def draws(*seeds: int, stacked: bool = False) -> Draws:
    return Draws(seeds, "real", 0, dtype=torch.float64, stacked=stacked)


def row_of(data: GrammarText, text: str, column: str = "tokens") -> Tensor:
    """(1, L)"""
    tokenizer = data.inspect(Path()).text()
    ids = [tokenizer.begin] * (column == "tokens") + tokenizer.encode([text])[0].tolist() + [tokenizer.end]
    return torch.tensor([ids + [PAD_TOKEN_ID] * (data.columns()[column] - len(ids))], dtype=torch.int16)


@pytest.mark.parametrize("data", KINDS, ids=named)
def test_first_rows_do_not_depend_on_how_many_are_drawn(data) -> None:
    whole = data.simulate(600, draws(0))
    for rows in (1, 7, 255, 256, 257):
        for name, column in data.simulate(rows, draws(0)).items():
            assert torch.equal(column, whole[name][:rows]), (name, rows)


@pytest.mark.parametrize("data", KINDS, ids=named)
def test_stacked_slices_equal_single_seeds(data) -> None:
    stacked = data.simulate(300, draws(3, 1, 4, stacked=True))
    for slot, seed in enumerate((3, 1, 4)):
        for name, column in data.simulate(300, draws(seed)).items():
            assert torch.equal(stacked[name][slot], column)
    assert all(not torch.equal(column[0], column[1]) for column in stacked.values())


@pytest.mark.parametrize("data", KINDS, ids=named)
def test_columns_are_what_inspect_promises(data) -> None:
    data = data.model_copy(update={"rows": 50, "fresh_rows": 30, "held_out_rows": 20})
    info = data.inspect(Path("/nowhere"))
    assert isinstance(data, Data)
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


@pytest.mark.parametrize("data", KINDS, ids=named)
def test_rows_are_as_tokens_has_them(data) -> None:
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
def test_probability_is_the_sum_over_all_derivations(data) -> None:
    rows = data.simulate(60, draws(5))
    texts = texts_of(rows["tokens"].numpy(), data.inspect(Path()).text())
    expected = [math.log(probability(data.true_grammar(), text.split())) for text in texts]
    np.testing.assert_allclose(data.log_probability(rows).numpy(), expected, rtol=1e-12)


def test_every_headline_of_a_report_and_no_other() -> None:
    """The probabilities of all headlines, enumerated, sum to 1; those of another report have none."""
    data = GrammarPairs()
    reports, headlines = data.report_grammar(), data.true_grammar()
    sources = data.simulate(200, draws(1))["source"]
    texts = texts_of(sources.numpy(), data.inspect(Path()).text())
    assert probability(reports, texts[0].split()) > 0
    every: list[set[str]] = []
    for source in sources[:3]:
        said = tuple(reports.facts(reports.parse([token for token in source.tolist() if token > 0]).productions))
        assert [fact.split("=")[0] for fact in sorted(said)] == ["day", "deed", "outcome", "place", "who"]
        found = derivations(headlines, f"<{headlines.start}>", said)
        rows = torch.cat([row_of(data, " ".join(words), "target") for _, words, _ in found])
        told = data.log_probability({"source": source.expand(len(rows), -1), "target": rows})
        np.testing.assert_allclose(told.numpy(), [math.log(chance) for chance, *_ in found], rtol=1e-12)
        assert float(told.exp().sum()) == pytest.approx(1, abs=1e-12)
        every.append({" ".join(words) for _, words, _ in found})
    others = sorted(every[1] - every[0])
    rows = torch.cat([row_of(data, text, "target") for text in others])
    assert data.log_probability({"source": sources[:1].expand(len(rows), -1), "target": rows}).isinf().all()


@pytest.mark.parametrize("data", KINDS, ids=named)
def test_rows_follow_what_is_told(data) -> None:
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


def test_a_source_that_is_no_report_tells_nothing() -> None:
    data = GrammarPairs()
    rows = data.simulate(3, draws(0))
    rows["source"][1, 4] = rows["source"][1, 5]
    assert data.log_probability(rows).isinf().tolist() == [False, True, False]
    whole = data.productions({name: column[[0, 2]] for name, column in rows.items()})
    assert torch.equal(data.productions(rows), whole)


@pytest.mark.parametrize("tail", [0.0, 1.2])
def test_a_production_of_headlines_depends_on_one_kind_of_fact(tail: float) -> None:
    """So that what is told of it, computed from each kind of fact by itself, holds though facts depend on another."""
    grammar = grammar_world.pairs(tail)[1]

    def below(left: str) -> set[str]:
        inner = {name[1:-1] for n in grammar.of[left] for name in grammar.productions[n].right if name[0] == "<"}
        return inner.union(*(below(name) for name in inner))

    kinds: dict[str, set[str]] = {}
    for left in grammar.chosen_by_facts:
        assert not below(left) & grammar.chosen_by_facts
        for name in {left} | below(left):
            kinds.setdefault(name, set()).update(grammar.productions[n].fact.split("=")[0] for n in grammar.of[left])
    assert all(len(found) == 1 for found in kinds.values())


def test_the_world_is_as_the_page_says() -> None:
    story, (report, headline) = grammar_world.story(1.2), grammar_world.pairs(1.2)
    rows = {
        "words": (f"{len(story.words)}", f"{len(headline.words)}, reports"),
        "length, words": (
            f"{story.longest}, {story.mean_words:.1f} in",
            f"{headline.longest}, {headline.mean_words:.1f} in",
        ),
        "entropy, nats": (f"{story.entropy:.2f}; ", f"{headline.entropy:.3f}; "),
        "productions": (f"{len(story.productions)}", f"{len(headline.productions)}"),
        "of these used less than 0.02 times per text": (
            f"{(story.uses < 0.02).sum()}",
            f"{(headline.uses < 0.02).sum()}",
        ),
        "used less than 0.005 times per text": (f"{(story.uses < 0.005).sum()}", f"{(headline.uses < 0.005).sum()}"),
    }
    for name, (first, second) in rows.items():
        (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| {name} |")]
        assert first in line.split("|")[2], name
        assert second in line.split("|")[3], name
    assert f"{report.longest}, {report.mean_words:.1f})" in PAGE
    assert f"{GrammarStories().entropy_per_token():.4f} per token" in PAGE
    assert f"{GrammarPairs().entropy_per_token():.4f} per token" in PAGE
    texts = re.findall(r"^> (.*)$", PAGE, flags=re.MULTILINE)
    stories, pairs = GrammarStories(), GrammarPairs()
    assert stories.log_probability({"tokens": row_of(stories, " ".join(texts[:2]))}).isfinite().all()
    pair = {
        "source": row_of(pairs, texts[2], "source"),
        "target": row_of(pairs, texts[3].removeprefix("=> "), "target"),
    }
    assert pairs.log_probability(pair).isfinite().all()


@pytest.mark.parametrize(("rows", "left"), [(500, 0.70), (2000, 0.95)])
def test_refitting_the_grammar_to_its_own_stories_loses_the_tail(rows: int, left: float) -> None:
    """What the page says, and the reason for the data: the least that a model loses, by chance alone."""
    truth, numbers = grammar_world.story(1.2), random.Random(0)
    rare = np.flatnonzero(truth.uses < 0.02)
    shares = []
    for _ in range(2):
        productions = list(truth.productions)
        for _ in range(5):
            fitted = _fitted(productions, _counts(productions, rows, numbers))
            productions = fitted
        used = _counts(productions, rows, numbers)
        shares.append(np.mean([used[truth.productions[n].left, truth.productions[n].right] > 0 for n in rare]))
    assert np.mean(shares) == pytest.approx(left, abs=0.04)


def _counts(productions: list[Production], rows: int, numbers: random.Random) -> Counter[tuple[str, tuple[str, ...]]]:
    grammar = Grammar(productions)
    drawn = (grammar.draw([numbers.random() for _ in range(grammar.choices)]) for _ in range(rows))
    return Counter((productions[n].left, productions[n].right) for used in drawn for n in used)


def _fitted(productions: list[Production], used: Counter[tuple[str, tuple[str, ...]]]) -> list[Production]:
    """By counting; what is not used is gone."""
    total: Counter[str] = Counter()
    for (left, _), times in used.items():
        total[left] += times
    return [
        Production(p.left, p.right, used[p.left, p.right] / total[p.left])
        for p in productions
        if used[p.left, p.right]
    ]  # fmt: skip


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
def test_bad_settings(kind, settings, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        kind(**settings)
