"""Expansion of one entry into several arms: of a grid, and under several protocols."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from collapse_sim.core.errors import RecipeError
from collapse_sim.plan.settings import Claim, Reference
from collapse_sim.recipe.extends import assign
from collapse_sim.recipe.marked import ARMS, Items, Mark, MarkedMapping, Steps, as_integer, mark_at, split_path
from collapse_sim.recipe.problems import Problems, value_text


class Value(NamedTuple):
    """One value of a grid key, and its position in the file."""

    value: Any
    mark: Mark


Point = dict[str, Value]  # grid key ("teacher.weights.output") -> its value


def expand(arms: MarkedMapping, problems: Problems) -> tuple[MarkedMapping, dict[str, str]]:
    """(all arms, grids expanded, in order; {name: name in the file}). Raises RecipeError when there are too many.

    A point is named "distill output=0.25 mean=1.0": the arm, then every key that varies in any part of the grid (the
    end of its path), with the point's value or else the arm's own.
    """
    result, origin = MarkedMapping(arms.mark), dict[str, str]()
    many = sum(_count_points(arm) for arm in arms.values())
    if many > ARMS:
        raise RecipeError(
            *problems.lines, f"{arms.mark}: arms: {many:,} arms, grids expanded; allowed: at most {ARMS:,}"
        )
    for name, arm in arms.items():
        mark = arms.marks[name]
        points = {name: arm}
        if isinstance(arm, MarkedMapping) and "grid" in arm:
            points = _expand_arm(name, arm, problems)
        for point_name, point in points.items():
            if point_name in result:
                at = f"arms.{name}"
                problems.add(
                    mark, at, f"a second arm {point_name!r} (the first is on line {result.marks[point_name].line})"
                )
                continue
            result.put(point_name, point, mark)
            origin[point_name] = name
    return result, origin


def _count_points(arm: Any) -> int:
    """How many arms an arm expands to, at most; nothing is expanded."""
    if not isinstance(arm, MarkedMapping) or "grid" not in arm:
        return 1
    parts = arm["grid"] if isinstance(arm["grid"], Items) else [arm["grid"]]
    blocks = [part.values() for part in parts if isinstance(part, MarkedMapping)]
    return sum(math.prod(len(values) for values in block if isinstance(values, Items)) for block in blocks)


def _expand_arm(name: str, arm: MarkedMapping, problems: Problems) -> dict[str, MarkedMapping]:
    base = arm.copy()
    base.remove("grid")
    parts = arm["grid"] if isinstance(arm["grid"], Items) else [arm["grid"]]
    points: list[Point] = []
    for index, part in enumerate(parts):
        steps: Steps = ("grid", index) if isinstance(arm["grid"], Items) else ("grid",)
        points += _product(part, steps, name, arm, problems)
    keys = list(dict.fromkeys(key for point in points for key in point))
    labels = dict(zip(keys, _labels(keys), strict=True))
    result: dict[str, MarkedMapping] = {}
    seen: set[str] = set()
    for point in points:
        values = {key: point[key].value if key in point else _own(base, key) for key in keys}
        identity = json.dumps({key: as_integer(value) for key, value in values.items()}, default=str)
        if identity in seen:
            continue
        seen.add(identity)
        expanded = base
        for key, (value, mark) in point.items():
            expanded = assign(expanded, key, value, mark, problems)
        point_name = " ".join(
            [name, *(f"{labels[key]}={_label(value)}" for key, value in values.items() if value != _ABSENT)]
        )
        if point_name in result:
            problems.add(arm.marks["grid"], f"arms.{name}.grid", f"two points are both named {point_name!r}")
        result[point_name] = expanded
    return result


def _product(part: Any, steps: Steps, name: str, arm: MarkedMapping, problems: Problems) -> list[Point]:
    """All combinations of one mapping of a grid."""
    path = ".".join(["arms", name, *map(str, steps)])
    mark = mark_at(arm, steps)
    if not isinstance(part, MarkedMapping) or not part:
        allowed = (
            "a mapping of paths to lists of values, as in {teacher.weights.output: [0.25, 0.5]}, or a list of these"
        )
        problems.add(mark, path, f"found {value_text(part)}; allowed: {allowed}")
        return []
    valid = True
    part = _with_rows_of_arm(part, path, problems)
    for key, values in part.items():
        if not isinstance(values, Items) or not values:
            valid = False
            problems.add(part.marks[key], f"{path}.{key}", f"found {value_text(values)}; allowed: a list of values")
    if not valid:
        return []
    columns = [[Value(value, at) for value, at in zip(part[key], part[key].marks, strict=True)] for key in part]
    return [dict(zip(part, values, strict=True)) for values in itertools.product(*columns)]


def _with_rows_of_arm(part: MarkedMapping, path: str, problems: Problems) -> MarkedMapping:
    """A grid may vary the recipe's `data.rows`: an arm has it as its own `rows`."""
    if "data.rows" not in part:
        return part
    if "rows" in part:
        problems.add(
            part.marks["rows"], f"{path}.rows", "the same as `data.rows`, which is there too; remove one of them"
        )
    renamed = MarkedMapping(part.mark)
    for key, values in part.items():
        renamed.put("rows" if key == "data.rows" else key, values, part.marks[key])
    return renamed


