"""Which page is in which section of the site. A page that is listed and does not exist is left out; one that exists and
is not listed is in the last place of how-to, so that it can be found."""

from __future__ import annotations

from collections.abc import Collection

SECTIONS: dict[str, tuple[str, ...]] = {
    "tutorial": ("tutorial/quickstart", "tutorial/own-data", "tutorial/own-remedy"),
    "how-to": (
        "how-to/papers",
        "shipped-recipes",
        "recipes",
        "data",
        "text",
        "diffusion",
        "molecules",
        "remedies",
        "how-to/cluster",
        "distributed",
        "mirror",
        "analysis",
        "report",
        "figures-over-settings",
        "trackers",
        "export",
        "pruning",
        "python",
        "notebooks/*",
        "how-to/plug-ins",
        "how-to/add-a-family",
    ),
    "reference": (
        "_generated/recipe-keys",
        "_generated/commands",
        "_generated/families",
        "_generated/data-kinds",
        "_generated/strategies",
        "_generated/remedies",
        "metrics",
        "_generated/metrics",
        "_generated/recipes",
        "_generated/api",
        "glossary",
    ),
    "explanation": (
        "features",
        "explanation/store",
        "explanation/pairing",
        "explanation/claims",
        "definitions",
        "theory",
        "architecture",
    ),
    "results": ("measured", "results/*", "_generated/benchmarks"),
    "project": ("_generated/contributing", "_generated/changelog"),
}
STARTS = ("index",)


def pages_of(section: str, existing: Collection[str]) -> list[str]:
    """The pages of a section that exist, in order."""
    chosen = [name for entry in SECTIONS[section] for name in _matching(entry, existing)]
    if section == "how-to":
        listed = {name for entries in SECTIONS.values() for entry in entries for name in _matching(entry, existing)}
        chosen += sorted({*existing} - listed - {*STARTS})
    return chosen


def _matching(entry: str, existing: Collection[str]) -> list[str]:
    if not entry.endswith("/*"):
        return [entry] if entry in existing else []
    folder = entry[:-1]
    return sorted(name for name in existing if name.startswith((folder, f"_generated/{folder}")))
