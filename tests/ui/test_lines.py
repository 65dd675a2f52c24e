"""Lines of a run: one a generation, more when verbose, warnings only when quiet."""

from __future__ import annotations

from collapse_sim.core.events import JobFinished, JobStarted, Note, Waiting
from collapse_sim.ui.lines import Lines, job_line
from collapse_sim.ui.state import State


def said(timed, capsys, **how):
    state = State()
    lines = Lines(state, **how)
    for now, event in timed:
        state.apply(event, now)
        lines(event)
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_one_line_a_generation(tell, capsys):
    assert said(tell(generations=1), capsys) == (
        "demo: 3 arms, 3 seeds, generations 0 to 1, on cpu (fp32), into runs/demo\n"
        "generation 0/1: test_loss replace 1.500, accumulate 1.500, distill 1.500; made 12, found 0; 16 s\n"
        "warning: a setting has no effect: \\x1b[31mred\\x1b[0m second line\n"
        "generation 1/1: test_loss replace 1.500, accumulate 2.500, distill 3.500; made 36, found 0; 1 min 02 s\n"
        "finished after 1 min 18 s: runs/demo\n"
    )


def test_verbose_adds_a_line_a_job(tell, capsys):
    lines = said(tell(generations=0, seeds=(0, 4), arms=("a", "b")), capsys, verbose=True).splitlines()
    assert lines[1:4] == [
        "  data, all arms: 0.1 s",
        "  fit, generation 0, all arms, seed 0: 4.0 s",
        "  fit, generation 0, all arms, seed 4: 4.0 s",
    ]
    assert len(lines) == 1 + 1 + 2 + 2 + 2 * 2 + 1 + 1  # start, data, fits, samples, scores, generation, end


def test_texts_are_said_only_when_verbose(tell, capsys):
    timed = tell(generations=0, arms=("a", "b"), seeds=(0,), texts=("one\n\x1b[31mtwo", "other"))
    assert "one" not in said(timed, capsys)
    lines = said(timed, capsys, verbose=True).splitlines()
    assert [line for line in lines if "sample," in line] == [
        "  sample, generation 0, a: a 0: one \\x1b[31mtwo",
        "  sample, generation 0, b: b 0: one \\x1b[31mtwo",
    ]


def test_quiet_leaves_warnings(tell, capsys):
    quiet = said([*tell(), (0.0, Note("just so", "info"))], capsys, quiet=True)
    assert quiet == "warning: a setting has no effect: \\x1b[31mred\\x1b[0m second line\n"


def test_the_classifier_behind_a_feature_map_is_called_that(tell, draw, capsys):
    state = reduced_to_the_start(tell)
    event = JobStarted("fit", "net", -1, ("replace", "accumulate", "distill"), ())
    state.apply(event, 1e6)
    assert "fitting the feature classifier · all arms" in draw(state, 100, 30)
    assert job_line(state, JobFinished("fit", "net", -1, event.arms, (), False, 2.0)) == (
        "  feature classifier, all arms: 2.0 s"
    )
    state.apply(Waiting("fit", "net", -1), 1e6)
    state.job = None
    assert "waiting for another process: fitting the feature classifier\n" in draw(state, 100, 30)


def reduced_to_the_start(tell) -> State:
    state = State()
    now, event = tell()[0]
    state.apply(event, now)
    return state
