"""Arms laid out by the settings in which they differ."""

from __future__ import annotations

import pytest

from collapse_sim.analysis.merged_runs import merge
from collapse_sim.analysis.onset import Place
from collapse_sim.analysis.over_settings import SettingAxis, only_arms, over_settings, value_label, varied
from collapse_sim.analysis.results import Results, read_results
from collapse_sim.core.errors import RecipeError
from tests.analysis.conftest import WriteRun
from tests.analysis.grids import arm, grid_run, map_arms, weight_of

WEIGHT, SHARE = "teacher.weights.output", "data.real"


def results(write_run: WriteRun, arms: dict[str, dict[str, object]], **more: object) -> Results:
    return read_results(grid_run(write_run, arms, lambda own, k: 1.0 + k, **more))  # type: ignore[arg-type]


def test_one_line_over_numbers_in_ascending_order(write_run: WriteRun) -> None:
    arms = {f"distill output={w}": arm(None, w) for w in (1.0, 0.25, 0.5)} | {"replace": arm()}
    layout = over_settings(results(write_run, arms), [WEIGHT], 2, ())
    (axis,), (line,) = layout.axes, layout.lines
    assert axis.values == (0.25, 0.5, 1.0)
    assert line.label == "distill"
    assert line.places == {(w,): Place(f"distill output={w}", 2) for w in (0.25, 0.5, 1.0)}
    assert layout.others == ("replace",)
    assert layout.following == ()


def test_other_settings_make_other_lines(write_run: WriteRun) -> None:
    arms = map_arms([0.0, 0.5], [0.1, 1.0])
    layout = over_settings(results(write_run, arms), [WEIGHT], 1, ())
    assert [line.label for line in layout.lines] == ["mix real=0.0", "mix real=0.5"]
    assert [list(line.places) for line in layout.lines] == [[(0.1,), (1.0,)]] * 2


def test_lines_without_telling_names_are_named_by_their_settings(write_run: WriteRun) -> None:
    arms = {f"arm {i}": arm(s, w) for i, (s, w) in enumerate([(0.0, 0.1), (0.0, 1.0), (0.5, 0.1), (0.5, 1.0)])}
    layout = over_settings(results(write_run, arms), [WEIGHT], 1, ())
    assert [line.label for line in layout.lines] == ["data.real=0", "data.real=0.5"]
    layout = over_settings(results(write_run, {k: arms[k] for k in ("arm 0", "arm 1")}, folder="b"), [WEIGHT], 1, ())
    assert [line.label for line in layout.lines] == ["all arms"]


def test_a_number_that_follows_the_setting_makes_no_line(write_run: WriteRun) -> None:
    arms = {
        f"mix real={s} synthetic={1 - s}": {"data": {"use": "mix", "real": s, "synthetic": 1 - s}}
        for s in (0.0, 0.25, 0.5)
    }
    layout = over_settings(results(write_run, arms), [SHARE], 1, ())
    assert [(line.label, len(line.places)) for line in layout.lines] == [("mix", 3)]
    assert layout.following == ("data.synthetic",)


def test_settings_of_a_component_that_is_chosen_make_no_line(write_run: WriteRun) -> None:
    """`real` is a setting of mix alone: replace and mix differ in one thing."""
    arms = {"replace": arm(), "mix": arm(0.5)}
    layout = over_settings(results(write_run, arms), ["data.use"], 1, ())
    assert [(line.label, list(line.places)) for line in layout.lines] == [("all arms", [("replace",), ("mix",)])]
    assert layout.following == (SHARE,)
    several = over_settings(results(write_run, {**arms, "mix more": arm(0.9)}, folder="b"), ["data.use"], 1, ())
    assert len(several.lines) == 3


def test_protocols_are_lines(write_run: WriteRun) -> None:
    arms = {
        f"distill output={w}.{protocol}": arm(None, w, protocol=protocol)
        for protocol in ("updates", "epochs")
        for w in (0.1, 1.0)
    }
    layout = over_settings(results(write_run, arms), [WEIGHT], 1, ())
    assert [line.label for line in layout.lines] == ["protocol=updates", "protocol=epochs"]


def test_a_strategy_that_changes_with_the_setting_is_another_line(write_run: WriteRun) -> None:
    arms = {"a": arm(None, 0.1), "b": {**arm(None, 1.0), "data": {"use": "accumulate"}}}
    layout = over_settings(results(write_run, arms), [WEIGHT], 1, ())
    assert [line.label for line in layout.lines] == ["a", "b"]


def test_arms_that_differ_in_nothing_do_not_hide_each_other(write_run: WriteRun) -> None:
    arms = {"a": arm(None, 0.1), "again": arm(None, 0.1), "b": arm(None, 1.0)}
    layout = over_settings(results(write_run, arms), [WEIGHT], 1, ())
    assert sorted(place.arm for place in layout.places()) == ["a", "again", "b"]


def test_two_settings_make_a_map_with_gaps(write_run: WriteRun) -> None:
    arms = map_arms([0.0, 0.5], [0.1, 1.0])
    del arms["mix real=0.5 output=1.0"]
    layout = over_settings(results(write_run, arms), [SHARE, WEIGHT], 1, ())
    assert [axis.values for axis in layout.axes] == [(0.0, 0.5), (0.1, 1.0)]
    assert set(layout.lines[0].places) == {(0.0, 0.1), (0.0, 1.0), (0.5, 0.1)}


