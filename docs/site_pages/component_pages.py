"""The reference of recipes' keys, of components and of the Python interface, from the classes themselves."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from importlib import import_module
from typing import Any

import collapse_sim
from collapse_sim import api
from collapse_sim.core import registry
from collapse_sim.core.component import Component
from collapse_sim.families.training import Train
from collapse_sim.plan.settings import Claim, GenerationZero, Reference, Sampling, Teacher
from collapse_sim.recipe.catalogue import ComponentEntry, Setting, describe
from collapse_sim.recipe.resolve import ArmLayout, RecipeKeys

from .tables import cell, code, default_text, prose, table

LINKS = {  # what a key with a section or a page of its own takes; its type in the code is any
    "data": "a [kind of data](data-kinds.md)",
    "model": "a [family](families.md)",
    "train": "[`train`](#train)",
    "retrain": "[`train`](#train)",
    "generation_0": "[`generation_0`](#generation_0)",
    "sampling": "[`sampling`](#sampling)",
    "reference": "[`reference`](#reference), or a list",
    "extends": "text",
    "smoke": "mapping",
    "teacher": "[`teacher`](#teacher)",
    "curation": "a [curation](remedies.md#curation)",
    "weighting": "a [weighting](remedies.md#weighting)",
    "merge": "a [merge](remedies.md#merge)",
    "guidance": "a [guidance](remedies.md#guidance)",
    "rows_from": "text, or mapping of generations to text",
    "grid": "mapping, or list of mappings",
    "arms": "mapping of [arms](#arms)",
    "metrics": "list of [metrics](metrics.md)",
    "claims": "list of [claims](#claims)",
}
DEFAULTS = {RecipeKeys.model_fields["name"].description: "the file's name"}  # filled in before the class sees it
IN_AN_ARM = {"data": "a [strategy](strategies.md)", "model": "settings of the recipe's [family](families.md)"}
SECTIONS = (  # heading, class, what it is
    ("Top level", RecipeKeys, "The keys of a recipe file."),
    ("arms", ArmLayout, "The keys of one arm: `arms: {NAME: {...}}`."),
    ("train", Train, "How a network is fitted. An arm's `train` and every `retrain` have the same keys."),
    ("teacher", Teacher, None),
    ("sampling", Sampling, None),
    ("generation_0", GenerationZero, None),
    ("claims", Claim, "One entry of `claims`; the forms of `expect` are [in the guide](../recipes.md#claims)."),
    ("reference", Reference, None),
)
GROUPS = {  # page: title, first lines, groups of the registry
    "families": ("Model families", "What `model:` in a recipe names.", ("families",)),
    "data-kinds": (
        "Kinds of data",
        "What `data:` in a recipe names. Files, formats and splits are explained in [the guide](../data.md).",
        ("data",),
    ),
    "strategies": (
        "Strategies",
        "What an arm's `data:` names: the rows that each generation is fitted to. With a teacher, "
        "distillation is added: [the guide](../recipes.md#arms).",
        ("strategies",),
    ),
    "remedies": (
        "Settings of remedies",
        "What an arm's `curation:`, `weighting:`, `merge:` and `guidance:` name. Papers, costs and what was measured: "
        "[the guide](../remedies.md).",
        registry.REMEDIES,
    ),
    "metrics": (
        "Settings of metrics and feature maps",
        "What `metrics:` lists, and what some metrics take as `features:`. What each measures and how to read it: "
        "[the guide](../metrics.md).",
        ("metrics", "features"),
    ),
}
GROUP_HEADINGS = {"metrics": "Metrics", "features": "Feature maps"}
KEYS_FIRST = """What each is for, with examples: [the guide to recipes](../recipes.md). Generated from the code; for
completion in an editor, see `collapse-sim recipes schema`.
"""
FROM_CODE = "Generated from the code; `collapse-sim list` prints the same.\n"


def pages() -> dict[str, str]:
    """`recipe-keys`, and a page for each group of components."""
    made = {"recipe-keys": _recipe_keys()}
    for name, (title, first, groups) in GROUPS.items():
        parts = [f"# {title}\n", f"{first} {FROM_CODE}"]
        level = "###" if len(groups) > 1 else "##"
        for group in groups:
            if len(groups) > 1:
                parts.append(f"## {GROUP_HEADINGS.get(group, group.capitalize())}\n")
            parts += [_component(level, group, each) for each in registry.names(group)]
        made[name] = "\n".join(parts)
    return made


def _recipe_keys() -> str:
    parts = ["# Recipe keys\n", KEYS_FIRST]
    for heading, cls, what in SECTIONS:
        links = LINKS | IN_AN_ARM if cls is ArmLayout else LINKS if cls is RecipeKeys else {}
        parts += [f"## {heading}\n", what or prose(inspect.getdoc(cls) or ""), ""]
        parts += [_settings(describe(heading, cls, "").settings, links), ""]
    return "\n".join(parts)


def _component(level: str, group: str, name: str) -> str:
    cls = registry.load(group, name)
    entry: ComponentEntry = describe(name, cls, group)
    lines = [f"{level} {name}", "", prose(inspect.getdoc(cls) or ""), ""]
    if entry.families is not None:
        lines += [f"Families: {', '.join(map(code, entry.families)) or 'none'}.", ""]
    lines += [_settings(entry.settings, {}) if entry.settings else "No settings.", ""]
    return "\n".join(lines)


def _settings(settings: tuple[Setting, ...], links: dict[str, str]) -> str:
    rows = (
        (
            code(setting.name),
            links.get(setting.name) or cell(setting.allowed),
            DEFAULTS.get(setting.meaning) or default_text(setting.default, required=setting.required),
            cell(prose(setting.meaning)),
        )
        for setting in settings
    )
    return table(("key", "allowed", "default", "meaning"), rows)


API_HEAD = """# Python interface

