"""Comparisons under several protocols: tables, verdicts and plots say which."""

import json
import re

import pytest

from collapse_sim.analysis.plots import figure
from collapse_sim.analysis.results import RecordedClaim, read_results
from collapse_sim.analysis.verdicts import decide_all
from collapse_sim.store import journal
from tests.analysis.conftest import Call, WriteRun, scores_line


def trained(protocol: str, updates: list[int]) -> dict[str, object]:
    return {"protocol": protocol, "rows": [100, 200], "updates": updates, "epochs": [u / 10 for u in updates]}


BOTH = {
    "a.updates": {"loss": [[1.0, 1.1], [2.0, 2.2]]},
    "b.updates": {"loss": [[1.0, 1.1], [1.5, 1.6]]},
    "a.epochs": {"loss": [[1.0, 1.1], [2.0, 2.2]]},
    "b.epochs": {"loss": [[1.0, 1.1], [0.9, 1.0]]},
}
TRAINING = {
    "a.updates": trained("updates", [40, 40]),
    "b.updates": trained("updates", [40, 40]),
    "a.epochs": trained("epochs", [40, 40]),
    "b.epochs": trained("converged", [800, 1600]),
}


def test_every_protocol_has_tables_of_its_own_with_its_own_baseline(call: Call, write_run: WriteRun) -> None:
    training = TRAINING | {"b.epochs": trained("epochs", [40, 80])}
    write_run(BOTH, seeds=(0, 1), training=training)
    shown = call("toy", "--metric", "loss").stdout
    first, second = shown.split("protocol: epochs\n")
    assert first.startswith("protocol: updates\n")
    assert "a.epochs" not in first
    assert "paired differences to a.updates" in first
    assert "b.updates" not in second
    assert "paired differences to a.epochs" in second
    assert re.search(r"b.epochs +40 \(4\) +80 \(8\)", second)
    one = call("toy", "--metric", "loss", "--json").stdout
    assert json.loads(one)["training"]["b.epochs"]["updates"] == [40, 80]


def test_fits_that_end_when_they_have_converged_are_shown_with_what_they_took(write_run: WriteRun) -> None:
    folder = write_run(BOTH, seeds=(0, 1), training=TRAINING)
    line = scores_line("b.epochs", 1, [0, 1], {"loss": [0.9, 1.0]}) | {"updates": [300, 500]}
    journal.append(folder / "journal.jsonl", [line])
    found = read_results(folder)
    assert found.training["b.epochs"].updates == (800, 400)  # the mean over seeds
    assert found.training["b.epochs"].epochs == (80.0, 160.0 * 400 / 1600)
    assert found.protocol_of("b.epochs") == "converged"
    (verdict,) = decide_all([RecordedClaim("x", "loss", 1, '"b.epochs" < "a.epochs"')], found)
    assert verdict.protocols == ("epochs", "converged")
    assert verdict.definition.endswith("; protocol: epochs, converged")


def test_a_plot_has_a_column_for_each_protocol(write_run: WriteRun) -> None:
    scores = {arm: {"loss": [*ks["loss"], [3.0, 3.1]], "fid": [*ks["loss"], [3.0, 3.1]]} for arm, ks in BOTH.items()}
    training = TRAINING | {"b.epochs": trained("epochs", [40, 80])}
    drawn = figure(read_results(write_run(scores, seeds=(0, 1), training=training)), ["loss", "fid"])
    titles = [axes.get_title() for axes in drawn.axes]
    assert titles == [f"{metric} (lower is better), {p}" for metric in ("loss", "fid") for p in ("updates", "epochs")]
    assert drawn.axes[0].get_ylim() == drawn.axes[1].get_ylim()
    (legend,) = drawn.legends
    assert [text.get_text() for text in legend.get_texts()][:2] == ["a", "b"]


def test_one_protocol_is_named_as_well(call: Call, write_run: WriteRun) -> None:
    scores = {arm: BOTH[arm] for arm in ("a.epochs", "b.epochs")}
    write_run(scores, seeds=(0, 1), training={arm: trained("epochs", [40, 40]) for arm in scores})
    assert call("toy").stdout.startswith("protocol: epochs\n")


def test_a_protocol_that_has_not_come_so_far_is_left_out(call: Call, write_run: WriteRun) -> None:
    scores = {arm: {"loss": [*ks["loss"], [3.0, 3.1]][: 3 if "updates" in arm else 2]} for arm, ks in BOTH.items()}
    write_run(scores, seeds=(0, 1), training=TRAINING | {"b.epochs": trained("epochs", [40, 80])})
    shown = call("toy", "--generation", "2").stdout
    assert "a.updates" in shown
    assert "a.epochs" not in shown


def test_programs_get_differences_within_a_protocol(call: Call, write_run: WriteRun) -> None:
    write_run(BOTH, seeds=(0, 1), training=TRAINING | {"b.epochs": trained("epochs", [40, 80])})
    found = json.loads(call("toy", "--json").stdout)
    assert found["baselines"] == {
        "a.updates": "a.updates", "b.updates": "a.updates", "a.epochs": "a.epochs", "b.epochs": "a.epochs",
    }  # fmt: skip
    assert set(found["differences"]) == {"b.updates", "b.epochs"}
    assert found["differences"]["b.epochs"]["loss"][1]["mean"] == pytest.approx(-1.15)  # .95 - 2.1


def test_claims_are_corrected_within_a_protocol(write_run: WriteRun) -> None:
    """Against the baseline of their own, on whichever side it stands."""
    more = {f"{arm}.{p}": {"loss": [[1.0, 1.1], [1.4, 1.7]]} for arm in "cd" for p in ("updates", "epochs")}
    training = {name: trained(name.partition(".")[2], [40, 40]) for name in {**BOTH, **more}}
    results = read_results(write_run({**BOTH, **more}, seeds=(0, 1), training=training))
    for protocol in ("updates", "epochs"):
        expects = [f"a.{protocol} > b.{protocol}", f"c.{protocol} < a.{protocol}", f"a.{protocol} > d.{protocol}"]
        verdicts = decide_all([RecordedClaim("x", "loss", 1, expect) for expect in expects], results)
        assert {verdict.corrections for verdict in verdicts} == {(f"3 claims against a.{protocol} (Holm)",)}


def test_an_arm_has_one_colour_in_all_panels(write_run: WriteRun) -> None:
    scores = {arm: {"loss": [*BOTH[arm]["loss"], [3.0, 3.1]]} for arm in ("a.updates", "b.updates", "b.epochs")}
    training = {arm: trained(arm.partition(".")[2], [40, 40]) for arm in scores}
    first, second = figure(read_results(write_run(scores, seeds=(0, 1), training=training)), ["loss"]).axes
    assert second.lines[0].get_color() == first.lines[1].get_color()


def test_one_step_pictures_show_every_arm(write_run: WriteRun) -> None:
    scores = {**BOTH, "c.updates": BOTH["a.updates"], "d.updates": BOTH["b.updates"]}
    training = {arm: trained(arm.partition(".")[2], [40, 40]) for arm in scores}
    first, second = figure(read_results(write_run(scores, seeds=(0, 1), training=training)), ["loss"]).axes
    assert sorted(first.get_ylim()) == [-0.5, 3.5]
    assert sorted(second.get_ylim()) == [-0.5, 1.5]
