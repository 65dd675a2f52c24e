"""Fonts for names of any script: the first that has their signs, or boxes and one piece of advice."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.font_manager import findfont
from matplotlib.ft2font import FT2Font

from collapse_sim.analysis import fonts
from collapse_sim.analysis.plots import plot
from collapse_sim.analysis.results import read_results
from tests.analysis.conftest import WriteRun


def test_names_without_a_font_are_boxes_and_no_warning(
    write_run: WriteRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fonts, "_installed", lambda: ())
    fonts._choose_families.cache_clear()
    run = write_run({"日本語": {"m": [[1.0]] * 3}}, seeds=[0])
    plot(read_results(run), ["m"], tmp_path / "x.png")  # warnings are errors here
    assert fonts.lacking(["日本語 a", "日"]) == "日本語"
    assert fonts.advice(["日本語"]).startswith("no installed font has 日本語: drawn as boxes")
    assert fonts.advice(["plain", "é, Ж"]) == ""
    fonts._choose_families.cache_clear()


def test_signs_that_the_first_font_lacks_come_from_another() -> None:
    """Of the fonts that matplotlib brings along, STIX has letters that DejaVu Sans has not."""
    base, other = (set(FT2Font(findfont(name)).get_charmap()) for name in ("DejaVu Sans", "STIXGeneral"))
    sign = chr(min(code for code in other - base if chr(code).isprintable()))
    families = fonts.families([f"arm {sign}"])
    assert families[0] == "DejaVu Sans"
    assert len(families) == 2
    assert ord(sign) in FT2Font(findfont(families[1])).get_charmap()
    assert fonts.families(["plain"]) == ["DejaVu Sans"]
