"""Sends a run's curves, pictures and texts to trackers: one listener of its events, which never ends the run.

After generations (those quicker than EVERY_S share one batch) and at the end, whatever a tracker was not sent yet is
sent, from the journal and the store; trackers.json (run/sent.py) says what that is. So sessions that continue a run, or
find all of it in the store, send each point once.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from filelock import Timeout

from collapse_sim.analysis.arm_settings import leaves
from collapse_sim.core.errors import CollapseSimError
from collapse_sim.core.events import Emit, Event, GenerationFinished, Note, RunFinished, RunStarted
from collapse_sim.core.files import file_hash
from collapse_sim.core.hashing import digest_of
from collapse_sim.run.attempts import reason_line
from collapse_sim.run.sent import SENT_FILE, SENT_LOCK, NewerSentError, Sent, SentFile
from collapse_sim.run.tracked_points import MOST_SEEDS, mark_sent, mean_label, new_points, seed_label
from collapse_sim.run.trackers import (
    Outcome,
    Sender,
    TrackedBatch,
    TrackedPicture,
    TrackedRecipe,
    TrackedRun,
    TrackedText,
    Tracker,
)
from collapse_sim.store.locks import Lock
from collapse_sim.store.run_directory import recipe_of

if TYPE_CHECKING:
    from collapse_sim.analysis.results import Results

EVERY_S = 5.0
COMPARISON = "comparison"
_GENERATION = re.compile(r"-generation-\d+$")
_SIMPLE = (bool, int, float, str)


@dataclass
class _Open:
    """A tracker that is sent to."""

    name: str
    sender: Sender
    sent: Sent
    pictures: dict[tuple[str, int], Path] = field(default_factory=dict)  # waiting for the next batch


class Tracking:
    """`with Tracking(...) as emit:` gives a callable that passes events on to `show`, and to the trackers.

    A tracker that cannot be reached, or fails later, is reported as one Note; the run goes on without it.
    """

    def __init__(
        self, trackers: Mapping[str, Tracker], show: Emit, folder: Path, store: Path, name: str, project: str | None
    ) -> None:
        self._trackers, self._show, self._folder, self._store = trackers, show, folder, store
        self._name, self._project = name, project or name
        self._lock = Lock(folder / SENT_LOCK, "--out")
        self._file: SentFile | None = None
        self._open: list[_Open] = []
        self._last_s = 0.0
        self._outcome: Outcome = "failed"

    def __enter__(self) -> Emit:
        return self.emit

    def emit(self, event: Event) -> None:
        """Show one event, then let the trackers know. Only a stop of the program (KeyboardInterrupt) is raised."""
        self._show(event)
        try:
            self._follow(event)
        except Exception as error:  # no room for a temporary file, an unreadable folder ...
            failed, self._open = self._open, []
            self._warn(f"{', '.join(self._trackers)} failed", error)
            for each in failed:
                with suppress(Exception, SystemExit):  # one warning is enough
                    each.sender.finish("failed")

    def _follow(self, event: Event) -> None:
        if isinstance(event, RunStarted) and self._trackers:
            self._begin(event)
        elif isinstance(event, GenerationFinished):
            for each in self._open:
                for path in map(Path, event.pictures):
                    each.pictures[_GENERATION.sub("", path.stem) + path.suffix, event.generation] = path
            if self._open and time.monotonic() - self._last_s >= EVERY_S:
                self._send()
        elif isinstance(event, RunFinished) and self._open:
            self._outcome = event.outcome
            self._send(last=True)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for each in self._open:
            try:
                each.sender.finish(self._outcome)
            except (Exception, SystemExit) as failure:
                self._show(Note(f"{each.name}: {reason_line(failure)} at the end; the run is not affected"))
        if self._file is not None:
            self._lock.release()

    def _begin(self, event: RunStarted) -> None:
        """Open all trackers. What cannot be opened is left out."""
        names = ", ".join(self._trackers)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            self._show(Note(f"{names}: another process sends this run there; this one does not"))
            return
        except (CollapseSimError, OSError) as error:
            self._show(Note(f"{names}: {reason_line(error)}; the run goes on without"))
            return
        try:
            self._file = SentFile(self._folder)
        except NewerSentError as error:
            hint = "continue it with the version that it was begun with; the run goes on without"
            self._show(Note(f"{names}: {self._folder / SENT_FILE}: {error}: {hint}"))
            self._lock.release()
            return
        except (OSError, ValueError) as error:
            self._show(Note(f"{SENT_FILE}: damaged ({error}): the run is sent anew, as another one"))
            (self._folder / SENT_FILE).unlink(missing_ok=True)
            self._file = SentFile(self._folder)
        if len(event.seeds) > MOST_SEEDS:
            self._show(Note(f"{names}: curves of the first {MOST_SEEDS} seeds, and means over all", "info"))
        for name, tracker in self._trackers.items():
            try:
                place = tracker.place(TrackedRun(self._name, self._project, self._folder, "", True))
                sent = self._file.of(f"{name} {place}")
                fresh = sent.batches == 0 and sent.pending_s is None
                sender = tracker.open(TrackedRun(self._name, self._project, self._folder, sent.id, fresh))
            except (Exception, SystemExit) as error:
                self._warn(f"{name} cannot be reached", error)
            else:
                self._open.append(_Open(name, sender, sent))
                self._show(Note(f"{name}: {sender.where}", "info"))

    def _send(self, *, last: bool = False) -> None:
        """Send each tracker what it does not have."""
        try:
            from collapse_sim.analysis.results import read_results  # imports scipy

            results = read_results(self._folder)
        except (CollapseSimError, OSError) as error:
            self._show(Note(f"the journal cannot be read for {', '.join(each.name for each in self._open)}: {error}"))
            return
        with tempfile.TemporaryDirectory(prefix="collapse-sim-") as scratch:
            for each in list(self._open):
                try:
                    if each.sent.pending_s is not None:
                        self._send_to(each, results, Path(scratch), again=True)
                    self._send_to(each, results, Path(scratch), last=last)
                except (Exception, SystemExit) as error:
                    self._open.remove(each)
                    self._warn(f"{each.name} failed", error)
                    with suppress(Exception, SystemExit):  # one warning is enough
                        each.sender.finish("failed")
        self._last_s = time.monotonic()

    def _send_to(
        self, each: _Open, results: Results, scratch: Path, *, last: bool = False, again: bool = False
    ) -> None:
        """Send what is new, or with `again` the batch that was begun, as it was."""
        assert self._file is not None
        sent = each.sent
        points = new_points(results, self._folder, self._store, sent.points)
        if again:
            points = [point for point in points if point.step in sent.pending.get(point.curve.path, ())]
        files = {key: path for key, path in each.pictures.items() if path.is_file()}
        hashes = {key: file_hash(path) for key, path in files.items()}
        files = {key: path for key, path in files.items() if _is_new(key, hashes[key], sent)}
        texts = [TrackedText(name, k, path.read_text()) for (name, k), path in files.items() if path.suffix == ".md"]
        pictures = [TrackedPicture(name, k, path) for (name, k), path in files.items() if path.suffix == ".png"]
        values = digest_of(str(results.values))
        if last and values != sent.results and (drawn := _comparison(results, scratch)):
            pictures.append(drawn)
        recipe = recipe_of(self._folder).read_text()
        changed = digest_of(recipe) != sent.recipe
        if not (points or pictures or texts or changed or again):
            return
        if not again:
            sent.pending_s, sent.pending = time.time(), {}
            for point in points:
                sent.pending.setdefault(point.curve.path, []).append(point.step)
            self._file.save()
        assert sent.pending_s is not None
        batch = TrackedBatch(
            sent.batches,
            sent.pending_s,
            again,
            points,
            [picture._replace(name=f"pictures/{picture.name.removesuffix('.png')}") for picture in pictures],
            [text._replace(name=f"texts/{text.name.removesuffix('.md')}") for text in texts],
            self._recorded(recipe, results) if changed else None,
        )
        each.sender.send(batch)
        sent.batches, sent.pending_s, sent.pending, sent.recipe = sent.batches + 1, None, {}, digest_of(recipe)
        mark_sent(points, sent.points)
        for name, k in files:
            sent.pictures.setdefault(name, {})[str(k)] = hashes[name, k]
        if last:
            sent.results = values
        each.pictures.clear()
        self._file.save()

    def _recorded(self, recipe: str, results: Results) -> TrackedRecipe:
        import yaml

        settings = yaml.safe_load(recipe)
        flat = {key: value if isinstance(value, _SIMPLE) else str(value) for key, value in leaves(settings)}
        by_arm = {
            arm: {key: value for key, value in own.items() if isinstance(value, _SIMPLE)}
            for arm, own in results.differing.items()
        }
        seeds = len(results.seeds)
        label = mean_label(seeds) if seeds > 1 else seed_label(results.seeds[0])
        return TrackedRecipe(recipe, flat, by_arm, dict.fromkeys(results.metrics_without_parts(), (label,)))

    def _warn(self, what: str, error: BaseException) -> None:
        self._show(Note(f"{what}: {reason_line(error)}; the run goes on without it"))


def _is_new(key: tuple[str, int], digest: str, sent: Sent) -> bool:
    """Whether a picture was not sent for this generation, nor the same one for the generation before."""
    before = sent.pictures.get(key[0], {})
    return str(key[1]) not in before and digest not in list(before.values())[-1:]


def _comparison(results: Results, folder: Path) -> TrackedPicture | None:
    """The curves of all metrics, as `compare --plot` draws them; None if there is nothing to draw yet."""
    from collapse_sim.analysis.plots import plot

    metrics = [metric for metric in results.metrics_without_parts() if results.scored(metric)]
    if not metrics:
        return None
    path = folder / f"{COMPARISON}.png"
    if not path.exists():
        plot(results, metrics, path)
    return TrackedPicture(path.name, max(results.scored(metrics[0])), path)
