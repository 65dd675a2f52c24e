"""A second arm, a third seed, one more generation, a new metric: each costs only what is new."""

from __future__ import annotations

from collections import Counter

from tests.conftest import TINY


def made(sandbox, since):
    """Artefacts made by kind in the journal lines after `since`."""
    total: Counter[str] = Counter()
    for line in sandbox.journal()[since:]:
        total.update(line.get("made", {}))
    return {kind: count for kind, count in total.items() if count}


def test_each_addition_costs_only_what_is_new(sandbox):
    one_arm = TINY.replace("  accumulate+distill", "  # accumulate+distill")
    assert sandbox.run(one_arm)["made"] == 1 + 2 * 3 * 3  # data; two seeds, three generations, fit + samples + score
    steps = [
        ("the same again", one_arm, {}, {}),
        ("a second arm", TINY, {}, {"fit": 4, "samples": 4, "scores": 4}),
        ("a third seed", TINY, {"seeds": [0, 1, 2]}, {"fit": 5, "samples": 5, "scores": 5}),
        ("one more generation", TINY, {"seeds": [0, 1, 2], "generations": 3}, {"fit": 6, "samples": 6, "scores": 6}),
        (
            "a new metric",
            TINY.replace("[test_loss]", "[test_loss, {use: fid, features: pixels}]"),
            {"seeds": [0, 1, 2], "generations": 3},
            {"scores": 3 + 3 * 2 * 3},
        ),
    ]
    for what, recipe, options, expected in steps:
        before = len(sandbox.journal())
        bytes_before = sandbox.artefacts()
        sandbox.run(recipe, **options)
        assert made(sandbox, before) == expected, what
        after = sandbox.artefacts()
        assert all(after[key] == files for key, files in bytes_before.items()), what
    last = sandbox.journal(event="generation")[-1]
    assert last["reused"]["fit"] == 6
    assert last["reused"]["samples"] == 6


def test_ensembles_grow_by_seeds_too(sandbox):
    recipe = """
        name: toy
        data: {use: gaussian, rows: 20}
        model: gaussian
        generations: 2
        seeds: 4
        arms: {replace: {data: replace}}
        metrics: [variance_ratio]
        """
    sandbox.run(recipe)
    before = len(sandbox.journal())
    sandbox.run(recipe, seeds=[0, 1, 2, 3, 4, 5])
    assert made(sandbox, before) == {"fit": 6, "samples": 6, "scores": 6}
    grown = {(line["generation"]): line["metrics"]["variance_ratio"] for line in sandbox.journal(event="scores")}
    other = type(sandbox)(sandbox.root / "other")
    other.root.mkdir()
    other.run(recipe, seeds=[0, 1, 2, 3, 4, 5])
    whole = {(line["generation"]): line["metrics"]["variance_ratio"] for line in other.journal(event="scores")}
    assert grown == whole


def test_two_runs_share_m0_through_the_store(sandbox):
    sandbox.run(TINY, run="first")
    result = sandbox.run(
        TINY.replace("name: tiny", "name: other").replace("replace: {data", "mine: {data"), run="second"
    )
    assert result["made"] == 0
