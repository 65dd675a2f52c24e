"""TensorBoard's files, read back by its own reader."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

from tests.run.tracked import Points

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what TensorBoard's reader imports is not ours
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def read(folder: Path) -> EventAccumulator:
    """Everything in one folder, nothing left out."""
    everything = {"scalars": 0, "images": 0, "tensors": 0}
    return EventAccumulator(str(folder), size_guidance=everything).Reload()


def points_in(folder: Path) -> Points:
    """By curve, as `TrackedCurve.path` names them; no point may be there twice."""
    points: Points = {}
    for place in sorted({path.parent for path in folder.rglob("events.out.tfevents.*")}):
        accumulator = read(place)
        of = "/".join(place.relative_to(folder).parts)
        for tag in accumulator.Tags()["scalars"]:
            curve = points.setdefault(f"{tag}/{of}", {})
            for event in accumulator.Scalars(tag):
                assert event.step not in curve, f"{tag}/{of} at {event.step} is there twice"
                curve[event.step] = event.value
    return points


def in_32_bits(value: float) -> float:
    """What such a file keeps of a number."""
    kept: float = struct.unpack("f", struct.pack("f", value))[0]
    return kept
