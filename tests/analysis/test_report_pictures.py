"""Pictures and texts that a run keeps, and its curves, in a report."""

from __future__ import annotations

import io
import json
import os
import re

import numpy as np
import pytest
from PIL import Image

from collapse_sim.analysis.fit_records import FitRecord, LossRecord
from collapse_sim.analysis.report import report_pictures
from collapse_sim.analysis.report.report_document import (
    ReportFold,
    ReportGallery,
    ReportHeading,
    ReportNote,
    ReportPicture,
    ReportTable,
)
from collapse_sim.analysis.report.report_pictures import curve_picture, sample_blocks, training_picture
from collapse_sim.analysis.results import read_results
from collapse_sim.analysis.text_tables import in_line, samples_page


def png(width: int = 8, height: int = 8, *, noise: bool = False) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels if noise else np.zeros_like(pixels)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def run(write_run):
    folder = write_run({"re place": {"m": [[1.0], [2.0], [3.0]]}, "b": {"m": [[1.0], [2.0], [3.0]]}}, seeds=(4,))
    (folder / "pictures").mkdir()
    return folder


def keep(run, *names, content=None):
    for name in names:
        (run / "pictures" / name).write_bytes(png() if content is None else content)


def blocks_of(run):
    return sample_blocks(run, read_results(run), 0)


def pictures_of(blocks):
    for block in blocks:
        if isinstance(block, ReportPicture):
            yield block
        elif isinstance(block, ReportGallery):
            yield from block.pictures
        elif isinstance(block, ReportFold):
            yield from pictures_of(block.blocks)


def test_a_run_without_pictures_says_so(run):
    (note,) = blocks_of(run)
    assert isinstance(note, ReportNote)
    assert note.text.startswith("This run keeps no pictures or texts")


def test_the_overview_comes_first_and_single_generations_are_folded(run):
    keep(run, "00-re-place-1a2b3c4d-generation-000.png", "00-re-place-1a2b3c4d-generation-001.png")
    keep(run, "00-re-place-1a2b3c4d-generation-002.png", "01-b-generation-000.png", "01-b-generation-002.png")
    keep(run, "arms-by-generations.png", "perplexities-m.png", "01-b-classes.png", "denoising-generation-001.png")
    keep(run, "denoising-generation-002.png", "notes.txt", ".scratch.png")
    blocks = blocks_of(run)
    assert "seed 4" in blocks[0].text
    assert [block.name for block in blocks if isinstance(block, ReportPicture)] == [
        "pictures-00-arms-by-generations",
        "pictures-00-perplexities-m",
    ]
    captions = [picture.caption for picture in pictures_of(blocks)][2:]
    assert captions == [
        "re place, generation 0.",
        "re place, generation 2.",
        "b, generation 2.",
        "b: samples of each class by generation.",
        "How samples of generation 002 emerge from noise.",
    ]
    assert all(picture.alt for picture in pictures_of(blocks))


def test_what_is_damaged_or_no_file_is_named(run):
    keep(run, "arms-by-generations.png", content=b"\x89PNG\r\n\x1a\n and then nothing")
    os.mkfifo(run / "pictures" / "perplexities-m.png")
    keep(run, "01-b-classes.png", content=b"<svg onload='alert(1)'/>")
    blocks = blocks_of(run)
    assert list(pictures_of(blocks)) == []
    assert any(
        "arms-by-generations.png, perplexities-m.png, 01-b-classes.png" in getattr(b, "text", "") for b in blocks
    )


def test_pictures_beyond_the_limit_are_named_and_large_ones_scaled_down(run, monkeypatch):
    monkeypatch.setattr(report_pictures, "LARGEST_PICTURE", 20_000)
    monkeypatch.setattr(report_pictures, "BUDGET", 25_000)
    keep(run, "arms-by-generations.png", "perplexities-m.png", content=png(200, 100, noise=True))
    blocks = blocks_of(run)
    (picture,) = pictures_of(blocks)
    assert len(picture.content) <= 20_000
    assert "Scaled down; the file is arms-by-generations.png" in picture.caption
    width, height = Image.open(io.BytesIO(picture.content)).size
    assert width / height == pytest.approx(2, rel=0.05)
    assert any("perplexities-m.png" in getattr(block, "text", "") for block in blocks)


def test_texts_are_shown_as_they_are(run):
    evil = "<b>*bold*</b> 1. | `x`"
    page = samples_page("t, generation 2", "note", {"re place": [in_line(evil), in_line("")], "b": [in_line("1. two")]})
    (run / "pictures" / "texts.md").write_text(page)
    prompts = [{"text": "Once", "real": "upon"}]
    answers = [
        {"arm": arm, "generation": k, "model": f"{k}{arm if k else ''}", "texts": [f"{arm} {k}"]}
        for arm in ("re place", "b")
        for k in (0, 2)
    ]
    (run / "pictures" / "same-prompt.json").write_text(json.dumps({"prompts": prompts, "answers": answers}))
    blocks = blocks_of(run)
    same, samples = (block for block in blocks if isinstance(block, ReportTable))
    assert [block.text for block in blocks if isinstance(block, ReportHeading)] == ["Prompt 1", "Samples"]
    assert [[cell.text for cell in row] for row in same.rows] == [
        ["", "real", "upon"],
        ["0", "all arms", "re place 0"],
        ["2", "re place", "re place 2"],
        ["2", "b", "b 2"],
    ]
    assert [[cell.text for cell in row] for row in samples.rows] == [
        ["re place", evil],
        ["re place", "*(empty)*"],
        ["b", "1. two"],
    ]


@pytest.mark.parametrize("content", ["", "[]", '{"prompts": 3}', '{"prompts": [{"text": "a"}], "answers": []}'])
def test_damaged_texts_are_left_out(run, content):
    (run / "pictures" / "same-prompt.json").write_text(content)
    assert [type(block) for block in blocks_of(run)] == [ReportNote]


def test_curves_are_outlines_and_name_no_run(write_run):
    results = read_results(write_run({"a<b>": {"m": [[1.0, 2.0], [2.0, 3.0], [4.0, 4.5]]}}, seeds=(0, 1)))
    picture = curve_picture(results, "m", 0)
    text = picture.content.decode()
    assert text.startswith("<?xml")
    assert "<text" not in text
    assert "font-family" not in text
    assert "a<b>" in picture.alt
    assert len(re.findall(r'id="line2d_', text)) > 3


def test_training_curves_show_arms_with_losses():
    losses = tuple(LossRecord(step, step / 10, 1 / step, 2 / step) for step in (5, 10))
    record = FitRecord("d", False, 0, ("a",), (0,), 10, 1.0, 1, 10, "cpu", "fp32", losses)
    picture = training_picture("run", [record], ["a", "b"], "nats", 3)
    assert picture.alt == ("Losses over updates of the fits of a: a panel for each arm, a curve for each generation.")
    assert (picture.name, picture.suffix, picture.wide) == ("training-03", ".svg", False)
    assert b"<svg" in picture.content
