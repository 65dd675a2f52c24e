"""Everything that knows the machine: device, precision, scaler, memory. Nothing else asks torch for these."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from collapse_sim.core.compilers import compiler_problem
from collapse_sim.core.errors import MissingError, RecipeError
from collapse_sim.core.gpu_choice import choose_gpu
from collapse_sim.core.randomness import start

Precision = Literal["auto", "fp32", "bf16", "fp16"]
DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
CPU_RESIDENT_BYTES = 32 * 2**20  # rows up to this size are copied into memory; larger ones stay memory-mapped
SMALL_STEP_OPERATIONS = 2e8  # below it an optimiser update takes about a millisecond, and one thread is enough
BF16_GAIN = (
    1.25  # how many times as fast as fp32 bf16 must be on a CPU, so that noise does not change what `auto` means
)
PROBE_WIDTH = 1024  # of the layers that are timed for it
_CONVERTED: ContextVar[dict[nn.Module, Any] | None] = ContextVar("_CONVERTED", default=None)
CUDA_RESIDENT_SHARE = 0.4  # of the free memory: rows up to this live on the device


@dataclass(frozen=True)
class Device:
    """One device, without a precision of its own: the settings of a fit supply that (`with_precision`).

    Raises nothing: `open_device` has checked it.
    """

    device: torch.device
    threads: int = field(default_factory=torch.get_num_threads, kw_only=True)  # on the CPU, for large work

    def with_precision(self, precision: Precision, tf32: bool = False) -> Machine:
        """The device computing in one precision. Raises RecipeError for one that it does not have."""
        return Machine(self.device, resolve_precision(self.device, precision), tf32, threads=self.threads)

    @contextlib.contextmanager
    def limit_threads(self, operations_per_step: float) -> Iterator[None]:
        """Within it small work on the CPU takes one thread, and large work all.

        Two threads gain nothing there, and where processes share the cores, threads that wait for each other made small
        fits up to a hundred times slower.
        """
        threads = torch.get_num_threads()
        if self.device.type == "cpu":
            torch.set_num_threads(self.threads_for(operations_per_step))
        try:
            yield
        finally:
            torch.set_num_threads(threads)

    def threads_for(self, operations_per_step: float) -> int:
        """Threads of the CPU that steps of this size take."""
        return 1 if operations_per_step < SMALL_STEP_OPERATIONS else self.threads

    def reseed(self, value: int) -> None:
        """Start the global generators of this device anew."""
        start(torch.default_generator, value)
        if self.device.type == "cuda":
            torch.cuda.default_generators[self.device.index].manual_seed(value)

    def put(self, tensor: Tensor) -> Tensor:
        """The tensor on this device."""
        if self.device.type == "cuda" and tensor.device.type == "cpu":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)

    def resident_bytes(self) -> int:
        """Up to how many bytes of rows are held on the device."""
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            return int(CUDA_RESIDENT_SHARE * free)
        return CPU_RESIDENT_BYTES

    @property
    def reads_ahead(self) -> bool:
        """Whether rows are read for the next step while the device computes this one: with a device beside the CPU."""
        return self.device.type == "cuda"

    @property
    def bound_by_launches(self) -> bool:
        """Whether small operations cost the time of starting them, so that a larger one costs no more."""
        return self.device.type == "cuda"

    def peak_bytes(self) -> int | None:
        """The most memory that this process's tensors have taken on a GPU; None on a CPU, whose memory they share."""
        return torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else None

    def synchronize(self) -> None:
        """Wait until everything that was started on the device is finished."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def compiler_problem(self) -> str | None:
        """What is missing to compile steps for this device, and what to install; None: nothing."""
        return compiler_problem(self.device.type)

    def release(self) -> None:
        """Give back what no tensor takes, for other processes on the same GPU. One that was not used stays unused."""
        if self.device.type == "cuda" and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            gc.collect()
            torch.cuda.empty_cache()

    def describe(self) -> str:
        """For people: "cpu (2 threads)" or "cuda:0 (NVIDIA H200)"."""
        if self.device.type == "cuda":
            return f"{self.device} ({torch.cuda.get_device_name(self.device)})"
        if self.device.type == "cpu":
            threads = torch.get_num_threads()
            return f"cpu ({threads} thread{'' if threads == 1 else 's'})"
        return str(self.device)

    def for_inference(self, model: nn.Module) -> nn.Module:
        """A model for use, not for training: on the device, in eval mode, without gradients."""
        return model.to(self.device).eval().requires_grad_(False)


@dataclass(frozen=True)
class Machine(Device):
    """A device that computes in one precision."""

    precision: Literal["fp32", "bf16", "fp16"]
    tf32: bool = False

    @contextlib.contextmanager
    def autocast(self) -> Iterator[None]:
        """Forward passes run in this precision; float32 products on CUDA use TF32 only if asked for."""
        dtype = DTYPES[self.precision]
        self._set_products()
        with torch.autocast(self.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            yield

    @contextlib.contextmanager
    def inference(self, *models: nn.Module) -> Iterator[None]:
        """`autocast` for many forward passes without gradients: weights are converted once, not in every pass.

        PyTorch keeps what it has converted, until the block ends, only of parameters that require gradients.
        """
        weights = [weight for model in models for weight in model.parameters() if weight.is_floating_point()]
        frozen = [weight for weight in weights if not weight.requires_grad and weight.is_leaf]
        with torch.no_grad(), self.autocast():
            outer = _CONVERTED.set({})
            try:
                if DTYPES[self.precision] is not None:
                    for weight in frozen:
                        weight.requires_grad_(True)
                yield
            finally:
                _CONVERTED.reset(outer)
                for weight in frozen:
                    weight.requires_grad_(False)

    def _set_products(self) -> None:
        if self.device.type == "cuda":
            set_float32_products("tf32" if self.tf32 else "ieee")

    def scaler(self) -> torch.amp.GradScaler:
        """Scales losses for fp16, so that small gradients survive; does nothing in the other precisions."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    @contextlib.contextmanager
    def seeded(self, value: int) -> Iterator[None]:
        """Within it torch's global generators (initial weights, dropout) start from `value`, and are restored after.

        Fits and scores begin so: what they compute outside of `autocast` has this machine's precision, too.
        """
        self._set_products()
        devices = [self.device.index] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            self.reseed(value)
            yield

    def describe_precision(self) -> str:
        """For people: "fp32", "bf16", and "fp32+tf32" where float32 products may use TF32."""
        return self.precision + ("+tf32" if self.tf32 else "")


