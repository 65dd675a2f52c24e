"""Runs side by side: arms are named by run."""

from __future__ import annotations

from collapse_sim.analysis.collapse_definitions import definition_verdicts
from collapse_sim.analysis.merged_runs import merge
from collapse_sim.analysis.results import RecordedReference, Results, read_results
from tests.analysis.conftest import WriteRun
from tests.analysis.test_results import SCORES


def test_merge_names_arms_by_run(write_run: WriteRun) -> None:
    reference = [{"source": "S", "metric": "loss", "generation": 0, "values": {"a": 0.5}}]
    one = read_results(write_run(SCORES, name="one", seeds=[7, 3], reference=reference, theory={"a": {"loss": [0.1]}}))
    two = read_results(
        write_run(
            {"a": {"loss": [[1.0], [2.0], [3.0]]}},
            name="two",
            seeds=[4],
            better={"loss": "higher"},
            reference=reference,
        )
    )
    found = merge({"one": one, "two": two})
    assert found.arms == ("one/b", "one/a", "two/a")
    assert (found.seeds, found.generations, found.baseline) == ((7, 3, 4), 2, "one/b")
    assert dict(found.metrics) == {"loss": None, "fid": "lower"}
    assert found.scores("two/a", "loss", 2) == {4: 3.0}
    assert found.theory_at("one/a", "loss", 0) == 0.1
    assert found.references == (RecordedReference("S", "loss", 0, {"one/a": 0.5, "two/a": 0.5}),)


def test_a_finished_run_beside_a_longer_one_is_finished(write_run: WriteRun) -> None:
    def run(name: str, generations: int) -> Results:
        scores = {"a": {"loss": [[1.0 + k, 1.1 + k, 1.3 + k] for k in range(generations + 1)]}}
        metrics = {"loss": {"better": "lower", "measures": ["risk"]}}
        return read_results(write_run(scores, name=name, seeds=range(3), metrics=metrics))

    merged = merge({"short": run("short", 2), "long": run("long", 4)})
    assert [merged.last_of(arm) for arm in merged.arms] == [2, 4]
    rising = {verdict.arm: verdict for verdict in definition_verdicts(merged) if verdict.definition == "rising loss"}
    assert {arm: (verdict.generation, verdict.note) for arm, verdict in rising.items()} == {
        "short/a": (2, ""),
        "long/a": (4, ""),
    }
