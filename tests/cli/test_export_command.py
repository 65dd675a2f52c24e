"""export: weights that build the model again, and samples that come back from every format as they are in the store."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.data.held_out import shuffled
from collapse_sim.data.images.image_folder import ImageFolder
from collapse_sim.families.ddpm import DDPM
from collapse_sim.families.vae import VAE
from collapse_sim.run import sample_files
from collapse_sim.store.rowfile import RowFile
from tests.cli.toys import POINTS, REGRESSION
from tests.conftest import SMALL, changed
from tests.data.making import rows_of

LABELS = (7, 0, 3)
DOCS = Path(__file__).parents[2] / "docs"


class Labelled(VAE):
    """A VAE whose samples have labels, and whose models other programs load in a format of their own."""

    def sample(self, model, conditions, draws):
        columns = super().sample(model, conditions, draws)
        return columns | {"label": torch.tensor(LABELS).repeat(conditions.rows)[: conditions.rows]}

    def export(self, model, info, folder):
        assert not model.training
        path = folder / "own" / "shape.txt"
        path.parent.mkdir()
        path.write_text(f"{tuple(model.state_dict()['encoder.0.weight'].shape)} {info.rows}")
        return [path]


LABELLED = changed(SMALL, ("use: vae", f"use: '{__name__}:Labelled'"))


def stored_samples(shell) -> np.ndarray:
    """The images of generation 0, seed 0, which both arms of SMALL share."""
    files = [RowFile(folder / "samples.safetensors").columns for folder in shell.folders("samples")]
    (generation_0,) = [f for f, folder in zip(files, shell.folders("samples"), strict=True) if _generation(folder) == 0]
    return generation_0["image"]


def _generation(folder: Path) -> int:
    return json.loads((folder / "manifest.json").read_text())["description"]["generation"]


def test_exported_weights_are_the_models(finished, tmp_path):
    out = finished("export", "tiny", "--to", "there", "--arm", "accumulate+distill").out
    assert out.splitlines() == [
        f"there/{name}" for name in ("weights.safetensors", "config.json", "samples.npz", "README.md")
    ]
    config = json.loads((tmp_path / "there" / "config.json").read_text())
    assert (config["arm"], config["generation"], config["seed"]) == ("accumulate+distill", 1, 0)
    example = (DOCS / "export.md").read_text().split("```python\n")[1].split("```")[0]
    there: dict[str, Any] = {}
    exec(example.replace("FOLDER", "there"), there)
    weights = there["model"].state_dict()
    whole = [load_file(folder / "model.safetensors") for folder in finished.folders("fit")]
    assert any(all(torch.equal(weights[name], tensor) for name, tensor in state.items()) for state in whole)


@pytest.mark.parametrize(
    ("samples", "names"),
    [
        ("npz", ["samples.npz"]),
        ("png", ["samples", "DATASET_CARD.md"]),
        ("dataset", ["dataset", "DATASET_CARD.md"]),
        ("none", []),
    ],
)
def test_nothing_but_what_is_asked_for(finished, tmp_path, samples, names):
    out = finished("export", "tiny", "--to", "out", "--samples", samples).out
    names = ["config.json", *names, "weights.safetensors", "README.md"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    assert sorted(out.splitlines()) == sorted(f"out/{name}" for name in names)


def test_images_come_back_from_every_format(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(sample_files, "CHUNK_ROWS", 64)  # 150 rows are three chunks
    for samples in ("npz", "png", "dataset"):
        finished("export", "tiny", "--to", samples, "--samples", samples, "--generation", "0")
    expected = stored_samples(finished)
    assert expected.shape == (150, 1, 8, 8)
    np.testing.assert_array_equal(np.load(tmp_path / "npz" / "samples.npz")["image"], expected)

    real, held_out = rows_of(ImageFolder(path=str(tmp_path / "png" / "samples")), tmp_path)
    assert "label" not in real
    order = shuffled(150)
    np.testing.assert_array_equal(np.concatenate([held_out["image"], real["image"]]), expected[order])

    dataset = datasets.load_from_disk(str(tmp_path / "dataset" / "dataset"))
    assert dataset.features == datasets.Features({"image": datasets.Image()})
    np.testing.assert_array_equal(np.stack([np.asarray(row["image"]) for row in dataset])[:, None], expected)


def test_labels_are_kept_and_a_familys_own_format_is_written(shell, recipe, tmp_path):
    shell("run", recipe(text=LABELLED), "-q")
    out = shell("export", "tiny", "--to", "a", "--samples", "png").out
    assert [Path(line).name for line in out.split()] == [
        "weights.safetensors", "config.json", "shape.txt", "samples", "README.md", "DATASET_CARD.md",
    ]  # fmt: skip
    assert (tmp_path / "a" / "own" / "shape.txt").read_text() == "(16, 64) 200"
    assert sorted(path.name for path in (tmp_path / "a" / "samples").iterdir()) == ["0", "3", "7"]
    assert (tmp_path / "a" / "samples" / "3" / "002.png").is_file()
    rows = sorted((tmp_path / "a" / "samples").rglob("*.png"), key=lambda path: path.name)
    assert [int(path.parent.name) for path in rows[:6]] == [*LABELS, *LABELS]
    data = ImageFolder(path=str(tmp_path / "a" / "samples"))
    assert data.inspect(tmp_path).classes == 3
    shell("export", "tiny", "--to", "b", "--samples", "dataset")
    dataset = datasets.load_from_disk(str(tmp_path / "b" / "dataset"))
    assert dataset.features["label"] == datasets.ClassLabel(num_classes=10)
    assert dataset["label"][:6] == [*LABELS, *LABELS]


@pytest.mark.parametrize("text", [POINTS, REGRESSION], ids=["points", "regression"])
def test_one_seed_of_an_ensemble(shell, recipe, tmp_path, text):
    shell("run", recipe(text=text), "-q")
    name = "points" if text is POINTS else "lines"
    for samples in ("npz", "dataset"):
        shell("export", name, "--to", samples, "--seed", 2, "--samples", samples, "--generation", 0)
    weights = load_file(tmp_path / "npz" / "weights.safetensors")
    whole = [load_file(folder / "model.safetensors") for folder in shell.folders("fit")]
    assert any(all(torch.equal(weights[n], state[n][2]) for n in state) for state in whole)
    (columns,) = [
        RowFile(folder / "samples.safetensors").columns
        for folder in shell.folders("samples")
        if _generation(folder) == 0
    ]
    arrays, dataset = (
        np.load(tmp_path / "npz" / "samples.npz"),
        datasets.load_from_disk(str(tmp_path / "dataset/dataset")),
    )
    assert set(arrays) == set(dataset.column_names) == set(columns)
    for column, values in columns.items():
        np.testing.assert_array_equal(arrays[column], values[2])
        np.testing.assert_array_equal(np.array(dataset[column]), values[2])
        assert np.array(dataset[column]).dtype == np.float64
    text = shell.refused("export", name, "--to", "no", "--samples", "png", code=2)
    kind = "points" if name == "points" else "regression"
    assert f"--samples png: {kind} make no pictures; allowed: npz, dataset, none" in text
    assert "are no texts" in shell.refused("export", name, "--to", "no", "--samples", "jsonl", code=2)


def test_refused_before_any_work(finished):
    finished("export", "tiny", "--to", "full", "--samples", "none")
    assert "--to full: not empty; name a new folder" in finished.refused("export", "tiny", "--to", "full", code=2)
    assert "is a file" in finished.refused("export", "tiny", "--to", "r.yaml", code=5)
    assert "'npz', 'png', 'jsonl', 'dataset', 'none'" in finished.refused(
        "export", "tiny", "--to", "new", "--samples", "zip", code=2
    )


def test_samples_that_are_not_made_yet(finished):
    """A model whose samples are not in the store can still be exported alone."""
    for folder in finished.folders("samples"):
        shutil.rmtree(folder)
    assert "samples of seed 0 is missing" in finished.refused("export", "tiny", "--to", "new", code=5)
    finished("export", "tiny", "--to", "new", "--samples", "none")


def below(folder: Path) -> list[str]:
    """The files below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_everything_at_once_and_what_it_is_compared_with(finished, tmp_path):
    out = finished("export", "tiny", "--to", "all", "--all", "--reference").out
    arms = ("00-replace", "01-accumulate+distill")
    names = ("README.md", "config.json", "samples.npz", "weights.safetensors")
    cells = [f"{arm}/generation-{k:03d}/seed-0/{name}" for arm in arms for k in range(2) for name in names]
    assert below(tmp_path / "all") == sorted([*cells, "reference/held_out.npz", "reference/real.npz"])
    assert sorted(out.splitlines()) == [f"all/{name}" for name in below(tmp_path / "all")]
    for arm in arms:
        for k in range(2):
            cell = tmp_path / "all" / arm / f"generation-{k:03d}" / "seed-0"
            config = json.loads((cell / "config.json").read_text())
            assert (config["arm"], config["generation"], config["seed"]) == (arm[3:], k, 0)
            finished("export", "tiny", "--to", f"one-{arm}-{k}", "--arm", arm[3:], "--generation", k)
            alone = tmp_path / f"one-{arm}-{k}"
            same = [name for name in names if not name.endswith(".npz")]  # which has the time in it
            assert {name: (cell / name).read_bytes() for name in same} == {
                name: (alone / name).read_bytes() for name in same
            }
            np.testing.assert_array_equal(
                np.load(cell / "samples.npz")["image"], np.load(alone / "samples.npz")["image"]
            )
    (data,) = [RowFile(folder / "held_out.safetensors").columns for folder in finished.folders("data")]
    np.testing.assert_array_equal(np.load(tmp_path / "all/reference/held_out.npz")["image"], data["image"])
    finished("export", "tiny", "--to", "part", "--all", "--arm", "replace", "--samples", "none")
    assert [name.split("/")[0] for name in below(tmp_path / "part")] == ["00-replace"] * 6


