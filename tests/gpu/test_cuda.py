"""What only a CUDA device can show. Without one these are skipped."""

from __future__ import annotations

import json
import math
import os
import signal
import warnings
from collections import Counter

import pytest
import torch
import torch.nn.functional as F

from collapse_sim.core.machine import Machine, open_machine
from collapse_sim.core.randomness import Draws
from collapse_sim.recipe import shipped
from collapse_sim.recipe.loader import load
from tests.conftest import TINY

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]


def run_on(sandbox, device, run, recipe, metric="test_loss", ensemble="off", compiled="auto"):
    """{(arm, generation): the metric of every seed} of a run, which continues where an earlier one was stopped."""
    from collapse_sim.plan.experiment import prepare
    from collapse_sim.run.session import Session

    loaded = load(sandbox.recipe(recipe))
    train = loaded.train
    machine = open_machine(device, train.precision, train.tf32) if train else open_machine(device, "fp32")
    root = sandbox.root / device
    session = Session(
        prepare(loaded, root), machine, root / run, root / f".store-{run}", root, ensemble=ensemble, compiled=compiled
    )
    session.run(quiet=True)
    lines = [json.loads(line) for line in (root / run / "journal.jsonl").read_text().splitlines()]
    return {(line["arm"], line["generation"]): line["metrics"][metric] for line in lines if line["event"] == "scores"}


TEXT = """
name: text
data: {use: grammar, rows: 400, held_out_rows: 100}
model: {use: causal_lm, preset: tiny}
train: {steps: 200, batch_size: 32, learning_rate: 3e-3, evaluate: never}
generations: 1
seeds: [0]
arms:
  distill: {data: replace, teacher: {generation: 0, weights: {logits: 0.5, hidden: 0.5}}}
metrics: [test_loss, sample_perplexity]
"""
PAIRS = TEXT.replace("use: grammar", "use: grammar_pairs").replace("use: causal_lm", "use: seq2seq")


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("text", [TEXT, PAIRS], ids=["causal_lm", "seq2seq"])
def test_language_models_on_cuda_are_near_the_cpu(sandbox, text, precision):
    recipe = text.replace("evaluate:", f"precision: {precision}, evaluate:")
    cuda = run_on(sandbox, "cuda", precision, recipe)
    cpu = run_on(sandbox, "cpu", precision, recipe.replace(f"precision: {precision}", "precision: fp32"))
    for key, values in cpu.items():
        assert cuda[key] == pytest.approx(values, rel=0.1), key


def test_greedy_text_on_cuda_is_the_cpus():
    """In fp32, where rounding does not move a likeliest token of a trained model."""
    from collapse_sim.core.machine import open_machine
    from tests.families.test_language import TINY, draws, trained
    from tests.families.wording import TEXT as INFO
    from tests.families.wording import texts

    model, prompts = trained(TINY, INFO, texts()), texts(16)["tokens"][:, :5]
    on_cpu = TINY.continuations(model, prompts, draws())
    machine = open_machine("cuda", "fp32")
    with torch.no_grad(), machine.autocast():
        on_cuda = TINY.continuations(machine.for_inference(model), machine.put(prompts), draws())
    assert torch.equal(on_cpu, on_cuda.cpu())


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_run_on_cuda_is_near_the_run_on_the_cpu(sandbox, precision):
    """Other random streams, so near is a few percent of the loss, not bytes."""
    recipe = TINY.replace("evaluate:", f"precision: {precision}, evaluate:").replace("steps: 20", "steps: 300")
    cuda = run_on(sandbox, "cuda", precision, recipe)
    cpu = run_on(sandbox, "cpu", precision, recipe.replace(f"precision: {precision}", "precision: fp32"))
    for key, values in cpu.items():
        assert cuda[key] == pytest.approx(values, rel=0.1), key


def test_auto_is_bf16_where_it_is_native_and_rows_live_on_the_device(sandbox):
    machine = open_machine("cuda", "auto")
    assert machine.precision == ("bf16" if torch.cuda.get_device_capability() >= (8, 0) else "fp32")
    assert machine.resident_bytes() > 2**30


