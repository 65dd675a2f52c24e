"""Training and sampling of language models, compared with transformers: python benchmarks/text.py.

The same network, rows, batch size, precision and number of updates: once with transformers' Trainer and its defaults
(fused AdamW), once through `collapse-sim`'s engine, alternately in one process. Then samples of one length: with
`generate`, with the weights in the run's precision, and with the family. Prints JSON: tokens/s of both and their ratio.

    python benchmarks/text.py --shape gpt2-9m --device cuda       # rows of 256 tokens, a vocabulary of 10,000
    python benchmarks/text.py --shape t5-small --device cuda      # sources of 512 tokens, targets of 64
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from random_tokens import RandomTokens  # beside this file
from transformers import Trainer, TrainingArguments

from collapse_sim.core.machine import DTYPES, Machine, open_machine
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.data.sources import RowCounts, generation_zero
from collapse_sim.engine.build import builder
from collapse_sim.engine.work import JobContext
from collapse_sim.families.base import Conditions
from collapse_sim.families.causal_lm import CausalLM
from collapse_sim.families.language import TextFamily
from collapse_sim.families.seq2seq import Seq2Seq
from collapse_sim.families.training import Train
from collapse_sim.plan.specs import data_spec, fit_spec
from collapse_sim.store.jobs import Request
from collapse_sim.store.store import Store

SHAPES: dict[str, tuple[TextFamily, dict[str, int], int]] = {
    "tiny": (CausalLM(preset="tiny"), {"tokens": 64}, 300),
    "gpt2-9m": (CausalLM(preset="gpt2-9m"), {"tokens": 256}, 10_000),
    "t5-tiny": (Seq2Seq(preset="tiny", decoding="sample"), {"source": 128, "target": 32}, 1000),
    "t5-small": (
        Seq2Seq(preset="tiny", width=512, layers=6, heads=8, decoding="sample"),
        {"source": 512, "target": 64},
        32_000,
    ),
}


class Examples(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """The same rows in the form that transformers' models take."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        inputs = arrays.get("tokens", arrays.get("source"))
        assert inputs is not None
        self.inputs = torch.from_numpy(inputs.astype(np.int64))
        self.labels = torch.from_numpy(arrays.get("target", inputs).astype(np.int64))

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.inputs[row], "labels": self.labels[row]}


def synchronised(machine: Machine) -> float:
    """The time, once the device has finished all queued work."""
    if machine.device.type == "cuda":
        torch.cuda.synchronize(machine.device)
    return time.perf_counter()


def trainer(family: TextFamily, info: Info, data: Examples, options: argparse.Namespace, machine: Machine) -> float:
    """Seconds of transformers' Trainer."""
    with machine.seeded(0):
        network: Any = family.build(info).network
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            scratch,
            per_device_train_batch_size=options.batch,
            max_steps=options.steps,
            learning_rate=1e-4,
            lr_scheduler_type="constant",
            max_grad_norm=0.0,
            bf16=machine.precision == "bf16",
            use_cpu=machine.device.type == "cpu",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
        )
        loop = Trainer(network, arguments, train_dataset=data)
        started = synchronised(machine)
        loop.train()
        return synchronised(machine) - started


def engine(
    family: TextFamily, data: RandomTokens, store: Store, options: argparse.Namespace, machine: Machine, attempt: int
) -> float:
    """Seconds of the same fit as a stored artefact, everything included: reading, building, writing."""
    info = data.inspect(Path())
    spec = data_spec(data, info)
    train = Train(
        steps=options.steps,
        batch_size=options.batch,
        learning_rate=1e-4,
        weight_decay=attempt * 1e-9,  # another fit, with the same work
        evaluate="never",
        precision=machine.precision,
    )
    fit = fit_spec(0, family, train, generation_zero(RowCounts(info.rows, info.rows, info.pool)), spec, {})
    work = JobContext(store, machine, lambda event: None, Path())
    build = builder(work)
    store.make_all([Request(spec, (0,), ("a",))], build, work.emit)
    started = synchronised(machine)
    store.make_all([Request(fit, (0,), ("a",))], build, work.emit)
    return synchronised(machine) - started


