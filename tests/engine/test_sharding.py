"""Fits whose parameters are divided between two ranks: their files are those of one process, up to rounding."""

from __future__ import annotations

import signal

import pytest
import torch
from torch import nn

from collapse_sim.core.errors import InterruptedRunError, RanksError, RecipeError
from collapse_sim.core.ranks import Ranks
from collapse_sim.engine import fit
from collapse_sim.engine.checkpoint import Checkpoints
from collapse_sim.engine.following import check_ranks
from collapse_sim.engine.member import Member
from collapse_sim.engine.sharding import Sharded, Whole, holding, lost_connections
from collapse_sim.families import vae
from collapse_sim.families.base import Inputs
from collapse_sim.families.training import Train
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load
from collapse_sim.testing import CPU
from tests.conftest import Sandbox, artefacts
from tests.engine.ranked_fits import DIGITS, FAMILIES, TRAIN, fits, recipe, stopped
from tests.rank_pool import changed_method, run_together

SHARDED = f"{TRAIN}, shard: true"
VALIDATED = f"{DIGITS}, validation_rows: 8"
VAE = {**FAMILIES["vae"], "data": VALIDATED}
UNET = {
    "data": VALIDATED,
    "model": "use: ddpm, network: {widths: [8, 8], attention: none}, timesteps: 30",
    "weights": "{output: 0.5, encoder: 0.5}",
}
RUNS = {**FAMILIES, "vae": VAE, "unet": UNET}


def assert_equal_fits(alone, together):
    """Up to rounding."""
    assert len(alone) == 2
    assert alone.keys() == together.keys()
    for digest, (weights, history, _) in alone.items():
        other_weights, other_history, _ = together[digest]
        assert weights.keys() == other_weights.keys()
        for name, tensor in weights.items():
            torch.testing.assert_close(other_weights[name], tensor, rtol=0, atol=1e-5)
        assert history["updates"] == other_history["updates"] == 20
        for one, other in zip(history["evaluations"], other_history["evaluations"], strict=True):
            assert other == pytest.approx(one, rel=1e-5, abs=1e-5)


def sharded_everywhere(ranks, path, root):
    """A run -> (this rank's exit code, the share of the parameters that it holds, by fit)."""
    shares = []

    def watched(before):
        def start(self, most=None):
            before(self, most)
            whole = sum(p.numel() for p in self.run.model.parameters())
            own = sum(p.to_local().numel() for p in self.run.model.parameters())
            shares.append(own / whole)

        return start

    with changed_method(Member, "start", watched):
        return run_together(ranks, path, root), shares


@pytest.mark.slow
@pytest.mark.parametrize("family", RUNS.values(), ids=RUNS)
def test_a_sharded_fit_is_that_of_one_process(family, sandbox, ranked):
    """With a teacher, micro-batches, moving averages, clipping, the best of two evaluations, and a batch of one row, of
    which a rank has none. Each rank holds about half of the parameters, and the keys are those without `shard`."""
    best = ", keep: best" if family["data"] == VALIDATED else ""
    outcomes, root = ranked(recipe(family, train=SHARDED + best), "ranks", sharded_everywhere)
    for code, shares in outcomes:
        assert code == 0
        assert len(shares) == 2
        assert all(0.3 < share < 0.7 for share in shares)
    sandbox.run(recipe(family, train=TRAIN + best))
    assert_equal_fits(fits(sandbox.root), fits(root))


@pytest.mark.slow
def test_a_killed_sharded_run_continues_to_the_same_bytes(ranked):
    text = recipe(train=SHARDED)
    codes, root = ranked(text, "stopped", stopped, signal.SIGTERM)
    assert codes == [143, 143]
    assert ranked(text, "stopped")[0] == [0, 0]
    _, whole = ranked(text, "whole")
    assert artefacts(root / ".store") == artefacts(whole / ".store")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vae", "causal_lm"])
def test_one_process_continues_a_sharded_fit(name, sandbox, ranked):
    text = recipe(FAMILIES[name], train=SHARDED)
    codes, root = ranked(text, "stopped", stopped, signal.SIGTERM)
    assert codes == [143, 143]
    Sandbox(root).run(text)
    assert not list((root / ".store" / "partial").iterdir())
    sandbox.run(text)
    assert_equal_fits(fits(sandbox.root), fits(root))


@pytest.mark.slow
def test_two_ranks_continue_the_fit_of_one_process(ranked, sandbox):
    text = recipe(train=SHARDED)
    place = sandbox.root / "ranks"
    place.mkdir()
    one = Sandbox(place)

    def stopped_at_5(before):
        def save(self, run):
            before(self, run)
            if run.step == 5:
                raise KeyboardInterrupt

        return save

    with changed_method(Checkpoints, "save", stopped_at_5), pytest.raises(InterruptedRunError):
        one.run(text, checkpoint_s=0.0)
    assert [path.name for path in sorted((place / ".store" / "partial").glob("*/*.json"))] == [
        "step-000000004.json",
        "step-000000005.json",
    ]
    assert ranked(text)[0] == [0, 0]
    sandbox.run(text)
    assert_equal_fits(fits(sandbox.root), fits(place))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))


