"""`collapse-sim doctor`: versions, devices and data sets of this installation, for bug reports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from collapse_sim.ui.console import data, document


def doctor(
    data_dir: Annotated[
        Path, typer.Option("--data-dir", metavar="DIR", envvar="COLLAPSE_SIM_DATA", help="Directory of the data sets.")
    ] = Path("data"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Show versions, devices, memory, and which data sets are found."""
    report = _report(data_dir)
    if as_json:
        document({"schema": 1, **report})
        return
    for section, entries in report.items():
        data(section)
        for name, value in entries.items():
            data(f"  {name:<16} {value}")


def _report(data_dir: Path) -> dict[str, dict[str, Any]]:
    import importlib.metadata
    import platform

    import psutil
    import torch

    from collapse_sim import __version__
    from collapse_sim.core import registry
    from collapse_sim.core.errors import CollapseSimError
    from collapse_sim.core.machine import describe_bf16

    names = (
        "torch", "torchvision", "transformers", "tokenizers", "datasets", "diffusers", "torch-fidelity", "rouge-score",
        "pydantic", "typer", "rich", "scikit-learn", "matplotlib", "rdkit",
    )  # fmt: skip
    versions = {"collapse-sim": __version__, "python": platform.python_version()}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    threads = torch.get_num_threads()
    devices = {"cpu": f"{threads} thread{'s' * (threads != 1)}, {psutil.virtual_memory().total / 2**30:.1f} GiB memory"}
    devices["cpu, precision"] = f"auto is {describe_bf16()}"
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            devices[f"cuda:{index}"] = f"{properties.name}, {properties.total_memory / 2**30:.1f} GiB"
    else:
        devices["cuda"] = "none found"
    data_sets = {"folder": str(data_dir.resolve()) + ("" if data_dir.is_dir() else " (does not exist)")}
    for name in registry.names("data"):
        try:
            kind: Any = registry.load("data", name)
            info = kind().inspect(data_dir)
            data_sets[name] = f"{info.pool} real rows, {info.held_out} held out"
        except CollapseSimError as error:
            data_sets[name] = f"not found: {str(error).splitlines()[0]}"
        except ValueError:
            data_sets[name] = f"needs settings (see `collapse-sim list data {name}`)"
    return {"versions": versions, "devices": devices, "data": data_sets}
