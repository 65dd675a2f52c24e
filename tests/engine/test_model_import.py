"""Models from outside as generation 0: whole runs, without one training step of it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from collapse_sim.core.errors import MissingError
from collapse_sim.core.randomness import Draws
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load
from collapse_sim.run.export import export
from collapse_sim.run.saved_run import ModelChoice, SavedRun
from collapse_sim.store.rowfile import RowFile
from tests.conftest import TINY, Sandbox, changed
from tests.families.wording import WORDS

GIVEN = ("samples: 150", "samples: 150\ngeneration_0: {model: given}")


def manifests(sandbox: Sandbox) -> list[tuple[dict[str, Any], Path]]:
    """Every artefact of the store: its manifest and its folder."""
    paths = sorted((sandbox.root / ".store").glob("objects/*/*/*/manifest.json"))
    return [(json.loads(path.read_text()), path.parent) for path in paths]


def of_kind(sandbox: Sandbox, kind: str, generation: int) -> list[tuple[dict[str, Any], Path]]:
    return [(m, folder) for m, folder in manifests(sandbox) if (m["kind"], m["generation"]) == (kind, generation)]


def exported(sandbox: Sandbox, recipe: str, seed: int = 0) -> Path:
    """Generation 0 of a run of a recipe, exported to data/given."""
    sandbox.run(recipe, "first")
    (sandbox.root / "data").mkdir(exist_ok=True)
    stored = SavedRun.open(sandbox.root / "first", sandbox.root / "data").model(ModelChoice(None, 0, seed))
    export(stored, sandbox.root / "data" / "given", "none")
    return sandbox.root / "data" / "given"


def scores(sandbox: Sandbox, run: str, generation: int) -> list[dict[str, Any]]:
    return [line for line in sandbox.journal(run, "scores") if line["generation"] == generation]


def test_an_exported_vae_is_the_run_that_it_came_from(sandbox: Sandbox) -> None:
    """Its samples and scores are those of that run's generation 0, to the byte; it is stored once for all seeds."""
    folder = exported(sandbox, TINY)
    before = sandbox.artefacts()
    fits = of_kind(sandbox, "fit", 0)
    sandbox.run(changed(TINY, GIVEN), "second")
    assert of_kind(sandbox, "fit", 0) == fits
    ((manifest, place),) = of_kind(sandbox, "import", 0)
    assert (manifest["seeds"], place.name) == ([], "all")
    given, stored = load_file(folder / "weights.safetensors"), load_file(place / "model.safetensors")
    assert given.keys() == stored.keys()
    assert all(torch.equal(given[name], stored[name]) for name in given)
    assert json.loads((place / "history.json").read_text())["updates"] == 0
    made = sandbox.artefacts().keys() - before.keys()
    own, drawn = (
        {
            m["seeds"][0]: place
            for m, place in of_kind(sandbox, "samples", 0)
            if ("/".join(place.parts[-3:]) in made) == new
        }
        for new in (False, True)
    )
    assert drawn.keys() == own.keys() == {0, 1}
    rows = [RowFile(places[0] / "samples.safetensors").columns["image"] for places in (drawn, own)]
    np.testing.assert_array_equal(*rows)
    (first, *_), (second, *_) = scores(sandbox, "first", 0), scores(sandbox, "second", 0)
    assert first["metrics"]["test_loss"][0] == second["metrics"]["test_loss"][0]
    generation_0, *_ = sandbox.journal("second", "generation")
    assert generation_0["made"]["import"] == 1
    assert "fit" not in generation_0["made"]


def test_it_teaches_and_is_the_origin_as_any_generation_0(sandbox: Sandbox) -> None:
    exported(sandbox, TINY)
    experiment = prepare(load(sandbox.recipe(changed(TINY, GIVEN))), sandbox.root / "data")
    plain, taught = experiment.arm_plans
    assert plain.generations[0].fit is not taught.generations[0].fit
    assert plain.generations[0].fit.digest == taught.generations[0].fit.digest
    assert taught.generations[2].fit.teacher is taught.generations[0].fit
    assert all(score.origin.kind == "import" for plan in taught.generations for score in plan.scores.values())


