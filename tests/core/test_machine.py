"""The machine: what is asked for is there, or a message says what is."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from collapse_sim.core import machine as machines
from collapse_sim.core.errors import MissingError, RecipeError
from collapse_sim.core.machine import Device, Machine, describe_bf16, open_machine, set_float32_products, slow_bf16

CPU = torch.device("cpu")


def test_auto_on_a_cpu_is_fp32():
    machine = open_machine("cpu", "auto")
    assert (machine.device.type, machine.precision) == ("cpu", "fp32")
    assert not machine.scaler().is_enabled()


@pytest.mark.parametrize(
    ("native", "speed", "precision"),
    [(True, 3.0, "bf16"), (True, 1.1, "fp32"), (True, 0.4, "fp32"), (False, 3.0, "fp32")],
)
def test_auto_on_a_cpu_is_bf16_where_it_is_native_and_faster(native, speed, precision, monkeypatch):
    monkeypatch.setattr(machines, "native_bf16", lambda: native)
    monkeypatch.setattr(machines, "bf16_speed", lambda width=0: speed)
    assert open_machine("cpu", "auto").precision == precision
    assert describe_bf16().startswith(f"{precision}: ")
    assert ("no bf16 arithmetic" in describe_bf16()) == (not native)


@pytest.mark.parametrize(
    ("capabilities", "native"),
    [
        ({"amx_bf16": True}, True),
        ({"avx512_bf16": True}, True),
        ({"avx512_f": True, "amx_bf16": False, "avx512_bf16": False}, False),
        ({}, False),
    ],
)
def test_the_processor_says_whether_it_has_bf16(capabilities, native, monkeypatch):
    monkeypatch.undo()  # the stand-in of all tests
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert machines.native_bf16() == native


def test_the_speed_of_bf16_is_measured_once_and_draws_no_random_numbers(monkeypatch):
    """On a clock that advances by 1 in a step with bf16, and by 3 in one without."""
    now, low = [0.0], []

    class Autocast(torch.autocast):
        def __enter__(self):
            low.append(self._enabled)
            now[0] += 1.0 if self._enabled else 3.0
            return super().__enter__()

    monkeypatch.setattr(torch, "autocast", Autocast)
    monkeypatch.setattr(machines.time, "thread_time", lambda: now[0])
    before = torch.random.get_rng_state()
    machines.bf16_speed.cache_clear()
    try:
        assert machines.bf16_speed(16) == machines.bf16_speed(16) == 3.0
        assert low == [False, True] * 4
    finally:
        machines.bf16_speed.cache_clear()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_slow_bf16_is_warned_of(monkeypatch):
    monkeypatch.setattr(machines, "bf16_speed", lambda width=0: 1 / 7)
    assert slow_bf16(CPU, "fp32") == slow_bf16(torch.device("cuda"), "bf16") == ""
    assert slow_bf16(CPU, "bf16") == (
        "precision: bf16 is slow here: a training step was measured 7.0 times as slow as in fp32, since this processor "
        "has no bf16 arithmetic"
    )
    monkeypatch.setattr(machines, "native_bf16", lambda: True)
    assert slow_bf16(CPU, "bf16").endswith("7.0 times as slow as in fp32")
    monkeypatch.setattr(machines, "bf16_speed", lambda width=0: 1.5)
    assert slow_bf16(CPU, "bf16") == ""


class Conversions(TorchDispatchMode):
    """Counts the tensors of a shape that are converted."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape, self.count = shape, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._to_copy.default and tuple(args[0].shape) == self.shape:
            self.count += 1
        return func(*args, **(kwargs or {}))


def test_inference_converts_weights_once_and_computes_what_autocast_computes():
    model = Device(torch.device("cpu")).for_inference(nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3)))
    machine, x = Machine(torch.device("cpu"), "bf16"), torch.randn(4, 5)
    with torch.no_grad(), machine.autocast(), Conversions((7, 5)) as each_time:
        plain = [model(x), model(2 * x)]
    with machine.inference(model), Conversions((7, 5)) as once:
        kept = [model(x), model(2 * x)]
    assert (each_time.count, once.count) == (2, 1)
    assert all(torch.equal(a, b) and not b.requires_grad for a, b in zip(plain, kept, strict=True))
    assert not any(weight.requires_grad for weight in model.parameters())


def test_inference_in_fp32_touches_no_weight_and_what_is_trained_stays_so():
    model = nn.Linear(5, 7)
    model.bias.requires_grad_(False)
    with Machine(torch.device("cpu"), "fp32").inference(model):
        assert not model.bias.requires_grad
        assert model(torch.ones(1, 5)).dtype == torch.float32
    with pytest.raises(KeyError), Machine(torch.device("cpu"), "bf16").inference(model):
        raise KeyError
    assert [weight.requires_grad for weight in model.parameters()] == [True, False]


def test_autocast_computes_in_the_precision_that_is_stated():
    product = {}
    for precision in ("fp32", "bf16"):
        machine = open_machine("cpu", precision)
        with machine.autocast():
            product[precision] = (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
    assert product == {"fp32": torch.float32, "bf16": torch.bfloat16}


@pytest.mark.parametrize("precision", ["tf32", "ieee"])
def test_all_float32_products_are_set(precision):
    """One by one, as torch tells of them: its switch for all of cuDNN does not reach convolutions in every version."""
    kinds = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
    before = [kind.fp32_precision for kind in kinds]
    try:
        set_float32_products(precision)
        assert [kind.fp32_precision for kind in kinds] == [precision] * 3
    finally:
        for kind, value in zip(kinds, before, strict=True):
            kind.fp32_precision = value


def test_fp16_needs_cuda():
    with pytest.raises(RecipeError, match="fp16 needs a CUDA device; allowed here: auto, fp32, bf16"):
        open_machine("cpu", "fp16")


@pytest.mark.parametrize("name", ["toaster", "mps"])
def test_other_kinds_of_device(name):
    with pytest.raises(RecipeError, match="allowed: auto, cpu, cuda, cuda:N"):
        open_machine(name)


def test_a_cuda_device_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(MissingError, match="cuda:7: not there, found 2 CUDA devices"):
        open_machine("cuda:7", "fp32")


def test_global_generators_are_as_before_afterwards():
    machine = Machine(CPU, "fp32")
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with machine.seeded(5):
        inside = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with machine.seeded(5):
        assert torch.equal(torch.rand(3), inside)


def test_small_work_takes_one_thread_and_large_work_all():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    machine = Machine(CPU, "fp32")
    try:
        with machine.limit_threads(1e6):
            assert torch.get_num_threads() == 1
            with machine.limit_threads(math.inf):
                assert torch.get_num_threads() == 2
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        with machine.limit_threads(1e9):
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("used", "kind", "calls"), [(True, "cuda", 1), (False, "cuda", 0), (True, "cpu", 0)])
def test_memory_is_given_back_only_where_a_gpu_was_used(monkeypatch, used, kind, calls):
    """One that waits without having computed anything makes no context."""
    emptied = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: used)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(1))
    machines.Device(torch.device(kind)).release()
    assert len(emptied) == calls
