"""The documentation site: its pages from the code, its sections, and the built site itself."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from collapse_sim import api
from collapse_sim.core import registry
from collapse_sim.recipe import shipped

from .blocks import ROOT, pages

DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def tools() -> Iterator[None]:
    sys.path.insert(0, str(DOCS))
    yield
    sys.path.remove(str(DOCS))


@pytest.fixture(scope="module")
def generated(tools: None) -> dict[str, str]:
    from site_pages import writing

    made: dict[str, str] = writing.pages(DOCS)
    return made


def test_every_component_and_setting_has_its_row(generated: dict[str, str]) -> None:
    from site_pages.component_pages import GROUPS, SECTIONS

    for page, (_, _, groups) in GROUPS.items():
        for group in groups:
            for name in registry.names(group):
                assert re.search(rf"^##+ {re.escape(name)}$", generated[page], flags=re.MULTILINE), name
                for setting in registry.load(group, name).model_fields:
                    assert f"| `{setting}` |" in generated[page], f"{name}: {setting}"
    for heading, cls, _ in SECTIONS:
        part = generated["recipe-keys"].split(f"\n## {heading}\n")[1].split("\n## ")[0]
        assert re.findall(r"^\| `(\w+)` \|", part, flags=re.MULTILINE) == [*cls.model_fields]


def test_no_setting_is_without_its_meaning(generated: dict[str, str]) -> None:
    from site_pages.component_pages import GROUPS

    for page in ("recipe-keys", *GROUPS):
        assert re.findall(r"^\| `\w+` \|.*\|  \|$", generated[page], flags=re.MULTILINE) == [], page


def test_every_command_and_option_has_its_row(generated: dict[str, str]) -> None:
    from site_pages.command_pages import commands

    text = generated["commands"]
    listed = dict(commands())
    assert {"run", "compare", "recipes validate", "cache gc", "list metrics"} <= {*listed}
    for name, command in listed.items():
        part = text.split(f"\n## {name}\n")[1].split("\n## ")[0]
        for parameter in command.params:
            if parameter.name != "help":
                shown = [*parameter.opts, parameter.metavar or parameter.name.upper()]
                assert any(f"`{word}" in part for word in shown), f"{name}: {parameter.opts}"


def test_the_exit_codes_are_those_of_the_errors(generated: dict[str, str]) -> None:
    codes = re.findall(r"^\| `(\d+)` \|", generated["commands"], flags=re.MULTILINE)
    assert codes == ["0", "1", "2", "3", "4", "5", "6", "7", "129", "130", "143"]


def test_every_name_of_the_python_interface_is_listed_once(generated: dict[str, str]) -> None:
    names = re.findall(r":: collapse_sim\.api\.(\w+)$", generated["api"], flags=re.MULTILINE)
    assert sorted(names) == sorted(api.__all__)


def test_every_shipped_recipe_is_in_the_tables(generated: dict[str, str]) -> None:
    table = (DOCS / "shipped-recipes.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.+?) \|", table, flags=re.MULTILINE)
    listed = [name for row in rows for name in re.findall(r"`([\w-]+)`", row)]
    assert sorted(listed) == shipped.names()
    assert re.findall(r"^## (\S+)$", generated["recipes"], flags=re.MULTILINE) == shipped.names()


def test_papers_have_all_recipes_with_a_reference() -> None:
    text = (DOCS / "how-to" / "papers.md").read_text(encoding="utf-8")
    for name in shipped.names():
        reference = shipped.header(shipped.path(name))["reference"]
        assert reference.startswith(("none;", "classifier-free")) or f"`{name}`" in text, name


def test_sections_take_the_pages_that_exist(tools: None) -> None:
    from site_pages.sections import SECTIONS, pages_of

    existing = {"index", "recipes", "results/b", "results/a", "new-page", "notebooks/n", "report"}
    assert pages_of("how-to", existing) == ["recipes", "report", "notebooks/n", "new-page"]
    assert pages_of("results", existing) == ["results/a", "results/b"]
    assert pages_of("tutorial", existing) == []
    docs = {page.relative_to(DOCS).with_suffix("").as_posix() for page in pages() if page.is_relative_to(DOCS)}
    placed = [name for section in SECTIONS for name in pages_of(section, docs)]
    assert sorted(placed) == sorted(docs - {"index"})


def test_links_of_copied_pages_are_moved(tools: None) -> None:
    from site_pages.copied_pages import inside, moved

    assert moved("[a](docs/x.md#y) [b](https://e.org) [c](#z)", "C.md") == "[a](../x.md#y) [b](https://e.org) [c](#z)"
    assert moved("[a](results/x.json)", "benchmarks/README.md") == "[a](../../benchmarks/results/x.json)"
    text = "[a](../../benchmarks/README.md#x) [b](../recipes.md)"
    assert inside("[n](notebooks/first.ipynb)", "python") == "[n](/_generated/notebooks/first.md)"
    assert inside(text, "results/x") == "[a](/_generated/benchmarks.md#x) [b](../recipes.md)"


def test_notebooks_become_pages(tools: None) -> None:
    from site_pages.notebook_pages import page

    outputs = [{"text": ["1\n"]}, {"data": {"text/plain": ["2"]}}, {"data": {"image/png": "QUJD"}}]
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "text, [p](../python.md#run)"]},
        {"cell_type": "code", "source": "a = 1", "outputs": outputs},
        {"cell_type": "code", "source": ""},
    ]
    image = "![output of the cell above](data:image/png;base64,QUJD)"
    text = "# Title\ntext, [p](/python.md#run)"
    expected = [text, "```python\na = 1\n```", "```text\n1\n```", "```text\n2\n```", image]
    assert page({"cells": cells}) == "\n\n".join(expected) + "\n"


class Links(HTMLParser):
    """The links, pictures and anchors of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name in ("href", "src"):
                self.targets.append(value)
            elif value and name == "id":
                self.anchors.add(value)


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_its_links_work(tmp_path: Path) -> None:
    source = tmp_path / "docs"
    ignored = shutil.ignore_patterns("_build", "_generated", "__pycache__")
    shutil.copytree(DOCS, source, ignore=ignored)
    for outside in (
        "collapse_sim",
        "recipes",
        "benchmarks",
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "CITATION.cff",
    ):
        (tmp_path / outside).symlink_to(ROOT / outside)
    for name in ("report", "definitions", "some-new-page"):  # pages of other features are picked up
        if not (source / f"{name}.md").exists():
            (source / f"{name}.md").write_text(f"# {name}\n")
    site = tmp_path / "site"
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-b", "html", str(source), str(site)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stderr) == (0, "")
    pages = {path: Links() for path in site.rglob("*.html")}
    for path, links in pages.items():
        links.feed(path.read_text(encoding="utf-8"))
    assert len(pages) > 50
    broken = [
        f"{path.relative_to(site)}: {target}"
        for path, links in pages.items()
        for target in links.targets
        if _broken(path, target, pages)
    ]
    assert broken == []
    index = (site / "index.html").read_text(encoding="utf-8")
    assert all(f'href="{name}.html"' in index for name in ("report", "definitions", "some-new-page"))


def _broken(page: Path, target: str, pages: dict[Path, Links]) -> bool:
    if re.match(r"\w+:|//", target):
        return False
    file, _, anchor = unquote(target).partition("#")
    path = (page.parent / file.partition("?")[0]).resolve() if file else page
    if not path.exists():
        return True
    return bool(anchor) and path in pages and anchor not in pages[path].anchors
