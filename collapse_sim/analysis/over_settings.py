"""A metric over the settings of grids: arms are laid out by one or two settings in which they differ.

Arms that also differ in other settings are separate lines. A number that follows from the chosen settings, such as
`data.synthetic` = 1 - `data.real`, makes no further line.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

from collapse_sim.analysis.by_protocol import baseline_of
from collapse_sim.analysis.onset import Place
from collapse_sim.analysis.results import Results
from collapse_sim.core.errors import RecipeError
from collapse_sim.core.registry import did_you_mean
from collapse_sim.ui import formatting

GENERATION = "generation"  # may be chosen beside a setting
ROWS = {"data.rows": "rows"}  # a grid's name for an arm's setting
_DECADES = 1.0  # positive numbers that span more are on a logarithmic axis
_EVEN = 1e-6  # relative, of equal steps

At = tuple[Any, ...]  # values of the axes


@dataclass(frozen=True)
class SettingAxis:
    """A setting and its values: numbers ascending, categories in the order of the arms."""

    path: str
    values: tuple[Any, ...]

    @property
    def numeric(self) -> bool:
        return all(map(is_number, self.values))

    @property
    def logarithmic(self) -> bool:
        """Whether all are positive numbers that span more than a power of ten."""
        return self.numeric and min(self.values) > 0 and math.log10(max(self.values) / min(self.values)) > _DECADES

    @property
    def in_order_only(self) -> bool:
        """Whether values are drawn side by side: categories, and zero beside numbers that span powers of ten."""
        positive = [value for value in self.values if is_number(value) and value > 0]
        has_zero = self.numeric and min(self.values) == 0 and len(positive) > 1
        return not self.numeric or (has_zero and math.log10(max(positive) / min(positive)) > _DECADES)

    @property
    def even(self) -> bool:
        """Whether steps between numbers are equal, or their ratios are; true for categories."""
        if not self.numeric or len(self.values) < 3:
            return True
        return _equal_steps(self.values) or (min(self.values) > 0 and _equal_steps([*map(math.log, self.values)]))

    def labels(self) -> list[str]:
        """The values as text."""
        return [value_label(value) for value in self.values]


class Line(NamedTuple):
    """Arms that differ only in the chosen settings."""

    label: str
    places: Mapping[At, Place]


@dataclass(frozen=True)
class OverSettings:
    """The layout, which is the same for all metrics."""

    axes: tuple[SettingAxis, ...]  # one or two
    generation: int | None  # None: it is one of the axes
    lines: tuple[Line, ...]
    others: tuple[str, ...]  # arms without a value of the chosen settings
    following: tuple[str, ...]  # numbers that change with the chosen settings

    def places(self) -> list[Place]:
        """Every arm and generation of the lines."""
        return [place for line in self.lines for place in line.places.values()]

    def reference(self, arm: str) -> Place:
        """One of `others`, at the generation of a figure over one setting."""
        assert self.generation is not None
        return Place(arm, self.generation)


def over_settings(
    results: Results, paths: Sequence[str], generation: int | None, generations: Sequence[int]
) -> OverSettings:
    """Lay out the arms by one or two settings, at one generation; `generations`: the values if one of them is that.

    Raises RecipeError for a setting that the arms do not vary, and for two settings if arms differ in a third one.
    """
    paths = [ROWS.get(path, path) for path in paths]
    _check(results, paths)
    settings = [path for path in paths if path != GENERATION]
    own = {arm: tuple(results.differing.get(arm, {}).get(path) for path in settings) for arm in results.arms}
    placed = [arm for arm in results.arms if None not in own[arm]]
    if not placed:
        raise RecipeError(f"--against: no arm has both {' and '.join(settings)}: choose settings that one grid varies")
    following = _following(results, placed, own, settings)
    groups: dict[str, dict[tuple[Any, ...], str]] = {}
    for arm in placed:
        rest = {p: v for p, v in results.differing[arm].items() if p not in settings and p not in following}
        key = repr(sorted(rest.items()))
        while own[arm] in groups.setdefault(key, {}):  # another arm with the same settings
            key += "'"
        groups[key][own[arm]] = arm
    names = _labels(results, list(groups.values()), settings, following)
    along = GENERATION in paths
    lines = tuple(
        Line(name, _places(arms, paths, generations if along else None, generation))
        for name, arms in zip(names, groups.values(), strict=True)
    )
    axes = tuple(
        SettingAxis(path, tuple(generations))
        if path == GENERATION
        else SettingAxis(path, _ordered(own[arm][settings.index(path)] for arm in placed))
        for path in paths
    )
    layout = OverSettings(
        axes, None if along else generation, lines, tuple(arm for arm in results.arms if arm not in placed), following
    )
    if len(paths) == 2 and len(lines) > 1:
        raise RecipeError(_too_many(results, groups.values(), settings, following, names))
    return layout


def only_arms(results: Results, names: Sequence[str]) -> Results:
    """The results of these arms; a grid's name means all its points. Raises RecipeError for an unknown name."""
    chosen: list[str] = []
    problems = []
    for name in names:
        of_name = [arm for arm in results.arms if arm == name or _stem(arm) == name]
        chosen += of_name
        if not of_name:
            allowed = list(dict.fromkeys([*map(_stem, results.arms), *results.arms]))
            problems.append(
                f"--arm: there is no {name!r}{did_you_mean(name, allowed)}; the arms are: {', '.join(results.arms)}"
            )
    if problems:
        raise RecipeError(*problems)
    arms = tuple(arm for arm in results.arms if arm in chosen)
    return replace(results, arms=arms, baseline=baseline_of(results, arms))


