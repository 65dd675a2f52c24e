"""What a grammar means, by plain recursion over its productions: nothing of the engine is used."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from functools import cache

from collapse_sim.data.text.pcfg import Grammar

Derivation = tuple[float, tuple[str, ...], Counter[int]]


def derivations(grammar: Grammar, name: str = "<S>", facts: tuple[str, ...] = ()) -> list[Derivation]:
    """Every (probability, words, productions used) of a symbol; facts, if any, decide where there are some."""
    if not name.startswith("<"):
        return [(1.0, (name,), Counter())]
    found = []
    for number, production in enumerate(grammar.productions):
        decided = bool(facts) and bool(production.fact)
        if f"<{production.left}>" != name or (decided and production.fact not in facts):
            continue
        for parts in itertools.product(*(derivations(grammar, inner, facts) for inner in production.right)):
            chance = math.prod((p for p, *_ in parts), start=1.0 if decided else production.probability)
            words = tuple(word for _, some, _ in parts for word in some)
            found.append((chance, words, sum((used for *_, used in parts), Counter({number: 1}))))
    return found


def probability(grammar: Grammar, words: Sequence[str]) -> float:
    """Of a sentence: the sum over all its derivations, were there several."""

    @cache
    def ends(name: str, first: int) -> dict[int, float]:
        """Where a symbol that begins at `first` may end, with probabilities."""
        if not name.startswith("<"):
            return {first + 1: 1.0} if words[first : first + 1] == [name] else {}
        found: Counter[int] = Counter()
        for production in grammar.productions:
            if f"<{production.left}>" != name:
                continue
            reached = {first: production.probability}
            for inner in production.right:
                further: Counter[int] = Counter()
                for at, chance in reached.items():
                    for end, rest in ends(inner, at).items():
                        further[end] += chance * rest  # type: ignore[assignment]
                reached = dict(further)
            for end, chance in reached.items():
                found[end] += chance  # type: ignore[assignment]
        return dict(found)

    words = list(words)
    return ends(f"<{grammar.start}>", 0).get(len(words), 0.0)
