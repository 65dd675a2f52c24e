"""A report's pages: nothing is loaded, everything is escaped, and a real browser shows them without overflow."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from collapse_sim.analysis.report.report import build
from collapse_sim.analysis.report.report_document import (
    Report,
    ReportCode,
    ReportFacts,
    ReportFold,
    ReportGallery,
    ReportHeading,
    ReportNote,
    ReportPicture,
    ReportSection,
    ReportVerdict,
)
from collapse_sim.analysis.report.report_pages import html, markdown, write_html, write_markdown
from collapse_sim.analysis.report.report_tables import text_table
from collapse_sim.core.errors import StoreError
from tests import browser
from tests.analysis.large_run import write_large_run
from tests.analysis.test_report_pictures import png
from tests.core.test_printable import KEPT, steers

EVIL = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(1)> | `a` [x](http://a.b) {{ 7*7 }} \u202e\x1b"
LONG = "w" * 400
SCORES = {
    EVIL: {"loss": [[1.0, 1.1, 1.3], [2.0, 2.2, 2.1], [3.0, 3.1, 3.5]]},
    LONG: {"loss": [[1.0, 1.1, 1.3], [1.1, 1.15, 1.4], [1.2, 1.2, 1.5]]},
}


class Page(HTMLParser):
    """The elements of a page with their attributes, and its visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._stack: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self._stack = self._stack[: self._stack.index(tag)] if tag in self._stack else self._stack

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self._stack):
            self.words.append(data)

    def of(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag in tags]


@pytest.fixture
def hostile(write_run) -> Report:
    """A run whose names, claims, texts and recipe are hostile, and one of several runs."""
    claims = [{"that": EVIL, "metric": "loss", "generation": "last", "expect": f"{EVIL} < 1"}]
    settings = {"description": EVIL, "data": {"use": EVIL}, "arms": {EVIL: {"x": EVIL}, LONG: {"x": LONG}}}
    unit = {"loss": {"better": "lower", "unit": EVIL, "note": EVIL, "warning": EVIL}}
    folder = write_run(SCORES, name=EVIL, folder="evil", claims=claims, settings=settings, metrics=unit, generations=3)
    (folder / "pictures").mkdir()
    prompts = {"prompts": [{"text": EVIL, "real": EVIL}]}
    answers = [{"arm": EVIL, "generation": 0, "model": "m", "texts": [EVIL]}]
    (folder / "pictures" / "same-prompt.json").write_text(json.dumps(prompts | {"answers": answers}))
    return build([folder])


def every_block() -> Report:
    """One block of each kind."""
    picture = ReportPicture("p", ".png", png(600, 20), "a picture", "its caption", wide=True, pixels=True)
    blocks = [
        ReportNote("a note"),
        ReportHeading("a heading"),
        ReportFacts([("a term", "a text")]),
        text_table("a caption", [["arm", "two\nlines"], ["b", "2"], ["a", "10"], ["c", "-"]]),
        text_table("prose", [["arm", "text"], ["a", "word " * 100]], prose=True),
        text_table("wide", [[f"h{i}" * 9 for i in range(40)], ["x"] * 40]),
        picture,
        ReportGallery([picture, picture]),
        ReportCode("x: " + "y" * 500, "yaml"),
        ReportVerdict("holds", "a claim", "a < b", "because", ["a test"]),
        ReportVerdict("undecided", "another", "a > b", "unclear", []),
        ReportFold("more", [ReportNote("folded")]),
    ]
    return Report("t", [ReportNote("summary", "warning")], [ReportSection("s", "S", blocks)], "p", "now", "{}")


