"""Generated text: our decoding against transformers' `generate`, as many tokens per row for both.

`generate` computes once as it comes, in float32, and once with all weights in the precision that `precision: auto` has
here, which also rounds its logits. What is done once for a model is not counted: its weights' conversion, and packing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import transformers
from torch import Tensor

from benchmarks.cases.text import GPT2, T5_SMALL, TINY, TextModel
from benchmarks.harness import Case, Setting, Ways
from benchmarks.surroundings import now
from collapse_sim.core.machine import DTYPES, Device
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.data.text.tokens import Tokenizer
from collapse_sim.families.causal_lm import CausalLM
from collapse_sim.families.decoding import Choose, TokenSampling, decode, likeliest
from collapse_sim.families.packed_layers import packed_layers
from collapse_sim.families.text_network import LanguageModel

GPT2_124M = CausalLM(preset="gpt2-9m", width=768, layers=12, heads=12)
PEERS = ("generate, fp32", "generate, bf16")


def prepare(
    family: TextModel, vocabulary: int, batch: tuple[int, int], length: tuple[int, int], greedy: bool, setting: Setting
) -> Ways:
    """`batch` rows of `length` new tokens, on a CPU and on CUDA. No row ends, so both generate equally many."""
    family = TINY[family.encoder_decoder] if setting.tiny else family
    vocabulary = 50 if setting.tiny else vocabulary
    device, machine = setting.device, setting.device.with_precision("auto")
    rows, tokens = setting.sized(*batch, 2), setting.sized(*length, 3)
    tokenizer = Tokenizer.of_words([f"t{i}" for i in range(vocabulary - 1)])
    lengths = {"source": 128, "target": 64} if family.encoder_decoder else {"tokens": 256}
    columns = {name: ((size,), tokenizer.dtype) for name, size in lengths.items()}
    info = Info("pairs" if family.encoder_decoder else "text", columns, 8, 8, 8, tokenizer=tokenizer)
    with machine.seeded(0):
        model = machine.for_inference(family.build(info))
        network = _as_it_comes(family, info, device, torch.float32)
        lower = DTYPES[machine.precision]
        peers = dict(zip(PEERS, (network, lower and _as_it_comes(family, info, device, lower)), strict=True))
    assert isinstance(model, LanguageModel)
    prompts = torch.randint(1, vocabulary, (rows, lengths.get("source", 1)))
    inputs = {"input_ids": device.put(prompts), "attention_mask": device.put(torch.ones_like(prompts))}
    start = model.start if family.encoder_decoder else None
    settings = transformers.GenerationConfig(
        max_new_tokens=tokens,
        min_new_tokens=tokens,
        do_sample=not greedy,
        top_k=0,
        eos_token_id=None,
        pad_token_id=model.pad,
        decoder_start_token_id=start,
    )

    def ours() -> float:
        draws = Draws((0,), "sample", 0, device=device.device)
        choose: Choose = likeliest if greedy else TokenSampling().chooser(rows, draws)
        with machine.inference(model), packed_layers(model.network, tokens):
            return rate(lambda: decode(model.network, inputs, tokens, choose, end=None, pad=model.pad, start=start))

    def theirs(network: Any) -> float:
        with torch.no_grad():
            return rate(lambda: network.generate(**inputs, generation_config=settings))

    def rate(write: Callable[[], Tensor]) -> float:
        started = now(device)
        write()
        return rows * tokens / (now(device) - started)

    parameters = sum(parameter.numel() for parameter in model.parameters())
    facts = {"batch": rows, "new tokens": tokens, "vocabulary": vocabulary, "parameters": parameters}
    # A decoded token passes through every weight once, apart from attention and an encoder.
    operations = None if family.encoder_decoder else 2.0 * parameters
    ways = {name: partial(theirs, peer) for name, peer in peers.items() if peer is not None}
    return Ways({"collapse-sim": ours, **ways}, machine.precision, operations, facts)


def _as_it_comes(family: TextModel, info: Info, device: Device, dtype: torch.dtype) -> Any:
    """The family's network, with what a user of transformers would have: fused attention, no layer in float32."""
    network: Any = family._network(info)
    return device.for_inference(network.to(dtype))


CASES = (
    Case(
        "decoding-gpt2-9m",
        "sampling at temperature 1 from a GPT-2 of 9 M parameters",
        "tokens/s",
        partial(prepare, GPT2, 10_000, (32, 256), (48, 128), False),
        targets={peer: {"cpu": 4, "cuda": 4} for peer in PEERS},
    ),
    Case(
        "decoding-gpt2-124m",
        "sampling at temperature 1 from a GPT-2 of 124 M parameters",
        "tokens/s",
        partial(prepare, GPT2_124M, 50_257, (8, 128), (32, 64), False),
        targets={peer: {"cpu": 1.5, "cuda": 3} for peer in PEERS},
    ),
    Case(
        "decoding-t5-small",
        "greedy summaries by T5-small's architecture, sources of 128 tokens",
        "tokens/s",
        partial(prepare, T5_SMALL, 32_000, (8, 128), (32, 64), True),
        targets={peer: {"cpu": 2, "cuda": 3} for peer in PEERS},
    ),
)
