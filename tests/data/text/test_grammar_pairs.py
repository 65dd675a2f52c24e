"""grammar_pairs: the headlines of a report, and no others."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from collapse_sim.data.text.grammar_pairs import GrammarPairs
from collapse_sim.data.text.tokens import texts_of
from tests.data.making import draws

from .deriving import derivations, probability
from .making_texts import row_of


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


def test_a_source_that_is_no_report_tells_nothing() -> None:
    data = GrammarPairs()
    rows = data.simulate(3, draws(0))
    rows["source"][1, 4] = rows["source"][1, 5]
    assert data.log_probability(rows).isinf().tolist() == [False, True, False]
    whole = data.productions({name: column[[0, 2]] for name, column in rows.items()})
    assert torch.equal(data.productions(rows), whole)