@pytest.mark.parametrize(("tf32", "least", "most"), [(False, 0, 1e-5), (True, 1e-4, 1e-2)])
@pytest.mark.parametrize("product", ["matrix", "convolution"])
def test_float32_products_are_as_exact_as_is_said(product, tf32, least, most):
    """Relative to float64: float32 has 24 bits, TF32 11."""
    dice = torch.Generator().manual_seed(0)
    x, weight = torch.randn(64, 32, 16, 16, generator=dice), torch.randn(48, 32, 3, 3, generator=dice)
    if product == "convolution":
        call, arguments = F.conv2d, (x, weight)
    else:
        call, arguments = torch.matmul, (x.flatten(1), x.flatten(1).T)
    exact = call(*(a.double() for a in arguments))
    with Machine(torch.device("cuda", 0), "fp32", tf32).autocast():
        found = call(*(a.cuda() for a in arguments)).cpu()
    assert least <= float((found - exact).std() / exact.std()) < most


@pytest.mark.parametrize("name", shipped.names())
def test_every_shipped_recipe_runs_on_cuda(name, tmp_path, capsys, monkeypatch):
    """At its smoke size, from the command to finished scores of every cell."""
    from collapse_sim.cli.app import run_app

    monkeypatch.chdir(tmp_path)
    code = run_app(["run", name, "--smoke", "--device", "cuda", "--data-dir", "nothing", "--json"])
    out, err = capsys.readouterr()
    assert code == 0, err
    recipe, folder = load(name, smoke=True), tmp_path / json.loads(out)["run"]
    lines = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    scored = {(line["arm"], line["generation"]): set(line["metrics"]) for line in lines if line["event"] == "scores"}
    assert scored == {(arm.name, k): set(recipe.metrics) for arm in recipe.arms for k in range(recipe.generations + 1)}


ENSEMBLE = """
name: ensemble
data: {use: gaussian, dimensions: 1, rows: 50}
model: {use: gaussian}
generations: 5
samples: 50
seeds: 200
arms: {replace: {data: replace}, accumulate: {data: accumulate}}
metrics: [variance_ratio]
"""


def test_closed_forms_on_cuda_follow_the_theory(sandbox):
    """Gaussians fitted to their own samples: five standard errors of the mean over 200 seeds is far enough."""
    found = run_on(sandbox, "cuda", "ensemble", ENSEMBLE, "variance_ratio")
    expected = {"replace": (1 - 1 / 50) ** 6, "accumulate": math.prod(1 - 1 / (50 * i * i) for i in range(1, 7))}
    for arm, value in expected.items():
        ratios = torch.tensor(found[arm, 5], dtype=torch.float64)
        assert abs(float(ratios.mean()) - value) < 5 * float(ratios.std()) / math.sqrt(200), arm


def test_draws_on_cuda_are_repeatable():
    first, again = (Draws((1,), "corrupt", 2, 3, device="cuda").normal(4, 5) for _ in range(2))
    assert first.device.type == "cuda"
    assert torch.equal(first, again)


@pytest.mark.parametrize("settings", ["precision: fp32, ", "precision: bf16, ema: 0.9, clip_norm: 0.5, "])
def test_fits_computed_together_on_cuda_are_near_those_alone(sandbox, settings):
    recipe = TINY.replace("evaluate:", f"{settings}evaluate:").replace("generations: 2", "generations: 1")
    alone, together = (run_on(sandbox, "cuda", run, recipe, ensemble=run) for run in ("off", "16"))
    manifests = (sandbox.root / "cuda" / ".store-16" / "objects").glob("*/*/*/manifest.json")
    assert sum("group" in json.loads(path.read_text()) for path in manifests) == 6  # three fits of two seeds each
    assert together == {key: pytest.approx(values, rel=0.02) for key, values in alone.items()}


