"""Compiled calls of samplers: the eager rows up to rounding, one program for many models, equal bytes after a stop."""

from __future__ import annotations

import json
import time

import pytest
import torch
from torch import nn

from collapse_sim.core.errors import InterruptedRunError
from collapse_sim.core.machine import Machine
from collapse_sim.engine.calls import PIECES_FILE, Call, CompiledCalls, CompiledPieces, recorded
from collapse_sim.engine.programs import NotCompiledError, Programs
from collapse_sim.engine.work import JobContext
from collapse_sim.families.ddpm import DDPM
from collapse_sim.families.denoiser import GuidedDenoiser
from collapse_sim.families.edm import EDM
from collapse_sim.families.flow_matching import FlowMatching
from collapse_sim.families.network import Network
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load
from collapse_sim.run import session
from collapse_sim.store import sealed
from collapse_sim.store.jobs import Job
from collapse_sim.store.rowfile import SAMPLES_FILE, RowFile
from collapse_sim.store.store import Store
from collapse_sim.testing import CPU, check_compiled_calls
from tests.conftest import SMALL, changed
from tests.core.replaying import Recordings
from tests.engine.compiling import paying
from tests.engine.test_objective import LABELLED
from tests.engine.test_stacked import beside, stopping
from tests.families.small_rows import IMAGES, POINTS
from tests.pruned import LAST, manifests

BF16 = Machine(torch.device("cpu"), "bf16")
SMALL_UNET = Network(widths=(8, 16), layers=1, attention="none")
FAMILIES = {
    "ddpm": (DDPM(network=Network(widths=(8, 8)), timesteps=30, sampling_steps=6), POINTS),
    "dpm-solver": (DDPM(network=Network(widths=(8, 8)), timesteps=30, sampler="dpm-solver++"), POINTS),
    "flow_matching": (FlowMatching(network=Network(widths=(8, 8)), sampling_steps=4), POINTS),
    "edm": (EDM(network=Network(widths=(8, 8)), sampling_steps=4), POINTS),
    "conditional": (
        DDPM(network=Network(widths=(8, 8)), timesteps=30, sampling_steps=6, conditional=True, guidance_scale=2.0),
        LABELLED,
    ),
    "images": (DDPM(network=SMALL_UNET, timesteps=30, sampling_steps=3), IMAGES),
}
# Three pieces of eight rows and one of two.
RECIPE = changed(
    SMALL,
    ("use: vae, hidden: 16, latent: 2", "use: ddpm, timesteps: 40, sampling_steps: 4, network: {widths: [8, 8]}"),
    ("samples: 150", "samples: 26"),
    ("shard: 40", "shard: 8"),
    (", mean: 1.0, variance: 1.0", ""),
)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("case", [n if n != "images" else pytest.param(n, marks=pytest.mark.slow) for n in FAMILIES])
def test_rows_drawn_with_compiled_calls_are_the_eager_ones(case, precision):
    check_compiled_calls(*FAMILIES[case], machine=Machine(torch.device("cpu"), precision))


@pytest.mark.slow
def test_calls_compiled_to_machine_code_give_the_eager_rows():
    check_compiled_calls(*FAMILIES["images"], machine=BF16, backend="inductor")


def network(seed=0, family="ddpm"):
    own, info = FAMILIES[family]
    with CPU.seeded(seed):
        return CPU.for_inference(own.build(info))


def weights(call, model):
    tensors = [tensor.detach() for tensor in (*model.parameters(), *model.buffers())]
    return call.weights(tensors, {})


def given(rows=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 3, generator=generator), torch.full((rows,), 7)


def test_a_program_serves_models_and_inputs_that_it_was_not_made_with():
    first, second = network(0), network(1)
    with CPU.inference(first, second):
        call = Call(first, first.forward, given(), CPU, "eager")
        for model in (first, second):
            own, eager = call(weights(call, model), given(seed=1)), model(*given(seed=1))
            assert all(map(torch.equal, own, eager))
        assert not torch.equal(second(*given())[0], first(*given())[0])


