"""pcfg.py against enumeration: all sentences of small grammars with their probabilities, made by plain recursion."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter

import numpy as np
import pytest

from collapse_sim.data.text.grammar_world import productions
from collapse_sim.data.text.pcfg import Grammar

from .deriving import derivations

SMALL = """
S: 0.6 the <Animal> <Rest> | 0.4 <Rest>
Animal: 0.5 fox | 0.3 old fox | 0.2 hen <Much> <Indeed>
Much: 0.75 | 0.25 very
Indeed: 0.5 | 0.5 indeed
Rest: 0.9 <Ran> and <Ran> . | 0.1 slept <Where>
Ran: 0.5 ran | 0.5 hid
Where: 0.7 | 0.3 near the hen
"""
TOLD = """
S: 0.6 <Who> <Did> <Where> | 0.4 <Did> by <Who>
Who: 0.8 <fox> @who=fox | 0.2 hen @who=hen
fox: 0.7 fox | 0.3 old fox
Did: 0.5 ran | 0.5 hid
Where: 0.1 @where=none | 0.9 <near> @where=mill
near: 0.5 | 0.5 there
"""
WHO, WHERE = {"who=fox": 0.8, "who=hen": 0.2}, {"where=none": 0.1, "where=mill": 0.9}


def small() -> Grammar:
    return Grammar(productions(SMALL, 1.0))


def told() -> Grammar:
    return Grammar(productions(TOLD, 1.0), facts_choose=True)


def ids(grammar: Grammar, words: tuple[str, ...]) -> list[int]:
    return [grammar.words.index(word) + 1 for word in words]


def test_every_sentence_once_with_its_probability() -> None:
    grammar, found = small(), derivations(small())
    assert len({words for _, words, _ in found}) == len(found) == 1 * (2 + 4) * 6 + 6  # unambiguous
    assert math.fsum(chance for chance, *_ in found) == pytest.approx(1, abs=1e-12)
    for chance, words, used in found:
        parsed = grammar.parse(ids(grammar, words))
        assert parsed.complete
        assert Counter(parsed.productions) == used
        assert grammar.log_probability(parsed.productions) == pytest.approx(math.log(chance), abs=1e-12)
        assert grammar.sentence(parsed.productions) == ids(grammar, words)


def test_exact_figures_are_the_enumerated_ones() -> None:
    grammar, found = small(), derivations(small())
    assert grammar.entropy == pytest.approx(-sum(p * math.log(p) for p, *_ in found), abs=1e-12)
    assert grammar.mean_words == pytest.approx(sum(p * len(words) for p, words, _ in found), abs=1e-12)
    assert grammar.longest == max(len(words) for _, words, _ in found)
    for number in range(len(grammar.productions)):
        assert grammar.uses[number] == pytest.approx(sum(p * used[number] for p, _, used in found), abs=1e-12)
        assert grammar.missed[number] == pytest.approx(sum(p for p, _, used in found if not used[number]), abs=1e-12)


def test_every_sentence_that_is_not_of_the_grammar_is_refused() -> None:
    """All sequences of up to five of eight words."""
    grammar = small()
    right = {tuple(ids(grammar, words)) for _, words, _ in derivations(grammar)}
    some = ids(grammar, ("ran", "and", "hid", ".", "slept", "near", "the", "hen"))
    for length in range(6):
        for words in itertools.product(some, repeat=length):
            assert grammar.parse(words).complete == (words in right), words


def test_a_parse_ends_at_an_error_but_for_single_wrong_words() -> None:
    grammar, words = small(), ids(small(), ("the", "hen", "very", "hid", "and", "ran", "."))
    whole = grammar.parse(words).productions
    assert " ".join(grammar.productions[number].left for number in whole) == "S Animal Much Indeed Rest Ran Ran"
    # The words 4 and 6, `and` and the full stop, are no choice.
    for place, expected in ((0, 0), (1, 1), (2, 2), (3, 3), (4, 7), (5, 6), (6, 7)):
        wrong = [*words]
        wrong[place] = -7
        assert grammar.parse(wrong) == (whole[:expected], False), place
    a, b = words[4], words[6]  # and .
    assert grammar.parse([*words[:4], b, b, *words[5:]]) == (whole[:6], False)  # two wrong words
    assert grammar.parse([*words[:4], *words[5:]]) == (whole[:6], False)  # one too few
    assert grammar.parse([*words[:4], a, a, *words[5:]]) == (whole[:6], False)  # one too many
    assert grammar.parse(words[:-1]) == (whole, False)


def test_facts_decide_what_is_told() -> None:
    grammar = told()
    total: Counter[int] = Counter()
    entropy = 0.0
    for (who, p_who), (where, p_where) in itertools.product(WHO.items(), WHERE.items()):
        facts = (who, where)
        found = derivations(grammar, facts=facts)
        assert math.fsum(chance for chance, *_ in found) == pytest.approx(1, abs=1e-12)
        right = {words for _, words, _ in found}
        for chance, words, used in found:
            parsed = grammar.parse(ids(grammar, words), facts)
            assert parsed.complete
            assert grammar.log_probability(parsed.productions) == pytest.approx(math.log(chance), abs=1e-12)
            entropy -= p_who * p_where * chance * math.log(chance)
            for number, times in used.items():
                total[number] += p_who * p_where * chance * times  # type: ignore[assignment]
        for _, words, _ in derivations(grammar):
            assert grammar.parse(ids(grammar, words), facts).complete == (words in right)
    assert grammar.entropy == pytest.approx(entropy, abs=1e-12)
    np.testing.assert_allclose(grammar.uses, [total[n] for n in range(len(grammar.productions))], atol=1e-12)


def test_what_facts_choose_is_not_counted_before_its_word_comes() -> None:
    grammar = told()
    parsed = grammar.parse(ids(grammar, ("hen", "ran")), ("who=fox", "where=none"))
    assert [str(grammar.productions[number]) for number in parsed.productions] == ["S -> <Who> <Did> <Where>"]


def test_draws_have_their_probabilities() -> None:
    """Chi-squared over all sentences; the first number decides the first choice."""
    grammar, numbers = small(), random.Random(3)
    expected = {tuple(ids(grammar, words)): 20_000 * chance for chance, words, _ in derivations(grammar)}
    drawn = (grammar.draw([numbers.random() for _ in range(grammar.choices)]) for _ in range(20_000))
    seen = Counter(tuple(grammar.sentence(used)) for used in drawn)
    assert set(seen) <= set(expected)
    chi_squared = sum((seen[words] - count) ** 2 / count for words, count in expected.items())
    spread = math.sqrt(2 * (len(expected) - 1))
    assert abs(chi_squared - (len(expected) - 1)) < 5 * spread
    first = grammar.draw([0.599999] + [0.0] * 9)
    assert grammar.sentence(first) == ids(grammar, ("the", "fox", "ran", "and", "ran", "."))
    assert grammar.sentence(grammar.draw([0.6] + [0.0] * 9)) == ids(grammar, ("ran", "and", "ran", "."))


def test_choices_are_enough_and_no_more() -> None:
    longest = small().choices
    assert longest == 7  # S, Animal, Much, Indeed, Rest, Ran, Ran
    small().draw([0.95, *[0.0] * 6])
    assert told().choices == 4  # S, Did, fox, near


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("S: 0.5 a | 0.4 b", r"the probabilities of S sum to 0\.9"),
        ("S: <A>\nA: a <B>\nB: <A>", "the grammar is recursive: A -> B -> A"),
        ("S: <A> b", "<A> has no productions"),
        ("S: b\nA: a", "unreachable: A"),
        ("S: a b | a c", "S -> a b and S -> a c are both possible before 'a'"),
        ("S: <A> a\nA: 0.5 | 0.5 a", "are both possible before 'a'"),
        ("S: <A> | <B>\nA: 0.5 | 0.5 a\nB: 0.5 | 0.5 b", "are both possible before 'the end'"),
    ],
)
def test_what_is_no_such_grammar(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Grammar(productions(text, 1.0))