def test_an_interrupted_fit_continues_on_cuda(sandbox, monkeypatch):
    """Checkpoints hold what CUDA needs too: an interrupted fp16 run ends where an uninterrupted one does."""
    from collapse_sim.core.errors import InterruptedRunError
    from collapse_sim.engine import checkpoint, fit

    recipe = TINY.replace("evaluate:", "precision: fp16, ema: 0.9, evaluate:")
    whole = run_on(sandbox, "cuda", "whole", recipe)
    steps, restored = [], []
    original, apply = fit.backward, checkpoint._apply

    def interrupting(*args, **kwargs):
        steps.append(1)
        if len(steps) == 7:
            os.kill(os.getpid(), signal.SIGINT)
        return original(*args, **kwargs)

    def noted(run, state, *rest):
        apply(run, state, *rest)
        restored.append((state["step"], {t.device.type for s in run.optimizer.state.values() for t in s.values()}))

    monkeypatch.setattr(fit, "backward", interrupting)
    monkeypatch.setattr(checkpoint, "_apply", noted)
    with pytest.raises(InterruptedRunError):
        run_on(sandbox, "cuda", "again", recipe)
    again = run_on(sandbox, "cuda", "again", recipe)
    assert restored == [(7, {"cuda"})]
    assert again == {key: pytest.approx(values, rel=1e-3) for key, values in whole.items()}


DENOISING = """
name: denoising
data: {use: digits, rows: 200, held_out_rows: 50}
model: {use: FAMILY, network: {widths: [8, 16]}}
train: {steps: 300, batch_size: 32, learning_rate: 2e-3, evaluate: never, ema: 0.9}
samples: 100
sampling: {shard: 60}
generations: 1
seeds: [0]
arms:
  distill: {data: replace, teacher: {generation: 0, weights: {output: 0.5, encoder: 0.5}}}
metrics: [test_loss, {use: fid, features: classifier}]
"""


