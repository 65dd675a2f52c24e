"""The figures behind verdicts as texts, for every table that shows them."""

from __future__ import annotations

from dataclasses import replace

from collapse_sim.analysis.collapse_definitions import DefinitionVerdict
from collapse_sim.analysis.definition_tables import figures_of

CHANGE = DefinitionVerdict("a", "drift", "seen", "fid", 0.5, 0.25, 0.75, 3e-5, before=2.0, after=2.5, relative=0.25)
RATE = replace(CHANGE, figure=0.021, low=0.018, high=0.024, relative=0.021, per_generation=True)


def test_a_change_has_the_digits_of_its_interval() -> None:
    assert figures_of(CHANGE) == ("2.000", "2.500", "+0.50 ± 0.25", "+25.0 %", "< 0.0001")


def test_a_relative_rate_is_in_per_cent_itself() -> None:
    assert figures_of(RATE)[2:] == ("+2.10 ± 0.30 %", None, "< 0.0001")
    assert figures_of(replace(RATE, relative=None)).change == "+0.0210 ± 0.0030"


def test_there_is_nothing_where_nothing_is_measured() -> None:
    assert set(figures_of(DefinitionVerdict("a", "drift", "not measured"))) == {None}