def test_a_third_setting_is_an_error_that_says_how_to_go_on(write_run: WriteRun) -> None:
    arms = {
        f"{init} real={s} output={w}": arm(s, w, init=init)
        for init in ("fresh", "previous")
        for s in (0.0, 0.5)
        for w in (0.1, 1.0)
    }
    of = results(write_run, arms)
    with pytest.raises(RecipeError) as caught:
        over_settings(of, [SHARE, WEIGHT], 1, ())
    (message,) = caught.value.problems
    assert "these arms also differ in init: fresh; previous" in message
    assert "--arm NAME" in message
    assert "--against" in message
    layout = over_settings(only_arms(of, ["previous"]), [SHARE, WEIGHT], 1, ())
    assert {place.arm.split()[0] for place in layout.places()} == {"previous"}


def test_the_generation_beside_a_setting(write_run: WriteRun) -> None:
    of = results(write_run, {f"distill output={w}": arm(None, w) for w in (0.1, 1.0)})
    layout = over_settings(of, ["generation", WEIGHT], None, [0, 1, 2])
    assert layout.generation is None
    assert layout.lines[0].places[2, 0.1] == Place("distill output=0.1", 2)
    turned = over_settings(of, [WEIGHT, "generation"], None, [0, 1, 2])
    assert turned.lines[0].places[0.1, 2] == Place("distill output=0.1", 2)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["teacher.weight"], "no arms differ in 'teacher.weight', did you mean"),
        (["teacher.weights.nothing"], "; the arms vary: data.real, teacher.weights.output"),
        (["data.use"], "no arms differ in 'data.use'"),
        ([WEIGHT, WEIGHT], "teacher.weights.output is given twice"),
        ([WEIGHT, SHARE, "generation"], "found 3 settings; allowed: one"),
        (["generation"], "--against generation needs a setting beside it"),
    ],
)
def test_bad_settings(write_run: WriteRun, paths: list[str], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        over_settings(results(write_run, map_arms([0.0, 0.5], [0.1, 1.0])), paths, 1, ())
    assert message in "; ".join(caught.value.problems)


def test_a_setting_with_one_value_says_which(write_run: WriteRun) -> None:
    with pytest.raises(RecipeError, match=r"all arms that have teacher\.weights\.output have the value 0\.1; the arms"):
        over_settings(results(write_run, {"a": arm(), "b": arm(None, 0.1)}), [WEIGHT], 1, ())
    with pytest.raises(RecipeError, match="the arms vary no setting"):
        over_settings(results(write_run, {"a": arm(), "c": arm()}, folder="b"), [WEIGHT], 1, ())


def test_settings_of_different_grids_have_no_map(write_run: WriteRun) -> None:
    arms = {f"mix real={s}": arm(s) for s in (0.0, 0.5)} | {f"distill output={w}": arm(None, w) for w in (0.1, 1.0)}
    with pytest.raises(RecipeError, match=r"no arm has both data\.real and teacher\.weights\.output"):
        over_settings(results(write_run, arms), [SHARE, WEIGHT], 1, ())


def test_unknown_arms(write_run: WriteRun) -> None:
    of = results(write_run, map_arms([0.0, 0.5], [0.1, 1.0]))
    with pytest.raises(RecipeError, match="--arm: there is no 'mx', did you mean 'mix'"):
        only_arms(of, ["mx"])
    assert only_arms(of, ["mix real=0.5 output=0.1"]).arms == ("mix real=0.5 output=0.1",)
    assert only_arms(of, ["mix"]).arms == of.arms


def test_grids_may_name_the_data_rows(write_run: WriteRun) -> None:
    arms = {f"a rows={n}": arm(rows=n) for n in (10, 100)}
    assert over_settings(results(write_run, arms), ["data.rows"], 1, ()).axes[0].path == "rows"


def test_merged_runs_are_lines_and_may_be_an_axis(write_run: WriteRun) -> None:
    arms = {f"distill output={w}": arm(None, w) for w in (0.1, 1.0)}
    runs = {name: results(write_run, arms, folder=name) for name in ("one", "two")}
    merged = merge(runs)
    assert varied(merged) == [WEIGHT, "run"]
    layout = over_settings(merged, [WEIGHT], 1, ())
    assert [line.label for line in layout.lines] == ["one/distill", "two/distill"]
    assert over_settings(merged, ["run", WEIGHT], 1, ()).axes[0].values == ("one", "two")


@pytest.mark.parametrize(
    ("values", "logarithmic", "in_order_only", "even"),
    [
        ((0.0, 0.25, 0.5), False, False, True),
        ((0.0, 0.1, 0.5), False, False, False),
        ((0.25, 0.5, 1.0), False, False, True),
        ((0.1, 1.0, 10.0), True, False, True),
        ((0.01, 0.1, 0.5), True, False, False),
        ((0.0, 0.01, 1.0), False, True, False),
        ((-1.0, 0.0, 100.0), False, False, False),
        ((0, "previous"), False, True, True),
        ((False, True), False, True, True),
    ],
)
def test_scales(values: tuple[object, ...], logarithmic: bool, in_order_only: bool, even: bool) -> None:
    axis = SettingAxis("x", values)
    assert (axis.logarithmic, axis.in_order_only, axis.even) == (logarithmic, in_order_only, even)


def test_values_are_written_as_in_a_recipe() -> None:
    assert [*map(value_label, (0.25, 1.0, True, "a\x1b", "[1, 2]", 100000))] == [
        "0.25", "1", "true", r"a\x1b", "[1, 2]", "100000",
    ]  # fmt: skip
    assert weight_of(arm(None, 0.5)) == 0.5