def test_conversions_of_weights_are_made_once_for_a_model():
    """In bf16 autocast converts each weight and bias of a linear layer; none is left in the program."""
    model, graphs = network(), []
    with BF16.inference(model):
        call = Call(model, model.forward, given(), BF16, lambda graph, inputs: graphs.append(graph) or graph.forward)
        linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
        assert len(weights(call, model)) == len(list(model.parameters())) + len(list(model.buffers())) + 2 * len(linear)
        for own, eager in zip(call(weights(call, model), given(seed=1)), model(*given(seed=1)), strict=True):
            assert own.dtype == eager.dtype
            torch.testing.assert_close(own, eager, rtol=5e-2, atol=5e-2)
    inputs = [node for node in graphs[0].graph.nodes if node.op == "placeholder"]
    assert sum("converted" in node.name for node in inputs) > len(linear)
    conversions = [node for node in graphs[0].graph.nodes if "_to_copy" in str(node.target) and node.args[0] in inputs]
    assert len(conversions) <= 2  # of x and t


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_program_is_compiled_once_for_all_models_and_its_time_is_known(precision):
    made = []

    def backend(graph, inputs):
        made.append(time.sleep(0.2))
        return graph.forward

    machine, programs = Machine(torch.device("cpu"), precision), Programs("on", backend)
    family, _ = FAMILIES["ddpm"]
    for seed in (0, 1):
        model = machine.for_inference(network(seed))
        compiled = CompiledCalls(programs, family, model, "key", machine)
        with machine.inference(model), compiled.compiled(lambda event: None):
            for _ in range(2):
                model(*given(seed=seed))
        assert (compiled.used, compiled.refused) == (True, False)
    assert len(made) == programs.count == 1
    assert programs.compile_s > 0.2


def test_the_eager_call_that_a_program_is_compared_with_counts_as_compiling():
    """Otherwise it would count as part of the first compiled piece, by which auto judges."""
    model = network()
    forward = model.forward

    def slow(*inputs):
        time.sleep(0.2)
        return forward(*inputs)

    with CPU.inference(model):
        call = Call(model, slow, given(), CPU, "eager")
    assert call.compile_s > 2 * 0.2  # traced, and compared


def test_a_wish_to_stop_while_compiling_is_no_reason_against_a_program():
    """It is heard in every forward pass, also in that which is traced."""
    programs, notes, model = Programs("on", "eager"), [], network()

    def stop(*_):
        raise InterruptedRunError("stopped")

    next(model.children()).register_forward_pre_hook(stop)
    compiled = CompiledCalls(programs, FAMILIES["ddpm"][0], model, "key", CPU)
    with CPU.inference(model), compiled.compiled(notes.append), pytest.raises(InterruptedRunError):
        model(*given())
    assert programs.count == 0
    assert [note.level for note in notes] == ["info"]


def test_a_guided_network_is_one_program():
    model = GuidedDenoiser(network(0), network(1), 0.5).eval()
    with CPU.inference(model):
        call = Call(model, model.forward, given(), CPU, "eager")
        assert all(map(torch.equal, call(weights(call, model), given(seed=1)), model(*given(seed=1))))


def test_a_network_with_a_state_of_its_own_is_refused():
    model, counted = network(), []
    forward = model.forward

    def counting(x, t):
        counted.append(1)
        output, encoder = forward(x, t)
        return output * len(counted), encoder

    with CPU.inference(model), pytest.raises(NotCompiledError, match="an output differs by"):
        Call(model, counting, given(), CPU, "eager")


def test_a_model_is_as_before_and_a_reason_is_noted_once():
    model, notes = network(), []
    model.scales = [torch.ones(())]
    forward = type(model).forward

    def with_hidden(x, t, label=None):
        output, encoder = forward(model, x, t, label)
        return output * model.scales[0], encoder

    model.forward = with_hidden
    eager = model(*given())
    known = CompiledCalls(Programs("on", "eager"), FAMILIES["ddpm"][0], model, "key", CPU)
    with CPU.inference(model), known.compiled(notes.append):
        for _ in range(2):
            assert torch.equal(model(*given())[0], eager[0])
    assert model.forward is with_hidden
    warnings = [note.message for note in notes if note.level == "warning"]
    assert len(warnings) == 1
    assert warnings[0].startswith("collapse_sim.families.ddpm:DDPM: the calls of its sampler are not compiled: ")


