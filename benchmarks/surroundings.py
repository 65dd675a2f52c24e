"""What a figure depends on besides the code: the machine, its limits, versions, and other load."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.harness import rounded
from collapse_sim.core.machine import Device, set_float32_products

PACKAGES = ("torch", "numpy", "diffusers", "transformers", "accelerate")
CPUINFO = Path("/proc/cpuinfo")
BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # Intel and AMD; Arm
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS")


def surroundings(device: Device) -> dict[str, Any]:
    """The report's head: machine, versions, date, revision, load at the start."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "revision": revision(),
        "machine": {
            "device": device.describe(),
            "kind": device.device.type,
            "cpu": cpu_model(),
            "cores": psutil.cpu_count(logical=True),
            "threads": torch.get_num_threads(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "gpu": torch.cuda.get_device_name(device.device) if device.device.type == "cuda" else None,
            "cuda": torch.version.cuda if device.device.type == "cuda" else None,
            "native_bf16": native_bf16(device),
        },
        "versions": {"python": platform.python_version(), **versions()},
        "load": [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "environment": {name: os.environ[name] for name in WAITING if name in os.environ},
    }


def versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def revision() -> str:
    """The commit of the source, with "+" if files have changed since; "" without git."""
    here = Path(__file__).parent
    try:
        commit = _git("rev-parse", "--short=12", "HEAD", folder=here)
        return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no", folder=here) else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*arguments: str, folder: Path) -> str:
    return subprocess.run(("git", *arguments), cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def cpu_model() -> str:
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def native_bf16(device: Device) -> bool:
    """Whether the device has instructions for bfloat16; others emulate it, several times slower than fp32."""
    if device.device.type == "cuda":
        return torch.cuda.get_device_capability(device.device) >= (8, 0)
    info = _cpuinfo()
    return bool(BF16_FLAGS & set((info.get("flags") or info.get("Features") or "").split()))


def _cpuinfo() -> Mapping[str, str]:
    """Of the first processor; {} where the system does not say."""
    try:
        text = CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def now(device: Device) -> float:
    """The time in seconds, once the device has finished all queued work."""
    if device.device.type == "cuda":
        torch.cuda.synchronize(device.device)
    return time.perf_counter()


def limits(device: Device, *, size: int | None = None, repeats: int = 5) -> dict[str, Any]:
    """The best rates of large matrix products (n, n) @ (n, n) and of copying memory, bytes read and written.

    fp32 without TF32; bf16 only where the device has it.
    """
    size = size or (8192 if device.device.type == "cuda" else 2048)
    if device.device.type == "cuda":
        set_float32_products("ieee")
    types = {"fp32": torch.float32, **({"bf16": torch.bfloat16} if native_bf16(device) else {})}
    return {
        "matrix_gflops": {name: rounded(_matrix_rate(device, size, dtype, repeats)) for name, dtype in types.items()},
        "memory_gb_per_s": rounded(_copy_rate(device, 16 * size**2, repeats)),
        "matrix": size,
    }


def _matrix_rate(device: Device, size: int, dtype: torch.dtype, repeats: int) -> float:
    a, b = (torch.randn(size, size, device=device.device, dtype=dtype) for _ in range(2))
    best = 0.0
    for _ in range(repeats):
        started = now(device)
        a @ b
        best = max(best, 2 * size**3 / (now(device) - started) / 1e9)
    return best


def _copy_rate(device: Device, size: int, repeats: int) -> float:
    source = torch.ones(size, dtype=torch.uint8, device=device.device)
    target = torch.empty_like(source)
    best = 0.0
    for _ in range(repeats):
        started = now(device)
        target.copy_(source)
        best = max(best, 2 * size / (now(device) - started) / 1e9)
    return best
