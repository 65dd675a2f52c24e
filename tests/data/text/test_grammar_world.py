"""The grammars' productions: Zipf's law, facts, and what docs/data.md says of them."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from collapse_sim.data.text import grammar_world
from collapse_sim.data.text.grammar_pairs import GrammarPairs
from collapse_sim.data.text.grammar_stories import GrammarStories
from collapse_sim.data.text.grammar_world import productions
from collapse_sim.data.text.pcfg import Grammar, Production

from .making_texts import row_of

PAGE = (Path(__file__).parents[3] / "docs" / "data.md").read_text()


def test_zipf() -> None:
    made = productions("S: a | b | c | 0.25 d", 2.0)
    assert [p.probability for p in made[:3]] == pytest.approx(
        [1 / (1 + 1 / 4 + 1 / 9 + 1 / 16) / r**2 for r in (1, 2, 3)]
    )
    assert made[3] == Production("S", ("d",), 0.25)


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
