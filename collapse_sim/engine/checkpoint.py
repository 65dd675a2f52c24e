"""Checkpoints of an unfinished fit: two are kept, each with its hash; if the newest is damaged, the older is used."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from collapse_sim.core.events import Emit, Note
from collapse_sim.core.files import explain_write_errors, read_bytes, remove, write_atomic
from collapse_sim.core.ranks import Ranks
from collapse_sim.engine.sharding import Whole
from collapse_sim.families.layers import LayerMaps
from collapse_sim.store import sealed
from collapse_sim.store.store import boundary

KEPT = 2
SWITCHES_FILE = "compiled.json"


class Resumable(Protocol):
    """The state that fit.py keeps between steps."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: AveragedModel | None
    maps: LayerMaps | None
    step: int
    skipped: int
    history: list[dict[str, Any]]
    best_loss: float
    best_state: dict[str, Tensor] | None
    loss_sum: Tensor
    loss_steps: int


class Checkpoints:
    """step-NNN.safetensors and step-NNN.json in one folder; the JSON is written last and holds the tensors' hash.

    The JSON is sealed (store/sealed.py) and names the fit that it belongs to. Only rank 0 reads and writes the files;
    the other ranks get what it has read.
    """

    def __init__(self, folder: Path, ranks: Ranks, held: Whole | None = None) -> None:
        """`held`: how the ranks hold the fit's modules; None: whole."""
        self._folder, self._ranks, self._held = folder, ranks, held or Whole(ranks)
        self.ended = folder / "diverged.json"  # the reason when there is no model
        self._fit = folder.name.partition("@")[0]  # DIGEST-BLOCK, whichever process owns the folder

    def newest(self) -> Path | None:
        """The newest checkpoint's file, if there is one."""
        names = self._ranks.of_first(self._names)
        return names[-1].with_suffix(".safetensors") if names else None

    def save(self, run: Resumable) -> None:
        """Write a checkpoint, then remove all but the newest two."""
        tensors = self._held.gathered(_tensors(run))
        self._ranks.of_first(lambda: self._save(run, tensors))

    def _save(self, run: Resumable, tensors: Mapping[str, Tensor]) -> None:
        content = save({name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()})
        stem = self._folder / f"step-{run.step:09d}"
        state = {
            "fit": self._fit,
            "tensors": hashlib.sha256(content).hexdigest(),
            "step": run.step,
            "skipped": run.skipped,
            "history": run.history,
            "best_loss": run.best_loss if run.best_state is not None else None,
            "loss_steps": run.loss_steps,
            "scaler": run.scaler.state_dict(),
        }
        with explain_write_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        write_atomic(stem.with_suffix(".safetensors"), content, durable=False)
        boundary("checkpoint tensors")
        write_atomic(stem.with_suffix(".json"), sealed.text(state))
        boundary("checkpoint")
        for old in self._names()[:-KEPT]:
            remove(old)
            remove(old.with_suffix(".safetensors"))

    def restore(self, run: Resumable, emit: Emit, most: int | None = None) -> None:
        """Continue from the newest intact checkpoint, or from the start if there is none. Those of more than `most`
        steps are removed."""
        newest = self._ranks.of_first(lambda: self._newest(emit, most))
        if newest is not None:
            state, content = newest
            _apply(run, state, load(content), self._held)

    def _newest(self, emit: Emit, most: int | None) -> tuple[dict[str, Any], bytes] | None:
        """The state and the tensors of the newest intact checkpoint."""
        for path in reversed(self._names()):
            if most is not None and int(path.stem.removeprefix("step-")) > most:
                remove(path)  # or it would count among the newest that are kept
                remove(path.with_suffix(".safetensors"))
                continue
            try:
                state = sealed.read(path)
                content = read_bytes(path.with_suffix(".safetensors"))
                whole = state["fit"] == self._fit and hashlib.sha256(content).hexdigest() == state["tensors"]
            except (OSError, ValueError, KeyError):
                whole = False
            if whole:
                return state, content
            emit(Note(f"damaged checkpoint skipped: {path}"))
            remove(path)
            remove(path.with_suffix(".safetensors"))
        return None

    def end(self, ending: Mapping[str, Any]) -> None:
        """Record how the fit ended without a model, as JSON."""
        self._ranks.of_first(lambda: self._write(self.ended, {"fit": self._fit, **ending}))

    def _write(self, path: Path, content: Mapping[str, Any]) -> None:
        with explain_write_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        write_atomic(path, sealed.text(content))

    def ending(self) -> dict[str, Any] | None:
        """How this fit ended earlier; None when it has not, or when the record is damaged."""
        return self._ranks.of_first(lambda: self._read(self.ended))

    def _read(self, path: Path) -> dict[str, Any] | None:
        """The content of a file, if it is intact and this fit's."""
        try:
            kept = sealed.read(path)
        except (OSError, ValueError):
            return None
        return kept if kept.get("fit") == self._fit else None

    def write_switches(self, switches: Mapping[str, Any]) -> None:
        """Record at which steps the fit changes between eager and compiled computation, as JSON."""
        if self._ranks.first:
            self._write(self._folder / SWITCHES_FILE, {"fit": self._fit, "switches": switches})

    def switches(self) -> dict[str, Any]:
        """What was recorded of these steps; {} when nothing was, or when the record is damaged."""
        kept = self._ranks.of_first(lambda: self._read(self._folder / SWITCHES_FILE))
        return dict(kept["switches"]) if kept else {}

    def _names(self) -> list[Path]:
        return sorted(self._folder.glob("step-*.json"))