@pytest.mark.parametrize(
    "family",
    [
        "ddpm, timesteps: 50, schedule: cosine",
        "ddpm, timesteps: 50, schedule: cosine, target: v, sampler: ddim, sampling_steps: 10, eta: 1.0",
        "flow_matching, coupling: optimal_transport, sampling_steps: 10",
        "flow_matching, solver: dopri5",
    ],
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_diffusion_and_flows_on_cuda_are_near_the_cpu(sandbox, family, precision):
    recipe = DENOISING.replace("FAMILY", family)
    cuda = run_on(sandbox, "cuda", precision, recipe.replace("evaluate:", f"precision: {precision}, evaluate:"))
    cpu = run_on(sandbox, "cpu", precision, recipe.replace("evaluate:", "precision: fp32, evaluate:"))
    for key, values in cpu.items():
        assert cuda[key] == pytest.approx(values, rel=0.15), key


VAES = TINY.replace("steps: 20, batch_size: 32, evaluate: every 5 steps, keep: best", "steps: 300, evaluate: never")
WAITS = {
    "vae": VAES.replace("generations: 2", "generations: 1").replace("seeds: [0, 1]", "seeds: [0]"),
    "ddpm": DENOISING.replace("FAMILY", "ddpm, timesteps: 50, schedule: cosine"),
}


@pytest.mark.parametrize("recipe", WAITS.values(), ids=WAITS)
def test_a_fit_does_not_wait_for_the_device_at_every_update(sandbox, recipe):
    """As torch tells of waits: some come with a fit's end and reports; two fits have 600 updates at least."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run_on(sandbox, "cuda", "waits", recipe)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [w for w in caught if "called a synchronizing CUDA operation" in str(w.message)]
    assert waits, "torch tells of no waits: this test sees nothing"
    places = Counter(
        f"{w.filename}:{w.lineno}" for w in waits if not w.filename.endswith("module.py")
    )  # its .to(device)
    assert max(places.values()) < 600, places


@pytest.fixture
def recorded(monkeypatch):
    """Recordings of CUDA graphs that were used and reasons why there was none, in the order in which they were made."""
    from collapse_sim.core.replays import Replays

    used, refused = [], []
    make, give_up = Replays._make, Replays._give_up

    def making(self, *given):
        make(self, *given)
        used.append(bool(self._stages))

    def refusing(self, reason):
        refused.append(reason)
        give_up(self, reason)

    monkeypatch.setattr(Replays, "_make", making)
    monkeypatch.setattr(Replays, "_give_up", refusing)
    return used, refused


def test_a_recorded_function_computes_what_it_did_and_adds_up_gradients(recorded):
    """With new inputs and changed weights, and two backward passes before an update."""
    from collapse_sim.core.replays import Replays, record_of

    reasons = []
    weight = torch.randn(64, 64, device="cuda", requires_grad=True)
    dice = torch.Generator("cuda").manual_seed(0)

    def function(weights, inputs):
        return [(inputs[0] @ weights[0]).tanh().square().mean()]

    replays = Replays(record_of(torch.device("cuda")), 1e-5, reasons.append)
    optimizer = torch.optim.AdamW([weight], 1e-2, fused=True)
    for _ in range(20):
        parts = [torch.randn(32, 64, device="cuda", generator=dice) for _ in range(2)]
        expected = torch.autograd.grad(sum(function([weight], [x])[0] for x in parts), weight)[0]
        losses = [replays(function, [weight], [x])[0] for x in parts[:1]]
        losses[0].backward()
        losses.append(replays(function, [weight], [parts[1]])[0])
        losses[1].backward()
        torch.testing.assert_close(weight.grad, expected, rtol=1e-4, atol=1e-7)
        for loss, x in zip(losses, parts, strict=True):
            torch.testing.assert_close(loss.detach(), function([weight], [x])[0].detach(), rtol=1e-4, atol=1e-7)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    assert reasons == recorded[1] == []
    assert recorded[0] == [True]


@pytest.mark.parametrize("name", ["gpt2", "llama", "t5", "gpt-neox"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@torch.no_grad()
def test_recorded_passes_write_what_passes_with_a_growing_cache_do(recorded, name, precision):
    """In fp32 the same greedy texts; in half precision, where a likeliest token may move, half of them."""
    from collapse_sim.families.decoding import decode, likeliest
    from tests.families.test_decoding import FAMILIES, case, other

    machine = open_machine("cuda", precision)
    family, model, inputs = case(name) if name in FAMILIES else other(name)
    start, network = model.start if family.encoder_decoder else None, model.network.to("cuda")
    with machine.inference(network):
        texts = [
            decode(network, machine.put(inputs), 24, likeliest, end=None, pad=model.pad, start=start, **record_of)
            for record_of in ({}, {"record_of": lambda device: None})
        ]
    assert recorded == ([True], [])
    same = float((texts[0] == texts[1]).all(1).double().mean())
    assert same == 1 if precision == "fp32" else same > 0.5


@torch.no_grad()
def test_what_waits_for_the_device_is_decoded_without_a_recording(recorded):
    """OPT does. CUDA goes on after a recording that has failed: with other recordings, draws and memory."""
    from collapse_sim.families.decoding import decode, likeliest
    from tests.families.test_decoding import case, other

    for name, expected in (("opt", [False]), ("gpt2", [False, True])):
        _, model, inputs = case("gpt2") if name == "gpt2" else other(name)
        machine, network = open_machine("cuda", "fp32"), model.network.to("cuda")
        with machine.inference(network):
            texts = [
                decode(network, machine.put(inputs), 24, likeliest, end=None, pad=model.pad, start=None, **record_of)
                for record_of in ({}, {"record_of": lambda device: None})
            ]
        assert torch.equal(*texts)
        assert recorded[0] == expected
        torch.cuda.empty_cache()
        assert torch.rand(100, device="cuda").std() > 0


@pytest.mark.parametrize("ensemble", ["off", "auto"])
@pytest.mark.parametrize("recipe", WAITS.values(), ids=WAITS)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_recorded_steps_and_calls_are_near_eager_ones(sandbox, recorded, recipe, precision, ensemble):
    recipe = recipe.replace("evaluate:", f"precision: {precision}, evaluate:")
    eager = run_on(sandbox, "cuda", "eager", recipe, ensemble=ensemble, compiled="off")
    assert recorded == ([], [])
    replayed = run_on(sandbox, "cuda", "replayed", recipe, ensemble=ensemble, compiled="on")
    assert recorded[1] == []
    assert any(recorded[0])
    for key, values in eager.items():
        assert replayed[key] == pytest.approx(values, rel=0.05), key
