"""What transformers reads of a model's folder: its configuration and weights. None of a folder's own code is run."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError

from collapse_sim.errors import MissingError

POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx")


def config_of(folder: Path) -> Any:
    """Its configuration. Raises ValueError when there is none that transformers itself knows."""
    from transformers import AutoConfig

    try:
        with quiet():
            return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(f"{folder}: {str(error).splitlines()[0]}") from error


def positions_of(config: Any) -> int | None:
    """How many tokens a model takes at most; None if its configuration does not say."""
    return next((int(getattr(config, name)) for name in POSITIONS if getattr(config, name, None)), None)


def network_of(folder: Path, auto: Any, config: Any) -> Any:
    """Its network in float32, by transformers' class `auto`, in eval mode.

    Raises MissingError when the weights cannot be read, or lack some of the network's.
    """
    safe = any(folder.glob("*.safetensors"))  # else torch's format, which transformers reads weights-only
    try:
        with quiet():
            network, told = auto.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=safe,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, UnpicklingError, SafetensorError) as error:
        raise MissingError(f"{folder}: its weights cannot be read: {str(error).splitlines()[0]}") from error
    if told["missing_keys"]:
        absent = ", ".join(sorted(told["missing_keys"])[:3])
        raise MissingError(
            f"{folder}: its weights lack {len(told['missing_keys'])} of the network's ({absent} ...): it is no model "
            "of this kind, or was saved incompletely"
        )
    return network


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
