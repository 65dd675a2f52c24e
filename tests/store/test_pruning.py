"""Removal in steps, and what is known of it afterwards."""

from __future__ import annotations

import pytest

from collapse_sim.store import pruning
from collapse_sim.store.cache import open_store
from collapse_sim.store.pruning import Pruned, prune, pruned_by, pruned_of, pruned_records, pruned_total
from collapse_sim.store.registration import Registration, registration_path
from collapse_sim.store.store import Store
from tests.pruned import LAST, TOY, manifests, payload


@pytest.fixture
def finished(sandbox):
    """A run that keeps all, and {digest: seeds} of all its samples."""
    sandbox.run(TOY)
    samples = [m for m in manifests(sandbox.root / ".store").values() if m["kind"] == "samples"]
    return sandbox, {m["digest"]: set(m["seeds"]) for m in samples}


ARMS = ("replace", "accumulate")


def test_bytes_that_are_freed_are_those_on_the_disk(finished):
    sandbox, samples = finished
    store, before = sandbox.root / ".store", payload(sandbox.root / ".store")
    done = prune(Store(store), sandbox.root / "run", samples, ARMS)
    assert done.artefacts == len(samples) == 5
    assert done.bytes == before - payload(store) > 0
    assert pruned_by(store, sandbox.root / "run") == pruned_of(sandbox.root / "run") == pruned_total(store) == done
    assert {problem for _, problem, _ in pruned_records(store)} == {""}
    assert prune(Store(store), sandbox.root / "run", samples, ARMS) == Pruned(), "there is nothing left to remove"
    assert pruned_total(store) == done


def test_a_block_goes_as_a_whole_or_not_at_all(finished):
    sandbox, samples = finished
    before = sandbox.artefacts()
    prune(Store(sandbox.root / ".store"), sandbox.root / "run", {digest: {0} for digest in samples}, ARMS)
    assert sandbox.artefacts() == before


def test_what_stays_of_a_block_in_part_spare_is_still_referred_to(finished):
    """Otherwise `cache gc` would remove it, and nothing would be recorded of it."""
    sandbox, samples = finished
    store, run = sandbox.root / ".store", sandbox.root / "run"

    def referred() -> list[list[int]]:
        own = Registration.read(registration_path(store, run))
        return [list(own.references.get(digest, ())) for digest in samples]

    whole = referred()
    for seed in (0, 1):  # as two sessions with --seed would
        assert prune(Store(store), run, {digest: {seed} for digest in samples}, ARMS) == Pruned()
        assert referred() == whole
    assert prune(Store(store), run, samples, ARMS).artefacts == 5
    assert referred() == [[]] * 5


def test_a_run_that_is_not_registered_removes_nothing(finished):
    sandbox, samples = finished
    before = sandbox.artefacts()
    assert prune(Store(sandbox.root / ".store"), sandbox.root / "other", samples, ARMS) == Pruned()
    assert sandbox.artefacts() == before


def test_a_store_knows_at_once_what_it_has_removed(finished):
    """Artefacts are verified once per process: what was there before must not be taken for there."""
    sandbox, samples = finished
    store = Store(sandbox.root / ".store")
    from collapse_sim.plan.experiment import prepare
    from collapse_sim.recipe.loader import load

    experiment = prepare(load(sandbox.root / "recipe.yaml"), sandbox.root / "data")
    spec = experiment.arm_plans[0].generations[1].samples
    assert store.has(spec, 0)
    prune(store, sandbox.root / "run", samples, ARMS)
    assert not store.has(spec, 0)
    assert store.whole_or_record(spec, 0) is not None


def test_a_damaged_block_is_not_removed(finished, monkeypatch):
    """Its manifest is all that would stay of it."""
    sandbox, samples = finished
    store = sandbox.root / ".store"
    victim = next(store.glob("objects/*/*/*/samples.safetensors")).parent
    (victim / "manifest.json").write_text("{}")
    prune(Store(store), sandbox.root / "run", samples, ARMS)
    assert victim.exists()
    assert len(manifests(store, "pruned")) == 4


def test_the_record_comes_first_and_the_file_last(finished, monkeypatch):
    sandbox, samples = finished
    store, seen = sandbox.root / ".store", {}

    def look(name: str) -> None:
        held = [set(user.references) & set(samples) for user in open_references(store)]
        seen.setdefault(name, (len(manifests(store, "pruned")), len(held[0]), len(list(store.glob("objects/*/*")))))

    def open_references(root):
        from collapse_sim.store.cache import references

        return references(open_store(root))[0]

    total = len(list(store.glob("objects/*/*/*")))
    monkeypatch.setattr(pruning, "boundary", look)
    prune(Store(store), sandbox.root / "run", samples, ARMS)
    assert seen["pruning recorded"] == (5, 5, total)
    assert seen["pruning released"] == (5, 0, total)
    assert len(list(store.glob("objects/*/*/*"))) == total - 5


def test_nothing_is_known_of_a_folder_that_is_no_run(tmp_path):
    assert pruned_of(tmp_path / "none") == Pruned()


def test_gc_removes_records_of_runs_that_are_gone(sandbox):
    import shutil

    from collapse_sim.store.cache import collect

    sandbox.run(TOY + LAST)
    root = sandbox.root / ".store"
    collect(open_store(root), delete=True)
    assert len(manifests(root, "pruned")) == 6
    shutil.rmtree(sandbox.root / "run")
    store = open_store(root)
    collect(store, delete=True, without=[str((sandbox.root / "run").resolve())])
    assert manifests(root, "pruned") == {}
