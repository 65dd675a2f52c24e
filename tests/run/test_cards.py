"""The cards of an export, read by the hub's own parser; rows loaded by what they say; hostile names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard

from collapse_sim.core.errors import RecipeError
from collapse_sim.run import cards
from collapse_sim.run.cards import DATASET_CARD, MODEL_CARD
from collapse_sim.run.export import SampleFormat, export, export_all
from collapse_sim.run.saved_run import ModelChoice, SavedRun
from tests.conftest import SMALL, changed
from tests.run.points import GAUSSIAN
from tests.run.tracked import journal_scores
from tests.words import TEXT

HOSTILE = "evil: | `y <b> # --- [z](z) & {license: mit}"


def exported(sandbox, samples: SampleFormat | None = None, to: str = "out", **choice: object) -> Path:
    run = SavedRun.open(sandbox.root / "run", sandbox.root / "data", plugins=True)
    export(run.model(ModelChoice(**choice)), sandbox.root / to, samples)
    return sandbox.root / to


def test_a_models_card_has_its_scores_as_the_hub_reads_them(sandbox):
    sandbox.run(SMALL, seeds=[0, 4])
    folder = exported(sandbox, arm="accumulate+distill", seed=4)
    card = ModelCard.load(folder / MODEL_CARD)
    scores = journal_scores(sandbox.root / "run")["test_loss/accumulate+distill/seed 4"]
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_name, result.metric_value) == ("test_loss", "test_loss", scores[1])
    assert (result.task_type, result.dataset_type) == ("unconditional-image-generation", "digits")
    assert result.metric_args == {"arm": "accumulate+distill", "generation": 1, "seed": 4}
    front = card.data.to_dict()
    assert front["model-index"][0]["name"] == "tiny, accumulate+distill, generation 1, seed 4"
    assert front["library_name"] == "collapse-sim"
    assert "license" not in front, "which is the user's to choose"
    assert "base_model" not in front
    assert "datasets" not in front, "digits is on no hub"
    assert set(front["tags"]) == {"collapse-sim", "model-collapse", "synthetic-data", "accumulate"}
    config = json.loads((folder / "config.json").read_text())
    text = card.text
    assert config["digest"] in text
    assert "fitted to: 200 real rows (`" in text
    assert "150 rows of generation 0 (`" in text
    assert f"real share {200 / 350:.3g}" in text
    assert "teacher: generation 0, `" in text
    assert "`output 0.5, mean 1, variance 1`" in text
    assert "(2 seeds) |" in text
    assert yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])["name"] == "tiny"
    assert not (folder / DATASET_CARD).exists(), "numpy's format is not one of the datasets library"


def test_the_keys_of_parents_are_those_of_the_store(sandbox):
    sandbox.run(SMALL)
    text = (exported(sandbox, arm="accumulate+distill") / MODEL_CARD).read_text()
    keys = [part.split("`")[0] for part in text.split("`")[1::2] if len(part) == 16 and part.isalnum()]
    digests = [path.name for path in (sandbox.root / ".store/objects").glob("*/*")]
    assert len(keys) == 3, "real rows, samples of generation 0, the teacher"
    assert all(any(digest.startswith(key) for digest in digests) for key in keys)


@pytest.mark.parametrize("samples", ["png", "dataset"])
@pytest.mark.parametrize("which", [MODEL_CARD, DATASET_CARD])
def test_pictures_are_loaded_by_what_the_card_says(sandbox, samples, which):
    sandbox.run(SMALL)
    folder = exported(sandbox, samples)
    expected = np.load(exported(sandbox, "npz", to="arrays") / "samples.npz")["image"]
    shutil.copy(folder / which, folder / "README.md") if which != MODEL_CARD else None
    rows = datasets.load_dataset(str(folder), split="train", cache_dir=str(sandbox.root / "cache"))
    assert rows.column_names == ["image"]
    np.testing.assert_array_equal(np.stack([np.asarray(image) for image in rows["image"]])[:, None], expected)


def test_texts_are_loaded_by_what_the_card_says(sandbox):
    sandbox.run(TEXT)
    folder = exported(sandbox)
    card = DatasetCard.load(folder / DATASET_CARD)
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert card.data.size_categories == ["n<1K"]
    assert f"{len(lines)} rows, drawn from the model `" in card.text
    assert "No row is real." in card.text
    shutil.copy(folder / DATASET_CARD, folder / "README.md")
    rows = datasets.load_dataset(str(folder), split="train", cache_dir=str(sandbox.root / "cache"))
    assert list(rows) == lines


@pytest.mark.slow
def test_classes_are_labels(sandbox):
    """Folders of PNG files by class; of a data set, its own labels."""
    text = changed(SMALL, ("use: vae, hidden: 16, latent: 2}", "use: ddpm, network: {widths: [4, 8], attention: none}, "
        "timesteps: 25, conditional: true}"), (", mean: 1.0, variance: 1.0", ""))  # fmt: skip
    sandbox.run(text)
    labels = np.load(exported(sandbox, "npz", to="arrays") / "samples.npz")["label"]
    for samples in ("png", "dataset"):
        folder = exported(sandbox, samples, to=samples)
        rows = datasets.load_dataset(str(folder), split="train", cache_dir=str(sandbox.root / "cache"))
        assert sorted(rows["label"]) == sorted(labels.tolist())


def test_hostile_names_are_one_line_in_a_code_span(sandbox):
    text = GAUSSIAN.replace("  replace: {data", f"  {json.dumps(HOSTILE)}: {{data")
    sandbox.run(text)
    folder = exported(sandbox, "dataset", arm=HOSTILE)
    for file, kind in ((MODEL_CARD, ModelCard), (DATASET_CARD, DatasetCard)):
        card = kind.load(folder / file)
        assert "license" not in card.data.to_dict()
        assert f"of the arm ``{HOSTILE}``, seed 5, of" in card.text
    (result,) = ModelCard.load(folder / MODEL_CARD).data.eval_results
    assert result.metric_args["arm"] == HOSTILE


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("a", "`a`"), ("`a", "`` `a ``"), ("a``b", "```a``b```"), ("", "`  `"),
        ("a\n---\nlicense: mit", "`a --- license: mit`"), ("a\x1b[31m", "`a\\x1b[31m`"),
    ],
)  # fmt: skip
def test_code_spans(text, span):
    assert cards._code(text) == span


def test_blocks_and_cells():
    assert cards._block("a\n```\nb", "yaml") == "````yaml\na\n```\nb\n````"
    assert cards._code("a|b", cell=True) == "`a\\|b`"


@pytest.mark.parametrize(
    ("rows", "category"),
    [(1, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (10**6 - 1, "100K<n<1M"), (10**12, "100M<n<1B")],
)
def test_size_categories(rows, category):
    assert cards._size_category(rows) == category


def test_a_merged_and_curated_model_says_so(sandbox):
    from tests.cli.test_export_command import REMEDIES

    sandbox.run(REMEDIES)
    text = (exported(sandbox, arm="all", generation=1) / MODEL_CARD).read_text()
    assert "- weights combined: 1.1 of `" in text
    assert " curated rows of generation 0 (`" in text
    assert "- curation: `verify`\n- weighting: `golden`\n- merge: `neon`\n- guidance: `temperature`\n" in text
    assert "- weights combined" not in (exported(sandbox, to="plain", arm="plain") / MODEL_CARD).read_text()


def test_an_export_is_a_generation_0_and_that_is_named(sandbox):
    sandbox.run(SMALL)
    first = exported(sandbox, to="first")
    recipe = SMALL.replace("seeds: [0]", f"seeds: [0]\ngeneration_0: {{model: {first}}}")
    sandbox.run(recipe, run="second")
    run = SavedRun.open(sandbox.root / "second", sandbox.root / "data")
    export(run.model(ModelChoice(generation=0)), sandbox.root / "again", "none")
    card = ModelCard.load(sandbox.root / "again" / MODEL_CARD)
    assert f"imported, not fitted: `{first}` (sha256 of its tensors `" in card.text
    assert "base_model" not in card.data.to_dict(), "a local folder is no name of the hub"


def test_a_run_without_scores_has_cards(sandbox):
    sandbox.run(SMALL)
    (sandbox.root / "run" / "journal.jsonl").unlink()
    card = ModelCard.load(exported(sandbox) / MODEL_CARD)
    assert "It has not been scored." in card.text
    assert card.data.eval_results is None


def test_all_models_have_cards(sandbox):
    sandbox.run(SMALL)
    run = SavedRun.open(sandbox.root / "run", sandbox.root / "data")
    models, _ = run.models(ModelChoice(), samples=False)
    paths = list(export_all(models, sandbox.root / "all", "none"))
    assert sum(path.name == MODEL_CARD for path in paths) == len(models) == 4
    with pytest.raises(RecipeError, match="not empty"):
        list(export_all(models, sandbox.root / "all", "none"))
