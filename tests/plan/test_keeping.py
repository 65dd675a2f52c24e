"""What a run may do without, from when on, and what it needs again."""

from __future__ import annotations

import pytest

from collapse_sim.plan.experiment import Experiment, prepare
from collapse_sim.plan.keeping import Pruning, held_to_the_end, keep_of, most_bytes, read_by, spare_after, to_come
from collapse_sim.plan.sizes import bytes_to_come
from collapse_sim.plan.specs import FitSpec, SampleSpec
from collapse_sim.recipe.loader import load
from tests.conftest import Sandbox
from tests.pruned import LAST, TOY, VAE


def planned(sandbox: Sandbox, text: str) -> Experiment:
    return prepare(load(sandbox.recipe(text)), sandbox.root)


def after(experiment: Experiment, arm: str) -> dict[str, dict[int, int]]:
    """{kind: {generation: the generation after which an arm's weights or rows are removed}}."""
    (plans,) = [plan.generations for plan in experiment.arm_plans if plan.name == arm]
    of = {spec.digest: spec for plan in plans for spec in (plan.fit, plan.samples)}
    removed: dict[str, dict[int, int]] = {"fit": {}, "samples": {}}
    for k, specs in spare_after(experiment).items():
        for spec in specs:
            if spec.digest in of:
                removed[spec.kind][spec.generation] = k
    return removed


def test_rows_and_weights_go_when_nothing_later_reads_them(sandbox: Sandbox) -> None:
    """`last`: one generation later, or at the end where the last generation is fitted to all samples; generation 0's
    fit teaches to the end."""
    experiment = planned(sandbox, VAE.replace("generations: 2", "generations: 4") + LAST)
    assert after(experiment, "replace") == {
        "fit": {0: 4, 1: 2, 2: 3, 3: 4},  # M0 is the other arm's, too, where it teaches
        "samples": {0: 4, 1: 2, 2: 3, 3: 4},
    }
    assert after(experiment, "accumulate+distill")["samples"] == {0: 4, 1: 4, 2: 4, 3: 4}
    assert held_to_the_end(experiment) == ["accumulate+distill"]


def test_none_but_generation_0_keeps_generation_0_and_not_the_last(sandbox: Sandbox) -> None:
    experiment = planned(sandbox, TOY + "keep_weights: none-but-generation-0\nkeep_samples: none-but-generation-0\n")
    assert after(experiment, "replace") == {"fit": {1: 1, 2: 2}, "samples": {1: 2, 2: 2}}


@pytest.mark.parametrize(("weights", "samples"), [("all", "last"), ("last", "all")])
def test_the_two_settings_are_apart(sandbox: Sandbox, weights: str, samples: str) -> None:
    experiment = planned(sandbox, TOY + f"keep_weights: {weights}\nkeep_samples: {samples}\n")
    removed = {spec.kind for specs in spare_after(experiment).values() for spec in specs}
    assert removed == ({"fit"} if weights == "last" else {"samples"})


def test_nothing_is_spare_without_the_settings_and_no_key_depends_on_them(sandbox: Sandbox) -> None:
    plain, pruning = planned(sandbox, TOY), planned(sandbox, TOY + LAST)
    assert spare_after(plain) == {}
    assert held_to_the_end(plain) == []
    assert [spec.digest for spec in plain.specs()] == [spec.digest for spec in pruning.specs()]


def test_what_is_from_outside_and_what_scores_read_stays(sandbox: Sandbox) -> None:
    experiment = planned(sandbox, TOY + LAST)
    kept = {spec.kind for spec in experiment.specs() if keep_of(experiment.recipe, spec) == "all"}
    assert kept == {"data", "scores"}


def test_a_fit_to_curated_rows_reads_the_candidates(sandbox: Sandbox) -> None:
    """A curation is an index into them, so they must outlive it."""
    text = TOY.replace("replace: {data: replace}", "replace: {data: replace, curation: {use: likelihood, keep: 0.5}}")
    experiment = planned(sandbox, text + LAST)
    first, second, *_ = experiment.arm_plans[0].generations
    assert isinstance(second.fit, FitSpec)
    assert first.curation is not None
    read = {spec.digest for spec in read_by(second.fit)}
    assert {draw.digest for draw in first.curation.draws} <= read
    assert {draw.digest for draw in first.curation.draws} & {spec.digest for spec in second.fit.parents} == set()


def test_the_disk_that_is_needed_at_most(sandbox: Sandbox) -> None:
    """Of `replace` two generations at a time; without the settings all that is written."""
    chain = TOY.replace("  accumulate: {data: accumulate}\n", "").replace("generations: 2", "generations: 9")

    def all_of(spec: object) -> int:
        return 2

    plain, pruning = planned(sandbox, chain), planned(sandbox, chain + LAST)
    assert most_bytes(plain, all_of) == bytes_to_come(plain, all_of)
    samples = [spec for spec in pruning.specs() if isinstance(spec, SampleSpec)]
    saved = most_bytes(plain, all_of) - most_bytes(pruning, all_of)
    rows = 2 * 30 * pruning.info.row_bytes  # of both seeds
    weights = 2 * pruning.weights_bytes["replace"]
    assert len(samples) == 10
    assert saved == 8 * (rows + weights), "8 of 10 generations are gone when the last one is there"
    saved_late = most_bytes(plain, all_of) - most_bytes(pruning, all_of, late=True)
    assert saved_late == 7 * (rows + weights), "one more is there while its scores are computed"


def test_only_what_something_missing_is_made_from_is_needed_again(sandbox: Sandbox) -> None:
    """After a pruned run: nothing; with one more generation, all earlier samples of `accumulate`; for one model, what
    it is made from."""
    sandbox.run(TOY + LAST)
    store = sandbox.root / ".store"
    same, longer = (
        planned(sandbox, TOY + LAST),
        planned(sandbox, TOY.replace("generations: 2", "generations: 3") + LAST),
    )
    assert sum(map(to_come(same, store), same.specs())) == 0
    assert to_come(same, sandbox.root / "none")(same.data) == 2
    replace, accumulate = (plan.generations for plan in longer.arm_plans)
    needed = Pruning(longer, store, {}).to_make()
    made = {spec.digest for plans in (replace, accumulate) for spec in plans[3].specs()}
    again = {spec.digest for k in (0, 1) for spec in (accumulate[k].fit, accumulate[k].samples)}
    assert needed.keys() == made | again
    of_one = Pruning(longer, store, {}).to_make({replace[1].fit.digest: {1}})
    assert of_one.keys() == {spec.digest for spec in (replace[0].fit, replace[0].samples, replace[1].fit)}
    assert set(map(frozenset, of_one.values())) == {frozenset({0, 1})}, "a block is made as a whole"


def test_nothing_is_needed_behind_the_end_of_a_chain(sandbox: Sandbox) -> None:
    """What follows a fit that diverged is never made: it does not call for what it would be made from."""
    sandbox.run(TOY + LAST)
    store = sandbox.root / ".store"
    longer = planned(sandbox, TOY.replace("generations: 2", "generations: 4") + LAST)
    accumulate = longer.arm_plans[1].generations
    of_seed = Pruning(longer, store, {"accumulate": {0: 3, 1: 3}, "replace": {0: 3, 1: 3}}).to_make()
    assert accumulate[3].fit.digest in of_seed, "the fit is tried again"
    assert accumulate[3].samples.digest not in of_seed
    assert accumulate[4].fit.digest not in of_seed
