"""Every relative link of every Markdown page leads to a file, and to a heading of it; without building the site."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .blocks import ROOT, pages

LINK = re.compile(r"\]\((?!\w+:)([^)\s]+)\)")
CODE = re.compile(r"^[ ]*```.*?^[ ]*```|`[^`\n]*`", flags=re.MULTILINE | re.DOTALL)
PAGES = pages()


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def anchors(page: Path) -> set[str]:
    """The anchors that a code host and the site give to headings, and those that the page sets."""
    text = page.read_text(encoding="utf-8")
    titles = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), flags=re.MULTILINE
    )
    slugs = {
        re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower()).replace(" ", "-")
        for title in titles
    }
    return slugs | {*re.findall(r'<a id="([^"]+)">', text)}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for target in LINK.findall(CODE.sub("`", page.read_text(encoding="utf-8"))):
        file, _, anchor = target.partition("#")
        path = (page.parent / file) if file else page
        assert path.exists(), f"{name(page)}: {target}: no such file"
        assert path.resolve().is_relative_to(ROOT), f"{name(page)}: {target} is outside of the repository"
        assert not anchor or anchor in anchors(path), f"{name(page)}: {target}: no such heading"


def test_pages_that_recipes_and_code_name_exist() -> None:
    files = [*(ROOT / "recipes").glob("*.yaml"), *(ROOT / "collapse_sim").rglob("*.py")]
    named = {page for file in files for page in re.findall(r"docs/[\w/-]+\.md", file.read_text(encoding="utf-8"))}
    assert len(named) > 10
    assert [page for page in sorted(named) if not (ROOT / page).is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_pictures_say_what_they_show(page: Path) -> None:
    for alternative in re.findall(r"!\[([^\]]*)\]", CODE.sub("`", page.read_text(encoding="utf-8"))):
        assert len(alternative.split()) > 1, f"{name(page)}: a picture without a description"
