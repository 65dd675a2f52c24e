"""Generated texts as Markdown that a report can take over: a page of samples, and the same prompts over generations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from collapse_sim.ui import formatting

LONGEST = 600  # characters of a text in a table; JSON files have them whole
EMPTY = "*(empty)*"
_SIGNS = re.compile(r"([\\`*_{}\[\]<>#|~&!$])")  # what Markdown, and HTML within it, give a meaning to
_FIRST = re.compile(r"^(\d+(?=[.)])|(?=[-+=]))")  # and, before this, at a line's beginning


class Prompt(NamedTuple):
    """What models are asked, and what really follows."""

    text: str
    real: str


class Answers(NamedTuple):
    """What one arm's model of a generation writes, an answer a prompt. Equal `model`s are the same model."""

    arm: str
    generation: int
    model: str
    texts: tuple[str, ...]


def in_line(text: str, longest: int = LONGEST) -> str:
    """A text as one line of Markdown that shows it as it is: without control characters, cut with an ellipsis."""
    plain = formatting.plain(text)
    if len(plain) > longest:
        plain = plain[:longest].rstrip() + "…"
    return _FIRST.sub(r"\1\\", _SIGNS.sub(r"\\\1", plain)) or EMPTY


def samples_page(title: str, note: str, samples: Mapping[str, Iterable[str]]) -> str:
    """A page with a section an arm, and in it a numbered list of its texts, which are Markdown already."""
    lines = [f"# {in_line(title)}", "", note]
    for arm, texts in samples.items():
        lines += ["", f"## {in_line(arm)}", "", *(f"{i}. {text}" for i, text in enumerate(texts, start=1))]
    return "\n".join(lines) + "\n"


def same_prompt_page(title: str, note: str, prompts: Sequence[Prompt], answers: Sequence[Answers]) -> str:
    """A page with a section a prompt, and in it a table: what really follows first, then arm by arm the generations.

    A model that several arms share, as all do generation 0's, has one row, at the first of them.
    """
    sharing: dict[str, list[Answers]] = {}
    for answer in answers:
        sharing.setdefault(answer.model, []).append(answer)
    every = len({answer.arm for answer in answers})
    lines = [f"# {in_line(title)}", "", note]
    for i, prompt in enumerate(prompts):
        lines += ["", f"## {i + 1}", "", f"> {in_line(prompt.text)}", ""]
        lines += ["| generation | arm | text |", "| ---: | --- | --- |", f"|  | real | {in_line(prompt.real)} |"]
        for first, *others in sharing.values():
            arms = formatting.arms([in_line(arm) for arm in dict.fromkeys(a.arm for a in (first, *others))], every)
            lines.append(f"| {first.generation} | {arms} | {in_line(first.texts[i])} |")
    return "\n".join(lines) + "\n"