def is_number(value: Any) -> bool:
    """Whether it is a finite number; truth values are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def value_label(value: Any) -> str:
    """A value of a setting as text, as in a recipe."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if is_number(value) else formatting.plain(str(value))


def varied(results: Results) -> list[str]:
    """Settings of which arms have at least two values."""
    paths = dict.fromkeys(path for arm in results.arms for path in results.differing.get(arm, {}))
    return [path for path in paths if len(_values(results, path)) > 1]


def _check(results: Results, paths: Sequence[str]) -> None:
    allowed = varied(results)
    listed = f"the arms vary: {', '.join(allowed)}" if allowed else "the arms vary no setting"
    problems = []
    for path in paths:
        if path in allowed or path == GENERATION:
            continue
        values = _values(results, path)
        have = f"all arms that have {path} have the value {value_label(values[0])}" if values else ""
        problems.append(f"--against: {have or f'no arms differ in {path!r}{did_you_mean(path, allowed)}'}; {listed}")
    if len(paths) > 2:
        problems.append(f"--against: found {len(paths)} settings; allowed: one (curves) or two (a map)")
    if len(set(paths)) < len(paths):
        problems.append(f"--against: {paths[0]} is given twice")
    if list(paths) == [GENERATION]:
        problems.append(f"--against generation needs a setting beside it; without one, leave --against out; {listed}")
    if problems:
        raise RecipeError(*problems)


def _values(results: Results, path: str) -> list[Any]:
    values = (results.differing.get(arm, {}).get(path) for arm in results.arms)
    return list(dict.fromkeys(value for value in values if value is not None))


def _ordered(values: Iterable[Any]) -> tuple[Any, ...]:
    distinct = tuple(dict.fromkeys(values))
    return tuple(sorted(distinct)) if all(map(is_number, distinct)) else distinct