def training(family: TextFamily, data: RandomTokens, options: argparse.Namespace, machine: Machine) -> dict[str, Any]:
    """Tokens/s over the rows' whole length, sources and targets together."""
    info, examples = data.inspect(Path()), Examples(data.arrays())
    tokens = options.steps * options.batch * sum(data.lengths.values())
    theirs, ours = [], []
    with tempfile.TemporaryDirectory() as scratch:
        store = Store(Path(scratch) / "store")
        for attempt in range(options.repeats + 1):
            seconds = trainer(family, info, examples, options, machine)
            again = engine(family, data, store, options, machine, attempt)
            if attempt:  # the first is a warm-up
                theirs.append(tokens / seconds)
                ours.append(tokens / again)
    return compared("trainer", theirs, ours)


def sampling(family: TextFamily, data: RandomTokens, options: argparse.Namespace, machine: Machine) -> dict[str, Any]:
    """Generated tokens/s, all rows to the full length."""
    info, arrays = data.inspect(Path()), data.arrays()
    with machine.seeded(0):
        model = machine.for_inference(family.build(info))
    room = data.lengths.get("target", data.lengths.get("tokens", 0))
    given = {n: torch.from_numpy(a[: options.shard]).to(machine.device) for n, a in arrays.items()}
    inputs = given["source"].long() if "source" in given else torch.zeros(options.shard, 1, dtype=torch.int64)
    inputs = inputs.to(machine.device)
    with machine.seeded(0):
        plain = family.build(info).network.to(machine.device, DTYPES[machine.precision] or torch.float32).eval()
    decoding = {"do_sample": family.decoding == "sample", "max_new_tokens": room - int("tokens" in given)}
    if "source" in given:
        decoding["decoder_start_token_id"] = 0
    ends = [] if "tokens" in given else [plain.config.eos_token_id]
    theirs, ours = [], []
    for attempt in range(options.repeats + 1):
        started = synchronised(machine)
        with torch.no_grad():
            out = plain.generate(
                inputs, attention_mask=torch.ones_like(inputs), pad_token_id=0, eos_token_id=ends or None, **decoding
            )
        seconds = synchronised(machine) - started
        started = synchronised(machine)
        with torch.no_grad(), machine.autocast():
            made = family.sample(
                model, Conditions(options.shard, given), Draws((0,), "b", attempt, device=machine.device)
            )
        again = synchronised(machine) - started
        if attempt:
            theirs.append(options.shard * (out.shape[1] - (1 if ends else inputs.shape[1])) / seconds)
            rows = made.get("target", made.get("tokens"))
            assert rows is not None
            ours.append(options.shard * int((rows >= 0).sum(1).max()) / again)
    return compared("generate", theirs, ours) | {"shard": options.shard}


def compared(name: str, theirs: list[float], ours: list[float]) -> dict[str, Any]:
    return {
        f"{name}_tokens_per_s": [round(value, 1) for value in theirs],
        "engine_tokens_per_s": [round(value, 1) for value in ours],
        f"engine_over_{name}": round(statistics.median(ours) / statistics.median(theirs), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="gpt2-9m")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=100, help="updates per measurement")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--shard", type=int, default=256, help="rows that are sampled together")
    options = parser.parse_args()
    machine = open_machine(options.device, options.precision)
    family, lengths, vocabulary = SHAPES[options.shape]
    data = RandomTokens(lengths=lengths, vocabulary=vocabulary, rows=options.rows)
    with torch.device("meta"):
        parameters = sum(p.numel() for p in family.build(data.inspect(Path())).parameters())
    report = {
        "benchmark": "text",
        "machine": machine.describe(),
        "precision": machine.describe_precision(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "shape": options.shape,
        "parameters": parameters,
        "lengths": lengths,
        "vocabulary": vocabulary,
        "batch": options.batch,
        "steps": options.steps,
        "training": training(family, data, options, machine),
        "sampling": sampling(family, data, options, machine),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
