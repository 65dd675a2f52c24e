"""Everything that can be wrong with a recipe: the message, and the line it names."""

from __future__ import annotations

import pytest

from collapse_sim.core.errors import RecipeError
from collapse_sim.recipe.loader import load

from .helpers import FAKE, GOOD, changed, problems, write

ONE_PROBLEM = [
    # keys
    (
        ("samples: 6e4", "sample: 6e4"),
        "r.yaml:10: sample: unknown key 'sample', did you mean 'samples'?; allowed: arms, ",
    ),
    (
        ("  epochs: 3", "  epochs: 3\n  epoch: 4"),
        "r.yaml:8: train.epoch: unknown key 'epoch', did you mean 'epochs'?; allo",
    ),
    (
        ("  width: 16", "  widht: 16"),
        "r.yaml:5: model.widht: unknown key 'widht', did you mean 'width'?; allowed: cap, ext",
    ),
    (
        ("    init: prev", "    inti: prev"),
        "r.yaml:19: arms.mixed.inti: unknown key 'inti', did you mean 'init'?; allowed: cu",
    ),
    (
        ("synthetic: 0", "synth: 0"),
        "r.yaml:18: arms.mixed.data.synth: unknown key 'synth', did you mean 'synthetic'?; allowed: ",
    ),
    (("weights: {", "wieghts: {"), "r.yaml:16: arms.distill.teacher."),
    (
        ("    generation: 4", "    generations: 4"),
        "r.yaml:26: claims.0.generations: unknown key 'generations', did you mea",
    ),
    (("samples: 6e4", "samples: 6e4\nname: two"), "r.yaml:11: name: duplicate key 'name', first on line 1; keep one"),
    (
        ("  width: 16", "  width: 16\n  width: 17"),
        "r.yaml:6: model.width: duplicate key 'width', first on line 5; keep one",
    ),
    (("generations: 5\n", ""), "r.yaml:1: generations: missing; it has no default"),
    (("    data: {use: replace}\n", ""), "r.yaml:14: arms.distill.data: missing; it has no default"),
    # values
    (("generations: 5", "generations: five"), "r.yaml:9: generations: found 'five'; allowed: a whole number"),
    (("generations: 5", "generations: 0"), "r.yaml:9: generations: found 0; allowed: at least 1"),
    (("generations: 5", "generations: 5.5"), "r.yaml:9: generations: found 5.5; allowed: a whole number"),
    (("generations: 5", "generations: true"), "r.yaml:9: generations: found true; allowed: a whole number"),
    (("generations: 5", "generations: '5'"), "r.yaml:9: generations: found '5'; allowed: a whole number"),
    (("samples: 6e4", "samples: 0"), "r.yaml:10: samples: found 0; allowed: at least 1"),
    (("name: good", "name: a/b"), "r.yaml:1: name: found 'a/b'; allowed: text that fits "),
    (("name: good", "name: 3"), "r.yaml:1: name: found 3; allowed: text"),
    (("seeds: [0, 1, 2]", "seeds: [0, 1, 1]"), "r.yaml:11: seeds: each seed once; found more than once: 1"),
    (("seeds: [0, 1, 2]", "seeds: []"), "r.yaml:11: seeds: found []; allowed: "),
    (("seeds: [0, 1, 2]", "seeds: 0"), "r.yaml:11: seeds: found 0; allowed: at least 1, or a list"),
    (("seeds: [0, 1, 2]", "seeds: [0, x]"), "r.yaml:11: seeds.1: found 'x'; allowed: a whole number"),
    (("  width: 16", "  width: 0"), "r.yaml:5: model.width: found 0; allowed: above 0"),
    (("  width: 16", "  width: 513"), "r.yaml:5: model.width: found 513; allowed: at most 512"),
    (
        ("  width: 16", "  shape: rond"),
        "r.yaml:5: model.shape: found 'rond', did you mean 'round'?; allowed: 'round', 'squ",
    ),
    (("  width: 16", "  range: [0]"), "r.yaml:5: model.range.1: missing; it has no default"),
    (("  width: 16", "  range: [2, 1]"), "r.yaml:3: model: `range` begins above its end"),
    (("  width: 16", "  extra: [1]"), "r.yaml:5: model.extra: found [1]; allowed: a mapping"),
    (("  width: 16", "  extra: {a: b}"), "r.yaml:5: model.extra.a: found 'b'; allowed: a whole number"),
    (
        ("  width: 16", "  cap: nome"),
        "r.yaml:5: model.cap: found 'nome', did you mean 'none'?; allowed: a whole number, or '",
    ),
    (("learning_rate: 1e-4", "learning_rate: -1"), "r.yaml:8: train.learning_rate: found -1; allowed: above 0"),
    (("learning_rate: 1e-4", "learning_rate: fast"), "r.yaml:8: train.learning_rate: found 'fast'; allowed: a number"),
    (("learning_rate: 1e-4", "steps: 4"), "r.yaml:6: train: exactly one of `epochs` and `steps` is needed, found both"),
    (("  epochs: 3\n", ""), "r.yaml:6: train: exactly one of `epochs` and `steps` is needed, found neither"),
    (
        ("{output: 0.5}", "{output: -0.5}"),
        "r.yaml:16: arms.distill.teacher.weights.output: found -0.5; allowed: at least 0",
    ),
    (
        ("generation: 0", "generation: last"),
        "r.yaml:16: arms.distill.teacher.generation: found 'last'; allowed: 'previous', ",
    ),
    (("synthetic: 0.5", "real: 1.5"), "r.yaml:18: arms.mixed.data.real: found 1.5; allowed: at most 1"),
    (
        ("train:\n  epochs: 3\n  learning_rate: 1e-4", "train: 3"),
        "r.yaml:6: train: found 3; allowed: a mapping of accumulate",
    ),
    (
        ("values: {replace: 1.5", "values: {replace: x"),
        "r.yaml:28: reference.values.replace: found 'x'; allowed: a number",
    ),
    (
        ("seeds: [0, 1, 2]", "seeds: 1000000000"),
        "r.yaml:11: seeds: found 1000000000; allowed: at most 1000000, or a list",
    ),
    (
        ("{output: 0.5}", "{output: .inf}"),
        "r.yaml:16: arms.distill.teacher.weights.output: found .inf; allowed: finite numb",
    ),
    (("smoke: {", "smoke: 3 #"), "r.yaml:29: smoke: found 3; allowed: a mapping of what a smoke run changes"),
    # components
    (
        ("data: {use: replace}", "data: replase"),
        "r.yaml:15: arms.distill.data.use: unknown 'replase', did you mean 'replace'?; a",
    ),
    (
        ("data: {use: replace}", "data: [replace]"),
        'r.yaml:15: arms.distill.data: found ["replace"]; allowed: a name, or {use: n',
    ),
    (
        ("data: {use: replace}", "data: {usr: replace}"),
        "r.yaml:15: arms.distill.data.use: `use:` is missing; allowed: accum",
    ),
    (("data: {use: replace}", "data: {use: 3}"), "r.yaml:15: arms.distill.data.use: found 3; allowed: accumulate, "),
    (("FakeFamily", "FakeFamly"), "r.yaml:4: model.use: cannot import "),
    (
        (f"{FAKE}:FakeFamily", "no.such:Thing"),
        "r.yaml:4: model.use: cannot import 'no.such:Thing': No module named 'no'",
    ),
    (
        ("FakeFamily", "Bare"),
        f"r.yaml:4: model.use: '{FAKE}:Bare' is not a subclass of collapse_sim.core.component.Component",
    ),
    (
        ("FakeMetric, k: 3", "HalfAMetric"),
        f"r.yaml:20: metrics.0.use: '{FAKE}:HalfAMetric' is not a Metric: it lacks better, ",
    ),
    ((":FakeMetric, k: 3", ":FakeMetric, as: 3"), "r.yaml:20: metrics.0.as: found 3; allowed: text"),
    (
        (", test_loss]", ", test_loss, test_loss]"),
        "r.yaml:20: metrics.2: a second metric 'test_loss'; give one of them ano",
    ),
    # one part against another
    (
        ("show: test_loss", "show: loss"),
        "r.yaml:22: show: unknown metric 'loss', did you mean 'test_loss'?; allowed: FakeMetric, test_loss",
    ),
    (
        ("baseline: replace", "baseline: replaced"),
        "r.yaml:21: baseline: unknown arm 'replaced', did you mean 'replace'?; a",
    ),
    (
        ("    metric: test_loss", "    metric: loss"),
        "r.yaml:25: claims.0.metric: unknown metric 'loss', did you mean 'test_loss'?; ",
    ),
    (("generation: 4", "generation: 6"), "r.yaml:26: claims.0.generation: there is no generation 6; allowed: 0 to 5"),
    (
        ("distill < replace", "distil < replace"),
        "r.yaml:27: claims.0.expect: unknown arm 'distil', did you mean 'distill'?; ",
    ),
    (
        ("distill < replace", "distill@7 < replace"),
        "r.yaml:27: claims.0.expect: there is no generation 7; allowed: 0 to 5",
    ),
    (
        ("distill < replace", "distill below replace"),
        "r.yaml:27: claims.0.expect: 'distill below replace': expected '<'",
    ),
    (
        ("{replace: 1.5,", "{replaced: 1.5,"),
        "r.yaml:28: reference.values.replaced: unknown arm 'replaced', did you mean 're",
    ),
    (
        ("paper, metric: test_loss", "paper, metric: loss"),
        "r.yaml:28: reference.metric: unknown metric 'loss', did you mean 'test_loss'?; ",
    ),
    (
        ("{output: 0.5}", "{outptu: 0.5}"),
        "r.yaml:16: arms.distill.teacher.weights.outptu: unknown term 'outptu', did you mean 'o",
    ),
    (
        ("{output: 0.5}", "{}"),
        f"r.yaml:16: arms.distill.teacher.weights: found no weights; allowed: the terms of '{FAKE}:Fake",
    ),
    (
        ("teacher: {generation: 0", "teacher: {generation: 3"),
        "r.yaml:16: arms.distill.teacher.generation: generation 3 does not exist yet when generation 1 is fitted; all",
    ),
    (
        ("teacher: {generation: 0", "teacher: {generation: -1"),
        "r.yaml:16: arms.distill.teacher.generation: found -1; allow",
    ),
    ((f"{FAKE}:FakeMetric, k: 3", "fid"), "r.yaml:20: metrics.0: 'fid' is for data of images, but the data "),
    (
        ("  mixed:", "  mix/ed:"),
        "r.yaml:17: arms.mix/ed: 'mix/ed' is not a valid arm name; allowed: any text without quotes and",
    ),
    (
        ("train:\n  epochs: 3\n  learning_rate: 1e-4\n", ""),
        f"r.yaml:1: train: missing; '{FAKE}:FakeFamily' is trained: give a length, as in `train: {{epochs: 10}}`",
    ),
]


