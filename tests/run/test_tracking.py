"""A run that is tracked: each point once, however often it is interrupted; a tracker never ends it."""

from __future__ import annotations

import pytest

from collapse_sim.core.errors import InterruptedRunError
from collapse_sim.core.events import Note, RunFinished, RunStarted
from collapse_sim.engine.work import Stop
from collapse_sim.run import tracking
from collapse_sim.run.sent import SCHEMA, SENT_FILE, SENT_LOCK
from collapse_sim.run.tracking import Tracking
from collapse_sim.store import sealed
from collapse_sim.store.machine_lock import locked
from tests.conftest import TINY
from tests.run.tracked import Recorder, journal_scores


@pytest.fixture(autouse=True)
def _a_batch_for_each_generation(monkeypatch):
    monkeypatch.setattr(tracking, "EVERY_S", 0.0)


def scores_in(recorder: Recorder) -> dict[str, dict[int, float]]:
    return {path: curve for path, curve in recorder.points().items() if path.startswith("test_loss")}


def pictures(recorder: Recorder) -> list[tuple[str, int]]:
    return [(picture.name, picture.step) for batch in recorder.batches for picture in batch.pictures]


def test_everything_goes_along_once_and_in_order(sandbox):
    one, two = Recorder(), Recorder("there")
    sandbox.run(TINY, trackers={"one": one, "two": two})
    assert scores_in(one) == journal_scores(sandbox.root / "run")
    assert two.points() == one.points()
    assert [batch.number for batch in one.batches] == [0, 1, 2, 3]
    steps = [{p.step for p in batch.points if p.curve.axis == "generation"} for batch in one.batches]
    assert steps == [{0}, {1}, {2}, set()]
    assert one.outcomes == two.outcomes == ["finished"]
    shown = pictures(one)
    assert len(shown) == len(set(shown))
    assert {("pictures/00-replace", k) for k in range(3)} <= set(shown)
    assert shown[-1] == ("pictures/comparison", 2)
    (recipe,) = [batch.recipe for batch in one.batches if batch.recipe]
    assert one.batches[0].recipe is recipe
    assert recipe.settings["train.batch_size"] == 32
    assert recipe.by_arm["replace"]["data.use"] == "replace"


def test_a_run_that_is_found_in_the_store_is_not_sent_again(sandbox):
    first, again, late = Recorder(), Recorder(), Recorder("there")
    sandbox.run(TINY, trackers={"one": first})
    sandbox.run(TINY, trackers={"one": again, "two": late})
    assert again.batches == []
    assert again.opened[0].id == first.opened[0].id
    assert not again.opened[0].fresh
    assert late.points() == first.points(), "a tracker that comes later gets it all"
    assert late.opened[0].fresh
    assert pictures(late)[-1] == ("pictures/comparison", 2)


def test_texts_go_along(sandbox):
    from tests.words import TEXT

    recorder = Recorder()
    sandbox.run(TEXT, trackers={"one": recorder})
    texts = [text for batch in recorder.batches for text in batch.texts]
    assert ("texts/texts", 0) in [(text.name, text.step) for text in texts]
    assert all("generation" in text.markdown for text in texts if text.name == "texts/texts")


@pytest.mark.parametrize("checks", [20, 60, 100])
def test_interrupted_and_continued(sandbox, monkeypatch, checks):
    """Wherever a run is stopped."""
    first, second = Recorder(), Recorder()
    check, calls = Stop.check, []

    def stop(self):
        calls.append(0)
        if len(calls) == checks:
            raise InterruptedRunError("enough")
        check(self)

    monkeypatch.setattr(Stop, "check", stop)
    with pytest.raises(InterruptedRunError):
        sandbox.run(TINY, trackers={"one": first})
    assert first.outcomes == ["interrupted"]
    sandbox.run(TINY, trackers={"one": second})
    together = Recorder()
    together.batches = first.batches + second.batches
    assert scores_in(together) == journal_scores(sandbox.root / "run")
    assert [batch.number for batch in together.batches] == list(range(len(together.batches)))


def test_a_batch_that_a_kill_cut_off_comes_again_as_the_same(sandbox):
    """The tracker has it, but the process ended before that was recorded."""

    class Killed(Recorder):
        def send(self, batch):
            if len(self.batches) == 2:
                raise ConnectionError("a killed process sends nothing more")
            super().send(batch)
            if batch.number == 1:
                raise KeyboardInterrupt

    first, second = Killed(), Recorder()
    with pytest.raises(InterruptedRunError):
        sandbox.run(TINY, trackers={"one": first})
    sandbox.run(TINY, trackers={"one": second})
    cut_off, again = first.batches[1], second.batches[0]
    assert (cut_off.number, cut_off.time_s, cut_off.points) == (again.number, again.time_s, again.points)
    assert [batch.again for batch in (cut_off, *second.batches)] == [False, True, *[False] * (len(second.batches) - 1)]
    together = Recorder()
    together.batches = [first.batches[0], *second.batches]
    assert scores_in(together) == journal_scores(sandbox.root / "run")