def test_no_text_becomes_an_element_or_an_attribute(hostile):
    page = Page(html(hostile))
    assert {tag for tag, _ in page.elements} <= {
        *(
            "html",
            "head",
            "meta",
            "title",
            "style",
            "body",
            "a",
            "header",
            "h1",
            "h2",
            "h3",
            "h4",
            "p",
            "nav",
            "ul",
            "li",
        ),
        *(
            "main",
            "section",
            "dl",
            "div",
            "dt",
            "dd",
            "details",
            "summary",
            "table",
            "thead",
            "tbody",
            "tr",
            "th",
            "td",
        ),
        *("br", "figure", "img", "figcaption", "pre", "code", "span", "strong", "script"),
    }
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert len(page.of("script")) == 2
    text = "".join(page.words)
    assert "alert(1)</script>" in text
    assert "{{ 7*7 }}" in text
    assert not [sign for sign in html(hostile) if steers(sign) and sign not in KEPT]


def test_the_page_loads_nothing(hostile):
    for report in (hostile, every_block()):
        page = Page(html(report))
        sources = [
            attributes[name] or ""
            for _, attributes in page.elements
            for name in ("src", "srcset")
            if name in attributes
        ]
        assert sources
        assert all(source.startswith("data:image/") for source in sources)
        assert all((a["href"] or "").startswith("#") for a in page.of("a"))
        assert page.of("link", "iframe", "object", "embed", "base", "form") == []
        style = re.findall(r"<style>(.*?)</style>", html(report), re.DOTALL)
        assert "url(" not in style[0]
        assert "@import" not in style[0]
        for source in sources:
            svg = base64.b64decode(source.partition("base64,")[2])
            assert not re.search(rb'(?:href|src)="(?!#)', svg)


def test_figures_have_texts_and_headings_are_in_order(hostile):
    for report in (hostile, every_block()):
        page = Page(html(report))
        assert all(image.get("alt") for image in page.of("img"))
        levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))
        targets = {a["href"] for a in page.of("nav", "a")[1:] if "href" in a}
        assert targets <= {f"#{attributes['id']}" for _, attributes in page.elements if "id" in attributes}


def test_the_numbers_in_the_page_are_the_document(hostile):
    (text,) = re.findall(r'<script type="application/json" id="numbers">(.*?)</script>', html(hostile), re.DOTALL)
    assert json.loads(text) == json.loads(hostile.numbers)
    assert EVIL in json.loads(text)["arms"]


