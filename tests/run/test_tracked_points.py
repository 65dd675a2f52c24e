"""Which points are new: each seed's, the means, costs and losses; a run that grows adds the rest."""

from __future__ import annotations

from collapse_sim.analysis.results import read_results
from collapse_sim.run import tracked_points
from collapse_sim.run.tracked_points import mark_sent, new_points
from tests.conftest import TINY
from tests.run.tracked import Points, histories, journal_scores


def points_of(sandbox, known: dict[str, list[int]]) -> Points:
    """The new points, by curve; and marks them as sent."""
    found = new_points(read_results(sandbox.root / "run"), sandbox.root / "run", sandbox.root / ".store", known)
    mark_sent(found, known)
    by_curve: Points = {}
    for point in found:
        assert point.step not in by_curve.setdefault(point.curve.path, {})
        by_curve[point.curve.path][point.step] = point.value
    return by_curve


def test_scores_costs_and_losses_of_a_run_that_grows(sandbox):
    known: dict[str, list[int]] = {}
    sandbox.run(TINY, generations=1, seeds=[0])
    first = points_of(sandbox, known)
    scores = journal_scores(sandbox.root / "run")
    assert {path: curve for path, curve in first.items() if path in scores} == scores
    losses = {path: curve for path, curve in first.items() if "_loss/generation" in path}
    assert len(losses) == 2 * 2 * 2, "train and validation, generations, arms"
    recorded = [{int(e["step"]): e["train_loss"] for e in history} for history in histories(sandbox.root / ".store")]
    assert losses["train_loss/generation 001/replace/seed 0"] in recorded
    assert (
        losses["train_loss/generation 000/replace/seed 0"]
        == (losses["train_loss/generation 000/accumulate+distill/seed 0"])
    ), "the arms share M0"
    assert set(first["costs/fit_s/replace/seed 0"]) == {0, 1}
    assert all(seconds > 0 for seconds in first["costs/fit_s/replace/seed 0"].values())
    assert points_of(sandbox, known) == {}

    sandbox.run(TINY)
    more = points_of(sandbox, known)
    whole = journal_scores(sandbox.root / "run")
    together = {path: first.get(path, {}) | more.get(path, {}) for path in whole}
    assert together == whole
    assert set(more["test_loss/replace/mean of 2 seeds"]) == {0, 1, 2}
    assert set(more["test_loss/replace/seed 0"]) == {2}
    assert points_of(sandbox, known) == {}


def test_many_seeds_have_means_and_only_the_first_have_curves(sandbox, monkeypatch):
    from tests.cli.toys import POINTS

    monkeypatch.setattr(tracked_points, "MOST_SEEDS", 2)
    sandbox.run(POINTS)
    found = points_of(sandbox, {})
    assert [path for path in found if path.startswith("variance_ratio")] == [
        "variance_ratio/replace/seed 0", "variance_ratio/replace/seed 1", "variance_ratio/replace/mean of 3 seeds",
    ]  # fmt: skip
    assert set(found["costs/fit_s/replace/all seeds"]) == {0, 1}


def test_a_fit_that_is_gone_is_left_out(sandbox):
    import shutil

    sandbox.run(TINY, generations=1, seeds=[0])
    shutil.rmtree(sandbox.root / ".store")
    (sandbox.root / ".store").mkdir()
    assert points_of(sandbox, {}) == journal_scores(sandbox.root / "run")
