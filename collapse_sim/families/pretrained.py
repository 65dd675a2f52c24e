"""What transformers reads of a model's folder: its configuration and weights. None of a folder's own code is run."""

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
SIZES = ("vocab_size", "hidden_size", "num_hidden_layers")  # that every language model's configuration tells
CODE = re.compile(r"GLOBAL (\S+)")  # what a file of torch's would have run, in torch's message
GUARD = re.compile("weights[ _]only|safe_globals|WeightsUnpickler", re.IGNORECASE)


def config_of(folder: Path) -> Any:
    """Its configuration. Raises ValueError when there is none that transformers itself knows, or it is none of a
    language model whose weights are numbers as they are."""
    from transformers import AutoConfig

    try:
        with quiet():
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers has many for a file that is not what it expects
        if out_of_memory(error):
            raise
        raise ValueError(f"{folder}: {reason(error)}") from error
    quantised = getattr(config, "quantization_config", None)
    if quantised:
        how = quantised.get("quant_method") if isinstance(quantised, dict) else type(quantised).__name__
        raise ValueError(
            f"{folder}: its weights are quantised ({how or 'quantization_config'}), and are read in float32 here: take "
            "the model as it was before"
        )
    if config.get_text_config() is not config:
        raise ValueError(
            f"{folder}: {config.model_type} takes more than text (its sizes are below text_config): take a model of "
            "text alone"
        )
    lacking = [name for name in SIZES if not isinstance(getattr(config, name, None), int)]
    if lacking:
        raise ValueError(
            f"{folder}: its configuration ({config.model_type}) has no {', '.join(lacking)}: it is none of a language "
            "model"
        )
    return config


def positions_of(config: Any) -> int | None:
    """How many tokens a model takes at most; None if its configuration does not say, or there is no limit (-1)."""
    said = (getattr(config, name, None) for name in POSITIONS)
    return next((number for number in said if isinstance(number, int) and number > 0), None)


def network_of(folder: Path, auto: Any, config: Any) -> Any:
    """Its network in float32, by transformers' class `auto`, in eval mode.

    Raises MissingError when the weights cannot be read, or lack some of the network's.
    """
    try:
        with quiet():
            network, told = auto.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=is_safe(folder),  # else torch's format, which transformers reads weights-only
                output_loading_info=True,
            )
    except Exception as error:  # likewise
        if out_of_memory(error):
            raise
        raise MissingError(f"{folder}: its weights cannot be read: {reason(error)}") from error
    if told["missing_keys"]:
        absent = ", ".join(sorted(told["missing_keys"])[:3])
        raise MissingError(
            f"{folder}: its weights lack {len(told['missing_keys'])} of the network's ({absent} ...): it is no model "
            "of this kind, or was saved incompletely"
        )
    return network


def reason(error: Exception) -> str:
    """The first line of a library's message. torch's advice to read a file with the guard off is never passed on."""
    text = str(error)
    if GUARD.search(text):
        code = CODE.search(text)
        found = f"it would run {code[1]}" if code else "it is damaged, or holds more than weights"
        return f"{found}: only files of weights alone are read, such as those of safetensors"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' advice and progress bars."""
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
