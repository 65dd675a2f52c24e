"""Runs that prune: the same scores and bytes with less on the disk, and nothing made in vain."""

from __future__ import annotations

import json
import shutil

import pytest

from collapse_sim.core.errors import RemadeDifferentlyError
from collapse_sim.store import sealed
from collapse_sim.store.cache import damaged, open_store
from tests.conftest import Sandbox
from tests.pruned import LAST, TOY, VAE, generations, manifests, payload


@pytest.fixture
def twin(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """Another folder, with a store of its own."""
    return Sandbox(tmp_path_factory.mktemp("twin"))


def scores(sandbox: Sandbox, run: str = "run") -> list[dict]:
    return [{k: v for k, v in line.items() if k != "h"} for line in sandbox.journal(run, "scores")]


@pytest.mark.parametrize("recipe", [TOY, VAE], ids=["toy", "vae"])
def test_a_pruned_run_has_the_same_scores_and_gives_the_same_bytes_again(sandbox, twin, recipe):
    """Against a run that keeps all. The second session makes nothing and writes no score; `keep: all` makes all that
    was removed again, to the byte."""
    sandbox.run(recipe)
    twin.run(recipe + LAST)
    assert scores(twin) == scores(sandbox)
    store, whole = twin.root / ".store", sandbox.artefacts()
    assert generations(store, "fit") == generations(store, "samples") == {2}
    kept, records = manifests(store), manifests(store, "pruned")
    assert {key: m["files"] for key, m in (kept | records).items()} == {
        key: m["files"] for key, m in manifests(sandbox.root / ".store").items()
    }
    assert kept.keys() & records.keys() == set()
    removed = sum(f["bytes"] for m in records.values() for n, f in m["files"].items() if n.endswith(".safetensors"))
    assert payload(store) == payload(sandbox.root / ".store") - removed
    assert removed > 0
    assert list(damaged(open_store(store))) == []

    again = twin.run(recipe + LAST)
    assert again["made"] == 0
    assert scores(twin) == scores(sandbox)
    assert not list((store / "tmp").iterdir())

    restored = twin.run(recipe)
    assert restored["made"] == sum(len(m["seeds"]) for m in records.values())
    assert twin.artefacts() == whole
    assert list(damaged(open_store(store))) == []


def test_a_longer_run_makes_only_what_it_needs(sandbox, twin):
    """`replace` needs the last samples, which are there; `accumulate` all of them, and so its fits."""
    sandbox.run(TOY, generations=3)
    twin.run(TOY + LAST)
    result = twin.run(TOY + LAST, generations=3)
    new, again = 2 * 3, 2 * 2  # fit, samples and score of two arms; fits and samples of generations 0 and 1
    assert result["made"] == 2 * (new + again)
    assert scores(twin) == scores(sandbox)
    assert generations(twin.root / ".store", "samples") == {3}


def test_none_but_generation_0(sandbox):
    sandbox.run(TOY + "keep_weights: none-but-generation-0\n")
    store = sandbox.root / ".store"
    assert generations(store, "fit") == {0}
    assert generations(store, "samples") == {0, 1, 2}
    assert sandbox.run(TOY + "keep_weights: none-but-generation-0\n")["made"] == 0


def test_weights_are_made_from_rows_that_are_kept(sandbox):
    """With all samples there, generation 2's fit is made again without generation 1's."""
    sandbox.run(TOY + "keep_weights: none-but-generation-0\n")
    text = TOY.replace("[variance_ratio]", "[variance_ratio, test_loss]") + "keep_weights: none-but-generation-0\n"
    result = sandbox.run(text)
    assert result["made"] == 2 * (5 + 4), "a score of 5 models, 4 of which were removed"
    assert generations(sandbox.root / ".store", "fit") == {0}


def altered(store) -> tuple[str, dict]:
    """Change a recorded hash: of generation 1's samples of `accumulate`, which is fitted to real rows, too."""
    by_key = manifests(store, "pruned")
    fits = {key: m for key, m in by_key.items() if m["kind"] == "fit" and m["generation"] == 1}
    (fit,) = [key for key, m in fits.items() if len(m["description"]["sources"]) == 2]
    (key,) = [k for k, m in by_key.items() if m["description"].get("model") == fit.partition("/")[0]]
    digest, _, block = key.partition("/")
    path = store / "pruned" / digest[:2] / digest / block / "manifest.json"
    content = sealed.read(path)
    content["files"]["samples.safetensors"]["sha256"] = "0" * 64
    path.write_text(sealed.text(content))
    return key, content


def test_other_bytes_than_recorded_are_an_error_and_end_no_other_chain(sandbox):
    sandbox.run(TOY + LAST)
    store = sandbox.root / ".store"
    key, content = altered(store)
    with pytest.raises(RemadeDifferentlyError) as caught:
        sandbox.run(TOY + LAST, generations=3)
    message = str(caught.value)
    digest, _, block = key.partition("/")
    assert message.startswith(f"accumulate, generation 1, seeds 0, 1: samples {digest[:12]}/{block}: it was pruned")
    assert "samples.safetensors: 000000000000 recorded, " in message
    assert f"torch {content['environment']['torch']}" in message
    assert "Recorded: device cpu" in message
    assert message.endswith(str(store / "pruned" / digest[:2] / digest / block))
    assert key not in manifests(store)
    assert [line["arm"] for line in scores(sandbox) if line["generation"] == 3] == ["replace"]
    shutil.rmtree(store / "pruned" / digest[:2] / digest)  # accepted, as the message says
    sandbox.run(TOY + LAST, generations=3)
    assert [line["arm"] for line in scores(sandbox) if line["generation"] == 3] == ["replace", "accumulate"]


def test_what_another_run_refers_to_stays_until_that_one_prunes_too(sandbox):
    sandbox.run(TOY, run="other")
    store, before = sandbox.root / ".store", sandbox.artefacts()
    sandbox.run(TOY + LAST)
    assert sandbox.artefacts() == before
    sandbox.run(TOY + "keep_samples: last\n", run="other")
    assert generations(store, "samples") == {2}
    assert generations(store, "fit") == {0, 1, 2}


def test_a_list_of_references_that_is_damaged_keeps_all(sandbox, capsys):
    sandbox.run(TOY, run="other")
    before = sandbox.artefacts()
    (path,) = (sandbox.root / ".store" / "runs").glob("*.json")
    path.write_text(path.read_text().replace("references", "referances"))
    sandbox.run(TOY + LAST)
    assert sandbox.artefacts() == before
    assert capsys.readouterr().err.count("nothing is pruned") == 1


def test_a_part_of_a_run_removes_nothing_of_other_arms(sandbox):
    """Generation 0 is both arms': while one is run alone, it stays for the other."""
    sandbox.run(TOY + LAST, generations=1, arms=["accumulate"])
    sandbox.run(TOY + "keep_weights: all\n", generations=1)
    sandbox.run(TOY + LAST, arms=["replace"])
    fits = [m for m in manifests(sandbox.root / ".store").values() if m["kind"] == "fit"]
    assert sorted(m["generation"] for m in fits) == [0, 1, 2], "both arms' 0, accumulate's 1, replace's 2"


def test_a_run_with_a_chain_that_diverged_is_not_made_again(sandbox):
    """What the fit that diverged reads is kept, since it reads it before it says so again."""
    recipe = VAE.replace("generations: 2", "generations: 3").replace(
        "replace: {data: replace}", "replace: {data: replace, retrain: {learning_rate: 1.0e+30}}"
    )
    first = sandbox.run(recipe + LAST)
    assert [(d["arms"], d["generation"]) for d in first["diverged"]] == [(["replace"], 1)]
    before = sandbox.artefacts()
    second = sandbox.run(recipe + LAST)
    assert second["made"] == 0
    assert [(d["arms"], d["generation"]) for d in second["diverged"]] == [(["replace"], 1)]
    assert sandbox.artefacts() == before


def test_the_journal_keeps_figures_of_pruned_curations_and_updates(sandbox):
    """A second session would otherwise overwrite them with nothing."""
    recipe = VAE.replace("data: replace}", "data: replace, curation: {use: likelihood, keep: 0.5}}").replace(
        "steps: 4, batch_size: 32,", "steps: 4, batch_size: 32, patience: 1,"
    )
    sandbox.run(recipe + LAST)
    events = ("curation", "scores")
    before = [line for line in sandbox.journal() if line["event"] in events]
    assert any("updates" in line for line in before)
    assert sandbox.run(recipe + LAST)["made"] == 0
    assert [line for line in sandbox.journal() if line["event"] in events] == before


def test_pictures_show_generations_that_are_pruned(sandbox, twin):
    """The overview of the last generation is the one of a run that keeps all, also when it is drawn anew."""
    sandbox.run(TOY)
    twin.run(TOY + LAST)
    name = "arms-by-generations.png"
    whole = (sandbox.root / "run" / "pictures" / name).read_bytes()
    path = twin.root / "run" / "pictures" / name
    assert path.read_bytes() == whole
    path.unlink()
    assert twin.run(TOY + LAST)["made"] == 0
    assert path.read_bytes() == whole
    assert not (sandbox.root / "run" / "pictures" / "rows").exists()


def test_the_recipe_of_the_run_says_what_is_kept(sandbox):
    sandbox.run(TOY, overrides=["keep_weights=last"])
    run = json.loads((sandbox.root / "run" / "run.json").read_text())
    assert run["settings"]["keep_weights"] == "last"
    assert "keep_samples" not in run["settings"]
