"""The grammar of a claim's `expect`. What a claim means, and how it is decided, is in verdicts.py and docs/analysis.md.

    distill < replace                           directional: A < B, A > B
    distill < 0.9 * replace                     a factor before either side
    replace > replace@0                         an arm at another generation
    replace < 2.5                               a number
    distill = replace within 2 %                equivalence: they differ by no more than 2 % of replace
    replace = theory within 10 %                the theory curve of the arm on the other side
    min("output=0.5", "output=1") < replace     the least of several arms (max: the greatest)

An unquoted arm name has letters, digits and _ - . + only; any other name is put in double quotes.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

FORMS = (
    'A < B, A > B, A = B within 2 %, A = theory within 10 %; where a side is an arm, a quoted "arm" (when its name has '
    "characters other than letters, digits and _ - . +), arm@0, min(arm, arm), max(arm, arm), theory or a number, with "
    "or without a factor as in 0.9 * arm"
)
_TOKEN = re.compile(r'\s*(?:"(?P<quoted>[^"]+)"|(?P<sign>[<>=!]=|[<>=*@(),%])|(?P<word>[\w.+-]+))')
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_END = "the end"
_TOLERANCE_LIMIT = 100  # per cent: from here on, 0 is within the tolerance


class ArmAt(NamedTuple):
    """An arm, at the claim's own generation (None) or at another."""

    arm: str
    generation: int | None = None


class Pick(NamedTuple):
    """The arm of several that truly is least ("min") or greatest ("max"); the seeds only estimate which one it is."""

    how: Literal["min", "max"]
    of: tuple[ArmAt, ...]


class Number(NamedTuple):
    value: float


class Theory(NamedTuple):
    """The theory curve of the arm on the other side, at that side's generation."""


class Side(NamedTuple):
    """`factor` times a term."""

    term: ArmAt | Pick | Number | Theory
    factor: float = 1.0

    @property
    def arms(self) -> tuple[ArmAt, ...]:
        """The arms this side names."""
        if isinstance(self.term, ArmAt):
            return (self.term,)
        return self.term.of if isinstance(self.term, Pick) else ()


@dataclass(frozen=True)
class Expectation:
    """One parsed `expect`. `within` is set exactly when the relation is "="."""

    left: Side
    relation: Literal["<", ">", "="]
    right: Side
    within: float | None = None  # per cent of the right side

    @property
    def arms(self) -> frozenset[str]:
        """Every arm that the claim names."""
        return frozenset(at.arm for side in (self.left, self.right) for at in side.arms)

    @property
    def generations(self) -> frozenset[int]:
        """Every generation that is named with `@`."""
        named = (at.generation for side in (self.left, self.right) for at in side.arms)
        return frozenset(generation for generation in named if generation is not None)


def parse(text: str) -> Expectation:
    """Parse one `expect`. Raises ValueError, which says what was found, where, and what is allowed."""
    parser = _Parser(text)
    left = parser.side()
    relation = parser.relation()
    right = parser.side()
    within = parser.tolerance() if relation == "=" else None
    if parser.next != _END:
        if relation != "=" and parser.next == "within":
            raise parser.error(f"`within` belongs to '=', not to '{relation}'")
        raise parser.error("expected the end of the claim here")
    expectation = Expectation(left, relation, right, within)
    problem = _undecidable(expectation)
    if problem:
        raise ValueError(f"{text!r}: {problem}")
    return expectation


def _undecidable(claim: Expectation) -> str | None:
    """Why a claim that follows the grammar still cannot be decided, or None."""
    left, right = claim.left, claim.right
    if not claim.arms:
        return "it names no arm; put at least one arm on a side"
    if left == right:
        return "both sides are the same; compare an arm with another arm, generation or number"
    for side, other in ((left, right), (right, left)):
        if isinstance(side.term, Theory) and not isinstance(other.term, ArmAt):
            return "`theory` is the curve of the arm on the other side, so that side must be one arm"
    if claim.within is not None and isinstance(right.term, Number) and right.term.value == 0:
        return "a percentage of 0 is 0; write two claims that give the limits, `A < 0.1` and `A > -0.1`"
    return None