@pytest.mark.parametrize(("change", "message"), ONE_PROBLEM, ids=lambda value: value[1] if len(value) == 2 else "")
def test_one_problem(change: tuple[str, str], message: str) -> None:
    found = problems(changed(change))
    assert found[0].startswith(message), found
    if "wieghts" not in change[1]:  # a required key that is misspelt is two problems
        assert len(found) == 1, found
    assert not any("pydantic" in line or "Extra inputs" in line or "Input should" in line for line in found)


def test_all_at_once_in_the_order_of_lines() -> None:
    text = changed(
        ("  width: 16", "  width: wide"),
        ("  learning_rate: 1e-4", "  learning_rat: 1e-4"),
        ("seeds: [0, 1, 2]", "seeds: [1, 1]"),
        ("init: previous", "init: last"),
        (":FakeMetric, k: 3", ":FakeMetric, q: 3"),
        ("expect: distill < replace", "expect: distill < replaced"),
        ("name: good", "nmae: good"),
    )
    found = problems(text, overrides=["samples=none"])
    assert [line.split(" ")[0] for line in found[1:]] == [f"r.yaml:{n}:" for n in (1, 5, 8, 11, 19, 20, 27)]
    assert found[0].startswith("--set samples=none: samples: found 'none'; allowed: a whole number")