@pytest.mark.parametrize(("fails", "words"), [(-1, "cannot be reached"), (0, "failed"), (2, "failed")])
def test_a_tracker_that_fails_is_said_once_and_ends_nothing(sandbox, capsys, fails, words):
    bad, good = Recorder(fails=fails), Recorder("there")
    result = sandbox.run(TINY, trackers={"bad": bad, "good": good})
    assert result["made"] > 0
    err = capsys.readouterr().err
    assert err.count(f"warning: bad {words}: ConnectionError: no route") == 1
    assert err.count("the run goes on without it") == 1
    assert scores_in(good) == journal_scores(sandbox.root / "run")
    assert bad.outcomes == ([] if fails == -1 else ["failed"]), "it is closed, and left alone then"

    healed = Recorder()
    sandbox.run(TINY, trackers={"bad": healed})
    together = Recorder()
    together.batches = bad.batches + healed.batches
    assert scores_in(together) == journal_scores(sandbox.root / "run"), "the next session sends what is missing"


def test_a_tracker_that_cannot_be_closed_ends_nothing(sandbox, capsys):
    class Stuck(Recorder):
        def finish(self, outcome):
            raise OSError("busy")

    sandbox.run(TINY, generations=1, seeds=[0], trackers={"one": Stuck()})
    assert "warning: one: OSError: busy at the end; the run is not affected" in capsys.readouterr().err


def test_what_was_sent_is_lost(sandbox, capsys):
    """A damaged record: the run is sent anew, under another id."""
    first, second = Recorder(), Recorder()
    sandbox.run(TINY, trackers={"one": first})
    (sandbox.root / "run" / SENT_FILE).write_text("{}")
    sandbox.run(TINY, trackers={"one": second})
    assert "the run is sent anew, as another one" in capsys.readouterr().err
    assert second.points() == first.points()
    assert second.opened[0].fresh
    assert second.opened[0].id != first.opened[0].id


def test_a_record_of_a_newer_version_is_kept_and_nothing_is_sent(sandbox, capsys):
    recorder = Recorder()
    record = sandbox.root / "run" / SENT_FILE
    record.parent.mkdir()
    record.write_text(newer := sealed.text({"schema": SCHEMA + 1, "trackers": {"one": {"what": "else"}}}))
    sandbox.run(TINY, trackers={"one": recorder})
    assert f"{record}: it has schema {SCHEMA + 1}, and this collapse-sim knows {SCHEMA}" in capsys.readouterr().err
    assert recorder.opened == []
    assert record.read_text() == newer
    with locked(sandbox.root / "run" / SENT_LOCK, "--out"):  # it was released
        pass


def test_two_processes_on_one_run_send_it_once(sandbox, capsys):
    recorder = Recorder()
    (sandbox.root / "run").mkdir()
    with locked(sandbox.root / "run" / SENT_LOCK, "--out"):
        sandbox.run(TINY, trackers={"one": recorder})
    assert recorder.opened == []
    assert "one: another process sends this run there; this one does not" in capsys.readouterr().err
    sandbox.run(TINY, trackers={"one": recorder})
    assert scores_in(recorder) == journal_scores(sandbox.root / "run")


def test_no_tracker_no_file(sandbox):
    sandbox.run(TINY, generations=1, seeds=[0])
    assert not (sandbox.root / "run" / SENT_FILE).exists()
    assert not (sandbox.root / "run" / SENT_LOCK).exists()


def test_a_journal_that_cannot_be_read_is_a_note(tmp_path):
    events: list[object] = []
    recorder = Recorder()
    with Tracking({"one": recorder}, events.append, tmp_path, tmp_path, "toy", None) as emit:
        emit(RunStarted("toy", ("a",), (0,), 1, ("fid",), {}, "cpu", "fp32", str(tmp_path)))
        emit(RunFinished("toy", str(tmp_path), 1.0, "finished"))
    notes = [event.message for event in events if isinstance(event, Note) and event.level == "warning"]
    assert len(notes) == 1
    assert notes[0].startswith("the journal cannot be read for one: ")
    assert recorder.outcomes == ["finished"]


def test_no_room_for_a_temporary_file_ends_nothing(sandbox, monkeypatch, capsys):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tracking.tempfile, "TemporaryDirectory", full)
    recorder = Recorder()
    assert sandbox.run(TINY, generations=1, seeds=[0], trackers={"one": recorder})["made"] > 0
    assert (
        capsys.readouterr().err.count("warning: one failed: OSError: [Errno 28] No space left on device; the run") == 1
    )
    assert recorder.outcomes == ["failed"], "it is closed"
