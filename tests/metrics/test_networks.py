"""Feature networks from files: against torch-fidelity's own, and what is said when a file is not what it should be."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from collapse_sim.core.errors import MissingError
from collapse_sim.data.base import Info
from collapse_sim.metrics import weights
from collapse_sim.metrics.classes import ClassCoverage, ClassEntropy, InceptionScore
from collapse_sim.metrics.feature_maps import resolve
from collapse_sim.metrics.features import FID, KID, Precision, Recall
from collapse_sim.metrics.networks import DINOv2, Inception, TorchScript
from tests.metrics.networks import Maps, Picky, Small, random_inception, save_script

RGB = Info("images", {"image": ((3, 32, 32), "uint8")}, 100, 100, 50)


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("inception") / "random.pth"
    random_inception(path)
    return path


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch):
    """An empty cache of torch's, and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def unreachable(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    return tmp_path / "torch" / "hub" / "checkpoints"


def images(rows: int, seed: int, channels: int = 3, size: int = 32, brightness: float = 1.0) -> torch.Tensor:
    """Smooth random images, so that they differ in more than noise."""
    coarse = np.random.default_rng(seed).random((rows, channels, 4, 4)).repeat(size // 4, 2).repeat(size // 4, 3)
    return torch.from_numpy((coarse * 255 * brightness).astype(np.uint8))


@pytest.mark.slow
def test_figures_are_those_of_torch_fidelitys_command(inception_file, tmp_path, evaluation):
    """FID, KID in blocks, precision, recall and Inception score of two folders of PNG files."""
    sides = {"samples": images(24, 1), "held_out": images(24, 2, brightness=0.8)}
    for name, rows in sides.items():
        (tmp_path / name).mkdir()
        for i, image in enumerate(rows):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / name / f"{i:03}.png")
    options = "--cpu --json --silent --isc --fid --kid --prc --kid-subsets 10 --kid-subset-size 15 --isc-splits 4"
    folders = ["--input1", str(tmp_path / "samples"), "--input2", str(tmp_path / "held_out")]
    network = ["--feature-extractor", "inception-v3-compat", "--feature-extractor-weights-path", str(inception_file)]
    command = [sys.executable, "-m", "torch_fidelity.fidelity", *folders, *network, *options.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)

    feature_map = Inception(file=str(inception_file))
    model = feature_map.load(feature_map.weights(tmp_path))
    given = {}
    for name, rows in sides.items():
        given[f"{name} features"], given[f"{name} probabilities"] = feature_map.classified(model, rows)
    seen = evaluation(given)
    assert FID().score(seen) == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)
    blocks = KID(subsets=10, subset_size=15).score(seen)
    assert blocks == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-3, abs=1e-6)  # theirs is float32
    assert Precision().score(seen) == pytest.approx(theirs["precision"], abs=1e-6)
    assert Recall().score(seen) == pytest.approx(theirs["recall"], abs=1e-6)
    assert InceptionScore(splits=4).score(seen) == pytest.approx(theirs["inception_score_mean"], rel=1e-6)
    assert theirs["inception_score_mean"] > 1.01
    assert 0 < theirs["recall"] < 1


def test_inception_features_and_probabilities_are_torch_fidelitys(inception_file, tmp_path):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    rows = images(3, 1, size=20)
    theirs = FeatureExtractorInceptionV3(
        "theirs", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(inception_file)
    )
    expected, logits = theirs(rows)
    feature_map = Inception(file=str(inception_file))
    features, probabilities = feature_map.classified(feature_map.load(feature_map.weights(tmp_path)), rows)
    assert features.dtype == probabilities.dtype == torch.float32
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(probabilities, logits.softmax(1), rtol=1e-3, atol=1e-6)
    assert float(expected.std(0).mean()) > 0.01


def test_inception_is_found_and_known_by_its_hash(inception_file, tmp_path, hub, monkeypatch):
    """In the data folder, in its `weights`, in torch's cache; anything but the published file is said to be that."""
    sha256 = weights.hash_of(inception_file)
    for folder in (tmp_path, tmp_path / "weights", hub):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / Inception.name).symlink_to(inception_file)
        found = Inception().weights(tmp_path)
        assert (found.label, found.path, found.sha256) == ("inception", folder / Inception.name, sha256)
        assert (found.dimensions, found.classes, found.remark) == (2048, 1008, "not the published weights")
        (folder / Inception.name).unlink()
    (tmp_path / Inception.name).symlink_to(inception_file)
    monkeypatch.setattr(Inception, "published", sha256[:8])
    assert Inception().weights(tmp_path).remark == ""


