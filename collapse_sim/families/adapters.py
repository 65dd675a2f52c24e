"""Low-rank adapters of transformers networks (LoRA, Hu et al. 2022), by the package peft."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import save_file
from torch import Tensor, nn

from collapse_sim.core.errors import MissingError
from collapse_sim.families.state_files import read_parts

ADAPTER = "default"  # peft's name of a network's adapter
CONFIG_FILE, WEIGHTS = "adapter_config.json", "adapter_model"  # as peft's save_pretrained writes them
PREFIX = "base_model.model."  # of the names in such a file


class LoRA(BaseModel):
    """Adapters: every target layer's weights W become W + alpha / rank x B A, and only A and B are trained."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    rank: Annotated[int, Field(gt=0)] = 8
    """Rank of the products B A."""
    alpha: Annotated[float, Field(gt=0.0)] = 16.0
    """The products are multiplied by alpha / rank."""
    targets: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Ends of the names of the layers that have adapters, such as q_proj. Default: peft's for the architecture."""

    def config(self) -> Any:
        """peft's own configuration."""
        from peft import LoraConfig

        targets = list(self.targets) if self.targets else None
        return LoraConfig(r=self.rank, lora_alpha=self.alpha, target_modules=targets, lora_dropout=0.0, bias="none")

    def insert(self, network: nn.Module) -> None:
        """Give a network adapters, which change nothing yet (B is 0), and freeze its weights. A is random.

        Raises ValueError when there are no such layers.
        """
        from peft import inject_adapter_in_model

        layers = sorted({name.rpartition(".")[2] for name, module in network.named_modules() if _has_weights(module)})
        try:
            with warnings.catch_warnings():  # about the layout of GPT-2's layers
                warnings.simplefilter("ignore")
                inject_adapter_in_model(self.config(), network)
        except ValueError as error:
            wrong = (
                f"targets: found {', '.join(self.targets)}" if self.targets else "targets: none known for this model"
            )
            raise ValueError(f"lora.{wrong}; allowed: {', '.join(layers)}") from error
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(".lora_" in name)


def _has_weights(module: nn.Module) -> bool:
    return any(parameter.dim() == 2 for parameter in module.parameters(recurse=False))


def check_installed() -> None:
    """Raises ValueError without peft."""
    if importlib.util.find_spec("peft") is None:
        raise ValueError("lora: the package peft is not installed: pip install 'collapse-sim[lora]'")


def write_adapters(lora: LoRA, base: str, state: Mapping[str, Tensor], folder: Path) -> list[Path]:
    """Write a folder for PeftModel.from_pretrained(BASE, folder). `state`: the tensors of the adapters, by their names
    in the network. Returns the written files."""
    config = lora.config()
    config.base_model_name_or_path = base
    config.inference_mode = True
    config.save_pretrained(folder)
    tensors = {PREFIX + name.replace(f".{ADAPTER}.", "."): tensor.contiguous() for name, tensor in state.items()}
    save_file(tensors, folder / f"{WEIGHTS}.safetensors", {"format": "pt"})
    return sorted(path for path in folder.rglob("*") if path.is_file())


def read_adapters(lora: LoRA, folder: Path) -> dict[str, Tensor]:
    """The adapters in such a folder, by their names in the network. Raises ValueError for other adapters than `lora`
    has, MissingError for files that are missing or damaged."""
    from peft import LoraConfig

    try:
        theirs = LoraConfig.from_pretrained(str(folder))
    except Exception as error:  # peft raises many types for unexpected files
        raise MissingError(f"{folder / CONFIG_FILE}: not a configuration of adapters: {error}") from error
    problems = [
        f"{folder}: lora.{name}: {there} there, {here} here"
        for name, there, here in (("rank", theirs.r, lora.rank), ("alpha", theirs.lora_alpha, lora.alpha))
        if there != here
    ]
    if problems:
        raise ValueError("\n".join(problems))
    state = {}
    for name, tensor in read_parts(folder, WEIGHTS).items():
        layer, _, weight = name.removeprefix(PREFIX).rpartition(".")
        state[f"{layer}.{ADAPTER}.{weight}"] = tensor
    return state
