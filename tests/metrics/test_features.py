"""FID, KID, precision, recall, density, coverage and Vendi against reference code, brute force and closed forms."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from collapse_sim.metrics import features as metrics
from collapse_sim.metrics.features import FID, KID, Coverage, Density, Precision, Recall, Vendi, vendi_score

ALL = (FID, KID, Precision, Recall, Density, Coverage, Vendi)
NEIGHBOURS = (Precision, Recall, Density, Coverage)


def normal(rows: int, dimensions: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    draws = torch.randn(rows, dimensions, generator=torch.Generator().manual_seed(seed))
    return draws * scale + shift


@pytest.fixture
def score(evaluation):
    """(metric, samples, held-out rows) -> the score."""

    def run(metric, samples: Tensor, real: Tensor) -> float:
        value = metric.score(evaluation({"samples features": samples, "held_out features": real}))
        assert isinstance(value, float)
        return value

    return run


def brute_force(samples: Tensor, real: Tensor, k: int) -> dict[str, float]:
    """The definitions, pair by pair. Balls are closed for precision and recall, open for density and coverage."""
    x, y = samples.double().numpy(), real.double().numpy()

    def radius(rows: np.ndarray, i: int) -> float:
        return sorted(math.dist(rows[i], rows[j]) for j in range(len(rows)) if j != i)[k - 1]

    real_radii = [radius(y, i) for i in range(len(y))]
    sample_radii = [radius(x, i) for i in range(len(x))]
    inside = [[math.dist(a, b) < r for b, r in zip(y, real_radii, strict=True)] for a in x]
    return {
        "Precision": np.mean([any(math.dist(a, b) <= r for b, r in zip(y, real_radii, strict=True)) for a in x]),
        "Recall": np.mean([any(math.dist(b, a) <= r for a, r in zip(x, sample_radii, strict=True)) for b in y]),
        "Density": np.sum(inside) / (k * len(x)),
        "Coverage": np.mean([any(column) for column in zip(*inside, strict=True)]),
    }


def test_fid_is_torch_fidelitys(score):
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    a, b = normal(300, 16, 1, 0.8, 0.2), normal(200, 16, 2)
    reference = fid_statistics_to_metric(
        fid_features_to_statistics(a.double()), fid_features_to_statistics(b.double()), verbose=False
    )["frechet_inception_distance"]
    assert score(FID(), a, b) == pytest.approx(reference, rel=1e-12)


def test_fid_of_known_moments(score):
    # In one dimension it is (m - m')^2 + (s - s')^2.
    a = torch.tensor([[-1.0], [1.0], [3.0]])
    b = torch.tensor([[0.0], [1.0]])
    sa, sb = 2, 0.5**0.5
    assert score(FID(), a, b) == pytest.approx((1 - 0.5) ** 2 + (sa - sb) ** 2, rel=1e-12)


def test_fid_of_equal_and_of_collapsed_samples(score):
    real = normal(200, 8, 1)
    assert score(FID(), real, real) == pytest.approx(0, abs=1e-9)
    point = real.mean(0, keepdim=True).expand(50, 8)
    assert score(FID(), point, real) == pytest.approx(float(real.double().var(0).sum()), rel=1e-5)


def test_fid_prints_nothing(score, capfd):
    score(FID(), normal(20, 4, 1), normal(20, 4, 2))
    assert capfd.readouterr() == ("", "")


def test_kid_is_torch_fidelitys_over_one_whole_block(score):
    from torch_fidelity.metric_kid import kid_features_to_metric

    a, b = normal(150, 16, 1, 0.8, 0.2), normal(150, 16, 2)
    reference = kid_features_to_metric(a.double(), b.double(), kid_subsets=1, kid_subset_size=150, verbose=False)
    assert score(KID(), a, b) == pytest.approx(reference["kernel_inception_distance_mean"], rel=1e-9)


def test_kid_with_unequal_numbers_of_rows(score, monkeypatch):
    a, b = normal(9, 3, 1), normal(14, 3, 2, 2.0)

    def kernel(x: Tensor, y: Tensor) -> float:
        return float((x.double() @ y.double() / 3 + 1) ** 3)

    expected = (
        np.mean([kernel(a[i], a[j]) for i in range(9) for j in range(9) if i != j])
        + np.mean([kernel(b[i], b[j]) for i in range(14) for j in range(14) if i != j])
        - 2 * np.mean([kernel(x, y) for x in a for y in b])
    )
    assert score(KID(), a, b) == pytest.approx(expected, rel=1e-10)
    monkeypatch.setattr(metrics, "PIECE", 20)  # one or two rows at a time
    assert score(KID(), a.flip(0), b) == pytest.approx(expected, rel=1e-10)


def test_kid_is_unbiased(score):
    values = [score(KID(), normal(40, 4, 2 * i), normal(30, 4, 2 * i + 1)) for i in range(300)]
    assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(300)
    assert min(values) < 0


def test_precision_and_recall_are_torch_fidelitys(score):
    from torch_fidelity.metric_prc import prc_features_to_metric

    a, b = normal(400, 8, 1, 0.8, 0.1), normal(300, 8, 2)
    reference = prc_features_to_metric(a, b, verbose=False)
    assert score(Precision(), a, b) == pytest.approx(reference["precision"], abs=1e-6)
    assert score(Recall(), a, b) == pytest.approx(reference["recall"], abs=1e-6)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_neighbour_metrics_are_their_definitions(score, k):
    samples, real = normal(35, 3, 1, 0.7, 0.3), normal(28, 3, 2)
    expected = brute_force(samples, real, k)
    for metric in NEIGHBOURS:
        assert score(metric(k=k), samples, real) == pytest.approx(expected[metric.__name__], rel=1e-12), metric


def test_neighbour_metrics_with_repeated_rows(score):
    """Float rounding must not decide whether a row lies in the ball of its own copy."""
    row = normal(1, 64, 1) * 100
    copies, far = row.repeat(6, 1), normal(6, 64, 2) + 5000
    assert score(Precision(), copies, torch.cat([copies, far])) == 1
    assert score(Recall(), torch.cat([copies, far]), copies) == 1
    # Balls of radius 0 are empty when they are open.
    assert score(Density(), copies, copies) == 0
    assert score(Coverage(), copies, copies) == 0


def test_coverage_and_density_of_equal_distributions(score):
    """Naeem et al. 2020: E[density] = 1, E[coverage] = 1 - (N-1)...(N-k) / ((M+N-1)...(M+N-k))."""
    n, m, k, runs = 60, 90, 5, 150
    densities, coverages = [], []
    for i in range(runs):
        samples, real = normal(m, 2, 2 * i), normal(n, 2, 2 * i + 1)
        densities.append(score(Density(), samples, real))
        coverages.append(score(Coverage(), samples, real))
    expected = 1 - math.prod((n - j) / (m + n - j) for j in range(1, k + 1))
    assert abs(np.mean(densities) - 1) < 4 * np.std(densities) / math.sqrt(runs)
    assert abs(np.mean(coverages) - expected) < 4 * np.std(coverages) / math.sqrt(runs)


def test_lost_mode_costs_recall_and_coverage_not_precision(score):
    left, right = normal(100, 2, 1), normal(100, 2, 2, shift=50.0)
    real, samples = torch.cat([left, right]), normal(200, 2, 3)
    assert score(Precision(), samples, real) > 0.9
    assert score(Recall(), samples, real) < 0.55
    assert score(Coverage(), samples, real) < 0.55
    assert score(Density(), samples, real) > 0.8


def test_cap_draws_the_same_rows_for_every_arm(evaluation):
    """With `rows` below the numbers there are, the score is that of those rows; drawn anew it is the same."""
    real, samples = normal(50, 3, 1), normal(80, 3, 2)
    given = {"samples features": samples, "held_out features": real}
    metric = Precision(rows=20)
    capped = metric.score(evaluation(given))
    assert capped == metric.score(evaluation(given))

    def chosen(rows: Tensor, which: str) -> Tensor:
        kept = metric._pick(evaluation({f"{which} features": rows}), which)
        assert len(kept) == 20
        assert len({tuple(row.tolist()) for row in kept}) == 20
        assert all(any(torch.equal(row, other) for other in rows) for row in kept)
        return kept

    alone = {"samples features": chosen(samples, "samples"), "held_out features": chosen(real, "held_out")}
    assert Precision().score(evaluation(alone)) == capped
    places = {tuple(r.tolist()): i for i, r in enumerate(samples)}
    other_arm = torch.arange(80.0)[:, None]
    assert [places[tuple(r.tolist())] for r in chosen(samples, "samples")] == chosen(other_arm, "samples")[
        :, 0
    ].tolist()


@pytest.mark.parametrize("metric", ALL)
def test_looks_at_what_it_declares(evaluation, metric):
    against = {} if metric is Vendi else {"against": "real"}
    for made in (metric(), metric(**against)):
        seen = evaluation({f"{which} features": normal(30, 4, 1) for which in made.needs})
        made.score(seen)
        assert seen.asked == set(made.needs)
    assert metric(**against).needs == (("samples",) if metric is Vendi else ("samples", "real"))


def test_vendi_of_known_sets():
    assert vendi_score(torch.ones(10, 4)) == pytest.approx(1)
    assert vendi_score(torch.eye(6)) == pytest.approx(6)
    assert vendi_score(torch.eye(6).repeat(5, 1) * 3) == pytest.approx(6)  # neither copies nor lengths count
    weights = torch.tensor([0.5, 0.25, 0.25])
    expected = math.exp(-float((weights * weights.log()).sum()))
    assert vendi_score(torch.eye(3).repeat_interleave(torch.tensor([4, 2, 2]), 0)) == pytest.approx(expected)
    assert vendi_score(torch.zeros(5, 3)) == pytest.approx(1)  # black images are alike
    assert vendi_score(torch.cat([torch.zeros(4, 2), torch.eye(2).repeat(4, 1)])) == pytest.approx(3)


@pytest.mark.parametrize("shape", [(40, 6), (6, 40)])
def test_vendi_is_its_definition(score, shape):
    x = normal(*shape, 1).double().numpy()
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(unit @ unit.T / len(x))
    values = values[values > 1e-12]
    assert vendi_score(torch.from_numpy(x)) == pytest.approx(math.exp(-(values * np.log(values)).sum()), rel=1e-9)


def test_too_few_rows(digits_info):
    with pytest.raises(ValueError, match=r"too few samples: 5, and Coverage needs more than its k = 5 neighbours"):
        Coverage().check(digits_info, None, 5)
    Coverage().check(digits_info, None, 6)
    with pytest.raises(ValueError, match=r"too few samples: 1, and FID needs at least 2"):
        FID().check(digits_info, None, 1)
    few = dataclasses.replace(digits_info, held_out=3)
    with pytest.raises(ValueError, match="too few held_out rows: 3, and Precision needs more than its k = 3"):
        Precision().check(few, None, 100)
    Precision(against="real").check(few, None, 100)
    with pytest.raises(ValueError, match=r"too few rows to compare \(`rows`\): 3"):
        Recall(rows=3).check(digits_info, None, 100)


@pytest.mark.parametrize("metric", ALL)
def test_images_without_labels_need_another_map(metric, digits_info):
    unlabelled = dataclasses.replace(digits_info, classes=0)
    with pytest.raises(ValueError, match=r"no labels; or compare in pixels \(`features: pixels`\)"):
        metric().check(unlabelled, None, 100)
    metric(features="pixels").check(unlabelled, None, 100)


def test_real_statistics_are_computed_once(score, monkeypatch):
    from collapse_sim.metrics import neighbours

    compared = []
    inner = neighbours.squared_distances
    monkeypatch.setattr(neighbours, "squared_distances", lambda a, b: compared.append((a, b)) or inner(a, b))
    real = normal(30, 3, 123)
    score(Precision(), normal(30, 3, 4), real)
    score(Precision(), normal(30, 3, 5), real.clone())
    assert sum(a is b for a, b in compared) == 1
    changed = real.clone()
    changed[0] += 1
    score(Precision(), normal(30, 3, 5), changed)
    assert sum(a is b for a, b in compared) == 2


def test_kid_in_blocks_is_torch_fidelitys(score):
    from torch_fidelity.metric_kid import kid_features_to_metric

    a, b = normal(60, 16, 1, 0.8, 0.2), normal(50, 16, 2)
    reference = kid_features_to_metric(a.double(), b.double(), kid_subsets=7, kid_subset_size=20, verbose=False)
    assert score(KID(subsets=7, subset_size=20), a, b) == reference["kernel_inception_distance_mean"]


def test_blocks_of_kid(digits_info):
    with pytest.raises(ValueError, match="`subsets` and `subset_size` go together"):
        KID(subsets=10)
    with pytest.raises(ValueError, match="too few samples: 99, and KID needs at least its subset_size = 100"):
        KID(subsets=10, subset_size=100).check(digits_info, None, 99)
    with pytest.raises(ValueError, match=r"too few rows to compare \(`rows`\): 50"):
        KID(subsets=10, subset_size=100, rows=50).check(digits_info, None, 200)
    assert KID(subsets=10, subset_size=100).describe()["subsets"] == 10


def test_statistics_in_pieces_are_those_of_all_rows(monkeypatch):
    rows = normal(50, 7, 1, 3.0, 100.0)
    monkeypatch.setattr(metrics, "STATISTICS_ROWS", 8)
    found = metrics._fid_statistics(rows)
    np.testing.assert_allclose(found["mu"], rows.double().mean(0), rtol=1e-12)
    np.testing.assert_allclose(found["sigma"], np.cov(rows.double().numpy(), rowvar=False), rtol=1e-9)


def test_fid_of_some_rows_is_that_of_these_rows_alone(evaluation):
    generator = torch.Generator().manual_seed(5)
    samples, held_out = torch.randn(300, 4, generator=generator), torch.randn(50, 4, generator=generator)
    metric = FID(features="pixels", rows=100)
    seen = evaluation({"samples features": samples, "held_out features": held_out})
    order = seen.draws("metric_rows/samples").permutation(300)[:100]
    alone = evaluation({"samples features": samples[order], "held_out features": held_out})
    assert metric.score(seen) == pytest.approx(FID(features="pixels").score(alone), rel=1e-9)
    assert metric.score(seen) != pytest.approx(FID(features="pixels").score(seen), rel=1e-3)
    facts = metric.metric_note(seen.info, 20_000, None)
    assert facts.note.startswith("100 of 20,000 samples")
    assert facts.warning == "biased: fewer than 10,000 samples and held-out rows"
