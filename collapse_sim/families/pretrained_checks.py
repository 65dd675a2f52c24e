"""What a pretrained model does with tokens, tried before anything is trained: whether it is what it is taken for.

transformers loads a masked language model as a causal one, and says nothing: its perplexity would be of texts that it
has seen. So the network is asked, on a few random tokens, whatever its name is. What was found is kept in the cache,
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
from collapse_sim.data.remember import cache_folder, seal, unsealed
from collapse_sim.families.pretrained import config_of, network_of, quiet, reason

Auto = Literal["AutoModelForCausalLM", "AutoModelForSeq2SeqLM", "AutoModel"]
FORMAT = 1  # raised when other things are tried
TOKENS = 8  # of a row; of them every one but the first is changed once
APART = 1e-5  # of the largest logit: what is below is rounding


def check_next_token(found: PretrainedFiles, auto: Auto) -> None:
    """Raises ValueError when a model's predictions depend on tokens behind those that they are of.

    Of an encoder-decoder (AutoModelForSeq2SeqLM) its decoder is asked. Raises MissingError for weights that cannot be
    read.
    """
    _tried(found, auto, "next token", _next_token)


def check_states(found: PretrainedFiles) -> None:
    """Raises ValueError when a model (AutoModel) has no last hidden state for every token. MissingError, likewise."""
    _tried(found, "AutoModel", "states", _states)


def _tried(found: PretrainedFiles, auto: Auto, what: str, ask: Callable[[Any, Tensor], str]) -> None:
    import transformers

    path = None
    with contextlib.suppress(RuntimeError):  # there is no home folder
        key = digest_of([FORMAT, what, auto, found.sha256, transformers.__version__, torch.__version__])
        path = cache_folder() / "models" / f"{key}.json"
        kept = unsealed(path)
        if kept is not None:
            return _raise(found, kept["wrong"])
    config = config_of(found.folder)
    network = network_of(found.folder, getattr(transformers, auto), config)
    ids = torch.randint(config.vocab_size, (2, TOKENS), generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad(), quiet():
            wrong = ask(network, ids)
    except Exception as error:  # a network of any kind may be here
        if out_of_memory(error):
            raise
        wrong = f"it takes no tokens alone ({reason(error)})"
    with contextlib.suppress(OSError, StoreError):
        if path is not None:
            seal(path, {"wrong": wrong})
    return _raise(found, wrong)


def _raise(found: PretrainedFiles, wrong: str) -> None:
    if wrong:
        raise ValueError(f"{found.folder}: {wrong}")


def _next_token(network: Any, ids: Tensor) -> str:
    """What is wrong; "" when a change of any token leaves what is predicted before it as it was."""
    row, other = ids
    rows = row.repeat(TOKENS, 1)  # row j: token j is another one; row 0: none is
    places = torch.arange(1, TOKENS)
    vocabulary = network.config.vocab_size
    rows[places, places] = torch.where(other[1:] == row[1:], (row[1:] + 1) % vocabulary, other[1:])
    decoder = bool(network.config.is_encoder_decoder)
    given = {"input_ids": other.repeat(TOKENS, 1), "decoder_input_ids": rows} if decoder else {"input_ids": rows}
    logits = network(**given, use_cache=False).logits
    if logits.shape[:2] != rows.shape:
        return f"it predicts no next token: its logits have the shape {tuple(logits.shape)}"
    if not logits.isfinite().all():
        return "its logits are not finite: its weights are damaged, or need another precision"
    scale = float(logits.abs().max())
    apart = (logits - logits[:1]).abs().amax(2)  # (changed, predicted)
    before = torch.arange(TOKENS)[None] < torch.arange(TOKENS)[:, None]
    if float(apart[before].max()) > APART * scale:
        kind = "its decoder looks" if decoder else "it looks"
        return (
            f"{kind} at the tokens that it should predict ({network.config.model_type}; a changed token changes the "
            "predictions before it): it is no causal language model; needed is one such as "
            + ("t5-small" if decoder else "gpt2")
        )
    return ""


def _states(network: Any, ids: Tensor) -> str:
    states = getattr(network(input_ids=ids, use_cache=False), "last_hidden_state", None)
    wanted = (*ids.shape, network.config.hidden_size)
    if states is None or states.shape != wanted:
        return "it has no last hidden state for every token"
    return "" if states.isfinite().all() else "its hidden states are not finite: its weights are damaged"
