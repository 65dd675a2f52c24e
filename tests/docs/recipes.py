"""Whole recipes that the parts of recipes in the documentation are laid over, one for each kind of data."""

from __future__ import annotations

import re
from collections.abc import Iterator

_SHAPE = """
generations: 10
seeds: 1
arms:
  replace: {data: replace}
  accumulate: {data: accumulate}
  distill: {data: replace, teacher: {weights: {%s: 1.0}}}
metrics: [test_loss]
"""
TRAINED = "train: {steps: 10}"
BASES = {
    "images": f"data: digits\nmodel: vae\n{TRAINED}{_SHAPE % 'output'}".replace(
        "[test_loss]", "[test_loss, fid, latent_std]"
    ),
    "diffusion": f"data: digits\nmodel: {{use: ddpm, network: {{widths: [8, 16]}}}}\n{TRAINED}{_SHAPE % 'output'}",
    "points": f"data: two_moons\nmodel: {{use: flow_matching, network: {{widths: [8]}}}}\n{TRAINED}{_SHAPE % 'output'}",
    "closed form": f"data: gaussian\nmodel: gaussian{_SHAPE % 'output'}".replace(
        "[test_loss]", "[test_loss, variance_ratio]"
    ).replace("arms:", 'arms:\n  "a+b (mine)": {data: mix}'),
    "text": f"data: grammar\nmodel: {{use: causal_lm, preset: gpt2-9m}}\n{TRAINED}{_SHAPE % 'logits'}",
    "pairs": f"data: grammar_pairs\nmodel: {{use: seq2seq, preset: tiny}}\n{TRAINED}{_SHAPE % 'logits'}",
    "molecules": f"data: {{use: conformers, path: x.smi}}\nmodel: conformer\n{TRAINED}{_SHAPE % 'output'}",
}


def parts(text: str) -> Iterator[str]:
    """A block that gives a key several times shows alternatives: each of them, or else the whole block."""
    keys = re.findall(r"^(\w+):", text, flags=re.MULTILINE)
    if len(keys) == len(set(keys)):
        yield text
        return
    assert len(set(keys)) == 1, f"alternatives of several keys: {keys}"
    yield from (f"{keys[0]}:{part}" for part in re.split(rf"^{keys[0]}:", text, flags=re.MULTILINE)[1:])


def is_whole(text: str) -> bool:
    """Whether it is a recipe of its own, not a part of one."""
    keys = {*re.findall(r"^(\w+):", text, flags=re.MULTILINE)}
    return "extends" in keys or {"data", "generations", "seeds", "arms"} <= keys
