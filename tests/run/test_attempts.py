"""What cannot be drawn is said once and ends nothing."""

from __future__ import annotations

import errno

import pytest
from matplotlib.figure import Figure
from PIL import Image

from collapse_sim.core.errors import InterruptedRunError, StoreError
from collapse_sim.core.events import Note
from collapse_sim.run.attempts import Attempts, attempts_of
from tests.conftest import SMALL
from tests.run.points import GAUSSIAN
from tests.words import TEXT


def run(sandbox, recipe: str) -> list[str]:
    """The notes of a whole run."""
    (sandbox.root / "run" / "pictures").mkdir(parents=True, exist_ok=True)
    events, store = sandbox.loop(recipe)
    notes = [event.message for event in events if isinstance(event, Note)]
    return notes + [text for text in [attempts_of(store).summary] if text]  # what a session says at its end


def refusing(error: BaseException):
    def refuse(*_: object, **__: object) -> None:
        raise error

    return refuse


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("error", [FULL, PermissionError(13, "Permission denied"), ValueError("odd"), SystemExit(3)])
def test_images_that_cannot_be_drawn_end_no_run(sandbox, monkeypatch, error):
    monkeypatch.setattr(Image.Image, "save", refusing(error))
    notes = run(sandbox, SMALL)
    assert [note.partition(" cannot be drawn: ")[0] for note in notes[:2]] == ["samples", "arms-by-generations"]
    assert all(str(error.args[-1]) in note for note in notes[:2])
    assert notes[2:] == [
        "could not be drawn: samples (4 times), arms-by-generations (2 times); scores are not affected"
    ]
    assert len(sandbox.journal(event="scores")) == 4


def test_points_that_cannot_be_drawn_end_no_run(sandbox, monkeypatch):
    monkeypatch.setattr(Figure, "savefig", refusing(FULL))
    monkeypatch.setattr("collapse_sim.run.figures.SCATTER_EVERY_S", 0.0)
    first, last = run(sandbox, GAUSSIAN)
    assert "free some space" in first
    assert last == "could not be drawn: arms-by-generations (4 times); scores are not affected"


def test_texts_that_cannot_be_drawn_end_no_run(sandbox, monkeypatch):
    monkeypatch.setattr("collapse_sim.run.text_samples.write_atomic", refusing(FULL))
    monkeypatch.setattr("collapse_sim.run.text_samples.texts_by_row", refusing(KeyError("a tokenizer of one's own")))
    monkeypatch.setattr(Figure, "savefig", refusing(FULL))
    notes = run(sandbox, TEXT)
    whats = [note.partition(" cannot be drawn")[0] for note in notes]
    assert whats[:-1] == [
        "texts of samples",
        "the page of texts",
        "answers to the same prompts",
        "the histogram of words / text",
    ]
    assert notes[-1].startswith("could not be drawn: texts of samples (6 times), the page of texts (3 times)")
    assert len(sandbox.journal(event="scores")) == 6


def test_a_picture_is_drawn_when_it_can_be_again(sandbox, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(Image.Image, "save", refusing(FULL))
        run(sandbox, SMALL)
    assert run(sandbox, SMALL) == []
    names = sorted(path.name for path in (sandbox.root / "run" / "pictures").iterdir())
    assert len(names) == 5


@pytest.mark.parametrize("wish", [InterruptedRunError("stop", 15), KeyboardInterrupt()])
def test_a_wish_to_stop_passes(sandbox, monkeypatch, wish):
    monkeypatch.setattr(Image.Image, "save", refusing(wish))
    with pytest.raises(type(wish)):
        run(sandbox, SMALL)


def test_a_whole_run_draws_everything(sandbox):
    """The guard hides no fault of our own: names of every kind, and nothing is said."""
    arms = ["$x_$", "a $$ b", "long" * 60, "_hidden", "&<>#"]
    text = GAUSSIAN.replace("  replace: {data: replace}\n", "".join(f"  '{arm}': {{data: replace}}\n" for arm in arms))
    assert run(sandbox, text) == []
    assert (sandbox.root / "run" / "pictures" / "arms-by-generations.png").exists()


def test_names_without_a_font_are_said_once(sandbox, monkeypatch):
    from collapse_sim.analysis import fonts

    monkeypatch.setattr(fonts, "_installed", lambda: ())
    fonts._choose_families.cache_clear()
    notes = run(sandbox, GAUSSIAN.replace("  replace:", "  日本語:"))
    fonts._choose_families.cache_clear()
    assert notes == ["no installed font has 日本語: drawn as boxes; install one, such as Noto Sans CJK"]


def test_reasons_are_one_line_of_a_sensible_length():
    notes: list[Note] = []
    attempts = Attempts()
    for error in (StoreError("disk:\nfull"), ValueError("x" * 5000), RuntimeError()):
        attempts.make(notes.append, type(error).__name__, refusing(error))
    assert notes[0].message == "StoreError cannot be drawn: disk: full; the run goes on without"
    assert len(notes[1].message) < 400
    assert notes[2].message == "RuntimeError cannot be drawn: RuntimeError; the run goes on without"


def test_a_folder_that_cannot_be_written_to_ends_no_run(sandbox):
    """The folder of pictures is a file."""
    (sandbox.root / "run").mkdir()
    (sandbox.root / "run" / "pictures").write_text("")
    events, _ = sandbox.loop(GAUSSIAN)
    assert [event.message.partition(":")[0] for event in events if isinstance(event, Note)] == [
        "arms-by-generations cannot be drawn",
    ]
