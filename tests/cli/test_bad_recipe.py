"""Recipes and options that are wrong: exit 2, and every message says where, what was found and what is allowed."""

from __future__ import annotations

import pytest

DIGITS = "use: digits, rows: 200, held_out_rows: 50"

RECIPES = {
    "misspelt key": (
        [("steps: 20", "stpes: 20")],
        ["r.yaml:4: train.stpes: unknown key 'stpes', did you mean 'steps'?; allowed: accumulate, batch_size, "],
    ),
    "unknown key": (
        [("samples: 150", "samples: 150\ncolour: red")],
        ["r.yaml:6: colour: unknown key 'colour'; allowed: arms, baseline, claims, data, "],
    ),
    "duplicate key": (
        [("samples: 150", "samples: 150\nsamples: 160")],
        ["r.yaml:6: samples: duplicate key 'samples', first on line 5; keep one"],
    ),
    "both epochs and steps": (
        [("steps: 20", "steps: 20, epochs: 1")],
        ["r.yaml:4: train: exactly one of `epochs` and `steps` is needed, found both"],
    ),
    "neither epochs nor steps": (
        [("steps: 20, ", "")],
        ["r.yaml:4: train: exactly one of `epochs` and `steps` is needed, found neither"],
    ),
    "baseline that is no arm": (
        [("metrics:", "baseline: acumulate+distill\nmetrics:")],
        [
            "r.yaml:12: baseline: unknown arm 'acumulate+distill', did you mean 'accumulate+distill'?; "
            "allowed: replace, accumulate+distill"
        ],
    ),
    "teacher generation that does not exist yet": (
        [("generation: 0", "generation: 1")],
        [
            "r.yaml:11: arms.accumulate+distill.teacher.generation: generation 1 does not exist yet when generation 1 "
            "is fitted; allowed: 0, previous, ema"
        ],
    ),
    "share above its range": (
        [("data: replace", "data: {use: mix, real: 1.5}")],
        ["r.yaml:10: arms.replace.data.real: found 1.5; allowed: at most 1"],
    ),
    "share below its range": (
        [("data: replace", "data: {use: fresh, share: -0.1}")],
        ["r.yaml:10: arms.replace.data.share: found -0.1; allowed: at least 0"],
    ),
    "share that needs more rows than there are": (
        [("data: replace", "data: {use: fresh, share: 0.9}"), ("rows: 200", "rows: 1300")],
        [
            "r.yaml:10: arms.replace.data: fresh needs 1170 unused real rows per generation, ",
            "but the data has 1397: lower",
        ],
    ),
    "share that needs more samples than there are": (
        [("data: replace", "data: {use: mix, synthetic: 2}")],
        [
            "r.yaml:10: arms.replace.data: mix takes 400 samples of a generation (2.0 x 200 real rows), but a "
            "generation has 150: raise `samples` to 400 or lower `synthetic`"
        ],
    ),
    "metric for other data": (
        [("[test_loss]", "[test_loss, variance_ratio]")],
        ["r.yaml:12: metrics.1: 'variance_ratio' is for data of points, but the data 'digits' is of images"],
    ),
    "metric that needs more samples": (
        [("[test_loss]", "[{use: precision, features: pixels, k: 500}]")],
        ["r.yaml:12: metrics.precision: too few samples: 150, and Precision needs more than its k = 500 neighbours"],
    ),
    "unknown metric": (
        [("[test_loss]", "[tset_loss]")],
        ["r.yaml:12: metrics.0.use: unknown 'tset_loss', did you mean 'test_loss'?; allowed: authenticity, "],
    ),
    "model for other data": (
        [(DIGITS, "use: gaussian")],
        ["r.yaml:3: model: 'vae' is for data of images, but the data 'gaussian' is of points"],
    ),
    "more rows than the data has": (
        [("rows: 200", "rows: 5000")],
        ["r.yaml:2: data.rows: 5000 asked for, but there are 1437 real rows: lower it or leave it out"],
    ),
    "precision that the device has not": (
        [("steps: 20", "steps: 20, precision: fp16")],
        ["r.yaml:4: train.precision: fp16 needs a CUDA device; allowed here: auto, fp32, bf16"],
    ),
    "optimiser's decay out of range": (
        [("steps: 20", "steps: 20, betas: [0.9, 1.5]")],
        ["r.yaml:4: train.betas.1: found 1.5; allowed: below 1"],
    ),
    "negative seed": ([("seeds: [0]", "seeds: [0, -1]")], ["r.yaml:8: seeds.1: found -1; allowed: at least 0"]),
    "seed given twice": (
        [("seeds: [0]", "seeds: [3, 3]")],
        ["r.yaml:8: seeds: each seed once; found more than once: 3"],
    ),
    "several at once": (
        [("hidden: 16", "hidden: wide"), ("samples: 150", "samples: 0"), ("data: accumulate", "data: acumulate")],
        [
            "error: r.yaml:3: model.hidden: found 'wide'; allowed: a whole number\n",
            "\nr.yaml:5: samples: found 0; allowed: at least 1\n",
            "\nr.yaml:11: arms.accumulate+distill.data.use: unknown 'acumulate', did you mean 'accumulate'?; allowed: ",
        ],
    ),
}


