"""TensorBoard's event files, below the run directory; no server is needed to write them.

An arm's seed, or the mean over seeds, is a "run" of TensorBoard, so that arms lie in one chart. A batch is one file in
the folder of each, written under another name and moved into place: a batch that is sent twice replaces itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from collapse_sim.core.component import Component
from collapse_sim.core.files import write_atomic
from collapse_sim.run.text_samples import file_name
from collapse_sim.run.trackers import Outcome, TrackedBatch, TrackedRecipe, TrackedRun

FOLDER = "tensorboard"
FILE = "events.out.tfevents.{number:010d}.collapse-sim"


class TensorBoard(Component):
    """Event files in RUN/tensorboard: `tensorboard --logdir RUN/tensorboard`."""

    package: ClassVar[str] = "tensorboard"
    extra: ClassVar[str] = "collapse-sim[tensorboard]"

    def place(self, run: TrackedRun) -> str:
        return FOLDER  # in the run directory, with which it moves

    def open(self, run: TrackedRun) -> TensorBoardSender:
        folder = run.folder / FOLDER
        if run.fresh:  # files of a run directory whose record of what was sent is lost
            for path in folder.rglob(FILE.format(number=0).replace("0" * 10, "*")):
                path.unlink()
        folder.mkdir(exist_ok=True)
        return TensorBoardSender(folder, run.name)


class TensorBoardSender:
    """Writes event files; between batches nothing is open."""

    def __init__(self, folder: Path, name: str) -> None:
        self.where = str(folder)
        self._folder, self._name = folder, name

    def send(self, batch: TrackedBatch) -> None:
        """Write the batch's file into each folder that it has something for."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        events: dict[str, list[Any]] = {}

        def add(place: str, step: int, *values: Any) -> None:
            summary = Summary(value=values)
            events.setdefault(place, []).append(Event(wall_time=batch.time_s, step=step, summary=summary))

        for point in batch.points:
            arm, *labels = point.curve.of
            place = "/".join((file_name(arm), *(label.replace(" ", "-") for label in labels)))
            add(place, point.step, Summary.Value(tag=point.curve.name, simple_value=_float32(point.value)))
        for picture in batch.pictures:
            add("", picture.step, Summary.Value(tag=picture.name, image=_image(picture.path)))
        for text in batch.texts:
            add("", text.step, _text(text.name, text.markdown))
        if batch.recipe is not None:
            add("", batch.number, _text("recipe", _indented(batch.recipe.yaml)))
            for place, values in _hparams(self._name, batch.recipe):
                add(place, 0, *values)
        for place, of_place in events.items():
            folder = self._folder / place
            folder.mkdir(parents=True, exist_ok=True)
            version = Event(wall_time=batch.time_s, file_version="brain.Event:2")
            write_atomic(folder / FILE.format(number=batch.number), _records([version, *of_place]))

    def finish(self, outcome: Outcome) -> None:
        """Nothing is open. TensorBoard has no place for a run's outcome."""


def _records(events: Iterable[Any]) -> bytes:
    """The content of an event file."""
    from io import BytesIO

    from tensorboard.summary.writer.record_writer import RecordWriter

    content = BytesIO()
    writer = RecordWriter(content)
    for event in events:
        writer.write(event.SerializeToString())
    return content.getvalue()


def _float32(value: float) -> float:
    """What is too large for a float32 is infinite in a file of TensorBoard."""
    return math.copysign(math.inf, value) if math.isfinite(value) and abs(value) > 3.4028235e38 else value


def _image(path: Path) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    with Image.open(path) as image:
        width, height = image.size
    return Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=path.read_bytes())


def _text(name: str, markdown: str) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboard.compat.proto.types_pb2 import DT_STRING
    from tensorboard.plugins.text.metadata import create_summary_metadata

    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    tensor = TensorProto(dtype=DT_STRING, string_val=[markdown.encode("utf-8", "replace")], tensor_shape=shape)
    return Summary.Value(tag=name, metadata=create_summary_metadata(name, ""), tensor=tensor)


def _indented(text: str) -> str:
    """Markdown that shows a text as it is."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def _hparams(name: str, recipe: TrackedRecipe) -> Iterable[tuple[str, list[Any]]]:
    """(folder, values): a row of the tab HPARAMS for each arm, with the settings in which arms differ, and scores."""
    from tensorboard.plugins.hparams import summary_v2 as hparams

    if not recipe.by_arm:
        return
    keys = dict.fromkeys(key for own in recipe.by_arm.values() for key in own)
    metrics = [hparams.Metric(tag, group="/".join(of).replace(" ", "-")) for tag, of in recipe.metrics.items()]
    config = hparams.hparams_config_pb([hparams.HParam(key) for key in keys], metrics)
    yield "", list(config.value)
    for arm, own in recipe.by_arm.items():
        settings: Mapping[str, Any] = {"arm": arm, **own}
        yield file_name(arm), list(hparams.hparams_pb(settings, trial_id=f"{name}/{arm}").value)