@pytest.mark.parametrize("samples", ["npz", "png", "dataset"])
def test_reference_rows_are_those_that_generation_0_was_fitted_to(finished, tmp_path, samples):
    """A part of the digits, which is another one for every seed."""
    finished("export", "tiny", "--to", "out", "--samples", samples, "--reference")
    place = tmp_path / "out" / "reference"
    (folder,) = finished.folders("data")
    pool = RowFile(folder / "real.safetensors").columns["image"]
    order = Draws((0,), "real order", 0).permutation(len(pool)).numpy()[:200]
    if samples == "npz":
        images = np.load(place / "real.npz")["image"]
    elif samples == "png":
        paths = sorted(place.joinpath("real").rglob("*.png"), key=lambda path: path.stem)
        images = np.stack([np.asarray(Image.open(path))[None] for path in paths])
        assert len(list(place.joinpath("held_out").rglob("*.png"))) == 50
    else:
        images = np.stack([np.asarray(row["image"])[None] for row in datasets.load_from_disk(str(place / "real"))])
    np.testing.assert_array_equal(images, pool[order])


def test_what_is_not_made_yet_is_left_out_and_said(finished, tmp_path):
    for folder in finished.folders("samples"):
        if _generation(folder) == 1:
            shutil.rmtree(folder)
    done = finished("export", "tiny", "--to", "all", "--all")
    assert len(below(tmp_path / "all")) == 2 * 4
    assert done.err == (
        "left out because they are not in the store: 2 models: replace, generation 1, seed 0; "
        "accumulate+distill, generation 1, seed 0\n"
    )
    assert "no such arm" in finished.refused("export", "tiny", "--to", "new", "--all", "--arm", "x", code=2)
    for folder in finished.folders("samples"):
        shutil.rmtree(folder)
    assert "none of these models is in" in finished.refused("export", "tiny", "--to", "new", "--all", code=5)


