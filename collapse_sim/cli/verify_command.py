"""`collapse-sim verify`: decide the claims of a run's recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from collapse_sim.cli.options import JsonOption, RunArgument
from collapse_sim.core.errors import ClaimsFailedError
from collapse_sim.ui.console import data, document, say

if TYPE_CHECKING:
    from rich.text import Text

    from collapse_sim.analysis.results import RecordedClaim, Results
    from collapse_sim.analysis.verdicts import Verdict

SCHEMA = 1
_STATUSES = ("holds", "fails", "undecided")


def verify(
    run: RunArgument,
    as_json: JsonOption = False,
) -> None:
    """Decide each claim of the run's recipe.

    A claim holds, fails, or is undecided with the seeds at hand; exit code 6 if one fails.
    """
    from collapse_sim.analysis.results import read_results
    from collapse_sim.analysis.row_intervals import missing_reason
    from collapse_sim.analysis.verdicts import decide_all
    from collapse_sim.store.run_directory import find_run

    results = read_results(find_run(run))
    for problem in results.problems:
        say(f"warning: {problem}")
    decided = list(zip(results.claims, decide_all(results.claims, results), strict=True))
    counts = {status: sum(verdict.status == status for _, verdict in decided) for status in _STATUSES}
    if len(results.seeds) == 1 and (reason := missing_reason(results)):
        say(reason)
    if as_json:
        from collapse_sim.analysis.documents import claim_entry

        claims = [claim_entry(claim, verdict) for claim, verdict in decided]
        problems = list(results.problems)
        document({"schema": SCHEMA, "run": results.name, **counts, "claims": claims, "problems": problems})
    elif not decided:
        data(f"{results.name}: the recipe makes no claims")
    else:
        _print(results, decided, counts)
    if counts["fails"]:
        raise ClaimsFailedError(f"{counts['fails']} of {len(decided)} claims of {results.name} fail")


def _print(results: Results, decided: list[tuple[RecordedClaim, Verdict]], counts: dict[str, int]) -> None:
    from rich.padding import Padding

    from collapse_sim.analysis.terminal import rendered, stdout_width

    parts: list[Any] = []
    for claim, verdict in decided:
        parts.append(_headline(claim, verdict))
        lines = [claim.expect, verdict.reason, verdict.definition, *(f"note: {caveat}" for caveat in verdict.caveats)]
        parts += [Padding(line, (0, 0, 0, 4)) for line in lines]
        parts.append("")
    parts.append(f"{results.name}: " + ", ".join(f"{status} {count}" for status, count in counts.items()))
    data(rendered(parts, stdout_width()))


def _headline(claim: RecordedClaim, verdict: Verdict) -> Text:
    from rich.text import Text

    from collapse_sim.ui.palette import COLORS, DONE, WARNING

    symbol, style = {"holds": ("✓", DONE), "fails": ("✗", WARNING), "undecided": ("?", COLORS[1])}[verdict.status]
    under = f" ({', '.join(verdict.protocols)})" if verdict.protocols else ""
    return Text.assemble((f"{symbol} {verdict.status:<9}", f"bold {style}"), "  ", (claim.that, "bold"), (under, "dim"))
