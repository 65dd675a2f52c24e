"""What no recipe may ask for is refused before anything is expanded or made, in few words."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import yaml

from collapse_sim.core.errors import RecipeError
from collapse_sim.plan.dry_run import plan_document, plan_text
from collapse_sim.plan.experiment import prepare
from collapse_sim.plan.memory import available
from collapse_sim.plan.specs import LISTED
from collapse_sim.recipe import marked
from collapse_sim.recipe.loader import load
from collapse_sim.recipe.marked import plain
from collapse_sim.recipe.problems import Problems
from collapse_sim.recipe.yaml_lines import read
from tests.torture import fuzz_recipes

from .helpers import GOOD, changed, problems, write
from .test_plugins import TOY


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join(lines)


def gridded(*counts: int) -> str:
    values = {f"teacher.weights.w{i}": list(range(count)) for i, count in enumerate(counts)}
    return TOY.replace("{data: replace}", f"{{data: replace, grid: {values}}}")


WHOLE = {
    "an alias bomb": (bomb(9), "more than 100,000 values, aliases counted as what they stand for"),
    "an alias chain": (
        "a0: &a0 []\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 99)),
        "more than 40 nested mappings and lists",
    ),
    "900 levels": (
        f"name: x\na: {'[' * 900}{']' * 900}",
        "r.yaml:2: not valid YAML: more than 40 nested mappings and lists",
    ),
    "3,000 levels": (f"a: {'{a: ' * 3000}1{'}' * 3000}", "more than 40 nested mappings and lists"),
    "10 MB": ("#" * 10_000_000, "r.yaml: larger than 1 MB, too large for a recipe"),
    "5,000 digits": (
        TOY.replace("generations: 2", f"generations: {'9' * 5000}"),
        "r.yaml:4: generations: found '999",
    ),
    "64 bits": (TOY.replace("generations: 2", f"generations: {2**63}"), "allowed: whole numbers below 2^63"),
    "a billion generations": (
        TOY.replace("generations: 2", "generations: 1e9"),
        "r.yaml:4: generations: found 1000000000; allowed: at most 5000",
    ),
    "1,001 arms": (gridded(1001), "r.yaml:6: arms: 1,001 arms, grids expanded; allowed: at most 1,000"),
    "very many arms": (gridded(*[100] * 20), "arms, grids expanded; allowed: at most 1,000"),
    "arms without a grid": (
        TOY.replace("{replace: {data: replace}}", str({f"a{i}": {"data": "replace"} for i in range(5000)})),
        "5,000 arms, grids expanded; allowed: at most 1,000",
    ),
    "too many fits": (
        TOY.replace("{replace: {data: replace}}", str({f"a{i}": {"data": "replace"} for i in range(100)})).replace(
            "generations: 2", "generations: 1000"
        ),
        "100 arms x 1,001 generations are 100,100; allowed: at most 50,000",
    ),
    "too many cells": (
        TOY.replace("generations: 2", "generations: 5000").replace("seeds: 2", "seeds: 1000000"),
        "5,001 generations of all arms x seeds are 5,001,000,000; allowed: at most 10,000,000",
    ),
    "a recipe's long name": (
        TOY.replace("name: toy", f"name: {'n' * 260}"),
        "r.yaml:1: name: found 'nnn",
    ),
    "an arm's long name": (
        TOY.replace("{replace:", f"{{{'n' * 301}:"),
        "has 301 characters; allowed: at most 300",
    ),
    "a metric's long name": (
        TOY.replace("[variance_ratio]", f"[{{use: variance_ratio, as: {'n' * 101}}}]"),
        "has 101 characters; allowed: at most 100",
    ),
    "a metric without a name": (
        TOY.replace("[variance_ratio]", '[{use: variance_ratio, as: " "}]'),
        "metrics.0.as: found ' '; allowed: text that is not empty",
    ),
    "half of a character": (TOY.replace("name: toy", 'name: "\\ud83d"'), "with half of a character; allowed: text"),
    "no character": ('name: "\\UFFFFFFFF"', "r.yaml:1: not valid YAML"),
    "a version of many digits": (f"%YAML {'9' * 5000}.1\n---\n{TOY}", "not valid YAML"),
}


@pytest.mark.parametrize(("text", "said"), WHOLE.values(), ids=WHOLE)
def test_refused_in_few_words(text: str, said: str) -> None:
    found = problems(text, smoke="smoke:" in text)
    assert any(said in line for line in found), found
    assert len(found) <= 51
    assert max(map(len, found)) <= RecipeError.longest


def test_a_long_path() -> None:
    (line,) = problems(TOY, overrides=[f"{'.'.join(['a'] * 900)}=1"])
    assert "found a path of 900 steps; allowed: at most 40" in line


def test_the_largest_that_is_allowed() -> None:
    arms = str({"a" * marked.ARM_NAME: {"data": "accumulate"}})
    text = TOY.replace("{replace: {data: replace}}", arms).replace(
        "generations: 2", f"generations: {marked.GENERATIONS}"
    )
    recipe = load(write(text))
    assert (recipe.generations, len(recipe.arms[0].name)) == (5000, 300)


def test_a_chain_of_recipes() -> None:
    write(TOY, "r0.yaml")
    for i in range(1, 40):
        write(f"extends: r{i - 1}.yaml\nname: r{i}\n", f"r{i}.yaml")
    assert load("r15.yaml").name == "r15"
    with pytest.raises(RecipeError, match="extends: more than 16 recipes laid over each other"):
        load("r16.yaml")
    with pytest.raises(RecipeError, match="extends: more than 16 recipes laid over each other"):
        load("r39.yaml")


def test_of_very_many_problems_the_first_are_told() -> None:
    found = problems(TOY + "".join(f"key{i}: 1\n" for i in range(262)))
    assert len(found) == 51
    assert found[-1] == "and 212 more"


@pytest.mark.parametrize("name", ["x" * 300, "x" * 100_000, "a\0b"])
def test_names_that_no_file_can_have(name: str) -> None:
    with pytest.raises(RecipeError, match="no such file, and no shipped recipe of that name") as caught:
        load(name)
    assert len(str(caught.value)) <= RecipeError.longest
    assert "extends: found " in problems(f'extends: "{name}"'.replace("\0", "\\0"))[0]


# Memory

LARGE = [
    ("{use: gaussian, dimensions: 1000000000}", "gaussian", "data: rows that are simulated together"),
    ("{use: gaussian, dimensions: 200000}", "gaussian", "model: weights"),  # a covariance of 320 GB a seed
    ("{use: gaussian, rows: 100000000000}", "gaussian", "data: rows that are simulated together"),
    ("{use: linear, dimensions: 10000000000}", "linear", "data: rows that are simulated together"),
    ("digits", "{use: vae, hidden: 1000000000}", "model: weights take "),
]


@pytest.mark.parametrize(("data", "model", "said"), LARGE, ids=[case[2] + case[0] for case in LARGE])
def test_what_no_memory_can_hold(data: str, model: str, said: str, tmp_path: Path) -> None:
    text = TOY.replace("{use: gaussian, rows: 20, held_out_rows: 20}", data).replace("gaussian\ngen", f"{model}\ngen")
    metric = {"digits": "test_loss", "{use: linear": "excess_test_error"}.get(data.partition(",")[0], "variance_ratio")
    text = text.replace("[variance_ratio]", f"[{metric}]")
    if data == "digits":
        text += "train: {steps: 1}\n"
    with pytest.raises(RecipeError, match=rf"r\.yaml:\d: {said}.* GB of memory, and this process can have .* GB"):
        prepare(load(write(text)), tmp_path)


def test_memory_is_the_machines_or_less() -> None:
    assert 2**28 < available() < 2**50


def test_a_limit_of_memory_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    group = tmp_path / "memory.max"
    group.write_text("1000000\n")
    monkeypatch.setattr("collapse_sim.plan.memory.CGROUPS", (str(group), str(tmp_path / "none")))
    assert available() == 1_000_000
    group.write_text("max\n")
    assert available() > 1_000_000


# Many generations


def test_thousands_of_accumulated_generations_have_different_keys_that_do_not_depend_on_how_far_one_goes(
    tmp_path: Path,
) -> None:
    text = TOY.replace("{data: replace}", "{data: accumulate}")
    short, long = (
        prepare(load(write(text.replace("generations: 2", f"generations: {n}"))), tmp_path) for n in (30, 600)
    )
    digests = [plan.fit.digest for plan in long.arm_plans[0].generations]
    assert len(set(digests)) == 601
    assert [plan.fit.digest for plan in short.arm_plans[0].generations] == digests[:31]
    fit = long.arm_plans[0].generations[600].fit
    assert [source.generation for source in fit.plan.sources] == list(range(-1, 600))
    assert fit.sources == (long.data, *(plan.samples for plan in long.arm_plans[0].generations[:600]))


@pytest.mark.parametrize(
    ("last", "made_from"),
    [
        (3, "20 real + 20 of 0 + 20 of 1 + 20 of 2"),
        (4, "20 real + 20 of 0 + ... + 20 of 3"),
        (LISTED - 1, f"20 real + 20 of 0 + ... + 20 of {LISTED - 2}"),
        (LISTED, f"20 real + 20 of 0 + ... + 20 of {LISTED - 1}"),
        (40, "20 real + 20 of 0 + ... + 20 of 39"),
    ],
)
def test_the_plan_of_accumulated_generations_for_people(tmp_path: Path, last: int, made_from: str) -> None:
    text = TOY.replace("{data: replace}", "{data: accumulate}").replace("generations: 2", f"generations: {last}")
    plan = plan_document(prepare(load(write(text)), tmp_path), tmp_path)
    assert plan_text(plan).endswith(f"  {made_from}")
    assert sum(source["rows"] for source in plan["arms"]["replace"][-1]["sources"]) == 20 * (last + 1)


def test_the_key_of_many_sources_follows_each_of_them(tmp_path: Path) -> None:
    """Another number of rows of one source in the middle is another key, in whatever order the keys are asked for."""
    from collapse_sim.data.sources import Source
    from collapse_sim.plan.specs import SourcesKey

    text = TOY.replace("{data: replace}", "{data: accumulate}").replace("generations: 2", "generations: 50")
    experiment = prepare(load(write(text)), tmp_path)
    past = dict(enumerate(plan.samples for plan in experiment.arm_plans[0].generations))

    def fresh(sources: tuple[Source, ...]) -> object:
        return SourcesKey(experiment.data, past).of(sources)

    whole = tuple(Source(j, 20) for j in range(40))
    others = [(*whole[:i], Source(i, 19), *whole[i + 1 :]) for i in range(40)]
    shorter = [whole[:n] for n in range(1, 40)]
    keys = [fresh(sources) for sources in (whole, *others, *shorter)]
    assert len({str(key) for key in keys}) == 80
    assert sum(isinstance(key, list) for key in keys) == LISTED
    one = SourcesKey(experiment.data, past)
    assert [one.of(sources) for sources in (whole, *others, *shorter)] == keys


# Merge keys


def merged(text: str) -> tuple[object, list[str]]:
    problems = Problems()
    return plain(read(write(text), "r.yaml", problems)), problems.lines


@pytest.mark.parametrize(
    "text",
    [
        "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n",
        "a: &a {x: 1, y: 2}\nb: {y: 3, <<: *a}\n",
        "a: &a {x: 1}\nc: &c {x: 2, z: 3}\nb: {<<: [*a, *c], y: 4}\n",
        "a: &a {x: 1}\nc: &c {<<: *a, z: 3}\nb: {<<: *c, y: 4}\n",
        "b: {<<: {x: 1}}\n",
        "b: {'<<': 1}\n",
        "b: <<\n",
        "b: [<<]\n",
    ],
)
def test_merge_keys_mean_what_pyyaml_means(text: str) -> None:
    found, lines = merged("name: x\n" + text)
    assert lines == []
    assert found == yaml.safe_load("name: x\n" + text.replace(": <<\n", ": '<<'\n").replace("[<<]", "['<<']"))


def test_wrong_merge_keys() -> None:
    assert merged("b:\n  <<: 3\n")[1] == ["r.yaml:2: b.<<: found 3; allowed: a mapping to merge, or a list of them"]
    assert merged("b: {<<: [1]}\n")[1] == ["r.yaml:1: b.<<: found 1; allowed: a mapping to merge, or a list of them"]
    assert "this alias contains itself" in merged("b: &b\n  <<: *b\n")[1][0]


def test_a_recipe_with_merge_keys_and_other_bases_of_numbers() -> None:
    text = TOY.replace("{replace: {data: replace}}", "{replace: &base {data: replace}, warm: {<<: *base, init: fresh}}")
    recipe = load(write(text.replace("rows: 20, held_out_rows: 20", "rows: 0x10, held_out_rows: 0o50")))
    assert [arm.name for arm in recipe.arms] == ["replace", "warm"]
    assert recipe.document["data"] | {"rows": 16, "held_out_rows": 40} == recipe.document["data"]


# Published figures


def test_another_size_does_not_show_the_published_figures(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "collapse_sim")
    path = write(GOOD)
    assert load(path).references
    assert load(path, overrides=["description=x", "seeds=[5]"]).references
    assert caplog.messages == []
    assert not load(path, smoke=True).references
    assert caplog.messages == ["r.yaml:29: changes `model`, so the published figures (`reference`) are left out"]
    caplog.clear()
    assert not load(path, overrides=["train.epochs=1"]).references
    assert caplog.messages[0].startswith("--set train.epochs=1: changes `train`, so ")
    assert not load(path, generations=3).references  # it is of the last generation
    numbered = write(changed(("{source: a paper, ", "{source: a paper, generation: 1, ")))
    assert load(numbered, generations=3).references
    write("extends: r.yaml\nsamples: 10\n", "over.yaml")
    write(GOOD)
    assert not load("over.yaml").references
    write("extends: r.yaml\nsamples: 10\nreference: {source: another}\n", "over.yaml")
    (reference,) = load("over.yaml").references
    assert reference.source == "another"


def test_figures_of_several_generations() -> None:
    line = "reference: {source: a paper, metric: test_loss, values: {replace: 1.5, distill: 1.25}}"
    several = """\