_ABSENT = object()  # the arm has no value of its own


def _own(arm: MarkedMapping, key: str) -> Any:
    value: Any = arm
    for step in split_path(arm, key):
        if not isinstance(value, MarkedMapping) or step not in value:
            return _ABSENT
        value = value[str(step)]
    return value


def _labels(keys: Sequence[str]) -> list[str]:
    """The shortest ends of the paths that are all different."""
    paths = [key.split(".") for key in keys]
    for length in range(1, max(map(len, paths), default=0)):
        labels = [".".join(path[-length:]) for path in paths]
        if len(set(labels)) == len(labels):
            return labels
    return list(keys)


def _label(value: Any) -> str:
    if isinstance(value, MarkedMapping) and "use" in value:
        return str(value["use"])
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


_NAME = re.compile(r'"(?P<quoted>[^"]+)"|(?P<word>[\w.+-]+)')
_WORDS = ("theory", "within", "min", "max")


def protocols_of(tree: MarkedMapping) -> list[str]:
    """The valid protocols of a recipe's tree; [] for none."""
    value = tree.get("protocol")
    names = value if isinstance(value, Items) else [value]
    return list(dict.fromkeys(name for name in names if isinstance(name, str)))


def spread(
    arms: MarkedMapping, protocols: Collection[str], problems: Problems, mark: Mark | None = None
) -> tuple[MarkedMapping, dict[str, str]]:
    """(all arms under every protocol; {new name: former name}). An arm with a protocol of its own stays one arm.

    With a single protocol, arms keep their names. `mark`: where the protocols are written.
    """
    result, origin = MarkedMapping(arms.mark), dict[str, str]()
    for protocol in protocols or (None,):
        for name, arm in arms.items():
            new, variant = name, arm
            if protocol is not None and isinstance(arm, MarkedMapping) and arm.get("protocol") is None:
                new = under_name(name, protocol) if len(protocols) > 1 else name
                variant = arm.copy()
                variant.put("protocol", protocol, mark or arms.marks[name])
            if origin.get(new, name) != name:
                both = f"{origin[new]!r} and {name!r} are both called {new!r} under these protocols"
                problems.add(arms.marks[name], f"arms.{name}", f"{both}; give one of them another name")
            if new not in origin:
                result.put(new, variant, arms.marks[name])
                origin[new] = name
    return result, origin


def under_name(arm: str, protocol: str) -> str:
    """An arm's name under one of several protocols."""
    return f"{arm}.{protocol}"


def claims_under(claim: Claim, protocols: Collection[str], arms: Collection[str]) -> list[Claim]:
    """One claim per protocol, with the arms' names under it; the claim itself if it already has those names."""
    from collapse_sim.recipe.claims import parse

    named = parse(claim.expect).arms
    if len(protocols) < 2 or named <= set(arms):
        return [claim]
    return [claim.model_copy(update={"expect": _renamed(claim.expect, named - set(arms), p)}) for p in protocols]


def reference_under(reference: Reference, protocols: Collection[str], arms: Collection[str]) -> Reference:
    """Published figures, repeated for an arm under every protocol."""
    values: dict[str, Any] = {}
    for arm, value in reference.values.items():
        names = [arm] if arm in arms else [under_name(arm, protocol) for protocol in protocols]
        values |= dict.fromkeys(names, value)
    return reference.model_copy(update={"values": values})


def _renamed(expect: str, arms: Collection[str], protocol: str) -> str:
    def rename(match: re.Match[str]) -> str:
        name = match["quoted"] or match["word"]
        if name not in arms or (match["word"] and name in _WORDS):
            return match[0]
        return f'"{under_name(name, protocol)}"'

    return _NAME.sub(rename, expect)


def known_names(names: Mapping[str, str]) -> list[str]:
    """Arm names, expanded and as written in the recipe."""
    return list(dict.fromkeys((*names, *names.values())))
