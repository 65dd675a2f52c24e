"""The shipped recipes, from the comments that their files begin with."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from collapse_sim.recipe import shipped

from .tables import prose

HEAD = """# Shipped recipes in full

From the comments at the top of the recipe files; the [short table](../shipped-recipes.md) has one line for each.
`collapse-sim recipes show NAME` prints the file, `collapse-sim recipes copy NAME` writes a copy to change.
"""
FIELDS = ("shows", "reference", "needs", "runtime")
PAGE = re.compile(r"docs/((?:results/)?[\w-]+)\.md(?: in the repository)?")


def pages() -> dict[str, str]:
    """The page `recipes`: a section for each recipe, with the comment's fields."""
    return {"recipes": "\n".join([HEAD, *map(_section, shipped.names())])}


def _section(name: str) -> str:
    file = shipped.path(name)
    fields, notes = _header(file)
    text = file.read_text(encoding="utf-8")
    described = re.search(r"^description: (.*)$", text, flags=re.MULTILINE)
    lines = [f"## {name}", "", *([prose(described[1].strip('"').rstrip(".")) + ".", ""] if described else [])]
    lines += ["```sh", fields.get("command", f"collapse-sim run {name}"), "```", ""]
    lines += [f"- **{key.capitalize()}:** {_linked(fields[key])}" for key in FIELDS if key in fields]
    return "\n".join([*lines, "", _linked(notes), ""])


def _linked(text: str) -> str:
    """Prose, in which pages of this site are links."""
    parts = PAGE.split(prose(text))
    return "".join(f"[{part.rpartition('/')[2]}](../{part}.md)" if i % 2 else part for i, part in enumerate(parts))


def _header(file: Path) -> tuple[dict[str, str], str]:
    """The fields of the comment at the top, and what is written below them, as one paragraph."""
    lines = file.read_text(encoding="utf-8").splitlines()
    comment = list(itertools.takewhile(lambda line: line.startswith("#"), lines))
    end = comment.index("#") if "#" in comment else len(comment)
    fields: dict[str, str] = {}
    for key, text in re.findall(r"# (\w+): +(.*(?:\n#  +.*)*)", "\n".join(comment[:end])):
        fields[key] = " ".join(text.replace("\n#", " ").split())
    return fields, " ".join(line.lstrip("#").strip() for line in comment[end:]).strip()