def _following(
    results: Results, arms: Sequence[str], own: Mapping[str, At], settings: Sequence[str]
) -> tuple[str, ...]:
    """Other settings that are the same wherever the chosen settings are, and numbers in all of these arms, or settings
    of a component that is chosen (`data.real` beside `data.use`)."""
    chosen = tuple(path.removesuffix("use") for path in settings if path.endswith(".use"))
    paths = dict.fromkeys(path for arm in arms for path in results.differing[arm] if path not in settings)
    following = []
    for path in paths:
        values = {arm: results.differing[arm].get(path) for arm in arms}
        by_own = {(own[arm], value) for arm, value in values.items()}
        if (
            (path.startswith(chosen) or all(map(is_number, values.values())))
            and len(set(values.values())) > 1
            and len(by_own) == len({own[arm] for arm in arms})
        ):
            following.append(path)
    return tuple(following)


def _places(
    arms: Mapping[At, str], paths: Sequence[str], generations: Sequence[int] | None, generation: int | None
) -> dict[At, Place]:
    if generations is None:
        assert generation is not None
        return {at: Place(arm, generation) for at, arm in arms.items()}
    first = paths[0] == GENERATION
    return {((k, *at) if first else (*at, k)): Place(arm, k) for at, arm in arms.items() for k in generations}


def _labels(
    results: Results, groups: Sequence[Mapping[At, str]], settings: Sequence[str], following: Sequence[str]
) -> list[str]:
    """The arms' names without the chosen settings, or else the other settings in which the lines differ."""
    ends = {end for path in (*settings, *following) for end in _ends(path)}
    names = [{_without(arm, ends) for arm in arms.values()} for arms in groups]
    if all(map(len, names)) and len(set().union(*names)) == len(groups) == sum(map(len, names)):
        return [next(iter(of_group)) for of_group in names]
    differing = _differing(results, groups, settings, following)
    firsts = [next(iter(arms.values())) for arms in groups]
    labels = [", ".join(f"{path}={_text(results, arm, path)}" for path in differing) for arm in firsts]
    if len(groups) == 1:
        return ["all arms" if len(groups[0]) > 1 else firsts[0]]
    return labels if len(set(labels)) == len(labels) else firsts


def _differing(
    results: Results, groups: Iterable[Mapping[At, str]], settings: Sequence[str], following: Sequence[str]
) -> list[str]:
    """Other settings that are not the same in all lines."""
    firsts = [next(iter(arms.values())) for arms in groups]
    paths = [path for path in results.differing[firsts[0]] if path not in settings and path not in following]
    return [path for path in paths if len({repr(results.differing[arm].get(path)) for arm in firsts}) > 1]


def _text(results: Results, arm: str, path: str) -> str:
    value = results.differing[arm].get(path)
    return "none" if value is None else value_label(value)


def _too_many(
    results: Results,
    groups: Iterable[Mapping[At, str]],
    settings: Sequence[str],
    following: Sequence[str],
    names: Sequence[str],
) -> str:
    differing = _differing(results, list(groups), settings, following)
    others = ", ".join(differing) or "nothing but their names"
    return (
        f"--against: a map has one arm for each pair of values, but these arms also differ in {others}: "
        f"{'; '.join(names[:6])}{' ...' * (len(names) > 6)}. Choose one of them with --arm NAME (a grid's name means "
        f"all its points), or one of these settings with --against"
    )


def _stem(arm: str) -> str:
    """The name of the grid that an arm is a point of: "distill" of "distill output=0.25"."""
    words = arm.split(" ")
    last = next((i for i, word in enumerate(words) if i and "=" in word), len(words))
    return " ".join(words[:last])


def _ends(path: str) -> list[str]:
    """ "teacher.weights.output" -> it, "weights.output", "output": one of them is in the names of a grid's points."""
    parts = path.split(".")
    return [".".join(parts[i:]) for i in range(len(parts))]


def _without(arm: str, ends: set[str]) -> str:
    return " ".join(word for i, word in enumerate(arm.split(" ")) if not i or word.partition("=")[0] not in ends)


def _equal_steps(values: Sequence[float]) -> bool:
    steps = [b - a for a, b in pairwise(values)]
    return max(steps) - min(steps) <= _EVEN * max(map(abs, steps))