def samples(sandbox):
    """{digest and seeds: (images, what the manifest says of compiled calls)}"""
    found = {}
    for path in (sandbox.root / ".store" / "objects").glob("*/*/*/manifest.json"):
        manifest = json.loads(path.read_text())
        if manifest["kind"] == "samples":
            changes = manifest["machine"].get("compiled", {}).get("pieces of 8 rows")
            rows = RowFile(path.parent / SAMPLES_FILE).columns["image"][:]
            found[manifest["digest"], tuple(manifest["seeds"])] = (rows, changes)
    return found


def decisions(sandbox):
    """What the manifests say, None where no piece was compiled."""
    return [changes for _, changes in samples(sandbox).values()]


def stopped(sandbox, monkeypatch):
    """A run that compiles, stopped when two pieces of its second samples are drawn; what these have recorded."""
    with monkeypatch.context() as patch:
        stopping(patch, CompiledPieces, "piece")
        with pytest.raises(InterruptedRunError):
            sandbox.run(RECIPE, compiled="on")
    (record,) = (sandbox.root / ".store" / "partial").rglob(PIECES_FILE)
    return record


def test_samples_of_a_run_are_the_eager_ones_up_to_rounding(sandbox, made):
    sandbox.run(RECIPE)
    other = beside(sandbox, "other")
    other.run(RECIPE, compiled="on")
    assert made[-1].count > 0
    eager, own = samples(sandbox), samples(other)
    assert eager.keys() == own.keys()
    for key, (images, changes) in own.items():
        assert changes == [0]
        difference = images.astype(int) - eager[key][0].astype(int)
        assert abs(difference).max() <= 2  # of 255; fits were compiled, too
    assert set(decisions(sandbox)) == {None}


def test_auto_compiles_from_the_second_piece_on_and_later_samples_at_once(sandbox, monkeypatch, made):
    paying(monkeypatch)
    sandbox.run(RECIPE)
    assert sorted(decisions(sandbox)) == [[0, 3]] * (len(decisions(sandbox)) - 1) + [[1, 3]]  # the last one is smaller


def test_auto_gives_up_what_is_no_faster(sandbox, monkeypatch, made):
    paying(monkeypatch, compiled_s=0.99)
    sandbox.run(RECIPE)
    assert decisions(sandbox).count([1, 2]) == 1
    assert decisions(sandbox).count(None) == len(decisions(sandbox)) - 1


def test_auto_never_compiles_what_takes_less_than_a_minute(sandbox, made):
    sandbox.run(RECIPE)
    assert made[0].count == 0
    assert set(decisions(sandbox)) == {None}


def test_stopped_samples_go_on_to_the_same_bytes(sandbox, monkeypatch, made):
    sandbox.run(RECIPE, compiled="on")
    other = beside(sandbox, "other")
    record = stopped(other, monkeypatch)
    assert sealed.read(record) == {"pieces": [0], "settled": False, "refused": False}
    other.run(RECIPE, compiled="on")
    assert other.artefacts() == sandbox.artefacts()
    assert sorted(decisions(other)) == sorted(decisions(sandbox))


def test_who_goes_on_without_compiling_says_from_where_on(sandbox, monkeypatch, made):
    stopped(sandbox, monkeypatch)
    sandbox.run(RECIPE, compiled="off")
    assert sorted(filter(None, decisions(sandbox))) == [[0], [0, 2]]


@pytest.mark.parametrize(("before", "now", "count"), [("on", "off", 2), ("off", "on", 0), ("auto", "on", 1)])
def test_what_was_pruned_is_made_again_as_it_was(sandbox, monkeypatch, made, before, now, count):
    """Fits and rows are compiled where their records say so, whatever the mode is now. Fits are too short for auto."""
    with monkeypatch.context() as patch:
        paying(patch)
        sandbox.run(RECIPE + LAST, compiled=before)
    store = sandbox.root / ".store"
    records = {name: record["machine"] for name, record in manifests(store, "pruned").items()}
    assert len(records) == 2, "the fit and the samples of generation 0"
    sandbox.run(RECIPE, compiled=now)
    again = {name: made["machine"] for name, made in manifests(store).items()}
    assert records.items() <= again.items()
    assert sum("compiled" in machine for machine in records.values()) == count


def failing(graph, inputs):
    """A backend that compiles steps of fits, and no calls of a sampler."""
    if not torch.is_grad_enabled():
        raise OSError("no space left")
    return graph.forward


