"""Probabilistic context-free grammars without recursion in which the next word determines the production.

Such a grammar (LL(1), Knuth 1971) is unambiguous: a sentence has one derivation, so its probability is the product of
its productions' probabilities. Exact averages follow from the expected number of uses of each production.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

END = 0  # the token after a sentence; words are 1, 2, ...


@dataclass(frozen=True)
class Production:
    """`left` is replaced by `right`, words and <nonterminals>, with a probability, and states `fact` ("place=mill")."""

    left: str
    right: tuple[str, ...]
    probability: float
    fact: str = ""

    def __str__(self) -> str:
        return f"{self.left} -> {' '.join(self.right) or 'nothing'}"


class Parsed(NamedTuple):
    """The productions of a leftmost derivation, as far as the words allow one; `complete` if it derives all words."""

    productions: list[int]
    complete: bool


class Grammar:
    """A grammar given by its productions; the left side of the first one is the start symbol.

    With `facts_choose`, productions of nonterminals that have facts are not drawn but chosen by given facts; their
    probabilities are the frequencies of the facts. `words` are added to the vocabulary. Raises ValueError for an
    invalid grammar: probabilities that do not sum to 1, nonterminals without productions or unreachable, recursion, two
    productions that may begin with the same word.
    """

    def __init__(
        self, productions: Sequence[Production], *, facts_choose: bool = False, words: Iterable[str] = ()
    ) -> None:
        self.productions = tuple(productions)
        self.start = self.productions[0].left
        self.of: dict[str, list[int]] = {}  # nonterminal -> its productions
        for number, production in enumerate(self.productions):
            self.of.setdefault(production.left, []).append(number)
        self.chosen_by_facts = frozenset(p.left for p in self.productions if p.fact and facts_choose)
        self._top_down = self._topological_order()
        own = {word for p in self.productions for word in p.right if not _nonterminal(word)}
        self.words = tuple(sorted(own.union(words)))
        symbols = {word: number for number, word in enumerate(self.words, 1)}
        symbols |= {f"<{left}>": -number for number, left in enumerate(self.of, 1)}
        self._symbol = {left: symbols[f"<{left}>"] for left in self.of}
        self._right = [tuple(symbols[name] for name in p.right) for p in self.productions]
        self._reversed = [right[::-1] for right in self._right]
        self._cumulative = {self._symbol[left]: self._cumulative_sums(left) for left in self.of}
        self._starts = self._first_words()
        self._table = {
            self._symbol[left]: self._predictions(left) for left in self.of if left not in self.chosen_by_facts
        }
        self._by_fact = {
            self._symbol[left]: {self.productions[n].fact: n for n in self.of[left]} for left in self.chosen_by_facts
        }

    def _topological_order(self) -> list[str]:
        """Nonterminals, each before those that its productions contain."""
        done: dict[str, None] = {}
        path: list[str] = []

        def visit(left: str) -> None:
            if left in path:
                raise ValueError(f"the grammar is recursive: {' -> '.join([*path[path.index(left) :], left])}")
            if left not in self.of:
                raise ValueError(f"<{left}> has no productions")
            if left in done:
                return
            path.append(left)
            for number in self.of[left]:
                for name in filter(_nonterminal, self.productions[number].right):
                    visit(name[1:-1])
            done[path.pop()] = None

        visit(self.start)
        if len(done) < len(self.of):
            raise ValueError(f"unreachable: {', '.join(sorted(set(self.of) - set(done)))}")
        return list(done)[::-1]

    def _cumulative_sums(self, left: str) -> tuple[list[float], list[int]]:
        """The boundaries in [0, 1) between the productions of a nonterminal, and the indices of the productions."""
        chances = [self.productions[number].probability for number in self.of[left]]
        if min(chances) <= 0 or abs(math.fsum(chances) - 1) > 1e-9:
            raise ValueError(f"the probabilities of {left} sum to {math.fsum(chances)}, or one is not above 0")
        return list(itertools.accumulate(chances))[:-1], self.of[left]

    def _first_words(self) -> list[set[int]]:
        """The words that each production may begin with; if it may be empty, also what may follow it, such as END."""
        first: dict[int, set[int]] = {}  # contains END if the nonterminal may be empty
        for left in reversed(self._top_down):
            first[self._symbol[left]] = set().union(*(_begin(self._right[n], first, {END}) for n in self.of[left]))
        followers: dict[int, set[int]] = {symbol: set() for symbol in first}
        followers[self._symbol[self.start]] = {END}
        starts: list[set[int]] = [set()] * len(self.productions)
        for left in self._top_down:
            after = followers[self._symbol[left]]
            for number in self.of[left]:
                right = self._right[number]
                starts[number] = _begin(right, first, after)
                for position, symbol in enumerate(right):
                    if symbol < 0:
                        followers[symbol] |= _begin(right[position + 1 :], first, after)
        return starts

    def _predictions(self, left: str) -> dict[int, int]:
        """Maps the next word to the production of a nonterminal."""
        table: dict[int, int] = {}
        for number in self.of[left]:
            for word in self._starts[number]:
                if word in table:
                    one, other = self.productions[table[word]], self.productions[number]
                    shown = self.words[word - 1] if word else "the end"
                    raise ValueError(f"{one} and {other} are both possible before {shown!r}")
                table[word] = number
        return table

    def _chosen_by_facts(self, facts: Collection[str]) -> dict[int, int]:
        """The productions of the nonterminals in `told`."""
        return {
            symbol: next(by_fact[fact] for fact in facts if fact in by_fact)
            for symbol, by_fact in self._by_fact.items()
        }

    def draw(self, uniform: Sequence[float], facts: Collection[str] = ()) -> list[int]:
        """The leftmost derivation of a sentence, from `choices` numbers in [0, 1), one per choice, in that order."""
        chosen = self._chosen_by_facts(facts)
        productions: list[int] = []
        numbers = iter(uniform)
        stack = [self._symbol[self.start]]
        while stack:
            symbol = stack.pop()
            if symbol > 0:
                continue
            number = chosen.get(symbol)
            if number is None:
                ends, alternatives = self._cumulative[symbol]
                number = alternatives[bisect_right(ends, next(numbers))] if ends else alternatives[0]
            productions.append(number)
            stack.extend(self._reversed[number])
        return productions

    def sentence(self, productions: Sequence[int]) -> list[int]:
        """The words of a complete leftmost derivation."""
        words: list[int] = []
        numbers = iter(productions)
        stack = [self._symbol[self.start]]
        while stack:
            symbol = stack.pop()
            if symbol > 0:
                words.append(symbol)
            else:
                stack.extend(self._reversed[next(numbers)])
        return words

    def parse(self, words: Sequence[int], facts: Collection[str] = ()) -> Parsed:
        """The derivation of the words 1, 2, ... (given facts); any other number is an error in the sentence.

        A single wrong word where the grammar allows only one is skipped if the next word is correct: for example a name
        that differs from the earlier one. Any other error ends the derivation.
        """
        chosen = self._chosen_by_facts(facts)
        productions: list[int] = []
        position, correct = 0, True
        stack = [self._symbol[self.start]]
        while stack:
            symbol = stack.pop()
            word = words[position] if position < len(words) else END
            if symbol > 0:
                position += 1
                if word != symbol:
                    correct = False
                    following = words[position] if position < len(words) else END
                    if not stack or not (following == stack[-1] or self._predicted(stack[-1], following, chosen)):
                        break
                continue
            number = self._predicted(symbol, word, chosen)
            if number is None:
                correct = False
                break
            productions.append(number)
            stack.extend(self._reversed[number])
        return Parsed(productions, correct and position == len(words))

    def _predicted(self, symbol: int, word: int, chosen: Mapping[int, int]) -> int | None:
        """The production of a nonterminal that the next word determines, if any."""
        number = chosen[symbol] if symbol in chosen else self._table.get(symbol, {}).get(word)
        return number if number is not None and word in self._starts[number] else None

    def facts(self, productions: Iterable[int]) -> list[str]:
        """The facts that a derivation states: ["place=mill", ...]."""
        return [fact for fact in (self.productions[number].fact for number in productions) if fact]

    def log_probability(self, productions: Sequence[int]) -> float:
        """The log probability of a complete derivation, in nats; conditional on the facts if facts choose."""
        return math.fsum(-self._surprise[number] for number in productions)

    @cached_property
    def _surprise(self) -> list[float]:
        """-log probability, in nats; 0 for productions that facts choose."""
        return [0.0 if p.left in self.chosen_by_facts else -math.log(p.probability) for p in self.productions]

    @cached_property
    def uses(self) -> np.ndarray:
        """(P,): the expected number of uses of each production in a sentence."""
        visits = Counter({self.start: 1.0})
        uses = np.zeros(len(self.productions))
        for left in self._top_down:
            for number in self.of[left]:
                uses[number] = visits[left] * self.productions[number].probability
                for name in filter(_nonterminal, self.productions[number].right):
                    visits[name[1:-1]] += uses[number]
        return uses

    @cached_property
    def missed(self) -> np.ndarray:
        """(P,): the probability that a sentence does not use each production."""
        without: dict[int, np.ndarray] = {}
        for left in reversed(self._top_down):
            total = np.zeros(len(self.productions))
            for number in self.of[left]:
                ways = np.full(len(self.productions), self.productions[number].probability)
                ways[number] = 0.0
                for symbol in self._right[number]:
                    ways *= without[symbol] if symbol < 0 else 1.0
                total += ways
            without[self._symbol[left]] = total
        return without[self._symbol[self.start]]

    @cached_property
    def entropy(self) -> float:
        """The entropy of a sentence, in nats; conditional on the facts if facts choose."""
        return math.fsum(use * surprise for use, surprise in zip(self.uses.tolist(), self._surprise, strict=True))

    @cached_property
    def mean_words(self) -> float:
        """The expected number of words in a sentence."""
        own = [sum(symbol > 0 for symbol in right) for right in self._right]
        return math.fsum(use * words for use, words in zip(self.uses.tolist(), own, strict=True))

    @cached_property
    def longest(self) -> int:
        """The number of words in the longest sentence."""
        return self._maximum(lambda number: sum(symbol > 0 for symbol in self._right[number]))

    @cached_property
    def choices(self) -> int:
        """The largest number of random numbers that `draw` needs."""
        drawn = [len(self.of[p.left]) > 1 and p.left not in self.chosen_by_facts for p in self.productions]
        return self._maximum(lambda number: int(drawn[number]))

    def _maximum(self, value: Callable[[int], int]) -> int:
        """The maximum over derivations of the sum of `value` over their productions."""
        maximum: dict[int, int] = {}
        for left in reversed(self._top_down):
            sums = (value(n) + sum(maximum[symbol] for symbol in self._right[n] if symbol < 0) for n in self.of[left])
            maximum[self._symbol[left]] = max(sums)
        return maximum[self._symbol[self.start]]


def _nonterminal(name: str) -> bool:
    return name.startswith("<")


def _begin(symbols: Sequence[int], first: Mapping[int, set[int]], after: set[int]) -> set[int]:
    """Words that `symbols` may begin with, and those in `after` if all symbols may be empty."""
    words: set[int] = set()
    for symbol in symbols:
        if symbol > 0:
            return words | {symbol}
        words |= first[symbol] - {END}
        if END not in first[symbol]:
            return words
    return words | after