def test_the_key_has_the_content_and_not_how_it_would_have_been_fitted(sandbox: Sandbox) -> None:
    folder = exported(sandbox, TINY)
    data = folder.parent

    def digests(*changes: tuple[str, str]) -> tuple[str, str]:
        plan = prepare(load(sandbox.recipe(changed(TINY, *changes))), data).arm_plans[0]
        return plan.generations[0].fit.digest, plan.generations[1].fit.digest

    given = digests(GIVEN)
    longer = digests(GIVEN, ("steps: 20", "steps: 21"))
    assert longer[0] == given[0]
    assert longer[1] != given[1]
    assert digests()[0] != given[0]
    state = load_file(folder / "weights.safetensors")
    torch.save(state, data / "state.pt")
    assert digests(("samples: 150", "samples: 150\ngeneration_0: {model: state.pt}")) == given
    save_file({name: tensor + 1 for name, tensor in state.items()}, folder / "weights.safetensors")
    assert digests(GIVEN)[0] != given[0]


def test_a_model_that_changes_after_it_was_checked(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:

    exported(sandbox, TINY)
    monkeypatch.setattr("collapse_sim.engine.model_import.digest_of_state", lambda state: "another")
    with pytest.raises(MissingError, match="given: the model has changed since it was checked"):
        sandbox.run(changed(TINY, GIVEN), "second")


def test_a_diffusers_pipeline_that_diffusers_saved(sandbox: Sandbox) -> None:
    """Generation 0's samples are those of the pipeline with the same noise."""
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, attention_head_dim=None,
        norm_num_groups=2,
    )  # fmt: skip
    steps = DDPMScheduler(25, beta_start=0.004, beta_end=0.8, timestep_spacing="trailing")
    DDPMPipeline(unet, steps).save_pretrained(sandbox.root / "data" / "given")
    sandbox.run(
        """
        name: pipeline
        data: {use: digits, rows: 40, held_out_rows: 10}
        model: {use: ddpm, network: {widths: [8, 16]}, timesteps: 25}
        generation_0: {model: given}
        train: {steps: 2, batch_size: 8, evaluate: never}
        generations: 2
        seeds: [3]
        arms: {replace: {data: replace}}
        metrics: [test_loss]
        """
    )
    assert of_kind(sandbox, "fit", 0) == []
    assert [len(of_kind(sandbox, "fit", k)) for k in (1, 2)] == [1, 1]
    ((_, folder),) = of_kind(sandbox, "samples", 0)
    ours = RowFile(folder / "samples.safetensors").columns["image"].astype(int)
    pipeline = DDPMPipeline.from_pretrained(sandbox.root / "data" / "given")
    pipeline.set_progress_bar_config(disable=True)
    noise = Draws((3,), "sample", 0, 0).generator
    images = pipeline(40, generator=noise, num_inference_steps=25, output_type="np").images
    theirs = (images * 255).round().astype(int).transpose(0, 3, 1, 2)
    assert np.abs(ours - theirs).max() <= 1  # a value that lies half-way may be rounded to either side
    assert (ours == theirs).mean() > 0.99
    assert ours.std() > 10