@pytest.mark.parametrize(("changes", "messages"), RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("options", [[], ["--dry-run", "--json"]], ids=["run", "dry-run"])
def test_a_wrong_recipe(shell, recipe, changes, messages, options):
    text = shell.refused("run", recipe(*changes), "--device", "cpu", *options, code=2)
    assert text.startswith("error: r.yaml:")
    for message in messages:
        assert message in text


OPTIONS = {
    "unknown arm": (["--arm", "replcae"], "--arm: unknown arm 'replcae', did you mean 'replace'?; allowed: replace, "),
    "negative seed": (["--seed", "-1"], "--seed: seeds.0: found -1; allowed: at least 0"),
    "seed that is no number": (["--seed", "x"], "Invalid value for '--seed': "),
    "no generation": (["--generations", "0"], "--generations: generations: found 0; allowed: at least 1"),
    "misspelt setting": (
        ["--set", "train.lerning_rate=1"],
        "--set train.lerning_rate=1: train.lerning_rate: unknown key 'lerning_rate', did you mean 'learning_rate'?",
    ),
    "setting without a value": (["--set", "train.steps"], "--set train.steps: allowed: path=value, as in --set train."),
    "setting of the wrong type": (["--set", "train.steps=many"], "--set train.steps=many: train.steps: found 'many'; "),
    "no smoke block": (["--smoke"], "r.yaml:1: this recipe has no `smoke:` block, so it cannot be run with --smoke"),
    "unknown device": (["--device", "gpu"], "--device gpu: no such kind of device; allowed: auto, cpu, cuda, cuda:N"),
    "unknown option": (["--sede", "1"], "No such option: --sede"),
    "negative time": (["--checkpoint-seconds", "-1"], "Invalid value for '--checkpoint-seconds': "),
}


@pytest.mark.parametrize(("options", "message"), OPTIONS.values(), ids=OPTIONS)
def test_a_wrong_option(shell, recipe, options, message):
    assert message in shell.refused("run", recipe(), *options, code=2)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("nothing.yaml", "nothing.yaml: no such file, and no shipped recipe of that name; there are: "),
        ("quikstart", "quikstart: no such file, and no shipped recipe of that name, did you mean 'quickstart'?; "),
        (".", ".: a folder; give one recipe file in it"),
    ],
)
def test_no_such_recipe(shell, reference, message):
    assert message in shell.refused("run", reference, code=2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rnu"], "No such command 'rnu'"),
        (["cache", "clear"], "No such command 'clear'"),
        (["run"], "Missing argument 'RECIPE'"),
        (["compare"], "Missing argument 'RUN'"),
    ],
)
def test_a_wrong_command(shell, words, message):
    assert message in shell.refused(*words, code=2)