class _Parser:
    """Recursive descent over the tokens of one claim; `next` is the token under the cursor."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._tokens: list[tuple[str, bool, int]] = []  # text, quoted, column
        position, end = 0, len(text.rstrip())
        while position < end:
            match = _TOKEN.match(text, position)
            if match is None:
                column = position + len(text[position:]) - len(text[position:].lstrip())
                raise ValueError(f"{text!r}: unexpected {text[column]!r} at column {column + 1}; allowed: {FORMS}")
            kind = match.lastgroup or ""
            self._tokens.append((match.group(kind), kind == "quoted", match.start(kind)))
            position = match.end()
        self._at = 0

    @property
    def next(self) -> str:
        """The next token, or "the end"; a quoted name keeps its quotes, so that it is never taken for a keyword."""
        if self._at == len(self._tokens):
            return _END
        text, quoted, _ = self._tokens[self._at]
        return f'"{text}"' if quoted else text

    def error(self, message: str) -> ValueError:
        """A ValueError that shows the token under the cursor."""
        token = self.next if self.next == _END else f"{self.next!r} at column {self._tokens[self._at][2] + 1}"
        return ValueError(f"{self.text!r}: {message}, found {token}; allowed: {FORMS}")

    def take(self, token: str) -> bool:
        """Consume the next token if it is `token`."""
        if self.next != token:
            return False
        self._at += 1
        return True

    def relation(self) -> Literal["<", ">", "="]:
        for sign in ("<", ">", "="):
            if self.take(sign):
                return sign
        raise self.error("expected '<', '>' or '=' here")

    def side(self) -> Side:
        number = self.number()
        if number is None:
            return Side(self.term())
        if not self.take("*"):
            return Side(Number(number))
        if number <= 0:
            raise ValueError(f"{self.text!r}: a factor must be above 0, found {number:g}")
        if _NUMBER.fullmatch(self.next):
            raise self.error("a factor must precede an arm or `theory`")
        return Side(self.term(), number)

    def term(self) -> ArmAt | Pick | Theory:
        if self.take("theory"):
            return Theory()
        for how in ("min", "max"):
            if self.next == how and self._peek() == "(":
                self._at += 2
                arms = [self.arm()]
                while self.take(","):
                    arms.append(self.arm())
                if not self.take(")"):
                    raise self.error(f"expected ',' or ')' to continue {how}(...)")
                return Pick(how, tuple(arms))
        return self.arm()

    def arm(self) -> ArmAt:
        if self._at == len(self._tokens):
            raise self.error("expected an arm here")
        name, quoted, _ = self._tokens[self._at]
        if not quoted and (not re.fullmatch(r"[\w.+-]+", name) or name == "within" or _NUMBER.fullmatch(name)):
            raise self.error("expected an arm here")
        self._at += 1
        if not self.take("@"):
            return ArmAt(name)
        if not self.next.isdecimal():
            raise self.error("'@' must be followed by a generation's number")
        generation = int(self.next)
        self._at += 1
        return ArmAt(name, generation)

    def number(self) -> float | None:
        if self.next == _END or not _NUMBER.fullmatch(self.next):
            return None
        value = float(self.next)
        if not math.isfinite(value):
            raise self.error("expected a finite number here")
        self._at += 1
        return value

    def tolerance(self) -> float:
        if not self.take("within"):
            raise self.error("'=' needs a tolerance: `within 2 %`")
        amount = self.number()
        if amount is None or amount <= 0:
            raise self.error("`within` must be followed by a number above 0")
        if self.next == "se":
            raise ValueError(
                f"{self.text!r}: standard errors are not a tolerance: they shrink with every seed, and do not say "
                "which difference is too large. Give it in '%' of the right side, as in `within 10 %`"
            )
        if not self.take("%"):
            raise self.error("a tolerance is in '%', of the right side")
        if amount >= _TOLERANCE_LIMIT:
            raise ValueError(f"{self.text!r}: a tolerance is below {_TOLERANCE_LIMIT} %, found {amount:g} %")
        return amount

    def _peek(self) -> str:
        return self._tokens[self._at + 1][0] if self._at + 1 < len(self._tokens) else _END
