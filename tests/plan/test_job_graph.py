from __future__ import annotations

import pytest

from collapse_sim.plan.experiment import Experiment, prepare
from collapse_sim.plan.job_graph import JobGraph
from collapse_sim.plan.keeping import read_by
from collapse_sim.recipe.loader import load
from collapse_sim.store.store import one_by_one

RECIPES = ("quickstart", "gaussian-strategies")


def planned(experiment: Experiment, missing=None, group=one_by_one) -> JobGraph:
    seeds = experiment.recipe.seeds
    everything = {spec.digest: set(seeds if spec.seeded else (-1,)) for spec in experiment.specs()}
    graph = JobGraph(experiment)
    graph.plan(everything if missing is None else missing, lambda digest: (), group)
    return graph


@pytest.fixture(params=RECIPES)
def experiment(request, sandbox) -> Experiment:
    return prepare(load(request.param, smoke=True), sandbox.root)


def test_every_artefact_has_one_maker_which_waits_for_all_that_it_reads(experiment):
    graph = planned(experiment)
    keys = [key for node in graph.nodes for key in node.keys]
    assert len(keys) == len(set(keys))
    seeds = experiment.recipe.seeds
    assert set(keys) == {
        (spec.digest, seed) for spec in experiment.specs() for seed in (seeds if spec.seeded else (-1,))
    }
    for number, node in enumerate(graph.nodes):
        assert all(parent < number for parent in node.after)
        for job in node.jobs:
            read = {
                graph.maker[spec.digest, seed]
                for spec in read_by(job.spec)
                for seed in ((-1,) if not spec.seeded else job.seeds or seeds)
            }
            assert read == set(node.after)


def test_seeds_do_not_wait_for_each_other(sandbox):
    experiment = prepare(load("quickstart", smoke=True, seeds=[0, 1]), sandbox.root)
    graph = planned(experiment)
    seed_of = [next((seed for _, seed in node.keys if seed >= 0), None) for node in graph.nodes]
    for number, node in enumerate(graph.nodes):
        if seed_of[number] is not None:
            assert {seed_of[parent] for parent in node.after} <= {seed_of[number], None}


def test_what_is_there_is_neither_made_nor_waited_for(experiment):
    last = list(experiment.specs())[-1]
    graph = planned(experiment, {last.digest: {experiment.recipe.seeds[0]}})
    assert [node.keys for node in graph.nodes] == [((last.digest, experiment.recipe.seeds[0]),)]
    assert graph.nodes[0].after == ()


def test_a_group_waits_for_what_any_of_its_jobs_reads(sandbox):
    experiment = prepare(load("quickstart", smoke=True, seeds=[0, 1]), sandbox.root)
    fits_together = lambda jobs: [jobs] if jobs and jobs[0].spec.kind == "fit" else one_by_one(jobs)  # noqa: E731
    alone, grouped = planned(experiment), planned(experiment, group=fits_together)
    groups = [node for node in grouped.nodes if len(node.jobs) > 1]
    assert groups
    for node in groups:
        assert len({job.spec.generation for job in node.jobs}) == 1
        read = {key for own in node.keys for of in alone.nodes[alone.maker[own]].after for key in alone.nodes[of].keys}
        assert {grouped.maker[key] for key in read} == set(node.after)
    assert len(grouped.nodes) < len(alone.nodes)