def test_seeds_of_simulated_data_have_reference_rows_of_their_own(shell, recipe, tmp_path):
    shell("run", recipe(text=POINTS), "-q")
    shell("export", "points", "--to", "all", "--all", "--reference", "--generation", 1)
    rows = [np.load(tmp_path / f"all/reference/seed-{seed}/real.npz")["x"] for seed in range(3)]
    assert [part.shape for part in rows] == [(30, 2)] * 3
    assert not np.array_equal(rows[0], rows[1])


@pytest.mark.parametrize(
    "command", [("sample", "--out", "s.npz"), ("export", "--to", "new"), ("evaluate", "--metric", "vendi")]
)
def test_a_store_that_lies_elsewhere_is_named(finished, tmp_path, command):
    """The run was copied without its store."""
    shutil.copytree(tmp_path / "runs" / "tiny", tmp_path / "copied" / "tiny")
    shutil.move(tmp_path / "runs" / ".store", tmp_path / "elsewhere")
    word, *options = command
    assert "--store" in finished(word, "copied/tiny", *options, code=5).err or word == "evaluate"
    finished(word, "copied/tiny", *options, "--store", "elsewhere")


REMEDIES = """
name: remedied
data: {use: gaussian, rows: 30, fresh_rows: 30}
model: gaussian
generations: 1
seeds: 1
arms:
  plain: {data: mix}
  all:
    data: mix
    curation: {use: verify, score: truth, keep: 0.5}
    weighting: {use: golden, w: 0.7}
    merge: {use: neon, w: 0.1}
    guidance: {use: temperature, b: 0.9}
  filtered: {data: replace, curation: {use: random, keep: 1.0}, guidance: {use: temperature, b: 1}}
metrics: [variance_ratio]
"""


