"""Pages of the repository that are outside docs/, and links to them."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

COPIED = {  # file in the repository: page in docs/_generated
    "CHANGELOG.md": "changelog",
    "CONTRIBUTING.md": "contributing",
    "benchmarks/README.md": "benchmarks",
}
PLACES = {**{file: f"_generated/{page}.md" for file, page in COPIED.items()}, "README.md": "index.md"}
LINK = re.compile(r"\]\((?!\w+:|#|/)([^)\s#]+)(#[^)\s]*)?\)")
NOTEBOOK = re.compile(r"docs/notebooks/([\w-]+)\.ipynb")
ANCHOR = re.compile(r'^<a id="([\w-]+)"></a>$', flags=re.MULTILINE)


def pages(root: Path) -> dict[str, str]:
    """A copy of each, with its links as they are from docs/_generated."""
    return {page: moved((root / file).read_text(encoding="utf-8"), file) for file, page in COPIED.items()}


def moved(text: str, file: str) -> str:
    """Links of a file of the repository (its path from the root), as they are for a page in docs/_generated."""

    def change(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(file), link[1]))
        return f"]({posixpath.relpath(target, 'docs/_generated')}{link[2] or ''})"

    return LINK.sub(change, text)


def inside(text: str, page: str) -> str:
    """Links of a page to notebooks and to files outside docs/ that have a page on the site, as links to that page."""

    def change(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link[1]))
        if notebook := NOTEBOOK.fullmatch(target):
            return f"](/_generated/notebooks/{notebook[1]}.md{link[2] or ''})"
        return f"](/{PLACES[target]}{link[2] or ''})" if target in PLACES else link[0]

    return LINK.sub(change, text)