def test_markdown_has_every_text_escaped(hostile):
    text = markdown(hostile, "x_files")
    outside = re.sub(r"^(`{3,})\w*\n.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert not re.search(r"(?<!\\)<(script|img)", outside)
    assert not re.search(r"(?<!\\)\]\(http", outside)
    assert "alert" in outside
    for line in outside.splitlines():
        if line.startswith("|"):
            assert line.endswith("|")
    assert not [sign for sign in text if steers(sign) and sign not in KEPT]


def test_markdown_of_every_block(tmp_path):
    text = markdown(every_block(), "a b")
    assert "\n## S\n" in text
    assert "\n### a heading\n" in text
    assert "\n| arm | two lines |\n| --- | ---: |\n| b | 2 |\n" in text
    assert "\n![a picture](a%20b/p.png)\n\nits caption\n" in text
    assert "\n- ✓ **holds**: a claim\n  - a \\< b\n" in text
    assert "\n```yaml\nx: yyy" in text
    assert "\n- **a term**: a text\n" in text


def test_files_beside_a_report_in_markdown(tmp_path, hostile):
    folder = write_markdown(hostile, tmp_path / "out.md")
    links = re.findall(r"\]\(([^)]*)\)", (tmp_path / "out.md").read_text().replace("\\](", ""))
    files = {link for link in links if link.startswith("out_files/")}
    assert {(tmp_path / link).is_file() for link in files} == {True}
    assert {path.name for path in folder.iterdir()} == {link.removeprefix("out_files/") for link in files}
    assert json.loads((folder / "numbers.json").read_text()) == json.loads(hostile.numbers)


def test_an_unwritable_place_is_explained(tmp_path):
    (tmp_path / "out_files").write_text("a file")
    with pytest.raises(StoreError, match=r"out\.md: cannot write"):
        write_markdown(every_block(), tmp_path / "out.md")
    (tmp_path / "out.html").mkdir()
    with pytest.raises(StoreError, match=r"out\.html: cannot write"):
        write_html(every_block(), tmp_path / "out.html")


# In a real browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    program = browser.installed()
    if program is None:
        pytest.skip(f"needs a browser: none of {', '.join(browser.NAMES)} is installed")
    with browser.browser(program, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def written(report: Report, folder: Path) -> Path:
    path = folder / "r.html"
    write_html(report, path)
    return path


MEASURE = """[document.documentElement.scrollWidth, innerWidth,
  [...document.images].filter((image) => !image.alt).length,
  [...document.images].filter((image) => !image.complete || !image.naturalWidth).length,
  getComputedStyle(document.body).backgroundColor]"""
OPEN = "document.querySelectorAll('details').forEach((fold) => { fold.open = true; })"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_nothing_overflows(page, hostile, tmp_path, width, dark, script):
    for report in (hostile, every_block()):
        page.open(written(report, tmp_path), width, dark=dark, script=script)
        page.evaluate(OPEN)
        wide, inner, without_alt, broken, background = page.evaluate(MEASURE)
        assert wide <= inner == width
        assert (without_alt, broken) == (0, 0)
        assert background == ("rgb(22, 24, 27)" if dark else "rgb(255, 255, 255)")
        assert page.evaluate("document.querySelectorAll('th button').length > 0") == script
        assert page.complaints() == []
        assert all(address.startswith(("file://", "data:image/")) for address in page.addresses())
        assert sum(address.startswith("file://") for address in page.addresses()) == 1


def test_columns_are_sorted_by_their_numbers(page, tmp_path):
    page.open(written(every_block(), tmp_path), 1280)
    names = "[...document.querySelector('table').tBodies[0].rows].map((row) => row.cells[0].textContent)"
    click = "document.querySelectorAll('table')[0].tHead.rows[0].cells[%d].querySelector('button').click()"
    orders = []
    for column in (1, 1, 0):
        page.evaluate(click % column)
        orders.append(page.evaluate(names))
    assert orders == [["b", "a", "c"], ["a", "b", "c"], ["a", "b", "c"]]
    head = "document.querySelector('th').getAttribute('aria-sort')"
    assert page.evaluate(head) == "ascending"


def test_on_paper_everything_is_unfolded_and_light(page, hostile, tmp_path):
    page.open(written(hostile, tmp_path), 794, dark=True)
    page.call("Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    wide, inner, *_, background = page.evaluate(MEASURE)
    assert (wide, inner, background) == (794, 794, "rgb(255, 255, 255)")
    inside = "document.querySelector('details:not([open]) > :not(summary)')"
    assert page.evaluate(f"{inside}.checkVisibility({{contentVisibilityAuto: true}})")
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_texts_stand_out_from_their_background(page, hostile, tmp_path, dark):
    """WCAG AA: a contrast of at least 4.5."""
    page.open(written(every_block(), tmp_path), 1280, dark=dark)
    colours = page.evaluate(
        """[...document.querySelectorAll('p, td, th, dt, dd, summary, a, span, figcaption, code')].map((element) => {
          let at = element, back = 'rgba(0, 0, 0, 0)';
          for (; back === 'rgba(0, 0, 0, 0)' && at; at = at.parentElement) back = getComputedStyle(at).backgroundColor;
          return [getComputedStyle(element).color, back, element.tagName];
        })"""
    )
    assert len(colours) > 30
    assert [entry for entry in colours if contrast(entry[0], entry[1]) < 4.5] == []


def contrast(one: str, other: str) -> float:
    """The contrast of two colours, as WCAG 2 defines it."""
    lights = sorted(_luminance([int(part) / 255 for part in re.findall(r"\d+", text)[:3]]) for text in (one, other))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def _luminance(rgb: list[float]) -> float:
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.slow
def test_a_large_run_is_a_small_page(tmp_path):
    """20 arms x 20 generations x 5 seeds, with its store and with pictures that do not compress: under 10 MB."""
    text = html(build([write_large_run(tmp_path)]))
    assert len(text.encode()) < 10_000_000
    assert len(Page(text).of("img")) > 8