def test_config_says_what_remedies_made_of_rows_weights_and_samples(shell, tmp_path):
    Path("r.yaml").write_text(REMEDIES)
    shell("run", "r.yaml", "-q", "--device", "cpu")

    def remedies(arm: str, k: int) -> dict[str, dict[str, Any]]:
        shell("export", "remedied", "--to", f"{arm}{k}", "--arm", arm, "--generation", k)
        config = json.loads((tmp_path / f"{arm}{k}" / "config.json").read_text())
        return dict(config["remedies"])

    assert remedies("plain", 1) == remedies("filtered", 1) == {}
    assert set(remedies("all", 0)) == {"merge", "guidance"}  # fitted to real rows alone
    every = remedies("all", 1)
    assert {axis: settings["use"] for axis, settings in every.items()} == {
        "curation": "verify", "weighting": "golden", "merge": "neon", "guidance": "temperature",
    }  # fmt: skip
    assert (every["curation"]["score"], every["weighting"]["w"]) == ("truth", 0.7)
    assert (every["merge"]["w"], every["guidance"]["b"]) == (0.1, 0.9)


@pytest.mark.slow
def test_a_conditional_diffusion_model_is_a_unet_that_diffusers_calls_with_labels(shell, recipe, tmp_path):
    """DDPMPipeline has no labels, so the UNet and the scheduler are exported by themselves."""
    from diffusers import DDPMScheduler, UNet2DModel

    model = "use: ddpm, network: {widths: [4, 8], attention: none}, timesteps: 25, conditional: true}"
    text = changed(SMALL, ("use: vae, hidden: 16, latent: 2}", model), (", mean: 1.0, variance: 1.0", ""))
    shell("run", recipe(text=text), "-q")
    shell("export", "tiny", "--to", "here", "--samples", "png", "--generation", 0)
    assert not (tmp_path / "here" / "pipeline").exists()
    assert len(DDPMScheduler.from_pretrained(tmp_path / "here" / "diffusers" / "scheduler").betas) == 25
    unet = UNet2DModel.from_pretrained(tmp_path / "here" / "diffusers" / "unet")
    family = DDPM(network={"widths": [4, 8], "attention": "none"}, timesteps=25, conditional=True)
    info = Info("images", {"image": ((1, 8, 8), "uint8"), "label": ((), "int64")}, 1, 1, 1, classes=10)
    rebuilt = family.build(info).eval()
    rebuilt.load_state_dict(load_file(tmp_path / "here" / "weights.safetensors"))
    x, t, label = torch.randn(4, 1, 8, 8), torch.tensor([0, 5, 24, 3]), torch.tensor([0, 9, 4, -1])
    with torch.no_grad():
        expected = unet(x, t, class_labels=torch.where(label < 0, 10, label)).sample
        torch.testing.assert_close(rebuilt(x, t, label)[0], expected)
    assert {path.name for path in (tmp_path / "here" / "samples").iterdir()} == set("0123456789")