def test_nothing_is_checked_against_a_part_that_is_wrong_itself() -> None:
    """One mistake, one message: an unknown model does not make every teacher's term wrong too."""
    assert len(problems(changed(("FakeFamily", "NoFamily")))) == 1
    assert len(problems(changed((f"data: {{use: {FAKE}:FakeData}}", "data: mnits")))) == 1


def test_closed_form_families_take_no_train_and_no_initial_weights() -> None:
    found = problems(changed(("FakeFamily\n  width: 16", "FakeClosedForm")))
    name = f"'{FAKE}:FakeClosedForm'"
    solved = f"{name} is solved in closed form, so"
    assert found == [
        f"r.yaml:5: train: {solved} there is nothing to train; remove `train`",
        "r.yaml:15: arms.distill.teacher.weights.output: unknown term 'output'; "
        f"allowed: none, {name} has no distillation terms",
        f"r.yaml:18: arms.mixed.init: {solved} initial weights change nothing; allowed: fresh",
    ]


def test_a_model_for_other_data() -> None:
    text = f"""\
data: gaussian
model: {{use: {FAKE}:FakeFamily}}
train: {{steps: 1}}
generations: 1
seeds: 1
arms: {{replace: {{data: replace}}}}
metrics: [w2]
"""
    assert problems(text) == [
        f"r.yaml:2: model: '{FAKE}:FakeFamily' is for data of shapes or images, but the data 'gaussian' is of points"
    ]


