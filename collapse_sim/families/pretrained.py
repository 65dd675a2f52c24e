"""Reading a model's folder with transformers: configuration and weights. Code in the folder is never run."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from collapse_sim.core.errors import MissingError
from collapse_sim.core.hub import is_safe
from collapse_sim.core.memory_errors import out_of_memory

POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx")
SIZES = ("vocab_size", "hidden_size", "num_hidden_layers")  # in the configuration of every language model
CODE = re.compile(r"GLOBAL (\S+)")  # in torch's message: what a file would have run
GUARD = re.compile("weights[ _]only|safe_globals|WeightsUnpickler", re.IGNORECASE)


def config_of(folder: Path) -> Any:
    """The configuration. Raises ValueError if there is none that transformers itself knows, or if it is not that of a
    language model with unquantised weights."""
    from transformers import AutoConfig

    try:
        with quiet():
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises many types for unexpected files
        if out_of_memory(error):
            raise
        raise ValueError(f"{folder}: {reason(error)}") from error
    quantised = getattr(config, "quantization_config", None)
    if quantised:
        how = quantised.get("quant_method") if isinstance(quantised, dict) else type(quantised).__name__
        raise ValueError(
            f"{folder}: its weights are quantised ({how or 'quantization_config'}), and are read in float32 here: use "
            "the model before quantisation"
        )
    if config.get_text_config() is not config:
        raise ValueError(
            f"{folder}: {config.model_type} takes more than text (its sizes are in text_config): use a text-only model"
        )
    missing = [name for name in SIZES if not isinstance(getattr(config, name, None), int)]
    if missing:
        raise ValueError(
            f"{folder}: its configuration ({config.model_type}) has no {', '.join(missing)}: it is not that of a "
            "language model"
        )
    return config


def positions_of(config: Any) -> int | None:
    """The maximum number of tokens of a model; None if its configuration has none, or if there is no limit (-1)."""
    numbers = (getattr(config, name, None) for name in POSITIONS)
    return next((number for number in numbers if isinstance(number, int) and number > 0), None)


def network_of(folder: Path, auto: Any, config: Any) -> Any:
    """The network in float32 and eval mode, loaded by transformers' class `auto`.

    Raises MissingError when the weights cannot be read, or when some are missing.
    """
    try:
        with quiet():
            network, loading_info = auto.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=is_safe(folder),  # else torch's format, which transformers reads as weights only
                output_loading_info=True,
            )
    except Exception as error:  # see above
        if out_of_memory(error):
            raise
        raise MissingError(f"{folder}: its weights cannot be read: {reason(error)}") from error
    missing = loading_info["missing_keys"]
    if missing:
        examples = ", ".join(sorted(missing)[:3])
        raise MissingError(
            f"{folder}: {len(missing)} of the network's weights are missing ({examples} ...): it is not a model "
            "of this kind, or was saved incompletely"
        )
    return network


def reason(error: Exception) -> str:
    """The first line of a library's message. torch's advice to read a file without its guard is never shown."""
    text = str(error)
    if GUARD.search(text):
        code = CODE.search(text)
        problem = f"it would run {code[1]}" if code else "it is damaged, or contains more than weights"
        return f"{problem}: only files that contain nothing but weights are read, such as those of safetensors"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress transformers' warnings and progress bars."""
    from transformers.utils import logging

    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="transformers")
            yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
