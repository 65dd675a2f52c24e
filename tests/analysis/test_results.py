"""Reading run.json and journal.jsonl."""

import math
from pathlib import Path

import pytest

from collapse_sim.analysis.merged_runs import merge
from collapse_sim.analysis.results import RecordedClaim, RecordedReference, read_results
from collapse_sim.core.errors import RecipeError, StoreError
from collapse_sim.store import journal, sealed
from collapse_sim.ui.run_status import run_status
from tests.analysis.conftest import WriteRun, scores_line

SCORES = {"b": {"loss": [[1.0, 2.0], [3.0, 4.0]], "fid": [[5.0, 6.0]]}, "a": {"loss": [[1.0, 2.0]]}}


def test_everything_in_the_recipes_order(write_run: WriteRun) -> None:
    run = write_run(
        SCORES,
        seeds=[7, 3],
        better={"loss": "lower", "fid": None},
        claims=[{"that": "x", "metric": "loss", "generation": "last", "expect": "a < b"}],
        reference=[{"source": "S", "metric": "loss", "generation": 1, "values": {"a": 0.5}}],
        theory={"a": {"loss": [0.1, 0.2]}},
    )
    found = read_results(run)
    assert (found.name, found.arms, found.seeds, found.generations) == ("toy", ("b", "a"), (7, 3), 1)
    assert dict(found.metrics) == {"loss": "lower", "fid": None}
    assert found.baseline == "b"
    assert list(found.scores("b", "loss", 1).items()) == [(7, 3.0), (3, 4.0)]
    assert (found.scores("a", "loss", 1), found.scores("a", "fid", 0)) == ({}, {})
    assert (found.scored("loss"), found.scored("loss", ["a"]), found.scored("nothing")) == ([0, 1], [0], [])
    assert found.claims == (RecordedClaim("x", "loss", "last", "a < b"),)
    assert found.reference_at("loss", 1) == RecordedReference("S", "loss", 1, {"a": 0.5})
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
    found = read_results(run)
    assert found.scored("loss") == []
    (problem,) = found.problems
    assert (
        "journal.jsonl: incomplete, recorded scores are gone: loss of b, generations 0-1; fid of b, generation 0; "
        in problem
    )


@pytest.mark.parametrize("damage", [{"arms": None}, {"metrics": {"loss": {"better": "sideways"}}}, {"seeds": 3}])
def test_a_damaged_run_is_named(write_run: WriteRun, damage: dict[str, object]) -> None:
    run = write_run(SCORES, seeds=[7, 3], **damage) if "metrics" in damage else write_run(SCORES, seeds=[7, 3])
    content = sealed.read(run / "run.json") | damage
    (run / "run.json").write_text(sealed.text(content))
    with pytest.raises(StoreError, match=r"run\.json.* damaged"):
        read_results(run)


def test_seeds_and_values_must_match(write_run: WriteRun) -> None:
    run = write_run(SCORES, seeds=[7, 3])
    before = read_results(run)
    journal.append(run / "journal.jsonl", [scores_line("a", 0, [7, 3], {"loss": [9.0]})])
    found = read_results(run)
    assert found.values == before.values
    (problem,) = found.problems
    assert "1 line is damaged and left out" in problem


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no run here"):
        read_results(tmp_path)


def diverged(arm: str, generation: int, seed: int) -> dict[str, object]:
    return {"event": "diverged", "arm": arm, "generation": generation, "seed": seed, "message": "the loss is nan"}


def test_scores_are_nan_from_the_generation_on_at_which_a_fit_diverged(write_run: WriteRun) -> None:
    """Whether the run wrote nan for them, or nothing: the mean of the seeds that are left would be too good."""
    run = write_run({"b": {"loss": [[1.0, 2.0]] * 4}, "a": {"loss": [[1.0, 2.0]] * 2}}, seeds=[7, 3])
    lines = [
        scores_line("a", 2, [7], {"loss": [5.0]}),
        scores_line("a", 3, [7, 3], {"loss": [5.0, None]}),
        diverged("a", 3, 3),
        diverged("a", 2, 3),
        diverged("gone", 1, 3),
        diverged("b", 1, 99),
        diverged("b", 9, 3),
    ]
    journal.append(run / "journal.jsonl", lines)
    found = read_results(run)
    assert found.diverged == {"a": {3: 2}}
    assert found.scores("a", "loss", 1) == {7: 1.0, 3: 2.0}
    for k in (2, 3):
        scores = found.scores("a", "loss", k)
        assert (list(scores), scores[7], math.isnan(scores[3])) == ([7, 3], 5.0, True)
    assert found.scores("b", "loss", 3) == {7: 1.0, 3: 2.0}
    merged = merge({"one": found})
    assert merged.diverged == {"one/a": {3: 2}}


def test_a_fit_that_went_well_at_another_try_has_not_diverged(write_run: WriteRun) -> None:
    run = write_run(SCORES, seeds=[7, 3])
    lines = [diverged("b", 1, 3), scores_line("b", 1, [3], {"loss": [None]})]
    journal.append(run / "journal.jsonl", lines)
    assert read_results(run).diverged == {"b": {3: 1}}
    journal.append(run / "journal.jsonl", [scores_line("b", 1, [3], {"loss": [2.5]})])
    found = read_results(run)
    assert found.diverged == {}
    assert found.scores("b", "loss", 1) == {7: 3.0, 3: 2.5}


def test_a_finite_score_of_a_chain_whose_samples_diverged_takes_nothing_back(write_run: WriteRun) -> None:
    """A model has a test loss without its samples: in the same line, in one of its own, or before any other metric."""
    run = write_run(SCORES, seeds=[7, 3])
    path = run / "journal.jsonl"
    journal.append(path, [diverged("b", 1, 3), scores_line("b", 1, [3], {"loss": [2.5]})])
    assert read_results(run).diverged == {"b": {3: 1}}
    journal.append(path, [scores_line("b", 1, [3], {"fid": [None]}), scores_line("b", 1, [3], {"loss": [2.5]})])
    assert read_results(run).diverged == {"b": {3: 1}}
    assert run_status(run).state.ended == {"b": {3: 1}}
    journal.append(path, [scores_line("b", 1, [3], {"fid": [9.0]})])
    assert read_results(run).diverged == {}
    assert run_status(run).state.ended == {}


def test_units_and_bounds(write_run: WriteRun) -> None:
    metrics = {"loss": {"better": "lower", "unit": "nats", "bounds": [0, None]}, "fid": {"better": None, "unit": ""}}
    found = read_results(write_run(SCORES, seeds=[7, 3], metrics=metrics))
    assert (found.units, found.bounds) == ({"loss": "nats"}, {"loss": (0.0, None)})
    other = read_results(write_run(SCORES, name="other", seeds=[7, 3], metrics=metrics | {"loss": {"better": "lower"}}))
    assert merge({"one": found, "two": other}).bounds == {"loss": (0.0, None)}
    wrong = metrics | {"loss": {"better": "lower", "bounds": [0]}}
    with pytest.raises(StoreError, match="damaged"):
        read_results(write_run(SCORES, name="wrong", seeds=[7, 3], metrics=wrong))