def test_a_language_model_that_transformers_saved(sandbox: Sandbox) -> None:
    """Generation 0's texts are those of transformers' own greedy search."""
    from transformers import GPT2Config, GPT2LMHeadModel

    data = sandbox.root / "data"
    config = GPT2Config(vocab_size=31, n_embd=16, n_layer=2, n_head=2, n_positions=16, bos_token_id=0, eos_token_id=0)
    network = GPT2LMHeadModel(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in network.parameters():
            if weights.dim() > 1:
                weights.normal_(0, 0.4, generator=generator)
    network.save_pretrained(data / "writer")
    WORDS.save(data / "writer")
    dice = random.Random(0)
    for name, count in (("train", 30), ("held_out", 6)):
        texts = (" ".join(f"w{dice.randrange(30)}" for _ in range(8)) for _ in range(count))
        (data / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    sandbox.run(
        """
        name: writer
        data:
          {use: text_files, train: train.jsonl, validation: held_out.jsonl, tokenizer: writer, length: 12, pack: false}
        model: {use: causal_lm, pretrained: writer, decoding: greedy, prompt: 3, keep_prompt: true}
        generation_0: {model: writer}
        train: {steps: 2, batch_size: 8, evaluate: never}
        generations: 2
        seeds: [0]
        arms: {replace: {data: replace}}
        metrics: [perplexity]
        """
    )
    assert of_kind(sandbox, "fit", 0) == []
    assert [len(of_kind(sandbox, "fit", k)) for k in (1, 2)] == [1, 1]
    ((_, folder),) = of_kind(sandbox, "samples", 0)
    rows = RowFile(folder / "samples.safetensors").columns["tokens"].astype(int)
    assert len(rows) == 30
    theirs = GPT2LMHeadModel.from_pretrained(data / "writer").eval()
    continued = set()
    for row in rows:
        prompt = torch.from_numpy(row[:3])[None]
        out = theirs.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=9, do_sample=False, pad_token_id=0
        )[0].tolist()
        text = [token for token in row.tolist() if token >= 0]
        assert text == out
        continued.add(tuple(text[3:]))
    assert len(continued) > 10


def test_a_closed_form_is_the_same_for_all_seeds(sandbox: Sandbox) -> None:
    recipe = """
name: toy
data: {use: gaussian, rows: 20, held_out_rows: 10}
model: gaussian
samples: 150
generations: 2
seeds: [4, 5, 6]
arms: {replace: {data: replace}}
metrics: [variance_ratio]
"""
    folder = exported(sandbox, recipe, seed=5)
    sandbox.run(changed(recipe, GIVEN), "second")
    ((_, place),) = of_kind(sandbox, "import", 0)
    given, stored = load_file(folder / "weights.safetensors"), load_file(place / "model.safetensors")
    assert stored["covariance"].shape == (3, *given["covariance"].shape)
    assert all(torch.equal(stored["covariance"][s], given["covariance"]) for s in range(3))
    (line,) = scores(sandbox, "second", 0)
    (own,) = scores(sandbox, "first", 0)
    assert line["metrics"]["variance_ratio"] == [own["metrics"]["variance_ratio"][1]] * 3
    assert len(set(scores(sandbox, "second", 1)[0]["metrics"]["variance_ratio"])) == 3


def test_theory_of_chains_that_begin_with_a_fit_is_not_told(sandbox: Sandbox) -> None:
    from collapse_sim.plan.theory import curves

    recipe = """
name: toy
data: {use: gaussian, rows: 20, held_out_rows: 10}
model: gaussian
samples: 150
generations: 1
seeds: [0]
arms: {replace: {data: replace}}
metrics: [variance_ratio]
"""
    exported(sandbox, recipe)
    fitted, given = (
        curves(prepare(load(sandbox.recipe(text)), sandbox.root / "data")) for text in (recipe, changed(recipe, GIVEN))
    )
    assert "replace" in fitted
    assert given == {}


def test_weights_improved_at_generation_0(sandbox: Sandbox) -> None:
    """A merge with a fit to own samples begins from the given model, and has weights of its own for every seed."""
    exported(sandbox, TINY)
    arms = "  replace: {data: replace, merge: {use: neon, w: 0.5, train: {steps: 3}}}"
    recipe = changed(TINY, GIVEN, ("  replace: {data: replace}", arms))
    sandbox.run(recipe, "second")
    merged = [load_file(folder / "model.safetensors") for _, folder in of_kind(sandbox, "merge", 0)]
    own = [load_file(folder / "model.safetensors") for _, folder in of_kind(sandbox, "own fit", 0)]
    ((_, place),) = of_kind(sandbox, "import", 0)
    given = load_file(place / "model.safetensors")
    assert len(merged) == len(own) == 2
    for name, tensor in given.items():
        expected = sorted(float((1.5 * tensor.double() - 0.5 * each[name].double()).sum()) for each in own)
        assert sorted(float(each[name].double().sum()) for each in merged) == pytest.approx(
            expected, rel=1e-4, abs=1e-4
        )


def test_a_killed_import_is_made_again(sandbox: Sandbox) -> None:
    """What a second invocation finds is not made again, and a damaged model is."""
    exported(sandbox, TINY)
    recipe = changed(TINY, GIVEN)
    sandbox.run(recipe, "second")
    before = sandbox.artefacts()
    ((_, place),) = of_kind(sandbox, "import", 0)
    (place / "model.safetensors").write_bytes(b"damaged")
    result = sandbox.run(recipe, "second")
    assert result["made"] == 1
    assert sandbox.artefacts() == before
