"""The shipped recipes, from the comments that their files begin with."""

from __future__ import annotations

import re

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
    fields = shipped.header(file)
    text = file.read_text(encoding="utf-8")
    described = re.search(r"^description: (.*)$", text, flags=re.MULTILINE)
    lines = [f"## {name}", "", *([prose(described[1].strip('"')) + ".", ""] if described else [])]
    lines += ["```sh", fields.get("command", f"collapse-sim run {name}"), "```", ""]
    lines += [f"- **{key.capitalize()}:** {_linked(fields[key])}" for key in FIELDS if key in fields]
    return "\n".join([*lines, ""])


def _linked(text: str) -> str:
    """Prose, in which pages of this site are links."""
    parts = PAGE.split(prose(text))
    return "".join(f"[{part.rpartition('/')[2]}](../{part}.md)" if i % 2 else part for i, part in enumerate(parts))
