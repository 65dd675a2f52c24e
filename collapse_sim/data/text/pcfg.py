"""Probabilistic context-free grammars with exact figures: without recursion, and the next word tells the production.

Such a grammar (LL(1), Knuth 1971) is unambiguous: a sentence has one derivation, and so the probability of a sentence
is the product of its productions' probabilities. What holds on average follows from how often productions are used.
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

END = 0  # the token behind a sentence; words are 1, 2, ...


@dataclass(frozen=True)
class Production:
    """`left` becomes `right`, words and <nonterminals>, with a probability. `fact`, "place=mill", is what it says."""

    left: str
    right: tuple[str, ...]
    probability: float
    fact: str = ""

    def __str__(self) -> str:
        return f"{self.left} -> {' '.join(self.right) or 'nothing'}"


class Parsed(NamedTuple):
    """The productions of a leftmost derivation, as far as words allow one; `whole` if it derives them all."""

    productions: list[int]
    whole: bool


class Grammar:
    """Productions, the first one's left side being the start.

    With `told` the nonterminals whose productions have facts are not drawn: facts choose them, and their probabilities
    are how often they do. `words` belong to the vocabulary beside the productions' own. Raises ValueError for what is
    no such grammar: probabilities that don't sum to 1, nonterminals without productions or out of reach, recursion, two
    productions that may begin with the same word.
    """

    def __init__(self, productions: Sequence[Production], *, told: bool = False, words: Iterable[str] = ()) -> None:
        self.productions = tuple(productions)
        self.start = self.productions[0].left
        self.of: dict[str, list[int]] = {}  # the productions of a nonterminal
        for number, production in enumerate(self.productions):
            self.of.setdefault(production.left, []).append(number)
        self.told = frozenset(p.left for p in self.productions if p.fact and told)
        self._top_down = self._ordered()
        own = {word for p in self.productions for word in p.right if not _nonterminal(word)}
        self.words = tuple(sorted(own.union(words)))
        symbols = {word: number for number, word in enumerate(self.words, 1)}
        symbols |= {f"<{left}>": -number for number, left in enumerate(self.of, 1)}
        self._symbol = {left: symbols[f"<{left}>"] for left in self.of}
        self._right = [tuple(symbols[name] for name in p.right) for p in self.productions]
        self._reversed = [right[::-1] for right in self._right]
        self._cumulative = {self._symbol[left]: self._sums(left) for left in self.of}
        self._starts = self._first_words()
        self._table = {self._symbol[left]: self._predictions(left) for left in self.of if left not in self.told}
        self._by_fact = {self._symbol[left]: {self.productions[n].fact: n for n in self.of[left]} for left in self.told}

    def _ordered(self) -> list[str]:
        """Nonterminals, each before those that it leads to."""
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
            raise ValueError(f"out of reach: {', '.join(sorted(set(self.of) - set(done)))}")
        return list(done)[::-1]

    def _sums(self, left: str) -> tuple[list[float], list[int]]:
        """Where in [0, 1) one production of a nonterminal ends and the next begins, and their numbers."""
        chances = [self.productions[number].probability for number in self.of[left]]
        if min(chances) <= 0 or abs(math.fsum(chances) - 1) > 1e-9:
            raise ValueError(f"the probabilities of {left} sum to {math.fsum(chances)}, or one is not above 0")
        return list(itertools.accumulate(chances))[:-1], self.of[left]

    def _first_words(self) -> list[set[int]]:
        """What each production may begin with; of one that may be empty also what may come behind it, such as END."""
        first: dict[int, set[int]] = {}  # END among them: it may be empty
        for left in reversed(self._top_down):
            first[self._symbol[left]] = set().union(*(_begin(self._right[n], first, {END}) for n in self.of[left]))
        behind: dict[int, set[int]] = {symbol: set() for symbol in first}
        behind[self._symbol[self.start]] = {END}
        starts: list[set[int]] = [set()] * len(self.productions)
        for left in self._top_down:
            after = behind[self._symbol[left]]
            for number in self.of[left]:
                right = self._right[number]
                starts[number] = _begin(right, first, after)
                for position, symbol in enumerate(right):
                    if symbol < 0:
                        behind[symbol] |= _begin(right[position + 1 :], first, after)
        return starts

    def _predictions(self, left: str) -> dict[int, int]:
        """Which production of a nonterminal the next word means."""
        table: dict[int, int] = {}
        for number in self.of[left]:
            for word in self._starts[number]:
                if word in table:
                    one, other = self.productions[table[word]], self.productions[number]
                    shown = self.words[word - 1] if word else "the end"
                    raise ValueError(f"{one} and {other} may both be meant by {shown!r}")
                table[word] = number
        return table

    def _chosen(self, facts: Collection[str]) -> dict[int, int]:
        """The productions of told nonterminals."""
        return {symbol: next(known[fact] for fact in facts if fact in known) for symbol, known in self._by_fact.items()}

    def draw(self, uniform: Sequence[float], facts: Collection[str] = ()) -> list[int]:
        """The leftmost derivation of a sentence, from `choices` numbers of [0, 1), one a choice, in that order."""
        chosen = self._chosen(facts)
        productions: list[int] = []
        coming = iter(uniform)
        stack = [self._symbol[self.start]]
        while stack:
            symbol = stack.pop()
            if symbol > 0:
                continue
            number = chosen.get(symbol)
            if number is None:
                ends, numbers = self._cumulative[symbol]
                number = numbers[bisect_right(ends, next(coming))] if ends else numbers[0]
            productions.append(number)
            stack.extend(self._reversed[number])
        return productions

    def sentence(self, productions: Sequence[int]) -> list[int]:
        """The words of a whole leftmost derivation."""
        words: list[int] = []
        coming = iter(productions)
        stack = [self._symbol[self.start]]
        while stack:
            symbol = stack.pop()
            if symbol > 0:
                words.append(symbol)
            else:
                stack.extend(self._reversed[next(coming)])
        return words

    def parse(self, words: Sequence[int], facts: Collection[str] = ()) -> Parsed:
        """The derivation of words 1, 2, ... (given facts); any other number among them is an error in the sentence.

        A single wrong word, where no choice is left, is passed over if the next one is right: a name that is not the
        one from before, say. Any other error ends the derivation.
        """
        chosen = self._chosen(facts)
        productions: list[int] = []
        position, right = 0, True
        stack = [self._symbol[self.start]]
        while stack:
            symbol = stack.pop()
            word = words[position] if position < len(words) else END
            if symbol > 0:
                position += 1
                if word != symbol:
                    right = False
                    following = words[position] if position < len(words) else END
                    if not stack or not (following == stack[-1] or self._means(stack[-1], following, chosen)):
                        break
                continue
            number = self._means(symbol, word, chosen)
            if number is None:
                right = False
                break
            productions.append(number)
            stack.extend(self._reversed[number])
        return Parsed(productions, right and position == len(words))

    def _means(self, symbol: int, word: int, chosen: Mapping[int, int]) -> int | None:
        """Which production of a nonterminal the next word means, if any."""
        number = chosen[symbol] if symbol in chosen else self._table.get(symbol, {}).get(word)
        return number if number is not None and word in self._starts[number] else None

    def facts(self, productions: Iterable[int]) -> list[str]:
        """What a derivation says: ["place=mill", ...]."""
        return [fact for fact in (self.productions[number].fact for number in productions) if fact]

    def log_probability(self, productions: Sequence[int]) -> float:
        """Of a whole derivation, in nats; given the facts, where they are told."""
        return math.fsum(-self._surprise[number] for number in productions)

    @cached_property
    def _surprise(self) -> list[float]:
        """-log probability, in nats; 0 of productions that facts choose."""
        return [0.0 if p.left in self.told else -math.log(p.probability) for p in self.productions]

    @cached_property
    def uses(self) -> np.ndarray:
        """(P,): how often a sentence uses each production, in expectation."""
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
        """(P,): the probability that a sentence does not use a production."""
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
        """Of a sentence, in nats; given the facts, where they are told."""
        return math.fsum(use * surprise for use, surprise in zip(self.uses.tolist(), self._surprise, strict=True))

    @cached_property
    def mean_words(self) -> float:
        """Words of a sentence, in expectation."""
        own = [sum(symbol > 0 for symbol in right) for right in self._right]
        return math.fsum(use * words for use, words in zip(self.uses.tolist(), own, strict=True))

    @cached_property
    def longest(self) -> int:
        """Words of the longest sentence."""
        return self._most(lambda number: sum(symbol > 0 for symbol in self._right[number]))

    @cached_property
    def choices(self) -> int:
        """How many numbers `draw` needs, at most."""
        drawn = [len(self.of[p.left]) > 1 and p.left not in self.told for p in self.productions]
        return self._most(lambda number: int(drawn[number]))

    def _most(self, value: Callable[[int], int]) -> int:
        """The greatest sum of a value of productions over a derivation."""
        most: dict[int, int] = {}
        for left in reversed(self._top_down):
            sums = (value(n) + sum(most[symbol] for symbol in self._right[n] if symbol < 0) for n in self.of[left])
            most[self._symbol[left]] = max(sums)
        return most[self._symbol[self.start]]


def _nonterminal(name: str) -> bool:
    return name.startswith("<")


def _begin(symbols: Sequence[int], first: Mapping[int, set[int]], after: set[int]) -> set[int]:
    """Words that symbols may begin with, and those `after` them if all may be empty."""
    found: set[int] = set()
    for symbol in symbols:
        if symbol > 0:
            return found | {symbol}
        found |= first[symbol] - {END}
        if END not in first[symbol]:
            return found
    return found | after