def test_inception_is_downloaded_when_it_is_nowhere(inception_file, tmp_path, hub, monkeypatch):
    asked = []

    def fetch(url, path, hash_prefix):
        asked.append((url.rpartition("/")[2], hash_prefix))
        Path(path).symlink_to(inception_file)

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    found = Inception().weights(tmp_path)
    assert asked == [(Inception.name, "6726825d")]
    assert found.path == hub / Inception.name
    assert Inception().weights(tmp_path) == found
    assert len(asked) == 1


def test_no_inception_and_no_network(tmp_path, hub):
    with pytest.raises(MissingError) as error:
        Inception().weights(tmp_path)
    text = str(error.value)
    assert text.startswith("weights-inception-2015-12-05-6726825d.pth: the weights of the feature map `inception`")
    for said in (
        str(tmp_path),
        str(tmp_path / "weights"),
        str(hub),
        "no network",
        "torchscript",
        "classifier",
        "pixels",
    ):
        assert said in text
    with pytest.raises(MissingError, match=r"mine\.pth: .* put them there, name the file in `file`, or"):
        Inception(file="mine.pth").weights(tmp_path)


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("exploded"),)


@pytest.mark.parametrize("what", ["pickle", "other network", "no file of torch's"])
def test_wrong_inception_files(what, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / Inception.name
    if what == "pickle":
        path.write_bytes(pickle.dumps(Bomb()))
    elif what == "other network":
        torch.save(nn.Linear(2, 2).state_dict(), path)
    else:
        path.write_bytes(b"<html>not found</html>")
    with pytest.raises(MissingError, match=r"6726825d\.pth: no weights of torch-fidelity's Inception .*; get weights-"):
        Inception().weights(tmp_path)
    assert not (tmp_path / "exploded").exists()


def test_torchscript_prepares_images_as_inception_does(tmp_path):
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    save_script(Small(), tmp_path / "net.pt")
    feature_map = TorchScript(file="net.pt")
    found = feature_map.weights(tmp_path)
    assert (found.label, found.path, found.dimensions, found.classes) == ("net.pt", tmp_path / "net.pt", None, 0)
    feature_map.try_out(found)
    assert found.dimensions == 5
    model = feature_map.load(found)
    rows = images(45, 1)
    features = feature_map.features(model, rows)
    resized = interpolate_bilinear_2d_like_tensorflow1x(rows.float(), size=(299, 299), align_corners=False)
    torch.testing.assert_close(features[:, :3], ((resized - 128) / 128).mean((2, 3)), rtol=0, atol=1e-5)
    torch.testing.assert_close(features[:, 3], rows[:, 0, 0, 0] / 128 - 1)
    assert set(features[:, 4].tolist()) == {299}
    other = TorchScript(file="net.pt", size=16, shift=0, scale=255)
    assert other.features(model, rows)[:, 3:].tolist() == [[float(row[0, 0, 0] / 255), 16] for row in rows]


def test_grey_images_are_repeated(tmp_path):
    save_script(Small(), tmp_path / "net.pt")
    feature_map = TorchScript(file="net.pt", size=32)
    model = feature_map.load(feature_map.weights(tmp_path))
    grey = images(3, 1, channels=1)
    assert torch.equal(feature_map.features(model, grey), feature_map.features(model, grey.repeat(1, 3, 1, 1)))
    for made in (feature_map, Inception(), DINOv2()):
        made.check(RGB)
        made.check(Info("images", {"image": ((1, 8, 8), "uint8")}, 100, 100, 50))
        with pytest.raises(ValueError, match="takes grey or RGB images, found 4 channels"):
            made.check(Info("images", {"image": ((4, 8, 8), "uint8")}, 100, 100, 50))


def test_wrong_torchscript_files(tmp_path):
    save_script(Maps(), tmp_path / "maps.pt")
    save_script(Picky(), tmp_path / "picky.pt")
    (tmp_path / "text.pt").write_text("not a network")
    feature_map = TorchScript(file="any")
    problems = {
        "maps.pt": r"returns torch.float32 \(2, 3, 1, 1\); needed: a float tensor \(2, F\)",
        "picky.pt": r"no features of images \(2, 3, 299, 299\): .*; set `size` to what the network takes",
        "text.pt": "no features of images",
        "none.pt": "none.pt: the network of the feature map `torchscript` is in none of: .*classifier, or pixels",
    }
    for name, message in problems.items():
        with pytest.raises(MissingError, match=message):
            feature_map.try_out(TorchScript(file=name).weights(tmp_path))
    picky = TorchScript(file="picky.pt", size=32)
    found = picky.weights(tmp_path)
    picky.try_out(found)
    assert found.dimensions == 3072


def test_no_check_runs_a_torchscript_file(tmp_path):
    """It is found by its name and known by its hash: what it would print when it is loaded or called is not printed."""
    (tmp_path / "net.pt").write_bytes(b"no network at all: nothing has looked")
    found = TorchScript(file="net.pt").weights(tmp_path)
    assert found.sha256 == weights.hash_of(tmp_path / "net.pt")
    assert found.dimensions is None
    assert found.most_numbers > 0


def test_a_file_that_changes_under_way_is_noticed(tmp_path):
    save_script(Small(), tmp_path / "net.pt")
    feature_map = TorchScript(file="net.pt", size=8)
    found = feature_map.weights(tmp_path)
    save_script(Small(2.0), tmp_path / "net.pt")
    with pytest.raises(MissingError, match="changed or removed after this run began"):
        feature_map.load(found)
    assert feature_map.weights(tmp_path).sha256 != found.sha256


def test_hashes_are_computed_once(tmp_path, monkeypatch):
    path = save_script(Small(), tmp_path / "net.pt")
    hashed = []
    monkeypatch.setattr(weights, "file_hash", lambda path: hashed.append(path) or "00")
    assert weights.hash_of(path) == weights.hash_of(path) == "00"
    assert hashed == [path]


def test_keys_have_no_places(tmp_path):
    """What the file holds is in the keys by its hash (specs.py); where it lies changes nothing."""
    assert TorchScript(file="a/net.pt").describe() == TorchScript(file=str(tmp_path / "net.pt")).describe()
    assert Inception(file="a.pth").describe() == Inception().describe()
    assert TorchScript(file="net.pt", size=32).describe() != TorchScript(file="net.pt").describe()


def test_shorthand():
    assert resolve({"torchscript": "net.pt"}) == TorchScript(file="net.pt")
    assert resolve({"use": "torchscript", "file": "net.pt", "size": 64}) == TorchScript(file="net.pt", size=64)
    with pytest.raises(ValueError, match="needs `use: NAME`"):
        resolve({"torchscript": "net.pt", "size": 64})


class Vit(nn.Module):
    """In place of DINOv2: 384 numbers, all the mean of the normalised image."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.shape[1:] == (3, 224, 224)
        return images.mean((1, 2, 3))[:, None].expand(-1, 384)


def test_dinov2_from_torch_hubs_cache(tmp_path, hub, monkeypatch):
    loaded = []
    monkeypatch.setattr(torch.hub, "load", lambda *args: loaded.append(args) or Vit())
    hub.mkdir(parents=True)
    (hub.parent / DINOv2.repository).mkdir()
    (hub / "dinov2_vits14_pretrain.pth").write_bytes(b"weights")
    feature_map = DINOv2(model="vit-s-14")
    found = feature_map.weights(tmp_path)
    assert (found.label, found.path.name, found.dimensions) == ("dinov2 vit-s-14", "dinov2_vits14_pretrain.pth", 384)
    assert loaded == []
    features = feature_map.features(feature_map.load(found), torch.full((2, 1, 8, 8), 255, dtype=torch.uint8))
    assert loaded == [("facebookresearch/dinov2", "dinov2_vits14")]
    white = np.mean([(1 - mean) / std for mean, std in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))])
    torch.testing.assert_close(features, torch.full((2, 384), white, dtype=torch.float32), rtol=1e-4, atol=1e-4)


def test_no_dinov2_and_no_network(tmp_path, hub, monkeypatch):
    def unreachable(*args):
        raise RuntimeError("It looks like there is no internet connection")

    monkeypatch.setattr(torch.hub, "load", unreachable)
    with pytest.raises(MissingError) as error:
        DINOv2().weights(tmp_path)
    for said in ("dinov2_vitl14_pretrain.pth", str(hub), DINOv2.repository, "no internet connection", "classifier"):
        assert said in str(error.value)


def test_class_metrics_through_inception(evaluation, digits_info):
    unlabelled = Info("images", {"image": ((3, 32, 32), "uint8")}, 100, 100, 50)
    ClassEntropy(features="inception").check(unlabelled, None, 5)
    with pytest.raises(ValueError, match="knows other classes than the data's labels: use classifier"):
        ClassCoverage(features="inception").check(digits_info, None, 100)
    with pytest.raises(ValueError, match=r"too few samples: 19, but 10 parts \(`splits`\) need two each"):
        InceptionScore().check(unlabelled, None, 19)
    InceptionScore().check(unlabelled, None, 20)
    # Sure of each of four equally frequent classes: 4. Every sample alike: 1.
    sure = torch.eye(4).repeat(10, 1)
    assert InceptionScore(splits=1).score(evaluation({"samples probabilities": sure})) == pytest.approx(4)
    alike = torch.tensor([[0.7, 0.3, 0.0]]).repeat(20, 1)
    assert InceptionScore().score(evaluation({"samples probabilities": alike})) == pytest.approx(1)
