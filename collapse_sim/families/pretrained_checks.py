"""Checks of what a pretrained model computes from tokens, before anything is trained.

transformers loads a masked language model as a causal one without a warning; such a model sees the tokens whose
perplexity is computed. So the network itself is run on a few random tokens, whatever its name is. The result is cached,
since large weights take seconds to read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from collapse_sim.core.errors import StoreError
from collapse_sim.core.hashing import digest_of
from collapse_sim.core.hub import PretrainedFiles
from collapse_sim.core.memory_errors import out_of_memory
from collapse_sim.data.file_cache import cache_folder, seal, unsealed
from collapse_sim.families.pretrained import config_of, network_of, quiet, reason

Auto = Literal["AutoModelForCausalLM", "AutoModelForSeq2SeqLM", "AutoModel"]
FORMAT = 1  # increment when the checks change
TOKENS = 8  # of a row; each of them except the first is changed once
TOLERANCE = 1e-5  # of the largest logit: smaller differences are rounding


def check_next_token(files: PretrainedFiles, auto: Auto) -> None:
    """Raises ValueError when a model's predictions depend on later tokens than they may.

    For an encoder-decoder (AutoModelForSeq2SeqLM) the decoder is checked. Raises MissingError for weights that cannot
    be read.
    """
    _check(files, auto, "next token", _next_token)


def check_states(files: PretrainedFiles) -> None:
    """Raises ValueError when a model (AutoModel) has no last hidden state for every token. Raises MissingError for
    weights that cannot be read."""
    _check(files, "AutoModel", "states", _states)


def _check(files: PretrainedFiles, auto: Auto, what: str, problem_of: Callable[[Any, Tensor], str]) -> None:
    import transformers

    path = None
    with contextlib.suppress(RuntimeError):  # there is no home folder
        key = digest_of([FORMAT, what, auto, files.sha256, transformers.__version__, torch.__version__])
        path = cache_folder() / "models" / f"{key}.json"
        cached = unsealed(path)
        if cached is not None:
            return _raise_if(files, cached["wrong"])
    config = config_of(files.folder)
    network = network_of(files.folder, getattr(transformers, auto), config)
    ids = torch.randint(config.vocab_size, (2, TOKENS), generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad(), quiet():
            problem = problem_of(network, ids)
    except Exception as error:  # the network may be of any kind
        if out_of_memory(error):
            raise
        problem = f"it does not accept tokens only ({reason(error)})"
    with contextlib.suppress(OSError, StoreError):
        if path is not None:
            seal(path, {"wrong": problem})
    return _raise_if(files, problem)


def _raise_if(files: PretrainedFiles, problem: str) -> None:
    if problem:
        raise ValueError(f"{files.folder}: {problem}")


def _next_token(network: Any, ids: Tensor) -> str:
    """What is wrong; "" when a change of any token leaves the predictions before it unchanged."""
    row, other = ids
    rows = row.repeat(TOKENS, 1)  # in row j, token j is changed; in row 0, none is
    changed = torch.arange(1, TOKENS)
    vocabulary = network.config.vocab_size
    rows[changed, changed] = torch.where(other[1:] == row[1:], (row[1:] + 1) % vocabulary, other[1:])
    decoder = bool(network.config.is_encoder_decoder)
    inputs = {"input_ids": other.repeat(TOKENS, 1), "decoder_input_ids": rows} if decoder else {"input_ids": rows}
    logits = network(**inputs, use_cache=False).logits
    if logits.shape[:2] != rows.shape:
        return f"it does not predict the next token: its logits have the shape {tuple(logits.shape)}"
    if not logits.isfinite().all():
        return "its logits are not finite: its weights are damaged, or need another precision"
    scale = float(logits.abs().max())
    differences = (logits - logits[:1]).abs().amax(2)  # (changed, predicted)
    before = torch.arange(TOKENS)[None] < torch.arange(TOKENS)[:, None]
    if float(differences[before].max()) > TOLERANCE * scale:
        subject = "its decoder looks" if decoder else "it looks"
        return (
            f"{subject} at the tokens that it should predict ({network.config.model_type}; a changed token changes the "
            "predictions before it): it is not a causal language model; use one such as "
            + ("t5-small" if decoder else "gpt2")
        )
    return ""


def _states(network: Any, ids: Tensor) -> str:
    states = getattr(network(input_ids=ids, use_cache=False), "last_hidden_state", None)
    expected = (*ids.shape, network.config.hidden_size)
    if states is None or states.shape != expected:
        return "it has no last hidden state for every token"
    return "" if states.isfinite().all() else "its hidden states are not finite: its weights are damaged"
