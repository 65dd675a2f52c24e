"""Generated text: our decoding against transformers' `generate`, as many tokens per row for both."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import transformers
from torch import Tensor

from benchmarks.cases.text import GPT2, T5_SMALL, TINY, TextModel
from benchmarks.harness import Case, Setting, Ways
from benchmarks.surroundings import now
from collapse_sim.core.machine import DTYPES
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.data.text.tokens import Tokenizer
from collapse_sim.families.causal_lm import CausalLM
from collapse_sim.families.decoding import Choose, TokenSampling, decode, likeliest
from collapse_sim.families.text_network import LanguageModel

GPT2_124M = CausalLM(preset="gpt2-9m", width=768, layers=12, heads=12)
PEER = "generate"


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
        peer = machine.for_inference(family.build(info).to(DTYPES[machine.precision] or torch.float32))
    assert isinstance(model, LanguageModel)
    assert isinstance(peer, LanguageModel)
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

    def ours() -> Tensor:
        draws = Draws((0,), "sample", 0, device=device.device)
        choose: Choose = likeliest if greedy else TokenSampling().chooser(rows, draws)
        with machine.inference(model):
            return decode(model.network, inputs, tokens, choose, end=None, pad=model.pad, start=start)

    def theirs() -> Tensor:
        generated: Tensor = peer.network.generate(**inputs, generation_config=settings)  # type: ignore[operator]
        return generated

    def rate(write: Callable[[], Tensor]) -> float:
        started = now(device)
        with torch.no_grad():
            write()
        return rows * tokens / (now(device) - started)

    parameters = sum(parameter.numel() for parameter in model.parameters())
    facts = {"batch": rows, "new tokens": tokens, "vocabulary": vocabulary, "parameters": parameters}
    # A decoded token passes through every weight once, apart from attention and an encoder.
    operations = None if family.encoder_decoder else 2.0 * parameters
    return Ways({"collapse-sim": lambda: rate(ours), PEER: lambda: rate(theirs)}, machine.precision, operations, facts)


CASES = (
    Case(
        "decoding-gpt2-9m",
        "sampling at temperature 1 from a GPT-2 of 9 M parameters",
        "tokens/s",
        partial(prepare, GPT2, 10_000, (32, 256), (48, 128), False),
        targets={PEER: {"cpu": 4, "cuda": 4}},
    ),
    Case(
        "decoding-gpt2-124m",
        "sampling at temperature 1 from a GPT-2 of 124 M parameters",
        "tokens/s",
        partial(prepare, GPT2_124M, 50_257, (8, 128), (16, 64), False),
        targets={PEER: {"cpu": 1.5, "cuda": 3}},
    ),
    Case(
        "decoding-t5-small",
        "greedy summaries by T5-small's architecture, sources of 128 tokens",
        "tokens/s",
        partial(prepare, T5_SMALL, 32_000, (8, 128), (24, 64), True),
        targets={PEER: {"cpu": 2, "cuda": 3}},
    ),
)
