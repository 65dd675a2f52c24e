"""Pipelines of diffusers in folders: a UNet2DModel and its noise schedule."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from collapse_sim.core.errors import MissingError
from collapse_sim.core.readable import file_problem
from collapse_sim.families.network import UNetSettings
from collapse_sim.families.state_files import read_parts
from collapse_sim.families.unet import UNet

NETWORK = "UNet2DModel"
WEIGHTS = "diffusion_pytorch_model"
PREDICTIONS = {"epsilon": "epsilon", "v": "v_prediction"}  # by a family's `target`
LEFT_OUT = ("dropout",)  # settings of a network that matter in training only
OF_ROWS = frozenset(("sample_size", "in_channels", "out_channels"))  # settings that the data decide
NEAR = 1e-6  # of the share of a row's variance that is left: beyond rounding


def pipeline_state(folder: Path, model: UNet, schedule: str, kept: Tensor, target: str) -> dict[str, Tensor]:
    """The state of a pipeline's network, in the names of `model`, which may be without values.

    `kept`: the share of a row's variance that is left at every time, (timesteps,); `schedule` is its name. A folder
    of network and schedule alone, as of conditional models, which have no pipeline, is read as well.

    Raises ValueError with a line for every difference from the network and the schedule, MissingError for files that
    are missing or damaged.
    """
    alone = (folder / "unet" / "config.json").exists() and not (folder / "model_index.json").exists()
    name = NETWORK if alone else _json(folder / "model_index.json").get("unet")
    network = str(name[1] if isinstance(name, list) and len(name) == 2 else name)
    if network != NETWORK:
        raise ValueError(
            f"{folder}: its `unet` is {network}; needed: a pipeline with a {NETWORK}, such as DDPMPipeline"
        )
    problems = [
        *_other_network(_json(folder / "unet" / "config.json"), model),
        *_other_schedule(_json(folder / "scheduler" / "scheduler_config.json"), schedule, kept, target),
    ]
    if problems:
        raise ValueError("\n".join(f"{folder}: {problem}" for problem in problems))
    return {f"unet.{name}": tensor for name, tensor in read_parts(folder / "unet", WEIGHTS).items()}


def _json(path: Path) -> dict[str, Any]:
    problem = file_problem(path)
    if problem:
        raise MissingError(f"{path}: {problem}; needed: a folder that a pipeline's save_pretrained wrote")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise MissingError(f"{path}: not valid JSON ({error}); save the pipeline again") from None
    if not isinstance(content, dict):
        raise MissingError(f"{path}: not a configuration; save the pipeline again")
    return content


def _other_network(config: Mapping[str, Any], model: UNet) -> Iterator[str]:
    """The settings of the network that differ, defaults included."""
    from diffusers import UNet2DModel

    settings = {name: value for name, value in config.items() if not name.startswith("_")}
    try:
        with torch.device("meta"):
            theirs = UNet2DModel(**settings).config
    except (TypeError, ValueError) as error:
        yield f"unet/config.json: not a configuration of {NETWORK}: {error}"
        return
    unlike = _unlike(theirs, model.unet.config)
    yield from (f"network: {name}: {there} there, {here} here" for name, (there, here) in unlike.items())
    if unlike.keys() - OF_ROWS:
        yield _advice(theirs, model)


def _unlike(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """{setting: (theirs, ours)} of those that differ."""
    names = (n for n in dict.fromkeys((*ours, *theirs)) if not n.startswith("_") and n not in LEFT_OUT)
    pairs = {name: (_comparable(name, theirs.get(name)), _comparable(name, ours.get(name))) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _advice(theirs: Mapping[str, Any], model: UNet) -> str:
    """What to set in a recipe for this network, as YAML."""
    widths, layers = tuple(theirs["block_out_channels"]), theirs["layers_per_block"]
    with torch.device("meta"):
        plain = UNet(model.shape, widths, layers, "middle", 0.0).unet.config
    left = {name: there for name, (there, _) in _unlike(theirs, plain).items() if name not in OF_ROWS}
    unknown = sorted(left.keys() - UNetSettings.model_fields.keys())
    if unknown:
        return f"network: a UNet with {', '.join(unknown)} as there cannot be built here"
    settings = {"widths": widths, "layers": layers, **({"unet": left} if left else {})}
    return f"to take its architecture, set the model's network: {json.dumps(settings)}"


def _comparable(name: str, value: Any) -> Any:
    """Sequences as tuples; the size of square images as height and width."""
    if name == "sample_size" and isinstance(value, int):
        return (value, value)
    return tuple(value) if isinstance(value, list | tuple) else value


def _other_schedule(config: Mapping[str, Any], schedule: str, kept: Tensor, target: str) -> Iterator[str]:
    """What differs in the noise schedule and in what the network predicts; samplers may differ."""
    from diffusers import DDPMScheduler

    settings = {name: value for name, value in config.items() if not name.startswith("_")}
    known = {name: value for name, value in settings.items() if name in _parameters(DDPMScheduler)}
    try:
        theirs = DDPMScheduler(**known)
    except (TypeError, ValueError, NotImplementedError) as error:
        yield f"scheduler/scheduler_config.json: {error}"
        return
    prediction, ours = theirs.config.prediction_type, PREDICTIONS[target]
    if prediction != ours:
        yield f"target: its network predicts {prediction} there, {ours} here"
    alphas = theirs.alphas_cumprod
    if len(alphas) != len(kept):
        yield f"timesteps: {len(alphas)} there, {len(kept)} here"
    elif float((alphas - kept.cpu()).abs().max()) > NEAR:
        shown = f"{theirs.config.beta_schedule}, betas {theirs.betas[0]:.3g} to {theirs.betas[-1]:.3g}"
        yield f"schedule: {shown} there, {schedule}, betas {_betas(kept)} here"


def _parameters(cls: Any) -> tuple[str, ...]:
    import inspect

    return tuple(inspect.signature(cls.__init__).parameters)


def _betas(kept: Tensor) -> str:
    last = 1 - kept[-1] / kept[-2]
    return f"{1 - kept[0]:.3g} to {last:.3g}"