reference:
  - {source: &paper "a paper", metric: test_loss, generation: 1, values: {replace: 1.5}}
  - {source: *paper, metric: test_loss, generation: 3, values: {replace: 1.25, distill: 1}}
  - {source: *paper, metric: FakeMetric, values: {replace: 2}}
"""
    path = write(changed((line + "\n", several)))
    recipe = load(path)
    found = [(r.metric, r.generation, r.values) for r in recipe.references]
    assert found == [
        ("test_loss", 1, {"replace": 1.5}),
        ("test_loss", 3, {"replace": 1.25, "distill": 1.0}),
        ("FakeMetric", "last", {"replace": 2.0}),
    ]
    assert {r.source for r in recipe.references} == {"a paper"}
    assert load(write(json.dumps(recipe.document), "again.yaml")).references == recipe.references
    # fewer generations: what is of the last one goes, and what is of a later one
    assert [r.generation for r in load(path, generations=2).references] == [1]
    assert [r.generation for r in load(path, generations=4).references] == [1, 3]
    assert [(r.generation, r.values) for r in load(path, arms=["distill"]).references] == [(3, {"distill": 1.0})]
    assert not load(path, smoke=True).references


def test_wrong_figures_of_several_generations() -> None:
    line = "reference: {source: a paper, metric: test_loss, values: {replace: 1.5, distill: 1.25}}"
    several = """\
reference:
  - {source: a, metric: test_loss, generation: 5, values: {replace: 1.5}}
  - {source: a, metric: test_loss, values: {distill: 1.25}}
  - {source: a, metric: test_loss, generation: 7, values: {replaced: 1}}
"""
    found = problems(changed((line, several)))
    assert found[0] == "r.yaml:30: reference.1: second figures of 'test_loss' at generation 5; give each place once"
    assert found[1] == "r.yaml:31: reference.2.generation: there is no generation 7; allowed: 0 to 5"
    assert found[2].startswith("r.yaml:31: reference.2.values.replaced: unknown arm 'replaced'")
    found = problems(changed((line, "reference:\n  - {source: a, metric: test_loss}\n  - 3\n")))
    assert [problem.partition(";")[0] for problem in found] == [
        "r.yaml:29: reference.0.values: missing",
        "r.yaml:30: reference.1: found 3",
    ]


def test_a_few_recipes_that_are_changed_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("collapse_sim"), "level", logging.ERROR)
    assert fuzz_recipes.run(600.0, 0, most=40).total() == 40
