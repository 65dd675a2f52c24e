"""Training of language models against transformers' Trainer and Seq2SeqTrainer, with their defaults."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
import transformers
from transformers import (
    PrinterCallback,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from benchmarks.engine import Fits
from benchmarks.harness import Case, Setting, Ways
from benchmarks.random_tokens import RandomTokens
from benchmarks.surroundings import now
from collapse_sim.core.machine import Machine
from collapse_sim.data.base import Info
from collapse_sim.families.causal_lm import CausalLM
from collapse_sim.families.seq2seq import Seq2Seq
from collapse_sim.plan.sizes import forward_operations

transformers.utils.logging.set_verbosity_error()  # about settings that have no effect on speed
TextModel = CausalLM | Seq2Seq
GPT2 = CausalLM(preset="gpt2-9m")
T5_SMALL = Seq2Seq(preset="tiny", width=512, layers=6, heads=8)
TINY: Mapping[bool, TextModel] = {False: CausalLM(preset="tiny"), True: Seq2Seq(preset="tiny")}


class Examples(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Rows in the form that transformers' models take."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        inputs = arrays["source"] if "source" in arrays else arrays["tokens"]
        self.inputs = torch.from_numpy(inputs.astype(np.int64))
        self.labels = torch.from_numpy(arrays.get("target", inputs).astype(np.int64))

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.inputs[row], "labels": self.labels[row]}


class Clock(TrainerCallback):  # type: ignore[misc]
    """When updates end: loading, building and the first updates are no part of a rate."""

    def __init__(self, machine: Machine) -> None:
        self._machine, self._ends = machine, [now(machine)]

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self._ends.append(now(self._machine))

    def rate(self) -> float:
        """Updates/s in the second half."""
        half = self._ends[(len(self._ends) - 1) // 2 :]
        return (len(half) - 1) / (half[-1] - half[0])


def trainer(family: TextModel, info: Info, data: Examples, steps: int, batch: int, machine: Machine) -> float:
    """Updates/s of transformers' loop, in our precision, in the second half of a fit."""
    arguments, loop = (
        (Seq2SeqTrainingArguments, Seq2SeqTrainer) if family.encoder_decoder else (TrainingArguments, Trainer)
    )
    with machine.seeded(0):
        network: Any = family._network(info)  # with fused attention, as transformers' networks come
    with tempfile.TemporaryDirectory() as scratch:
        training = loop(
            network,
            arguments(
                scratch,
                per_device_train_batch_size=batch,
                max_steps=steps,
                learning_rate=1e-4,
                bf16=machine.precision == "bf16",
                use_cpu=machine.device.type == "cpu",
                save_strategy="no",
                logging_strategy="no",
                report_to=[],
                disable_tqdm=True,
            ),
            train_dataset=data,
        )
        training.remove_callback(PrinterCallback)
        clock = Clock(machine)
        training.add_callback(clock)
        training.train()
    return clock.rate()


def prepare(
    family: TextModel,
    lengths: Callable[[Setting], dict[str, int]],
    vocabulary: int,
    steps: tuple[int, int],
    batch: tuple[int, int],
    setting: Setting,
) -> Ways:
    """Tokens/s over the rows' whole length, sources and targets together."""
    family = TINY[family.encoder_decoder] if setting.tiny else family
    machine = setting.device.with_precision("auto")
    updates, size = setting.sized(*steps, 1), setting.sized(*batch, 2)
    data = RandomTokens(lengths=lengths(setting), vocabulary=50 if setting.tiny else vocabulary, rows=8 * size)
    examples, per_row = Examples(data.arrays()), sum(data.lengths.values())
    fits = Fits(setting, family, data, steps=updates, batch_size=size, learning_rate=1e-4, clip_norm=1.0)
    whole: list[float] = []

    def ours() -> float:
        rates = fits.rates()
        whole.append(rates.whole * size * per_row)
        return rates.steps * size * per_row

    peer = "Seq2SeqTrainer" if family.encoder_decoder else "Trainer"
    return Ways(
        {
            "collapse-sim": ours,
            peer: lambda: trainer(family, fits.info, examples, updates, size, machine) * size * per_row,
        },
        machine.precision,
        3 * forward_operations(family, fits.info) / per_row,
        {"updates": updates, "batch": size, "lengths": data.lengths, "vocabulary": data.vocabulary},
        {"tokens/s of the whole fit": whole},
    )


def _texts(setting: Setting) -> dict[str, int]:
    return {"tokens": setting.sized(256, 256, 8)}


def _pairs(setting: Setting) -> dict[str, int]:
    return {"source": setting.sized(128, 512, 8), "target": setting.sized(32, 64, 4)}


CASES = (
    Case(
        "text-t5-small",
        "training of T5-small's architecture (60 M parameters), the second half of a fit",
        "tokens/s",
        partial(prepare, T5_SMALL, _pairs, 32_000, (6, 60), (4, 32)),
        targets={"Seq2SeqTrainer": {"cpu": 1.2, "cuda": 1.5}},
    ),
    Case(
        "text-gpt2-9m",
        "training of a GPT-2 of 9 M parameters, rows of 256 tokens, the second half of a fit",
        "tokens/s",
        partial(prepare, GPT2, _texts, 10_000, (6, 60), (4, 32)),
    ),
)
