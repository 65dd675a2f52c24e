"""Recipes that are changed at random: each is read and planned, or refused with an error of ours, shortly and soon.

`python -m tests.torture.fuzz_recipes --seconds 600 --seed 1` goes on for so long and prints what it met.
"""

from __future__ import annotations

import argparse
import copy
import logging
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from collapse_sim.core.errors import CollapseSimError, MissingError, PluginError, RecipeError
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe import shipped
from collapse_sim.recipe.loader import load

LONGEST = 61 * 1200  # characters of a whole message: 50 lines of 1,200, and some
TOYS = ("gaussian", "moons", "linear")
CPU_S = 30.0  # of one recipe; more is a hang

LEAVES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 10**9, 2**31, 2**62, 2**64, -(10**18), 10**400, 1e-300, 1e18, 1e300, 0.5, -0.0,
    "", " ", "x", "x" * 300, "x" * 100_000, "\x1b[2J\x07", "\u202eabc\u2069", "\x00", "\ud83d", "教師", "a\nb", "$x_$",
    "../../etc/passwd", "/dev/zero", "last", "previous", "theory", "null", "1e9", "0x10", "2024-01-01",
    "os:system", "os.path:join", "subprocess:run", "json:loads", "builtins:eval", "collapse_sim.cli.app:run_app",
    "collapse_sim.core.component:Component", "collapse_sim.recipe.loader:load", "numpy:zeros", "torch:load", ":",
    "a:b:c", "replace", "accumulate", "fid", "gaussian", "gmm", "digits", "mmd", "test_loss", "kde", "flow", "ddpm",
    "vae", [], {}, [[]], [{}], [None], {"": 1}, {"use": None}, {"use": []}, {"use": "os:system", "command": "true"},
    {"use": "gaussian", "dimensions": 10**9}, {"use": "fid", "features": {"use": "os:system", "command": "true"}},
    {"torchscript": "/dev/zero"}, {"use": "accumulate"}, {"a": {"b": {"c": {"d": {}}}}}, list(range(2000)),
    {str(i): i for i in range(2000)}, {"data": "replace", "grid": {"teacher.generation": list(range(5000))}},
    {"data": "replace", "grid": [{"a": [1]}, {"b.c": [[1]]}]}, {"use": "mix", "real": 1e308},
]  # fmt: skip


class HangError(BaseException):
    """One recipe took all its time."""


def deep(levels: int, value: Any) -> Any:
    for _ in range(levels):
        value = [value] if levels % 2 else {"a": value}
    return value


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Steps to every value of a document."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from places(part, (*path, index))


def mutate(document: dict[str, Any], dice: random.Random) -> dict[str, Any]:
    """A document with a few values, keys or entries changed."""
    document = copy.deepcopy(document)
    for _ in range(dice.choice([1, 1, 1, 2, 3, 6])):
        path = dice.choice([place for place in places(document) if place])
        parent: Any = document
        for step in path[:-1]:
            parent = parent[step]
        key = path[-1]
        kind = dice.randrange(8)
        if kind < 4:
            parent[key] = copy.deepcopy(dice.choice(LEAVES))
        elif kind == 4:
            del parent[key]
        elif kind == 5:
            parent[key] = deep(dice.choice([3, 30, 39, 45, 100]), parent[key])
        elif isinstance(parent, dict):
            name = dice.choice([leaf for leaf in LEAVES if isinstance(leaf, str)])
            parent[name] = parent.pop(key) if kind == 6 else copy.deepcopy(dice.choice(LEAVES))
        else:
            parent.append(copy.deepcopy(parent[key]))
        if not document:
            return {"name": "x"}
    return document


def scramble(text: str, dice: random.Random) -> str:
    """A text with pieces of it cut, doubled, or other signs in them."""
    signs = [*"\x00\x1b\u202e\t{}[]:|>'\"\\\ufeff\r\u2028", "&a ", "*a", "<<: ", "- ", "? ", "---\n", "...\n"]
    signs += ["%YAML 9.9\n", "!!python/name:os.system ", "[" * 900, "{a: " * 900, "9" * 5000, "&a [*a, *a]"]
    for _ in range(dice.choice([1, 1, 2, 5])):
        at = dice.randrange(len(text) + 1)
        kind = dice.randrange(4)
        if kind == 0:
            text = text[:at] + text[at + dice.randrange(1, 40) :]
        elif kind == 1:
            lines = text.split("\n")
            lines.insert(dice.randrange(len(lines)), dice.choice(lines))
            text = "\n".join(lines)
        else:
            text = text[:at] + dice.choice(signs) + text[at:]
    return text


def bomb(dice: random.Random) -> str:
    """A recipe of aliases of aliases."""
    wide, high = dice.choice([2, 9]), dice.choice([5, 12, 39, 60])
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * wide)}]" for i in range(1, high)]
    return "\n".join([*lines, f"arms: *a{high - 1}"])


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise HangError after so much time of the processor; what else the machine does is not counted."""

    def stop(number: int, frame: object) -> None:
        raise HangError

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def attempt(file: Path, folder: Path, dice: random.Random) -> str:
    """Read a recipe and plan it: "fine", or the name of the error. Raises AssertionError for what may not happen."""
    try:
        with limited(CPU_S):
            recipe = load(file, smoke=dice.random() < 0.3, plugins=False)
            prepare(recipe, folder)
    except (RecipeError, MissingError, PluginError) as error:
        if 0 < len(str(error).strip()) <= LONGEST:
            return type(error).__name__
        raise AssertionError(f"a message of {len(str(error))} characters") from error
    except (HangError, CollapseSimError) as error:
        raise AssertionError(f"{type(error).__name__}: {str(error)[:300]}") from error
    return "fine"


def run(seconds: float, seed: int, most: int = 10**9) -> Counter[str]:
    """Change recipes for so long, or so many of them. Returns how many ended how.

    Raises AssertionError with the recipe's text when one ends otherwise than it may.
    """
    dice = random.Random(seed)
    texts = [shipped.path(name).read_text(encoding="utf-8") for name in shipped.names()]
    documents = [yaml.safe_load(text) for text in texts]
    # Toys are planned whole without any data: most of the recipes are of them.
    toys = [
        i
        for i, document in enumerate(documents)
        if "gaussian" in str(document.get("data")) or "moons" in str(document.get("data"))
    ]
    counts: Counter[str] = Counter()
    logging.getLogger("collapse_sim").setLevel(logging.ERROR)
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        while time.monotonic() < end and counts.total() < most:
            i = dice.choice(toys) if dice.random() < 0.5 else dice.randrange(len(texts))
            make: Callable[[], str] = dice.choice(
                [
                    lambda i=i: yaml.safe_dump(mutate(documents[i], dice), allow_unicode=True, sort_keys=False),
                    lambda i=i: yaml.safe_dump(mutate(documents[i], dice), sort_keys=False),
                    lambda i=i: scramble(texts[i], dice),
                    lambda i=i: bomb(dice) if dice.random() < 0.1 else scramble(texts[i], dice),
                ]
            )
            text = make()
            file = folder / "recipe.yaml"
            file.write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
            try:
                counts[attempt(file, folder, dice)] += 1
            except Exception as error:
                raise AssertionError(f"seed {seed}, recipe {counts.total()}: {error!r:.500}\n{text[:3000]}") from error
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for ended, count in run(arguments.seconds, arguments.seed).items():
        sys.stdout.write(f"{count:8,} {ended}\n")
