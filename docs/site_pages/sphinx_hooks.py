"""A directive for tables of contents that take the pages that exist, and links that work here and on a code host."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.directives.other import TocTree

from .copied_pages import ANCHOR, inside
from .sections import pages_of


class Pages(TocTree):
    """The toctree of a section: its pages in the order of sections.py, those that exist."""

    required_arguments = 1
    has_content = False

    def run(self) -> list[nodes.Node]:
        names = pages_of(self.arguments[0], self.env.found_docs)
        self.content = StringList([f"/{name}" for name in names], source=self.env.docname)
        return super().run()


def _source(app: Sphinx, docname: str, source: list[str]) -> None:
    source[0] = ANCHOR.sub(r"(\1)=", inside(source[0], docname))


def _docstring(app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]) -> None:
    """ "file:line" in quotes is the form of a message, not an address."""
    lines[:] = [re.sub(r'"(file:[^"]*)"', r"`\1`", line) for line in lines]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("pages", Pages)
    app.connect("source-read", _source)
    app.connect("autodoc-process-docstring", _docstring)
    return {"parallel_read_safe": True}
