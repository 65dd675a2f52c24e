"""Generated texts as Markdown for reports: a page of samples, and continuations of the same prompts by generation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from collapse_sim.ui import formatting

LONGEST = 600  # characters of a text in a table; JSON files have the full texts
EMPTY = "*(empty)*"
_SIGNS = re.compile(r"([\\`*_{}\[\]<>#|~&!$])")  # characters with a meaning in Markdown or HTML
_NUMBERED = re.compile(r"^\d+\. (.*)$")
_FIRST = re.compile(r"^(\d+(?=[.)])|(?=[-+=]))")  # also these, at the start of a line


class Prompt(NamedTuple):
    """A prompt, and its real continuation."""

    text: str
    real: str


class Answers(NamedTuple):
    """The continuations by one arm's model of a generation, one per prompt. Equal `model`s are the same model."""

    arm: str
    generation: int
    model: str
    texts: tuple[str, ...]


def in_line(text: str, longest: int = LONGEST, *, starts: bool = True) -> str:
    """A text as one escaped line of Markdown: control characters are made visible, long texts end in an ellipsis.

    `starts`: it may stand at the start of a line, where more characters have a meaning.
    """
    plain = formatting.plain(text)
    if len(plain) > longest:
        plain = plain[:longest].rstrip() + "…"
    signs = _SIGNS.sub(r"\\\1", plain)
    return (_FIRST.sub(r"\1\\", signs) if starts else signs) or EMPTY


def samples_page(title: str, note: str, samples: Mapping[str, Iterable[str]]) -> str:
    """A page with a section per arm: a numbered list of its texts, which must be Markdown already."""
    lines = [f"# {in_line(title)}", "", note]
    for arm, texts in samples.items():
        lines += ["", f"## {in_line(arm)}", "", *(f"{i}. {text}" for i, text in enumerate(texts, start=1))]
    return "\n".join(lines) + "\n"


def read_samples_page(page: str) -> dict[str, list[str]]:
    """{arm: its texts} of what `samples_page` wrote, without the escapes."""
    texts: dict[str, list[str]] = {}
    arm = ""
    for line in page.splitlines():
        if line.startswith("## "):
            arm = _unescaped(line[3:])
        elif arm and (match := _NUMBERED.match(line)):
            texts.setdefault(arm, []).append(_unescaped(match[1]))
    return texts


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def same_prompt_page(title: str, note: str, prompts: Sequence[Prompt], answers: Sequence[Answers]) -> str:
    """A page with a section per prompt: a table of the real continuation, then of each arm's generations.

    A model that several arms share, such as that of generation 0, has one row, at the first of them.
    """
    by_model: dict[str, list[Answers]] = {}
    for answer in answers:
        by_model.setdefault(answer.model, []).append(answer)
    arm_count = len({answer.arm for answer in answers})
    lines = [f"# {in_line(title)}", "", note]
    for i, prompt in enumerate(prompts):
        lines += ["", f"## {i + 1}", "", f"> {in_line(prompt.text)}", ""]
        lines += ["| generation | arm | text |", "| ---: | --- | --- |", f"|  | real | {in_line(prompt.real)} |"]
        for first, *others in by_model.values():
            arms = formatting.arms([in_line(arm) for arm in dict.fromkeys(a.arm for a in (first, *others))], arm_count)
            lines.append(f"| {first.generation} | {arms} | {in_line(first.texts[i])} |")
    return "\n".join(lines) + "\n"
