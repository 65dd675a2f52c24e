"""The code blocks of the documentation, and how each is tested.

By its language: `sh` (or `bash`) is executed line by line, `python` is executed, `yaml` is loaded as a recipe or as a
part of one, `json` and `toml` are parsed, `text` is what a program prints or a drawing. A block whose first line is
`# NAME.py` or `# NAME.yaml` is also written to that file, beside which the page's later blocks run. An HTML comment in
the line before a block changes this, with the reason:

    <!-- test: smoke: a minute at full size -->      `run` gets --smoke
    <!-- test: parse: needs MNIST -->                a command line is parsed, Python compiled, YAML read
    <!-- test: none: installs a package -->          not tested
    <!-- test: slow: trains a network -->            executed, `run` with --smoke, with the tests marked slow
    <!-- test: fails 2: the mistake is the point --> the last command ends with this exit code
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LANGUAGES = ("sh", "python", "yaml", "json", "toml", "text")
KINDS = ("smoke", "parse", "none", "slow", "fails")
_BLOCK = re.compile(
    r"(?:^[ ]*<!-- test: (?P<kind>\w+)(?: (?P<code>\d+))?: (?P<reason>[^>]*?) -->\n\s*)?"
    r"^(?P<indent>[ ]*)```(?P<language>[^\n]*)\n(?P<text>.*?)^[ ]*```[ ]*$",
    flags=re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One block of a page."""

    page: Path
    line: int  # of its first line of code
    language: str
    text: str
    kind: str  # how it is tested: one of KINDS, or "" as its language says
    code: int  # the exit code that `fails` names
    reason: str

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def file(self) -> str | None:
        """The name of the file that its first line says it is."""
        name = re.match(r"# ([\w-]+\.(?:py|yaml))\b", self.text)
        return name[1] if name else None


def pages() -> list[Path]:
    """Every page of the documentation that is written by hand."""
    docs = (path for path in (ROOT / "docs").rglob("*.md") if not {"_build", "_generated"} & {*path.parts})
    return [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        ROOT / "benchmarks/README.md",
        *sorted(docs),
    ]


def blocks(page: Path) -> list[Block]:
    """The code blocks of a page, in order; those in braces are directives of the site."""
    text = page.read_text(encoding="utf-8")
    return [_block(page, text, match) for match in _BLOCK.finditer(text) if not match["language"].startswith("{")]


def _block(page: Path, text: str, match: re.Match[str]) -> Block:
    line = text.count("\n", 0, match.start("text")) + 1
    body = re.sub(rf"^{match['indent']}", "", match["text"], flags=re.MULTILINE)
    kind, code, reason = match["kind"] or "", int(match["code"] or 0), match["reason"] or ""
    language = {"bash": "sh", "shell": "sh"}.get(match["language"].strip(), match["language"].strip())
    return Block(page, line, language, body, kind, code, reason)
