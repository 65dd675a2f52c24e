"""TokenSampling of language models against transformers' `generate`: python benchmarks/decoding.py [--device cpu].

The same new network, batch, temperature 1 and number of tokens; both ways alternate in one process, and the first
round does not count. No row ends, so that both generate equally many tokens. Prints JSON: tokens/s and their ratio.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import torch
import transformers
from torch import Tensor

from collapse_sim.core.machine import open_machine
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.data.text.tokens import Tokenizer
from collapse_sim.families.causal_lm import CausalLM
from collapse_sim.families.decoding import Choose, TokenSampling, decode, likeliest
from collapse_sim.families.language import LanguageModel, TextFamily
from collapse_sim.families.seq2seq import Seq2Seq

SHAPES: dict[str, tuple[TextFamily, dict[str, int], int]] = {
    "gpt2-9m": (CausalLM(preset="gpt2-9m"), {"tokens": 256}, 10_000),
    "gpt2-124m": (CausalLM(preset="gpt2-9m", width=768, layers=12, heads=12), {"tokens": 256}, 50_257),
    "t5-small": (Seq2Seq(preset="tiny", width=512, layers=6, heads=8), {"source": 128, "target": 64}, 32_000),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="gpt2-9m")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=64, help="new tokens per row")
    parser.add_argument("--greedy", action="store_true", help="the likeliest tokens instead of drawn ones")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    family, lengths, vocabulary = SHAPES[options.shape]
    machine = open_machine(options.device, "fp32")
    tokenizer = Tokenizer.of_words([f"t{i}" for i in range(vocabulary - 1)])
    columns = {name: ((length,), tokenizer.dtype) for name, length in lengths.items()}
    info = Info("text" if "tokens" in lengths else "pairs", columns, 8, 8, 8, tokenizer=tokenizer)
    with machine.seeded(0):
        model = machine.for_inference(family.build(info))
    assert isinstance(model, LanguageModel)
    prompts = torch.randint(1, vocabulary, (options.batch, 1 if "tokens" in lengths else lengths["source"]))
    inputs = {"input_ids": machine.put(prompts), "attention_mask": machine.put(torch.ones_like(prompts))}
    start = model.start if family.encoder_decoder else None
    settings = transformers.GenerationConfig(
        max_new_tokens=options.tokens,
        min_new_tokens=options.tokens,
        do_sample=not options.greedy,
        top_k=0,
        eos_token_id=None,
        pad_token_id=model.pad,
        decoder_start_token_id=start,
    )

    def ours() -> Tensor:
        draws = Draws((0,), "sample", 0, device=machine.device)
        choose: Choose = likeliest if options.greedy else TokenSampling().chooser(options.batch, draws)
        return decode(model.network, inputs, options.tokens, choose, end=None, pad=model.pad, start=start)

    def theirs() -> Tensor:
        tokens: Tensor = model.network.generate(**inputs, generation_config=settings)  # type: ignore[operator]
        return tokens

    ways: dict[str, Callable[[], Tensor]] = {"generate": theirs, "collapse-sim": ours}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    with torch.no_grad(), machine.autocast():
        for attempt in range(options.repeats + 1):
            for name, write in ways.items():
                started = time.perf_counter()
                write().cpu()
                if attempt:
                    rates[name].append(options.batch * options.tokens / (time.perf_counter() - started))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    report = {
        "benchmark": "decoding",
        "machine": machine.describe(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "shape": options.shape,
        "parameters": sum(p.numel() for p in model.parameters()),
        "batch": options.batch,
        "tokens": options.tokens,
        "decoding": "greedy" if options.greedy else "sample",
        "tokens_per_s": {name: [round(value) for value in values] for name, values in rates.items()},
        "ratio_of_medians": round(medians["collapse-sim"] / medians["generate"], 2),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
