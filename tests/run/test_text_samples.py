"""Texts of small runs: what is told, the pages and pictures, and that they are the same however often it is run."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from collapse_sim.core.errors import InterruptedRunError
from collapse_sim.core.events import TextSamples
from collapse_sim.data.text.tokens import texts_of
from collapse_sim.engine.work import Stop
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load
from collapse_sim.run.text_samples import IN_A_LINE, _rests, file_name, text_samples
from collapse_sim.store.rowfile import RowFile
from collapse_sim.store.store import Store
from tests.conftest import changed
from tests.words import LENGTH, PAIRS, TEXT, TOKENIZER, Bigram, WordPairs, Words


def told(sandbox, recipe: str) -> list[TextSamples]:
    """The texts that the loop tells, and the run's files in `sandbox.root / "run"`."""
    (sandbox.root / "run" / "pictures").mkdir(parents=True, exist_ok=True)
    events, _ = sandbox.loop(recipe)
    return [event for event in events if isinstance(event, TextSamples)]


def stored(sandbox, generation: int) -> list[dict[str, np.ndarray]]:
    """The samples of a generation, one a model, from the store's own files."""
    found = []
    for path in sorted((sandbox.root / ".store").glob("objects/*/*/*/manifest.json")):
        manifest = json.loads(path.read_text())
        if manifest["kind"] == "samples" and manifest["description"]["generation"] == generation:
            found.append(RowFile(path.parent / "samples.safetensors").columns)
    return found


def pages(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".md", ".json")}


def test_the_first_samples_of_every_arm_are_told(sandbox):
    events = told(sandbox, TEXT)
    assert [(e.generation, e.arm) for e in events] == [(k, arm) for k in range(3) for arm in ("replace", "accumulate")]
    assert events[0].texts == events[1].texts  # generation 0 is shared
    for k in range(3):
        wanted = {tuple(texts_of(columns["tokens"][:3], TOKENIZER)) for columns in stored(sandbox, k)}
        assert {e.texts for e in events if e.generation == k} == wanted


def test_pairs_are_told_by_their_targets(sandbox):
    events = told(sandbox, PAIRS)
    (columns,) = stored(sandbox, 0)
    sources, targets = (texts_of(columns[name][:3], TOKENIZER) for name in ("source", "target"))
    assert events[0].texts == tuple(f"{t} (of: {s})" for s, t in zip(sources, targets, strict=True))


def test_long_texts_are_cut():
    long = "word " * 1000
    assert len(IN_A_LINE["text"]({"text": long})) < 260
    assert len(IN_A_LINE["pairs"]({"source": long, "target": long})) < 330
    assert IN_A_LINE["text"]({"text": "short"}) == "short"
    assert IN_A_LINE["pairs"]({"source": "a b", "target": " "}) == "(empty) (of: a b)"


def test_data_without_texts_tells_none(sandbox):
    from tests.conftest import TINY

    experiment = prepare(load(sandbox.recipe(TINY)), sandbox.root)
    assert list(text_samples(experiment, 0, Store(sandbox.root / ".store", Stop().check))) == []


def test_the_page_of_samples_is_the_latest_generations(sandbox):
    last = told(sandbox, TEXT)[-2:]
    page = (sandbox.root / "run" / "pictures" / "texts.md").read_text()
    assert page.startswith("# stories, generation 2\n\nSeed 3: ")
    sections = page.split("\n## ")[1:]
    assert [section.split("\n")[0] for section in sections] == ["real", "replace", "accumulate"]
    assert all(
        len([line for line in section.split("\n") if line[:2] in ("1.", "2.", "3.")]) == 3 for section in sections
    )
    words = last[0].texts[0].split()
    line = next(line for line in sections[1].split("\n") if line.startswith("1. "))
    assert all(word in line for word in words if word.isalpha())
    assert "\x1b" not in page


def test_continuations_of_the_same_held_out_texts(sandbox):
    told(sandbox, TEXT)
    found = json.loads((sandbox.root / "run" / "pictures" / "same-prompt.json").read_text())
    assert (found["schema"], found["run"], found["kind"], found["seed"]) == (1, "stories", "text", 3)
    held_out = [text.split() for text in texts_of(Words().open(Path())[1].read(0, 12)["tokens"], TOKENIZER)]
    whole = [prompt["text"].split() + prompt["real"].split() for prompt in found["prompts"]]
    first = LENGTH // 2 - 1  # words of a prompt: six tokens, of which the first begins the text
    usable = [words for words in held_out if len(words) > first]
    assert whole == usable[:4]
    assert [len(prompt["text"].split()) for prompt in found["prompts"]] == [first] * 4
    answers = {(entry["arm"], entry["generation"]): entry for entry in found["answers"]}
    assert set(answers) == {(arm, k) for arm in ("replace", "accumulate") for k in range(3)}
    assert answers["replace", 0]["model"] == answers["accumulate", 0]["model"]
    assert answers["replace", 0]["texts"] == answers["accumulate", 0]["texts"]
    assert answers["replace", 1]["texts"] != answers["replace", 2]["texts"]


def test_a_continuation_ends_with_its_text():
    rows = np.array([[1, 2, 0, 3, 4, 0], [0, 3, 4, 0, 1, 2], [2, 1, -1, -1, -1, -1], [1, 2, 3, 4, 5, 6]])
    assert _rests(rows, TOKENIZER) == ["the king", "", "king the", "the king queen cat saw ran"]