@pytest.mark.parametrize("key", ["arms", "metrics"])
def test_at_least_one(key: str) -> None:
    text = "data: gaussian\nmodel: gaussian\ngenerations: 1\nseeds: 1\narms: {a: {data: replace}}\nmetrics: [w2]\n"
    line = 5 if key == "arms" else 6
    lines = text.splitlines()
    lines[line - 1] = f"{key}: " + ("{}" if key == "arms" else "[]")
    assert problems("\n".join(lines))[0].startswith(f"r.yaml:{line}: {key}: found ")


def test_a_misspelt_key_of_a_feature_map() -> None:
    text = """\
data: digits
model: vae
train: {steps: 1}
generations: 1
seeds: 1
arms: {replace: {data: replace}}
metrics:
  - use: fid
    features: {use: classifier, trian: {steps: 3}}
"""
    found = problems(text)
    message = "unknown key 'trian', did you mean 'train'?; allowed: classifier, train, use"
    assert found == [f"r.yaml:9: metrics.0.features.trian: {message}"]
    assert problems(text.replace("{use: classifier, trian: {steps: 3}}", "clasifier"))[0].startswith(
        "r.yaml:9: metrics.0.features: unknown 'clasifier', did you mean 'classifier'?"
    )


def test_a_module_that_fails_while_it_is_imported() -> None:
    write("1 / 0\n", "broken_module.py")
    assert problems(changed((f"{FAKE}:FakeFamily", "broken_module:Family"))) == [
        "r.yaml:4: model.use: cannot import 'broken_module:Family': ZeroDivisionError: division by zero"
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: a\ndata: [1, 2\n", "r.yaml:3: not valid YAML: expected ',' or ']'"),
        (b"name: a\n\tdata: 1\n", "r.yaml:2: not valid YAML: found character '\\t'"),
        (b"name: a\n---\nname: b\n", "r.yaml:2: not valid YAML: but found another document"),
        (b"name: a\nb: *nothing\n", "r.yaml:2: not valid YAML: found undefined alias 'nothing'"),
        (b"name: a\x00\n", "r.yaml:1: not valid YAML: "),
        (b"name: \xff\n", "r.yaml: not UTF-8 text (byte 6)"),
        (b"", "r.yaml:1: a recipe is a mapping of keys (name, data, model, ...), but this file is empty"),
        (b"- a\n- b\n", "r.yaml:1: a recipe is a mapping of keys (name, data, model, ...), but this file is a list"),
        (b"just words\n", "r.yaml:1: a recipe is a mapping of keys (name, data, model, ...), but this file is text"),
    ],
)
def test_what_is_no_recipe_at_all(content: bytes, message: str) -> None:
    path = write("")
    path.write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        load(path)
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(message)


def test_tags_never_run_anything() -> None:
    found = problems(GOOD.replace("samples: 6e4", "samples: !!python/object/apply:os.getcwd []"))
    tag = "tag:yaml.org,2002:python/object/apply:os.getcwd"
    assert found == [f"r.yaml:10: samples: found the tag '{tag}'; allowed: no tags"]


def test_no_such_file() -> None:
    with pytest.raises(
        RecipeError, match="quikstart: no such file, and no shipped recipe of that name, did you mean 'quickst"
    ):
        load("quikstart")
    write("", "folder/r.yaml")
    with pytest.raises(RecipeError, match="folder: a folder; give one recipe file in it"):
        load("folder")
