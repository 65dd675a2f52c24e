"""A recipe with several protocols has every arm once under each: "replace" becomes "replace.updates", "replace.epochs".

Claims, references and the baseline name the arms as they are written; a claim is decided under every protocol.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from collapse_sim.plan.settings import Claim, Reference
from collapse_sim.recipe.marked import Block, Items, Mark
from collapse_sim.recipe.problems import Problems

_NAME = re.compile(r'"(?P<quoted>[^"]+)"|(?P<word>[\w.+-]+)')
_WORDS = ("theory", "within", "min", "max")


def protocols_of(tree: Block) -> list[str]:
    """The protocols of a recipe's tree, as far as they are right; [] for none."""
    said = tree.get("protocol")
    listed = said if isinstance(said, Items) else [said]
    return list(dict.fromkeys(name for name in listed if isinstance(name, str)))


def spread(
    arms: Block, protocols: Collection[str], problems: Problems, mark: Mark | None = None
) -> tuple[Block, dict[str, str]]:
    """(all arms under every protocol; {new name: the arm's name as it was}). An arm that says its own is one arm.

    With one protocol arms keep their names. `mark`: where the protocols are written.
    """
    result, origin = Block(arms.mark), dict[str, str]()
    for protocol in protocols or (None,):
        for name, arm in arms.items():
            new, under = name, arm
            if protocol is not None and isinstance(arm, Block) and arm.get("protocol") is None:
                new = under_name(name, protocol) if len(protocols) > 1 else name
                under = arm.copy()
                under.put("protocol", protocol, mark or arms.marks[name])
            if origin.get(new, name) != name:
                both = f"{origin[new]!r} and {name!r} are both called {new!r} under these protocols"
                problems.add(arms.marks[name], f"arms.{name}", f"{both}; give one of them another name")
            if new not in origin:
                result.put(new, under, arms.marks[name])
                origin[new] = name
    return result, origin


def under_name(arm: str, protocol: str) -> str:
    """What an arm is called under one of several protocols."""
    return f"{arm}.{protocol}"


def claims_under(claim: Claim, protocols: Collection[str], arms: Collection[str]) -> list[Claim]:
    """A claim for every protocol, arms being what they are called there; itself where it names those already."""
    from collapse_sim.recipe.claims import parse

    named = parse(claim.expect).arms
    if len(protocols) < 2 or named <= set(arms):
        return [claim]
    return [claim.model_copy(update={"expect": _renamed(claim.expect, named - set(arms), p)}) for p in protocols]


def reference_under(reference: Reference, protocols: Collection[str], arms: Collection[str]) -> Reference:
    """Published figures, beside an arm under every protocol."""
    values: dict[str, Any] = {}
    for arm, value in reference.values.items():
        names = [arm] if arm in arms else [under_name(arm, protocol) for protocol in protocols]
        values |= dict.fromkeys(names, value)
    return reference.model_copy(update={"values": values})


def _renamed(expect: str, arms: Collection[str], protocol: str) -> str:
    def rename(found: re.Match[str]) -> str:
        name = found["quoted"] or found["word"]
        if name not in arms or (found["word"] and name in _WORDS):
            return found[0]
        return f'"{under_name(name, protocol)}"'

    return _NAME.sub(rename, expect)


def known_names(names: Mapping[str, str]) -> list[str]:
    """Arms as they are called and as they are written."""
    return list(dict.fromkeys((*names, *names.values())))