def newest_step(folder: Path) -> int:
    """The number of steps of the newest checkpoint in a folder, by name alone; 0 without one."""
    return max((int(path.stem.removeprefix("step-")) for path in folder.glob("step-*.json")), default=0)


def _tensors(run: Resumable) -> dict[str, Tensor]:
    """All tensors of a fit's state, as this rank holds them."""
    tensors = {f"model/{name}": tensor for name, tensor in run.model.state_dict().items()}
    if run.average is not None:
        tensors |= {f"average/{name}": tensor for name, tensor in run.average.state_dict().items()}
    if run.maps is not None:
        tensors |= {f"maps/{name}": tensor for name, tensor in run.maps.state_dict().items()}
    if run.best_state is not None:
        tensors |= {f"best/{name}": tensor for name, tensor in run.best_state.items()}
    for index, state in run.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": t for name, t in state.items() if isinstance(t, Tensor)}
    tensors["loss_sum"] = run.loss_sum
    return tensors


def _apply(run: Resumable, state: dict[str, Any], tensors: dict[str, Tensor], held: Whole) -> None:
    device = next(run.model.parameters()).device
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        group, _, rest = name.partition("/")
        groups.setdefault(group, {})[rest] = tensor
    _load(held, run.model, groups["model"])
    if run.average is not None:
        _load(held, run.average, groups["average"])
    if run.maps is not None:
        _load(held, run.maps, groups["maps"])
    if "best" in groups:
        best = held.spread(groups["best"], run.model.state_dict())
        run.best_state = {name: tensor.to(device) for name, tensor in best.items()}
        run.best_loss = state["best_loss"]
    per_parameter: dict[int, dict[str, Tensor]] = {}
    for name, tensor in groups.get("optimizer", {}).items():
        index, _, rest = name.partition("/")
        per_parameter.setdefault(int(index), {})[rest] = tensor
    learned = [parameter for group in run.optimizer.param_groups for parameter in group["params"]]
    for at, states in per_parameter.items():
        per_parameter[at] = held.spread(states, dict.fromkeys(states, learned[at]))
    run.optimizer.load_state_dict({**run.optimizer.state_dict(), "state": per_parameter})
    run.scaler.load_state_dict(state["scaler"])
    run.step, run.skipped = state["step"], state["skipped"]
    run.history, run.loss_steps = state["history"], state["loss_steps"]
    run.loss_sum = tensors["loss_sum"].to(device)


def _load(held: Whole, module: nn.Module, state: Mapping[str, Tensor]) -> None:
    module.load_state_dict(held.spread(state, module.state_dict()))
