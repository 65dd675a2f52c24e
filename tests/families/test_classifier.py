"""The classifier behind feature maps: its loss, whole and in parts."""

from __future__ import annotations

import torch

from collapse_sim.families.classifier import Classifier
from collapse_sim.testing import check_row_losses
from tests.families.small_rows import IMAGES, image_rows


def test_classifier():
    family = Classifier()
    from collapse_sim.core.randomness import Draws

    rows = image_rows(IMAGES)
    inputs = family.corrupt(rows, Draws((0,), "corrupt", 0))
    model = family.build(IMAGES).eval()
    whole = family.loss(family.predict(model, inputs), inputs)
    parts = sum(family.loss(family.predict(model, part), part) for part in inputs.split(8))
    torch.testing.assert_close(whole, parts, rtol=1e-5, atol=1e-4)
    check_row_losses(family, model, inputs)