def converted_weights() -> dict[nn.Module, Any] | None:
    """What models' weights were converted to in the innermost block of `Machine.inference`, to be filled by whoever
    converts them; it is forgotten at the end of the block. None outside of one, where weights may change."""
    return _CONVERTED.get()


def set_float32_products(precision: Literal["ieee", "tf32"]) -> None:
    """How CUDA computes float32 matrix products, convolutions and recurrent layers from now on.

    Each is set by its own name: torch 2.11's one switch for all of cuDNN leaves convolutions in TF32, whose mantissa
    has 10 bits, as float16's has.
    """
    cudnn: Any = torch.backends.cudnn  # its parts are made at run time, so they have no types
    kinds: tuple[Any, ...] = (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn)
    for kind in kinds:
        kind.fp32_precision = precision


def open_device(device: str = "auto") -> Device:
    """A device by name; auto: of several GPUs one with the most free memory (gpu_choice.py).

    Raises RecipeError for a name that is none, MissingError when the device is not there.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cuda" and (several := torch.cuda.device_count()) > 1:
            device = f"cuda:{choose_gpu(several, os.environ)}"
    try:
        opened = torch.device(device)
    except RuntimeError as error:
        raise RecipeError(f"--device {device}: no such kind of device; allowed: auto, cpu, cuda, cuda:N") from error
    if opened.type not in ("cpu", "cuda"):
        raise RecipeError(f"--device {device}: not supported; allowed: auto, cpu, cuda, cuda:N")
    if opened.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (opened.index or 0) >= count:
            seen = f"{count} CUDA device{'' if count == 1 else 's'}"
            raise MissingError(f"--device {device}: not there, found {seen}; use --device cpu, or a machine with one")
        opened = torch.device("cuda", opened.index or 0)
    return Device(opened)


def open_machine(device: str = "auto", precision: Precision = "auto", tf32: bool = False) -> Machine:
    """A device by name that computes in one precision. Raises what `open_device` and `Device.with_precision` do."""
    return open_device(device).with_precision(precision, tf32)


def resolve_precision(device: torch.device, precision: Precision) -> Literal["fp32", "bf16", "fp16"]:
    """What "auto" means on a device. Raises RecipeError for fp16 off CUDA, where there is no scaler for it."""
    if precision == "auto":
        if device.type == "cuda":
            return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
        return "bf16" if native_bf16() and bf16_speed() >= BF16_GAIN else "fp32"
    if precision == "fp16" and device.type != "cuda":
        raise RecipeError("fp16 needs a CUDA device; allowed here: auto, fp32, bf16")
    return precision


def native_bf16() -> bool:
    """Whether this CPU multiplies bf16 numbers: x86 with AMX or AVX512-BF16."""
    capabilities: dict[str, Any] = getattr(
        torch.cpu, "get_capabilities", dict
    )()  # older versions of torch do not have it
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


@cache
def bf16_speed(width: int = PROBE_WIDTH) -> float:
    """How many times as fast as in fp32 a training step runs on this CPU in bf16; measured once per process.

    The step is eager: two linear layers of `width` with the casts from fp32, and their gradients. It takes one thread,
    both precisions take turns, and the shortest processor time of each counts, not that of the clock: on cores that
    others use too, a command would else decide otherwise than the one before, and could not continue its run.
    """
    x = torch.full((width // 4, width), 0.01)
    first, second = (torch.full((width, width), 0.01, requires_grad=True) for _ in range(2))
    times: dict[bool, list[float]] = {False: [], True: []}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(4):
            for low, taken in times.items():
                began = time.thread_time()
                with torch.autocast("cpu", torch.bfloat16, enabled=low):
                    out = torch.relu(x @ first) @ second
                torch.autograd.grad(out.float().sum(), (first, second))
                taken.append(time.thread_time() - began)
    finally:
        torch.set_num_threads(threads)
    return min(times[False]) / min(times[True])


def slow_bf16(device: torch.device, precision: str) -> str:
    """A warning where bf16 was chosen and this CPU computes it more slowly than fp32; otherwise ""."""
    if device.type != "cpu" or precision != "bf16":
        return ""
    speed = bf16_speed() if native_bf16() else bf16_speed(PROBE_WIDTH // 4)  # the whole width may take half a minute
    if speed >= 1:
        return ""
    reason = "" if native_bf16() else ", since this processor has no bf16 arithmetic"
    return (
        f"precision: bf16 is slow here: a training step was measured {1 / speed:.1f} times as slow as in fp32{reason}"
    )


def describe_bf16() -> str:
    """For people: what `precision: auto` means on this CPU, and why."""
    if not native_bf16():
        return "fp32: this processor has no bf16 arithmetic"
    return f"{resolve_precision(torch.device('cpu'), 'auto')}: bf16 is {bf16_speed():.1f} times as fast as fp32"
