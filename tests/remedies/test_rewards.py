from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from collapse_sim.data.base import Info
from collapse_sim.remedies.rewards import Reward

from .candidates import POINTS, points, pool

PLANE = Info("points", {"x": ((2,), "float64")}, rows=4, pool=4, held_out=4)
IMAGES = Info("images", {"image": ((1, 2, 2), "uint8"), "label": ((), "int64")}, 4, 4, 4, classes=2)
X = {"x": torch.tensor([[0.0, 0.0], [3.0, 4.0]], dtype=torch.float64)}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"kind": "linear"}, [0, 7]),
        ({"kind": "linear", "direction": (2.0, -1.0)}, [0, 2]),
        ({"kind": "quadratic"}, [0, -12.5]),
        ({"kind": "quadratic", "centre": (3.0, 0.0), "width": 2.0}, [-9 / 8, -2]),
        ({"kind": "ball", "radius": 3.0}, [0, -2]),
        ({"kind": "ball", "centre": (3.0, 4.0), "radius": 5.0}, [0, 0]),
    ],
)
def test_rewards_of_points_by_hand(settings, expected):
    assert Reward(**settings).of(pool(X, info=PLANE)).tolist() == pytest.approx(expected)


def test_a_class_is_recognised_by_the_pixels_of_the_real_images():
    labels = torch.tensor([0, 1] * 20)
    real = torch.zeros(40, 1, 2, 2, dtype=torch.uint8)
    real[labels == 1, :, 0] = 250
    real += (torch.arange(40) % 5)[:, None, None, None].to(torch.uint8)
    images = {"image": real[:6] + 1}
    candidates = pool(images, info=IMAGES, real=lambda: {"image": real, "label": labels})
    probability = Reward(kind="class", label=1).of(candidates)
    assert (probability[labels[:6] == 1] > 0.7).all()
    assert (probability[labels[:6] == 0] < 0.3).all()
    of_both = probability + Reward(kind="class", label=0).of(candidates)
    assert of_both.tolist() == pytest.approx([1] * 6)


def test_settings_of_other_rewards_are_refused():
    with pytest.raises(ValidationError, match="`radius` has no meaning for the reward 'linear'; its settings: direct"):
        Reward(kind="linear", radius=1.0)
    with pytest.raises(ValidationError, match="unknown 'square'; allowed: linear, quadratic, ball, class"):
        Reward(kind="square")


@pytest.mark.parametrize(
    ("settings", "info", "message"),
    [
        ({"kind": "class"}, POINTS, "needs images with labels, and this data has none"),
        ({"kind": "class", "label": 2}, IMAGES, "class 2 does not exist; the data has classes 0 to 1"),
        ({"kind": "linear"}, IMAGES, "the reward `linear` is for points"),
        ({"kind": "ball", "centre": (1.0, 2.0)}, POINTS, "`centre` has 2 numbers, and x has 1"),
    ],
)
def test_rewards_that_the_data_does_not_allow_are_refused(settings, info, message):
    with pytest.raises(ValueError, match=message):
        Reward(**settings).check(info)


def test_points_of_one_dimension_have_rewards_too():
    assert Reward(kind="quadratic", centre=1.0).of(pool(points(0, 3))).tolist() == pytest.approx([-0.5, -2])