def parts_of(ranks):
    """After two updates: of parameters, gradients, moments and the average, (numbers held here, numbers)."""
    held = Sharded(ranks, CPU.device)
    model = network()
    average = torch.optim.swa_utils.AveragedModel(model)
    held.place(None, model)
    held.place(None, average.module)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    for _ in range(2):
        optimizer.zero_grad()
        with held.backward(model, last=True):
            held.call(model, lambda: model(torch.ones(3, 6)).sum()).backward()
        optimizer.step()
        average.update_parameters(model)
        held.end_step(model)
    moments = [state[name] for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    of = {
        "parameters": list(model.parameters()),
        "gradients": [parameter.grad for parameter in model.parameters()],
        "moments": moments,
        "average": list(average.module.parameters()),
    }
    return {name: (sum(t.to_local().numel() for t in ts), sum(t.numel() for t in ts)) for name, ts in of.items()}


def test_each_rank_holds_its_part_of_everything(pool):
    first, second = pool.both(parts_of)
    for name, (own, whole) in first.items():
        other, _ = second[name]
        assert own + other == whole, name
        assert abs(own - other) <= 0.2 * whole, name


def steps_of(ranks, rows, parts):
    """The weights after two scaled steps on `rows` rows, and what one process has, at rank 0."""
    weights = []
    for held in (Sharded(ranks, CPU.device), Whole(Ranks())):
        model = network()
        held.place(None, model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
        summed = held.gradients(list(model.parameters()))
        losses = []
        for step in range(2):
            x = torch.linspace(-1, 1, rows * 6).view(rows, 6) * (step + 1)
            inputs, uncounted = held.shares(Inputs({"x": x}, rows), parts)
            loss = fit.backward(Squares(), model, inputs, CPU, scaler, parts=parts, held=held, uncounted=uncounted)
            losses.append(float(summed(loss)))
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            assert fit.take_step(scaler, optimizer)
            optimizer.zero_grad()
        weights.append((losses, held.gathered(model.state_dict())))
    return weights


class Squares:
    """A loss that counts rows."""

    def predict(self, model, part, maps):
        return model(part["x"])

    def loss(self, prediction, part):
        return prediction.square().sum()


@pytest.mark.parametrize(("rows", "parts"), [(7, 1), (1, 1), (7, 3), (3, 2), (1, 4), (9, 4)])
def test_ranks_with_fewer_micro_batches_take_part_without_counting(pool, rows, parts):
    first, second = pool.both(steps_of, rows, parts)
    (losses, sharded), (expected_losses, expected) = first
    assert losses == pytest.approx(expected_losses, rel=1e-5)
    for name, tensor in expected.items():
        torch.testing.assert_close(sharded[name], tensor, rtol=0, atol=1e-6)
    assert second[0] == (losses, {})


def overflow(ranks):
    """A scaled step in which the gradient of rank 1 alone is infinite -> (whether it was taken, the weight)."""
    held, model = Sharded(ranks, CPU.device), nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    held.place(None, model)
    optimizer, scaler = torch.optim.SGD(model.parameters(), lr=1.0), torch.amp.GradScaler("cpu", init_scale=4.0)
    taken = []
    for step in range(2):
        factor = float("inf") if ranks.rank and not step else 0.125
        with held.backward(model, last=True):
            loss = held.call(model, lambda: (model(torch.ones(1, 1)) * factor).sum())  # noqa: B023
            scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        taken.append(fit.take_step(scaler, optimizer))
        optimizer.zero_grad()
    return taken, held.gathered(model.state_dict()).get("weight", torch.zeros(0)).tolist()


def test_an_overflow_on_one_rank_skips_the_step_on_all(pool):
    """The only row of the weight is rank 0's."""
    assert pool.both(overflow) == [([False, True], [[0.75]]), ([False, True], [])]


def states(ranks):
    """Whether a model is finite, as it is and with one number of rank 1's that is not; and whether a state comes back
    as it was."""
    held, model = Sharded(ranks, CPU.device), network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    held.place(None, model)
    finite = [held.finite(model)]
    parts = held.spread(before, model.state_dict())
    same = all(torch.equal(parts[name].to_local(), tensor.to_local()) for name, tensor in model.state_dict().items())
    gathered = held.gathered(model.state_dict())
    if ranks.rank:
        with torch.no_grad():
            model[0].weight.to_local()[0, 0] = float("nan")
    finite.append(held.finite(model))
    return (
        finite,
        same,
        gathered.keys() == (before.keys() if ranks.first else set())
        and all(torch.equal(gathered[name], before[name]) for name in gathered),
    )


def test_states_are_divided_and_gathered(pool):
    assert pool.both(states) == [([True, False], True, True)] * 2


def lost(ranks):
    """What errors of the connection and of computations become."""
    kinds = []
    for text in ("[../third_party/gloo/gloo/transport/tcp/pair.cc:538] Connection closed by peer", "sizes differ"):
        try:
            with lost_connections(ranks):
                raise RuntimeError(text)
        except RuntimeError as error:
            kinds.append(str(error))
        except RanksError as error:
            kinds.append(type(error).__name__)
    return kinds


def test_a_lost_rank_is_told_apart_from_an_error_of_the_computation(pool):
    assert pool.both(lost) == [["RanksError", "sizes differ"]] * 2


def test_one_process_holds_all():
    held = holding(Train(steps=1, shard=True), Ranks(), CPU)
    assert type(held) is Whole
    assert Train(steps=1, shard=True).describe() == Train(steps=1).describe()


class OneNumber(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))


def test_parameters_that_cannot_be_divided_are_refused_before_any_work(sandbox, monkeypatch):
    class Two(Ranks):
        world = 2

    experiment = prepare(load(sandbox.recipe(recipe(train=SHARDED))), sandbox.root)
    check_ranks(experiment, Two(), 1, compiled=False)
    monkeypatch.setattr(vae.VAE, "build", lambda self, info: OneNumber())
    check_ranks(experiment, Ranks(), 1, compiled=False)
    with pytest.raises(RecipeError) as refused:
        check_ranks(experiment, Two(), 1, compiled=False)
    (problem,) = refused.value.problems
    assert problem.startswith(
        f"{sandbox.root}/recipe.yaml:5: train.shard: collapse_sim.families.vae:VAE has parameters"
    )
    assert "(scale)" in problem
