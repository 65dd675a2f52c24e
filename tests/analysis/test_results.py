"""Reading run.json and journal.jsonl."""

import json
import math
from pathlib import Path

import pytest

from collapse_sim.analysis.results import Claim, Reference, merge, read_results
from collapse_sim.errors import RecipeError, StoreError
from collapse_sim.store import journal

from .conftest import WriteRun, scores_line

SCORES = {"b": {"loss": [[1.0, 2.0], [3.0, 4.0]], "fid": [[5.0, 6.0]]}, "a": {"loss": [[1.0, 2.0]]}}


def test_everything_in_the_recipes_order(write_run: WriteRun) -> None:
    run = write_run(
        SCORES,
        seeds=[7, 3],
        better={"loss": "lower", "fid": None},
        claims=[{"that": "x", "metric": "loss", "generation": "last", "expect": "a < b"}],
        reference={"source": "S", "metric": "loss", "generation": "last", "values": {"a": 0.5}},
        theory={"a": {"loss": [0.1, 0.2]}},
    )
    found = read_results(run)
    assert (found.name, found.arms, found.seeds, found.generations) == ("toy", ("b", "a"), (7, 3), 1)
    assert dict(found.metrics) == {"loss": "lower", "fid": None}
    assert found.baseline == "b"
    assert list(found.scores("b", "loss", 1).items()) == [(7, 3.0), (3, 4.0)]
    assert (found.scores("a", "loss", 1), found.scores("a", "fid", 0)) == ({}, {})
    assert (found.scored("loss"), found.scored("loss", ["a"]), found.scored("nothing")) == ([0, 1], [0], [])
    assert found.claims == (Claim("x", "loss", "last", "a < b"),)
    assert found.reference_at("loss", 1) == Reference("S", "loss", 1, {"a": 0.5})
    assert found.reference_at("loss", 0) is None
    assert (found.theory_at("a", "loss", 1), found.theory_at("a", "loss", 2), found.theory_at("b", "loss", 0)) == (
        0.2,
        None,
        None,
    )


def test_the_last_score_of_a_seed_counts(write_run: WriteRun) -> None:
    run = write_run(SCORES, seeds=[7, 3])
    journal.append(run / "journal.jsonl", [scores_line("b", 0, [3], {"loss": [9.0]})])
    assert read_results(run).scores("b", "loss", 0) == {7: 1.0, 3: 9.0}


def test_seeds_that_come_later_stand_in_the_recipes_order(write_run: WriteRun) -> None:
    run = write_run({"a": {"loss": []}}, seeds=[1, 2, 3], generations=0)
    journal.append(run / "journal.jsonl", [scores_line("a", 0, [s], {"loss": [float(s)]}) for s in (3, 1, 2)])
    assert list(read_results(run).scores("a", "loss", 0)) == [1, 2, 3]


def test_leaves_out_what_the_run_no_longer_has_and_keeps_added_metrics(write_run: WriteRun) -> None:
    run = write_run(SCORES, seeds=[7, 3])
    journal.append(
        run / "journal.jsonl",
        [
            scores_line("gone", 0, [7], {"loss": [1.0]}),
            scores_line("a", 9, [7], {"loss": [1.0]}),
            scores_line("a", 1, [8], {"loss": [1.0]}),
            scores_line("a", 0, [7], {"added": [None]}),
        ],
    )
    found = read_results(run)
    assert found.arms == ("b", "a")
    assert found.scored("loss") == [0, 1]
    assert found.scores("a", "loss", 1) == {}
    assert found.metrics["added"] is None
    assert math.isnan(found.scores("a", "added", 0)[7])


def test_a_torn_last_line_is_dropped(write_run: WriteRun) -> None:
    run = write_run(SCORES, seeds=[7, 3])
    with (run / "journal.jsonl").open("a") as file:
        file.write('{"event": "scores", "generation": 1, "arm": "a", "seeds": [7')
    assert read_results(run).scores("a", "loss", 1) == {}


def test_without_a_journal_there_are_no_scores(write_run: WriteRun) -> None:
    run = write_run(SCORES, seeds=[7, 3])
    (run / "journal.jsonl").unlink()
    assert read_results(run).scored("loss") == []


@pytest.mark.parametrize("damage", [{"arms": None}, {"metrics": {"loss": {"better": "sideways"}}}, {"seeds": 3}])
def test_a_damaged_run_is_named(write_run: WriteRun, damage: dict[str, object]) -> None:
    run = write_run(SCORES, seeds=[7, 3], **damage) if "metrics" in damage else write_run(SCORES, seeds=[7, 3])
    content = json.loads((run / "run.json").read_text()) | damage
    (run / "run.json").write_text(json.dumps(content))
    with pytest.raises(StoreError, match=r"toy: run\.json or journal\.jsonl is damaged"):
        read_results(run)


def test_seeds_and_values_must_match(write_run: WriteRun) -> None:
    run = write_run(SCORES, seeds=[7, 3])
    journal.append(run / "journal.jsonl", [scores_line("a", 0, [7, 3], {"loss": [1.0]})])
    with pytest.raises(StoreError, match="damaged"):
        read_results(run)


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no run here"):
        read_results(tmp_path)


def test_merge_names_arms_by_run(write_run: WriteRun) -> None:
    reference = {"source": "S", "metric": "loss", "generation": 0, "values": {"a": 0.5}}
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
    assert found.references == (Reference("S", "loss", 0, {"one/a": 0.5, "two/a": 0.5}),)
