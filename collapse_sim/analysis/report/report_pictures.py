"""The pictures and texts that a run keeps in its folder, and its figures as SVG."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from collapse_sim.analysis.report.report_document import (
    Block,
    ReportFold,
    ReportGallery,
    ReportHeading,
    ReportNote,
    ReportPicture,
)
from collapse_sim.analysis.report.report_tables import text_table
from collapse_sim.analysis.results import Results
from collapse_sim.analysis.table import readable
from collapse_sim.analysis.text_tables import LONGEST, read_samples_page
from collapse_sim.core.files import children, read_bytes
from collapse_sim.store.run_directory import PICTURES
from collapse_sim.ui import formatting

if TYPE_CHECKING:
    from collapse_sim.analysis.fit_records import FitRecord

BUDGET = 3_000_000  # bytes of pictures of a run in a report; SVG and tables come on top
LARGEST_PICTURE = 1_500_000  # bytes; larger ones are scaled down
LARGEST_TEXT = 4_000_000  # bytes of same-prompt.json that are read
_OVERVIEW = "arms-by-generations"
_GENERATION = re.compile(r"^(\d+)-(.+)-generation-(\d+)$")
_CLASSES = re.compile(r"^(\d+)-(.+)-classes$")
_DENOISING = re.compile(r"^denoising-generation-(\d+)$")
_VALUES = "perplexities-"


@dataclass(frozen=True)
class _PictureFile:
    path: Path
    alt: str
    caption: str
    wide: bool = False


def curve_picture(results: Results, metric: str, number: int) -> ReportPicture:
    """The curves of one metric over generations, or its rows per arm if the recipe has one step."""
    from collapse_sim.analysis.plots import svg

    arms = ", ".join(results.arms[:12]) + (f" and {len(results.arms) - 12} more arms" if len(results.arms) > 12 else "")
    if results.generations <= 1:
        what = f"{metric}: difference of each arm to {results.baseline}"
    else:
        what = f"{metric} over generations 0 to {results.generations}, a curve for each arm"
    alt = f"{what}, with 95 % intervals ({arms}). The figures are in the tables below."
    return ReportPicture(f"curves-{number:02d}", ".svg", svg(results, [metric]), alt)


def training_picture(
    name: str, records: Sequence[FitRecord], arms: Sequence[str], unit: str, number: int
) -> ReportPicture:
    """The losses of the fits of a run over their updates, a panel for each arm."""
    from collapse_sim.analysis.training_curves import curves_svg

    drawn = [arm for arm in arms if any(arm in record.arms and record.evaluations for record in records)]
    generations = readable(sorted({record.generation for record in records if record.evaluations}))
    shown = [record for record in records if record.generation in generations]
    alt = f"Losses over updates of the fits of {', '.join(drawn)}: a panel for each arm, a curve for each generation."
    caption = (
        f"Means over seeds, of generation{'s' * (len(generations) > 1)} {', '.join(map(str, generations))}. "
        "Solid: rows held out of training (validation); dashed: training batches."
    )
    content = curves_svg(name, shown, drawn, unit)
    return ReportPicture(f"training-{number:02d}", ".svg", content, alt, caption, wide=len(drawn) > 1)


def sample_blocks(folder: Path, results: Results, number: int) -> list[Block]:
    """Pictures and texts by generation, as the run keeps them; a sentence if it keeps none."""
    place = folder / PICTURES
    first, more = _pictures(place, results)
    budget = [BUDGET]
    left: list[str] = []
    blocks: list[Block] = []
    for file in first:
        blocks += _embedded([file], budget, left, number)
    blocks += _texts(place, results)
    pictures = [block for block in _embedded(more, budget, left, number) if isinstance(block, ReportPicture)]
    if pictures:
        summary = f"Larger: samples of single generations ({formatting.plural(len(pictures), 'picture')})"
        blocks.append(ReportFold(summary, [ReportGallery(pictures)]))
    if left:
        text = f"Not in this report, for its size, or because they cannot be read: {_few(left)}, in {place}"
        blocks.append(ReportNote(text, "faint"))
    seed = f"of seed {results.seeds[0]}" if results.seeds else ""
    if blocks:
        return [ReportNote(f"What the models of each generation generate, {seed}.", "faint"), *blocks]
    return [ReportNote(f"This run keeps no pictures or texts of its samples in {place}.")]


def _pictures(place: Path, results: Results) -> tuple[list[_PictureFile], list[_PictureFile]]:
    """Those that show all generations, and those of single ones: of each arm the last, and generation 0 once."""
    first: list[_PictureFile] = []
    more: list[tuple[int, int, _PictureFile]] = []
    files = [path for path in children(place) if path.suffix == ".png" and not path.name.startswith(".")]
    last_of: dict[str, int] = {}
    for path in files:
        if match := _GENERATION.match(path.stem):
            last_of[match[1]] = max(int(match[3]), last_of.get(match[1], 0))
    moments = [int(match[1]) for path in files if (match := _DENOISING.match(path.stem))]
    for path in files:
        name = path.stem
        if name == _OVERVIEW:
            alt = f"Samples of every arm (rows) at every generation so far (columns), {results.name}"
            first.insert(0, _PictureFile(path, alt, "Samples of all arms by generation.", wide=True))
        elif name.startswith(_VALUES):
            metric = name.removeprefix(_VALUES)
            alt = f"Histograms of {metric} of single texts, by arm and generation"
            first.append(_PictureFile(path, alt, f"{metric} of single texts, by arm and generation.", wide=True))
        elif match := _CLASSES.match(name):
            arm = _arm(results, match)
            caption = f"{arm}: samples of each class by generation."
            more.append((1, int(match[1]), _PictureFile(path, f"Samples of {arm}, classes by generations", caption)))
        elif match := _DENOISING.match(name):
            if int(match[1]) in {0, max(moments)}:
                caption = f"How samples of generation {match[1]} emerge from noise."
                alt = f"Samples of every arm of generation {match[1]} at nine moments of their denoising"
                more.append((2, int(match[1]), _PictureFile(path, alt, caption)))
        elif match := _GENERATION.match(name):
            k, arm = int(match[3]), _arm(results, match)
            if k == last_of[match[1]] or (k == 0 and match[1] == min(last_of)):
                caption = f"{arm}, generation {k}."
                alt = f"A grid of samples of {arm} at generation {k}"
                more.append((0 if k else -1, int(match[1]), _PictureFile(path, alt, caption)))
    return first, [file for *_, file in sorted(more, key=lambda item: item[:2])]


def _arm(results: Results, match: re.Match[str]) -> str:
    """The arm's name, by its number: in the file's name, characters may be replaced."""
    number = int(match[1])
    return results.arms[number] if number < len(results.arms) else match[2]


def _embedded(pictures: Iterable[_PictureFile], budget: list[int], left: list[str], number: int) -> list[Block]:
    """The pictures that can be read and fit; the others are named in `left`."""
    blocks: list[Block] = []
    for file in pictures:
        try:
            content, scaled = _png(read_bytes(file.path))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            left.append(file.path.name)
            continue
        if len(content) > budget[0]:
            left.append(file.path.name)
            continue
        budget[0] -= len(content)
        caption = f"{file.caption} Scaled down; the file is {file.path.name}." if scaled else file.caption
        name = f"{PICTURES}-{number:02d}-{file.path.stem}"
        blocks.append(ReportPicture(name, ".png", content, file.alt, caption, file.wide, pixels=True))
    return blocks


def _png(content: bytes) -> tuple[bytes, bool]:
    """The picture itself if it is a PNG file of at most LARGEST_PICTURE, else scaled down to that; whether it is."""
    with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
        picture.load()
        if len(content) <= LARGEST_PICTURE:
            return content, False
        share = math.sqrt(LARGEST_PICTURE / len(content))
        while True:
            size = (max(1, int(picture.width * share)), max(1, int(picture.height * share)))
            out = io.BytesIO()
            picture.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(out, "PNG", optimize=True)
            if out.tell() <= LARGEST_PICTURE or size == (1, 1):
                return out.getvalue(), True
            share *= 0.7


def _texts(place: Path, results: Results) -> list[Block]:
    blocks: list[Block] = []
    prompts, answers = _same_prompts(place / "same-prompt.json")
    for i, prompt in enumerate(prompts):
        rows = [["generation", "arm", "text"], ["", "real", _cut(prompt["real"])]]
        rows += [
            [
                str(answer["generation"]),
                formatting.arms(list(dict.fromkeys(answer["arms"])), len(results.arms)),
                _cut(answer["texts"][i]),
            ]
            for answer in answers
            if i < len(answer["texts"])
        ]
        blocks += [ReportHeading(f"Prompt {i + 1}"), text_table(f"“{_cut(prompt['text'])}”", rows, prose=True)]
    try:
        page = read_samples_page(read_bytes(place / "texts.md")[:LARGEST_TEXT].decode(errors="replace"))
    except (OSError, ValueError):
        page = {}
    if page:
        rows = [["arm", "text"], *([arm, _cut(text)] for arm, texts in page.items() for text in texts)]
        table = text_table("Real rows, and the first samples of every arm at its last generation", rows, prose=True)
        blocks += [ReportHeading("Samples"), table]
    return blocks


def _same_prompts(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Prompts, and the answers at the generations that fit into a table, each model's once; [] if there are none."""
    try:
        if path.stat().st_size > LARGEST_TEXT:
            return [], []
        document = json.loads(read_bytes(path))
        prompts = [{"text": str(prompt["text"]), "real": str(prompt["real"])} for prompt in document["prompts"]]
        by_model: dict[str, dict[str, Any]] = {}
        for answer in document["answers"]:
            entry = {"arms": [], "generation": int(answer["generation"]), "texts": list(map(str, answer["texts"]))}
            by_model.setdefault(str(answer["model"]), entry)["arms"].append(str(answer["arm"]))
    except (OSError, ValueError, KeyError, TypeError):
        return [], []
    answers = sorted(by_model.values(), key=lambda answer: answer["generation"])
    shown = readable(sorted({answer["generation"] for answer in answers}))
    return prompts, [answer for answer in answers if answer["generation"] in shown]


def _cut(text: str) -> str:
    line = formatting.plain(text)
    return line if len(line) <= LONGEST else line[:LONGEST].rstrip() + "…"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3} more"
