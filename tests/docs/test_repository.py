"""What a visitor of the repository reads first: README, changelog, and how to cite it."""

from __future__ import annotations

import re

import yaml

from collapse_sim import __version__

from .blocks import ROOT, blocks


def test_the_readme_is_short_and_has_what_it_should() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 120
    assert len(re.findall(r"!\[", text)) == 1
    assert [block.language for block in blocks(ROOT / "README.md")].count("yaml") == 1


def test_the_citation_is_valid_cff() -> None:
    """The keys and types that version 1.2.0 of the Citation File Format requires, and no key that it does not have."""
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    required = {"cff-version", "message", "title", "authors"}
    optional = {"type", "version", "abstract", "keywords", "license", "repository-code", "url", "doi", "date-released"}
    assert required <= {*cff} <= required | optional
    assert cff["cff-version"] == "1.2.0"
    assert cff["type"] == "software"
    assert cff["version"] == __version__
    assert cff["authors"] == [{"name": "The collapse-sim authors"}]  # an entity: `name` is its one required key
    assert all(isinstance(word, str) for word in cff["keywords"])


def test_the_changelog_has_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[(Unreleased\] - )?{re.escape(__version__)}\b", text, flags=re.MULTILINE)
    headings = {*re.findall(r"^### (.+)$", text, flags=re.MULTILINE)}
    assert headings <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
