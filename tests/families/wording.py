"""Small texts and small language models for tests."""

from __future__ import annotations

import numpy as np
import torch

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.data.text.tokens import Tokenizer, row_of
from collapse_sim.families.causal_lm import CausalLM
from collapse_sim.families.seq2seq import Seq2Seq
from collapse_sim.testing import CPU

TINY = CausalLM(preset="tiny")
T5 = Seq2Seq(preset="tiny")

WORDS = Tokenizer.of_words([f"w{i}" for i in range(30)])
LENGTH, SOURCE, TARGET = 20, 30, 12
TEXT = Info("text", {"tokens": ((LENGTH,), "int16")}, 40, 40, 10, tokenizer=WORDS)
PACKED = Info("text", {"tokens": ((LENGTH,), "int16")}, 40, 40, 10, tokenizer=WORDS, packed=True)
PAIRS = Info("pairs", {"source": ((SOURCE,), "int16"), "target": ((TARGET,), "int16")}, 40, 40, 10, tokenizer=WORDS)


def ids(lengths: list[int], length: int, *, begin: bool) -> torch.Tensor:
    """Rows of texts of these lengths, of random words."""
    dice = np.random.RandomState(0)
    texts = [dice.randint(1, 31, size=n) for n in lengths]
    rows = [row_of(text, length, WORDS, begin=begin, cut_ends=not begin) for text in texts]
    return torch.from_numpy(np.stack(rows).astype(np.int16))


def texts(n: int = 40) -> dict[str, torch.Tensor]:
    """Texts of 0 to LENGTH + 3 words."""
    return {"tokens": ids([i * 7 % (LENGTH + 4) for i in range(n)], LENGTH, begin=True)}


def blocks(n: int = 40) -> dict[str, torch.Tensor]:
    """Packed rows: full, with ends of texts here and there."""
    dice = np.random.RandomState(1)
    return {"tokens": torch.from_numpy(dice.randint(0, 31, size=(n, LENGTH)).astype(np.int16))}


def pairs(n: int = 40) -> dict[str, torch.Tensor]:
    """Sources of 0 to SOURCE + 3 words, targets of 0 to TARGET + 1."""
    return {
        "source": ids([i * 11 % (SOURCE + 4) for i in range(n)], SOURCE, begin=False),
        "target": ids([i * 5 % (TARGET + 2) for i in range(n)], TARGET, begin=False),
    }


def number(tensor):
    return float(tensor.detach())


def built(family, info, seed=0):
    with CPU.seeded(seed):
        return family.build(info).eval()


def draws(role="sample", seed=0):
    return Draws((seed,), role, 0)


def trained(family, info, rows, steps=60):
    """Far enough from its beginning that outputs differ."""
    model = built(family, info)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(steps):
        inputs = family.corrupt(rows, draws())
        (family.loss(family.predict(model, inputs), inputs) / inputs.count).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def unlike(model):
    """With weights so large that every text goes on differently."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.normal_(0, 0.4, generator=generator)
    return model
