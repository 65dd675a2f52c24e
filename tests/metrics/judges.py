"""Tiny language models with their tokenizers, saved as transformers saves them: judges for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from collapse_sim.data.text.tokens import Tokenizer

WORDS = Tokenizer.of_words(["the", "cat", "dog", "sat", "ran", "on", "mat", "a", "b", "c"])
POSITIONS = 16


def save(folder: Path, *, seed: int = 0, vocabulary: int = WORDS.size, positions: int = POSITIONS) -> Any:
    """A GPT-2 whose probabilities are far from uniform, in a folder with the tokenizer; returns the network."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=vocabulary, n_positions=positions, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    torch.manual_seed(seed)
    network = GPT2LMHeadModel(config).eval()
    for weights in network.parameters():
        torch.nn.init.normal_(weights, std=0.4)
    network.save_pretrained(folder)
    WORDS.save(folder)
    return network
