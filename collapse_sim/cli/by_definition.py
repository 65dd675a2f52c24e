"""`compare --definitions` and `--rates`: verdicts by definition of collapse, and changes per generation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from collapse_sim.core.errors import RecipeError
from collapse_sim.ui.console import data

if TYPE_CHECKING:
    from rich.console import RenderableType

    from collapse_sim.analysis.paper_tables import Form
    from collapse_sim.analysis.results import Results


class ByDefinition(NamedTuple):
    """What was asked for."""

    definitions: bool
    rates: bool

    @property
    def any(self) -> bool:
        return self.definitions or self.rates

    def check(self, generation: str | None, form: str | None, against: Sequence[str] | None) -> None:
        """Raise RecipeError for options that go with neither."""
        option = "--definitions" if self.definitions else "--rates"
        if not self.any:
            return
        if against:
            raise RecipeError(
                f"{option}: not with --against, which compares arms over a setting; remove one of the two"
            )
        if generation is not None:
            raise RecipeError(f"--generation: {option} uses all generations; remove one of the two")
        if form == "--csv":
            raise RecipeError(f"--csv: has scores only; {option} is in --json, --latex and --markdown")


def document_of(results: Results, metrics: Sequence[str], asked: ByDefinition) -> dict[str, Any]:
    """{"definitions": [...], "rates": [...]}, as asked for."""
    from collapse_sim.analysis.collapse_definitions import MARGIN, definition_verdicts, definitions_document
    from collapse_sim.analysis.rates import rates, rates_document

    document: dict[str, Any] = {}
    if asked.definitions:
        verdicts = definition_verdicts(_measuring(results, metrics))
        document |= {"margin": MARGIN, "definitions": definitions_document(verdicts)}
    if asked.rates:
        document |= {"rates": rates_document(rates(results, metrics))}
    return document


def show(results: Results, metrics: Sequence[str], form: str | None, asked: ByDefinition) -> None:
    """Print the tables; `form`: "--latex", "--markdown", or None for a terminal."""
    from collapse_sim.analysis.collapse_definitions import definition_verdicts
    from collapse_sim.analysis.definition_tables import definition_tables, paper_definitions
    from collapse_sim.analysis.rate_tables import paper_rates, rate_tables
    from collapse_sim.analysis.rates import rates
    from collapse_sim.analysis.terminal import rendered, stdout_width

    verdicts = definition_verdicts(_measuring(results, metrics)) if asked.definitions else []
    by_arm = rates(results, metrics) if asked.rates else []
    if form is not None:
        paper_form: Form = "latex" if form == "--latex" else "markdown"
        texts = [paper_definitions(results, verdicts, paper_form)] if asked.definitions else []
        texts += [paper_rates(results, by_arm, paper_form)] if asked.rates else []
        if text := "\n".join(text for text in texts if text).rstrip("\n"):
            data(text)
        return
    width = stdout_width()
    parts: list[RenderableType] = [*definition_tables(results, verdicts, width), ""] if asked.definitions else []
    parts += rate_tables(results, by_arm, width)
    data(rendered(parts, width))


def _measuring(results: Results, metrics: Sequence[str]) -> Results:
    """The results with these metrics as the only ones that measure anything."""
    from dataclasses import replace

    return replace(results, measures={name: of for name, of in results.measures.items() if name in metrics})
