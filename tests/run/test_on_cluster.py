from __future__ import annotations

import pytest

from collapse_sim.run.on_cluster import cluster_text
from collapse_sim.run.preparing import RunOptions

pytest.importorskip("ray", reason="the package ray is not installed: pip install 'collapse-sim[ray]'")


def test_tasks_places_and_time_of_a_local_cluster_without_starting_it(sandbox, monkeypatch):
    from collapse_sim.run import on_cluster

    monkeypatch.chdir(sandbox.root)
    monkeypatch.setattr(on_cluster.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(on_cluster, "measured_rates", lambda *_: {})
    options = RunOptions("quickstart", smoke=True, seeds=(0, 1), on="ray", device="cpu")
    with options.session(early=False) as session:
        assert session.place is not None
        document = on_cluster.cluster_document(session, session.place, {}, lambda _: None)
        specs = list(session.experiment.specs())
    assert document["slots"] == 4
    assert [(node["cpus"], node["gpus"]) for node in document["nodes"]] == [(4.0, 0.0)]
    counts = {task["kind"]: task["count"] for task in document["tasks"]}
    assert counts["fit"] == sum(2 if spec.seeded else 1 for spec in specs if spec.kind == "fit")
    assert sum(document["without"].values()) == sum(2 if spec.seeded else 1 for spec in specs)
    assert document["seconds"] <= document["one_process_seconds"]


def test_the_text_says_where_and_how_long():
    text = cluster_text(
        {
            "place": "ray:auto", "nodes": [{"name": "n1", "cpus": 8.0, "gpus": 2.0}], "ranks": 2, "slots": 1,
            "tasks": [{"kind": "fit", "count": 6, "cpus": 1, "gpus": 1}],
            "seconds": 600.0, "one_process_seconds": 1200.0, "longest_chain_seconds": 300.0,
            "most_busy": 1, "without": {"merge": 2},
        }
    )  # fmt: skip
    assert "n1: 8 CPUs, 2 GPUs" in text
    assert "6 x fit: 1 CPU and 1 GPU, each by 2 processes" in text
    assert "about 10 min without Ray's own overhead; one process: about 20 min; on any cluster at least 5 min" in text
    assert "without 2 of merge, which only a run makes" in text
