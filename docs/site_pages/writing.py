"""Writes pages made from code and from files outside docs/ into docs/_generated, which is not committed."""

from __future__ import annotations

from pathlib import Path

from . import command_pages, component_pages, copied_pages, notebook_pages, recipe_pages

FOLDER = "_generated"


def pages(docs: Path) -> dict[str, str]:
    """The Markdown of each page, by its path within docs/_generated without ".md"."""
    root = docs.parent
    return {
        **command_pages.pages(),
        **component_pages.pages(),
        **recipe_pages.pages(),
        **copied_pages.pages(root),
        **notebook_pages.pages(docs / "notebooks"),
        "api": component_pages.api_page(),
    }


def write_all(docs: Path) -> None:
    """Write all pages; one that is unchanged is left alone, so that Sphinx doesn't read it again."""
    folder = docs / FOLDER
    wanted = pages(docs)
    for path in folder.rglob("*.md"):
        if path.relative_to(folder).with_suffix("").as_posix() not in wanted:
            path.unlink()
    for name, text in wanted.items():
        path = folder / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
