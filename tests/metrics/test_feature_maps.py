"""Feature maps, and the setting that chooses one."""

from __future__ import annotations

import json
from typing import get_args

import pytest
import torch
from pydantic import ValidationError

from collapse_sim.core.registry import BUILT_IN, load
from collapse_sim.families.classifier import Classifier
from collapse_sim.metrics.base import ClassifyingMap, FeatureMap, Metric, Need
from collapse_sim.metrics.feature_maps import ClassifierFeatures, Pixels
from collapse_sim.metrics.features import FID

IMAGES = torch.randint(0, 256, (2300, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_pixels_are_intensities():
    features = Pixels().features(None, IMAGES[:3])
    assert features.dtype == torch.float32
    assert features.shape == (3, 64)
    assert torch.equal((features * 255).round().to(torch.uint8), IMAGES[:3].flatten(1))
    assert float(features.max()) <= 1
    assert Pixels().network() is None
    assert not isinstance(Pixels(), ClassifyingMap)


def test_classifier_features_do_not_depend_on_the_batch(digits_info):
    feature_map = ClassifierFeatures()
    family, train = feature_map.network()
    assert (train.steps, train.epochs) == (900, None)
    model = family.build(digits_info).eval()
    features, probabilities = feature_map.classified(model, IMAGES)
    assert (features.shape, probabilities.shape) == ((2300, 64), (2300, 10))
    assert not features.requires_grad
    assert not probabilities.requires_grad
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2300))
    some = torch.tensor([0, 999, 1000, 1001, 2299])
    torch.testing.assert_close(feature_map.features(model, IMAGES[some]), features[some], rtol=1e-4, atol=1e-5)
    # The head on the features gives the probabilities: both come from the same pass.
    torch.testing.assert_close(model.head(features).softmax(1), probabilities)
    with pytest.raises(ValueError, match="need the fitted network"):
        feature_map.features(None, IMAGES)


def test_choice_by_name_mapping_or_instance():
    assert FID().features == ClassifierFeatures()
    assert FID(features="pixels").feature_map == Pixels()
    assert FID(features={"use": "classifier", "classifier": {"width": 8}}).features.classifier == Classifier(width=8)
    assert FID(features=Pixels()).features == Pixels()
    assert FID(features="collapse_sim.metrics.feature_maps:Pixels").features == Pixels()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("pixel", "unknown 'pixel', did you mean 'pixels'?"),
        ({"use": "clasifier"}, "did you mean 'classifier'?"),
        ({"width": 3}, "a feature map needs `use: NAME`"),
        (7, "7 is not a feature map; allowed: a name, or a mapping"),
        ("collapse_sim.families.vae:VAE", "is not a feature map: it lacks features, network"),
    ],
)
def test_bad_choice(value, message):
    with pytest.raises(ValidationError) as error:
        FID(features=value)
    (problem,) = error.value.errors()
    assert problem["loc"] == ("features",)
    assert message in problem["msg"]


def test_bad_setting_of_a_map_keeps_its_place():
    with pytest.raises(ValidationError) as error:
        FID(features={"use": "classifier", "classifier": {"widht": 8}})
    assert error.value.errors()[0]["loc"] == ("features", "classifier", "widht")


def test_description_tells_maps_apart():
    """It is the score's key: everything that changes numbers has to be in it."""
    described = [
        FID(features=features).describe()
        for features in (
            "pixels",
            "classifier",
            {"use": "classifier", "classifier": {"width": 8}},
            {"use": "classifier", "train": {"steps": 5}},
        )
    ]
    texts = {json.dumps(description, sort_keys=True) for description in described}
    assert len(texts) == 4
    assert described[0]["features"]["use"] == "pixels"
    assert described[0]["features"]["version"] == Pixels.version
    json.dumps(FID.model_json_schema())


@pytest.mark.parametrize("room", ["metrics", "features"])
def test_registered_names_hold_their_contract(room):
    required = {"torchscript": {"file": "net.pt"}}
    for name in BUILT_IN[room]:
        made = load(room, name)(**required.get(name, {}))
        assert isinstance(made, Metric if room == "metrics" else FeatureMap), name
        assert made.version >= 1
        assert type(made).__doc__
        if room == "metrics":
            assert made.better in ("lower", "higher", None)
            assert set(made.needs) <= set(get_args(Need))