Generated from the code. `collapse_sim.api` has everything that a plug-in or a program imports; importing it imports
torch.

"""
API_SECTIONS = {  # in this order; what is not listed here comes last
    "Recipes and runs": (
        "load_recipe", "prepare", "Session", "load_run", "Results", "Recipe", "Arm", "Teacher", "Train", "Experiment",
    ),
    "Errors": ("CollapseSimError", "RecipeError", "MissingError", "StrategyError"),
    "Components": ("Component",),
    "Strategies": ("Strategy", "Plan", "Source", "REAL", "RowCounts", "Chain", "Taught"),
    "Data": ("Data", "FileData", "SimulatedData", "Info", "Columns", "RowSource"),
    "Families": ("ModelFamily", "ClosedForm", "Rows", "Inputs", "Prediction", "Conditions", "RowLosses"),
    "Metrics": (
        "Metric", "RowMetric", "PartsMetric", "Evaluation", "Need", "Which", "MetricNote", "FeatureMap",
        "ClassifyingMap", "WeightedMap", "FeatureSpace", "HeldOutRows", "DrawnRows",
    ),
    "Remedies": (
        "Curation", "Choice", "Pool", "Verifier", "FittedVerifier", "Weighting", "RowWeighting", "TokenWeighting",
        "Merge", "Guidance",
    ),
    "Devices and random draws": ("Machine", "Device", "open_device", "Draws", "ShapedDraws"),
}  # fmt: skip


def api_page() -> str:
    """Directives for autodoc: every name of `collapse_sim.api`, in sections."""
    listed = [name for names in API_SECTIONS.values() for name in names]
    rest = tuple(name for name in api.__all__ if name not in listed)
    sections = {**API_SECTIONS, **({"More": rest} if rest else {})}
    parts = [API_HEAD]
    names = [name for name in getattr(collapse_sim, "__all__", ()) if not name.startswith("_")]
    top = [name for name in names if getattr(collapse_sim, name) is not getattr(api, name, None)]
    top.sort(key=lambda name: inspect.isclass(getattr(collapse_sim, name)))  # functions first
    if top:
        parts += ["## collapse_sim\n", *(_directive("collapse_sim", name) for name in top)]
    for title, names in sections.items():
        parts += [f"## {title}\n", *(_directive("collapse_sim.api", name) for name in names if name in api.__all__)]
    return "\n".join(parts)


def _directive(module: str, name: str) -> str:
    value = getattr(api if module == "collapse_sim.api" else collapse_sim, name)
    if inspect.ismodule(value):  # a package that can be called, as the function of its name
        return _function(f"{module}.{name}", import_module(f"{value.__name__}.{name}_recipe").run_recipe)
    kind = "autoclass" if inspect.isclass(value) else "autofunction" if inspect.isfunction(value) else "autodata"
    options = {"autoclass": "   :members:\n", "autodata": "   :no-value:\n"}.get(kind, "")
    if inspect.isclass(value) and issubclass(value, Component):
        options += "   :exclude-members: model_config, model_post_init\n"
    return f"```{{eval-rst}}\n.. {kind}:: {module}.{name}\n{options}```\n"


def _function(name: str, function: Callable[..., Any]) -> str:
    """A function under another name than its own; types are left out."""
    signature = inspect.signature(function)
    parameters = [each.replace(annotation=each.empty) for each in signature.parameters.values()]
    shown = signature.replace(parameters=parameters, return_annotation=signature.empty)
    text = textwrap.indent(inspect.getdoc(function) or "", "   ")
    return f"```{{eval-rst}}\n.. py:function:: {name}{shown}\n\n{text}\n```\n"