@pytest.mark.parametrize("mode", ["on", "auto"])
def test_what_could_not_be_compiled_is_drawn_eagerly_and_recorded_so(sandbox, monkeypatch, mode):
    monkeypatch.setattr(session, "Programs", lambda mode: Programs(mode, failing))
    if mode == "auto":
        paying(monkeypatch)
    sandbox.run(RECIPE, compiled=mode)
    other = beside(sandbox, "other")
    monkeypatch.setattr(session, "Programs", lambda mode: Programs("off"))
    other.run(RECIPE)
    assert set(decisions(sandbox)) == {None}
    if mode == "auto":  # nor are its fits compiled, which are too short
        assert sandbox.artefacts() == other.artefacts()


def test_who_goes_on_does_not_compile_what_was_refused_before(sandbox, monkeypatch):
    """The first process cannot compile, and draws two pieces of a job; the second one could."""
    monkeypatch.setattr(session, "Programs", lambda mode: Programs(mode, failing))
    sandbox.run(RECIPE, compiled="on")
    other = beside(sandbox, "other")
    record = stopped(other, monkeypatch)
    assert sealed.read(record) == {"pieces": [], "settled": False, "refused": True}
    other.run(RECIPE, compiled="on")
    assert other.artefacts() == sandbox.artefacts()


def test_a_shape_that_could_not_be_compiled_ends_compiling(sandbox, monkeypatch, made):
    """The smaller last piece has no program: the others are listed as compiled."""
    call = CompiledCalls._call
    monkeypatch.setattr(
        CompiledCalls, "_call", lambda self, x, t: call(self, x, t) if len(x) == 8 else self._refuse(x, t)
    )

    def refuse(self, x, t):
        self.refused = True
        return self._forward(x, t)

    monkeypatch.setattr(CompiledCalls, "_refuse", refuse, raising=False)
    sandbox.run(RECIPE, compiled="on")
    assert set(map(tuple, decisions(sandbox))) == {(0, 3)}


class Two:
    """Two ranks, of which this is the first."""

    world, first = 2, True

    def of_first(self, action):
        return action()


def test_several_ranks_compile_no_piece_and_say_from_which_one_on(sandbox, monkeypatch, made):
    record = stopped(sandbox, monkeypatch)
    store = Store(sandbox.root / ".store")
    context = JobContext(store, CPU, lambda event: None, sandbox.root, programs=Programs("on", "eager"), ranks=Two())
    spec = next(
        generation.samples
        for arm in prepare(load(sandbox.root / "recipe.yaml"), sandbox.root / "data").arm_plans
        for generation in arm.generations
        if record.parent.name.startswith(generation.samples.digest)
    )
    pieces = CompiledPieces(context, Job(spec, (0,), ()), spec, spec.model.family, network(), CPU)
    with pieces.piece(2, 8):
        pass
    assert context.programs.followed[spec.digest, (0,)] == {"pieces of 8 rows": [0, 2]}


def test_a_damaged_record_is_not_followed(tmp_path):
    record = tmp_path / PIECES_FILE
    record.write_text(sealed.text({"pieces": [0, 3], "settled": True, "refused": False}))
    assert recorded(record) == ([0, 3], True, False)
    record.write_text(record.read_text().replace("[0, 3]", "[1, 3]"))
    assert recorded(record) == ([], False, False)
    assert recorded(tmp_path / "none") == ([], False, False)


def test_a_family_without_repeated_calls_is_drawn_as_ever(sandbox, made):
    sandbox.run(SMALL, compiled="on")
    assert made[0].count > 0  # its fits
    assert set(decisions(sandbox)) == {None}


def test_calls_of_a_sampler_are_replayed():
    recordings, notes, model = Recordings(), [], network()
    programs = Programs("on", "eager", recordings.of)
    compiled = CompiledCalls(programs, FAMILIES["ddpm"][0], model, "key", CPU)
    with CPU.inference(model):
        eager = [model(*given(seed=seed)) for seed in range(3)]
        with compiled.compiled(notes.append):
            own = [model(*given(seed=seed)) for seed in range(3)]  # all kept: a multistep solver does
    for one, other in zip(own, eager, strict=True):
        assert all(map(torch.equal, one, other))
    assert recordings.made == 1
    assert recordings.replays[0] == 1 + 3
