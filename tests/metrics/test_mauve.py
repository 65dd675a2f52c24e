"""MAUVE: the features are the network's, the figure is mauve-text's own; a stand-in where that is not installed."""

from __future__ import annotations

import dataclasses
import importlib.machinery
import math
import sys
import types

import pytest
import torch

from collapse_sim.core.machine import open_machine
from collapse_sim.metrics import language_model
from collapse_sim.metrics.mauve import Mauve
from tests.metrics import judges, word_rows

REAL = ["the cat sat on the mat", "a b c", "", "dog"]
TEXTS = ["the dog ran", "c b a the cat ran on the mat a b c a b c the", "a"]


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return folder, judges.save(folder / "features")


@pytest.fixture
def package(monkeypatch):
    """A module `mauve` that keeps what it is given."""
    module = types.ModuleType("mauve")
    module.__spec__ = importlib.machinery.ModuleSpec("mauve", None)
    module.given = {}

    def compute_mauve(**given):
        module.given.update(given)
        return types.SimpleNamespace(mauve=0.25)

    module.compute_mauve = compute_mauve
    monkeypatch.setitem(sys.modules, "mauve", module)
    return module


@pytest.fixture
def seen(evaluation):
    def make(samples=TEXTS, real=REAL):
        sides = {"samples rows": samples, "held_out rows": real}
        given = {name: {"tokens": word_rows.rows(found, 24, words=judges.WORDS)} for name, found in sides.items()}
        return evaluation(given, info=word_rows.info(words=judges.WORDS), machine=open_machine("cpu"))

    return make


def located(there, **settings):
    return Mauve(model="features", **settings).resolve_files(there[0])


def last_state(network, text):
    ids = torch.tensor([judges.WORDS.encode([text])[0].tolist()])[:, : judges.POSITIONS]
    with torch.no_grad():
        return network.transformer(input_ids=ids).last_hidden_state[0, -1]


@pytest.mark.parametrize("numbers", [1, 10**9])
def test_features_are_last_states_of_single_texts(there, seen, package, monkeypatch, numbers):
    monkeypatch.setattr(language_model, "NUMBERS_AT_ONCE", numbers)
    evaluation = seen()
    assert located(there, buckets=3).score(evaluation) == 0.25
    assert evaluation.asked == {"samples", "held_out"}
    for key, texts in (("p_features", REAL), ("q_features", TEXTS)):
        expected = torch.stack([last_state(there[1], text) for text in texts if text])
        torch.testing.assert_close(torch.from_numpy(package.given[key]), expected, rtol=1e-4, atol=1e-5)
    assert package.given["num_buckets"] == 3
    assert package.given["seed"] == 25


def test_nothing_to_compare(there, seen, package):
    assert math.isnan(located(there).score(seen(["", "", "a"])))
    assert not package.given


def test_the_package_is_missing(there, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"mauve-text is not installed: pip install 'collapse-sim\[mauve\]'"):
        located(there).check(word_rows.info(words=judges.WORDS), None, 5)


def test_check_and_facts(there, package):
    info = word_rows.info(real=9000, held_out=500, words=judges.WORDS)
    metric = located(there)
    metric.check(info, None, 2000)
    facts = metric.metric_note(info, 2000, None)
    digest = metric.describe()["model"][0]
    assert facts.note == f"2,000 samples against 500 held-out rows; features {digest[:8]}"
    assert facts.warning == "unsure: fewer than 1,000 texts on a side"
    assert not located(there, against="real").metric_note(info, 2000, None).warning
    with pytest.raises(ValueError, match="are both held_out"):
        located(there, of="held_out").check(info, None, 2000)
    with pytest.raises(ValueError, match="too few held-out rows: 1"):
        metric.check(dataclasses.replace(info, held_out=1), None, 2000)


def test_mauve_texts_own_figure(there, seen, capfd):
    """1 for the same texts, less for others, as from texts that its own featurizer reads; nothing is printed."""
    mauve = pytest.importorskip("mauve")
    real = REAL * 20
    assert located(there).score(seen(real, real)) == pytest.approx(1, abs=0.01)
    others = ["ran ran", "on on on", "mat a"] * 20
    found = located(there).score(seen(others, real))
    assert found < 0.5
    features = [torch.stack([last_state(there[1], text) for text in side if text]) for side in (real, others)]
    expected = mauve.compute_mauve(p_features=features[0].numpy(), q_features=features[1].numpy())
    capfd.readouterr()
    assert located(there).score(seen(others, real)) == pytest.approx(expected.mauve, abs=1e-6)
    assert capfd.readouterr() == ("", "")