def test_targets_for_the_same_real_sources(sandbox):
    told(sandbox, PAIRS)
    found = json.loads((sandbox.root / "run" / "pictures" / "same-prompt.json").read_text())
    (columns,) = stored(sandbox, 0)
    sources, targets = (texts_of(columns[name][:4], TOKENIZER) for name in ("source", "target"))
    real = WordPairs().open(Path())[0].read(0, 40)
    truth = dict(zip(*(texts_of(real[name], TOKENIZER) for name in ("source", "target")), strict=True))
    assert [prompt["text"] for prompt in found["prompts"]] == sources
    assert [prompt["real"] for prompt in found["prompts"]] == [truth[source] for source in sources]
    assert [entry["texts"] for entry in found["answers"] if entry["generation"] == 0] == [targets] * 2
    rows = [line for line in (sandbox.root / "run/pictures/same-prompt.md").read_text().split("\n") if line[:2] == "| "]
    assert sum(" all arms " in row for row in rows) == 4


@pytest.mark.parametrize("recipe", [TEXT, PAIRS], ids=["text", "pairs"])
def test_the_same_pages_whenever_they_are_made(sandbox, recipe, monkeypatch):
    """Run again, stopped and continued, with pages lost or damaged; a model answers once as long as they are there."""
    asked = []
    continuations = Bigram._continuations
    monkeypatch.setattr(Bigram, "_continuations", lambda *args: asked.append(1) or continuations(*args))
    told(sandbox, changed(recipe, ("generations: 2", "generations: 1")))
    told(sandbox, recipe)
    folder = sandbox.root / "run" / "pictures"
    first, once = pages(folder), len(asked)
    assert once == (5 if recipe is TEXT else 0)  # generation 0, and two later ones of two arms
    told(sandbox, recipe)
    assert pages(folder) == first
    assert len(asked) == once
    for content in (
        "",
        "[]",
        '{"answers": [{"model": 3}]}',
        first["same-prompt.json"].decode().replace('"seed": 3', '"seed": 4'),
    ):
        (folder / "same-prompt.json").write_text(content)
        told(sandbox, recipe)
        assert pages(folder) == first
    assert len(asked) == 5 * once
    for path in folder.iterdir():
        path.unlink()
    told(sandbox, recipe)
    assert pages(folder) == first


def test_a_resumed_run_does_not_forget_later_answers(sandbox, monkeypatch):
    told(sandbox, TEXT)
    path = sandbox.root / "run" / "pictures" / "same-prompt.json"
    whole = path.read_bytes()

    def stopped(*_: object) -> None:
        raise InterruptedRunError("a wish to stop")

    monkeypatch.setattr("collapse_sim.run.text_samples._histogram", stopped)
    with pytest.raises(InterruptedRunError):
        told(sandbox, TEXT)  # as far as generation 0
    assert path.read_bytes() == whole


def test_families_that_do_not_continue_have_no_such_page(sandbox):
    told(sandbox, changed(TEXT, ("use: 'tests.words:Bigram'", "use: 'tests.words:Bigram', prompted: false")))
    names = {path.name for path in (sandbox.root / "run" / "pictures").iterdir()}
    assert names == {"texts.md", f"perplexities-{file_name('words / text')}.png"}


def test_values_of_rows_are_drawn(sandbox, monkeypatch):
    drawn = []
    monkeypatch.setattr("collapse_sim.analysis.histograms.value_histograms", lambda *args: drawn.append(args))
    told(sandbox, TEXT)
    assert len(drawn) == 3  # the file is never there, so none is spared
    values, title, label, path, note = drawn[-1]
    assert (title, label, path.name) == (
        "words / text",
        "words a text",
        f"perplexities-{file_name('words / text')}.png",
    )
    assert note.startswith("Seed 3, 30 texts per generation")
    assert {arm: list(by_generation) for arm, by_generation in values.items()} == {
        arm: [0, 1, 2] for arm in ("replace", "accumulate")
    }
    for k in range(3):
        wanted = {tuple((columns["tokens"] > 0).sum(1)) for columns in stored(sandbox, k)}
        assert {tuple(values[arm][k]) for arm in values} == wanted


def test_quick_generations_share_a_picture_and_the_last_is_drawn(sandbox, monkeypatch):
    drawn = []

    def draw(values, title, label, path, note):
        drawn.append(max(values["replace"]))
        Image.new("1", (1, 1)).save(path)

    monkeypatch.setattr("collapse_sim.analysis.histograms.value_histograms", draw)
    told(sandbox, TEXT)
    assert drawn == [0, 2]


def test_names_of_files_are_short_stable_and_never_alike():
    assert file_name("accumulate+distill_output=0.5") == "accumulate+distill_output=0.5"
    assert file_name("words / text") == "words---text-" + hashlib.sha256(b"words / text").hexdigest()[:8]
    names = [
        "a b",
        "a-b",
        "a/b",
        "a\tb",
        "x" * 300,
        "x" * 301,
        "x" * 100,
        "中" * 90,
        "中" * 91,
        "$x_$",
        "$x_%",
        "",
        ".",
    ]
    found = [file_name(name) for name in names]
    assert len(set(found)) == len(names)
    assert all(len(name.encode()) <= 100 for name in found)
    assert not any(sign in name for name in found for sign in '/\\:*?"<>|$\t ')
