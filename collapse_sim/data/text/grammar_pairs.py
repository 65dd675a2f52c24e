"""Reports and their headlines drawn from grammars: the distribution of headlines given a report is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from collapse_sim.data.text import grammar_world
from collapse_sim.data.text.grammar_stories import UNKNOWN, GrammarText, padded, parse
from collapse_sim.data.text.pcfg import END, Grammar, Parsed


class GrammarPairs(GrammarText):
    """Reports from a village (source) and a headline of each (target), from grammars (data/text/grammar_world.py).

    A headline says who did what, or what was done; it may add place, day and outcome, and omits the rest. All known
    values are of the target given the source: a headline that contradicts the report is not a text of the grammar.
    """

    kind: ClassVar[str] = "pairs"

    def report_grammar(self) -> Grammar:
        """The grammar of the source."""
        return grammar_world.pairs(self.tail)[0]

    def true_grammar(self) -> Grammar:
        """The grammar of the target; the source's facts choose the productions of the nonterminals in `told`."""
        return grammar_world.pairs(self.tail)[1]

    def columns(self) -> dict[str, int]:
        return {"source": self.report_grammar().longest + 1, "target": self.true_grammar().longest + 1}

    def choices(self) -> int:
        return self.report_grammar().choices + self.true_grammar().choices

    def text(self, uniform: Sequence[float]) -> list[int]:
        reports, headlines, columns = self.report_grammar(), self.true_grammar(), self.columns()
        report = reports.draw(uniform)
        headline = headlines.draw(uniform[reports.choices :], reports.facts(report))
        source = padded([*reports.sentence(report), END], columns["source"])
        return source + padded([*headlines.sentence(headline), END], columns["target"])

    def parsed(self, rows: Mapping[str, Tensor]) -> list[Parsed]:
        """The derivations of the targets; UNKNOWN if the source is not a report."""
        reports = self.report_grammar()
        parsed = []
        for (used, complete), target in zip(parse(reports, rows["source"]), rows["target"].unsqueeze(1), strict=True):
            parsed += parse(self.true_grammar(), target, [reports.facts(used)]) if complete else [UNKNOWN]
        return parsed
