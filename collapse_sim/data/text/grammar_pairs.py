"""Reports and their headlines drawn from grammars: what a headline says of a report has a known distribution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from collapse_sim.data.text import grammar_world
from collapse_sim.data.text.grammar_stories import UNKNOWN, GrammarText, filled, parse
from collapse_sim.data.text.pcfg import END, Grammar, Parsed


class GrammarPairs(GrammarText):
    """Reports from a village (source) and a headline of each (target), from grammars (data/text/grammar_world.py).

    A headline says who did what, or what was done; it may add where, when and what came of it, and leaves out the rest.
    All that is told is of the target given the source: one that says anything else is none of the grammar's.
    """

    kind: ClassVar[str] = "pairs"

    def report_grammar(self) -> Grammar:
        """Of the source."""
        return grammar_world.pairs(self.tail)[0]

    def true_grammar(self) -> Grammar:
        """Of the target; the source's facts choose the productions of nonterminals that are told."""
        return grammar_world.pairs(self.tail)[1]

    def columns(self) -> dict[str, int]:
        return {"source": self.report_grammar().longest + 1, "target": self.true_grammar().longest + 1}

    def choices(self) -> int:
        return self.report_grammar().choices + self.true_grammar().choices

    def text(self, uniform: Sequence[float]) -> list[int]:
        reports, headlines, columns = self.report_grammar(), self.true_grammar(), self.columns()
        report = reports.draw(uniform)
        headline = headlines.draw(uniform[reports.choices :], reports.facts(report))
        source = filled([*reports.sentence(report), END], columns["source"])
        return source + filled([*headlines.sentence(headline), END], columns["target"])

    def parsed(self, rows: Mapping[str, Tensor]) -> list[Parsed]:
        """Of the targets; of one whose source is no report, nothing."""
        reports = self.report_grammar()
        found = []
        for (used, whole), target in zip(parse(reports, rows["source"]), rows["target"].unsqueeze(1), strict=True):
            found += parse(self.true_grammar(), target, [reports.facts(used)]) if whole else [UNKNOWN]
        return found
