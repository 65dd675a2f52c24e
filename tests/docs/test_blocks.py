"""Every code block of the documentation works as it stands, or says why it is not executed."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from collapse_sim.cli.app import app, run_app
from collapse_sim.core.errors import RecipeError
from collapse_sim.recipe.loader import load

from .blocks import KINDS, LANGUAGES, ROOT, Block, blocks, pages
from .recipes import BASES, is_whole, parts

PAGES = [page for page in pages() if page.exists() and blocks(page)]
SLOW = [page for page in PAGES if any(block.kind == "slow" for block in blocks(page))]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(autouse=True)
def place(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to run in, whose modules can be imported, and are forgotten afterwards; pages share one store."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / ".store").symlink_to(store)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("COLLAPSE_SIM_CACHE", str(tmp_path / "cache"))
    before = {*sys.modules}
    yield tmp_path
    for module in {*sys.modules} - before:
        if not hasattr(sys.modules[module], "__file__") or str(tmp_path) in str(sys.modules[module].__file__):
            del sys.modules[module]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_blocks_of_a_page_work(page: Path) -> None:
    Page().run([block for block in blocks(page) if block.kind != "slow"])


@pytest.mark.slow
@pytest.mark.parametrize("page", SLOW, ids=name)
def test_the_slow_blocks_of_a_page_work(page: Path) -> None:
    """With all others of the page, in order, since they may build on each other."""
    Page().run(blocks(page))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_says_how_it_is_tested(page: Path) -> None:
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{block.where}: a block of {block.language or 'no language'}"
        assert not block.kind or (block.kind in KINDS and block.reason), f"{block.where}: {block.kind!r}"
    markers = re.findall(r"<!-- test:", page.read_text(encoding="utf-8"))
    assert len(markers) == sum(bool(block.kind) for block in blocks(page)), f"{name(page)}: a marker without a block"


class Page:
    """The blocks of one page, which share a folder and, in Python, their names."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"__name__": "page"}

    def run(self, page: list[Block]) -> None:
        for block in page:
            if block.kind == "none":
                continue
            if block.file:
                Path(block.file).write_text(block.text, encoding="utf-8")
                importlib.invalidate_caches()
            try:
                READERS[block.language](self, block)
            except AssertionError as error:
                raise AssertionError(f"{block.where}: {error}") from error
            except Exception as error:
                error.add_note(block.where)
                raise

    def sh(self, block: Block) -> None:
        lines = block.text.replace("\\\n", " ").splitlines()
        commands = [words for line in lines if (words := shlex.split(line.removeprefix("$ "), comments=True))]
        for i, words in enumerate(commands):
            words = [word for word in words if word != "&"]
            while re.match(r"[A-Z_]+=", words[0]):
                words = words[1:]
            if words[0] == "make":
                assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE), words
                continue
            assert words[0] == "collapse-sim", f"a command that needs a marker: {shlex.join(words)}"
            if ">" in words:
                words = words[: words.index(">")]
            if block.kind == "parse":
                parsed(words[1:])
                continue
            code = run_app([*words[1:], *self.smaller(words[1:], block.kind)])
            wanted = block.code if i == len(commands) - 1 else 0
            assert code == wanted, f"{shlex.join(words)} ended with {code}"

    def smaller(self, words: list[str], kind: str) -> list[str]:
        """What is added to a run: its small size, under the name of the full one."""
        if kind not in ("smoke", "slow") or words[0] != "run":
            return []
        out = [] if "--out" in words else ["--out", f"runs/{Path(words[1]).stem}"]
        return ["--smoke", *out]

    def python(self, block: Block) -> None:
        code = compile(block.text, block.where, "exec")
        if block.kind != "parse":
            exec(code, self.names)

    def yaml(self, block: Block) -> None:
        if block.kind == "parse":
            yaml.safe_load(block.text)
            return
        for text in parts(block.text):
            if is_whole(text):
                file = Path(block.file or "block.yaml")
                file.write_text(text, encoding="utf-8")
                load(file, plugins=True)
            else:
                loads_over_one(text)

    def json(self, block: Block) -> None:
        json.loads(block.text)

    def toml(self, block: Block) -> None:
        tomllib.loads(block.text)

    def text(self, block: Block) -> None:
        """Output or a drawing."""


READERS: dict[str, Callable[[Page, Block], None]] = {
    "sh": Page.sh, "python": Page.python, "yaml": Page.yaml, "json": Page.json, "toml": Page.toml, "text": Page.text,
}  # fmt: skip


def loads_over_one(text: str) -> None:
    """A part of a recipe is valid in a recipe of one of the kinds of data."""
    problems = []
    for kind, base in BASES.items():
        Path("base.yaml").write_text(base, encoding="utf-8")
        Path("part.yaml").write_text(f"extends: base.yaml\nname: part\n{text}", encoding="utf-8")
        try:
            load("part.yaml", plugins=True)
        except RecipeError as error:
            problems.append(f"over {kind}: {error}")
        else:
            return
    raise AssertionError("\n".join([text, *problems]))


def parsed(words: list[str]) -> None:
    """A command line that the program accepts, without running it."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context("collapse-sim", words)


def test_a_wrong_block_is_noticed() -> None:
    """The test itself: an unknown option, setting, name, language or exit code fails it."""
    page = ROOT / "docs" / "none.md"
    wrong = {
        "sh": ("collapse-sim list families --nonsense", "rm -r runs", "make nonsense"),
        "yaml": ("model: {use: vae, hiden: 3}", "arms: {a: {data: nonsense}}"),
        "python": ("from collapse_sim.api import Nonsense",),
        "json": ("{",),
        "toml": ("a = ",),
    }
    for language, texts in wrong.items():
        for text in texts:
            with pytest.raises((AssertionError, ImportError, ValueError)):
                Page().run([Block(page, 1, language, text, "", 0, "")])
    with pytest.raises(Exception, match="No such option"):
        Page().run([Block(page, 1, "sh", "collapse-sim run quickstart --nonsense", "parse", 0, "why")])
