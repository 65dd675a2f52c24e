"""Encoder-decoders such as T5: a target text for every source text, as in summarization."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.data.text.tokens import PAD_TOKEN_ID
from collapse_sim.families.base import Conditions, Inputs, Rows
from collapse_sim.families.language import TextFamily, sizes
from collapse_sim.families.text_network import LanguageModel, Predicted
from collapse_sim.families.token_rows import by_length, lengths, padded, trimmed, until_end

Preset = Literal["tiny"]

# A change here changes results under equal settings: raise the family's version with it.
PRESETS: dict[Preset, dict[str, Any]] = {"tiny": {"width": 64, "layers": 2, "heads": 2}}  # layers of each side


class Seq2Seq(TextFamily):
    """An encoder-decoder (T5 and others) of a target given its source. Its samples keep the real sources."""

    preset: Preset | None = None
    """A new network instead of `pretrained`: T5's architecture with 64 units and two layers on each side."""
    decoding: Literal["sample", "greedy", "beam"] = "greedy"
    """How the tokens of targets are chosen; greedy: as in the KD paper."""

    kinds: ClassVar[tuple[str, ...]] = ("pairs",)
    columns: ClassVar[tuple[str, ...]] = ("source", "target")
    conditions: ClassVar[tuple[str, ...]] = ("source",)
    encoder_decoder: ClassVar[bool] = True
    limits: ClassVar[str] = "the data's `source_length` and `target_length`"

    def _positions(self, info: Info) -> int:
        return max(info.shape("source")[0], info.shape("target")[0])

    def _preset_config(self, info: Info) -> Any:
        from transformers import T5Config

        assert self.preset is not None
        size, tokenizer = sizes(PRESETS[self.preset], self), info.text()
        return T5Config(
            vocab_size=tokenizer.size,
            d_model=size["width"],
            d_kv=size["width"] // size["heads"],
            d_ff=4 * size["width"],
            num_layers=size["layers"],
            num_heads=size["heads"],
            pad_token_id=tokenizer.pad,
            bos_token_id=tokenizer.begin,
            eos_token_id=tokenizer.end,
            decoder_start_token_id=tokenizer.pad,
            tie_word_embeddings=True,
        )

    def corrupt(self, rows: Rows, draws: Draws) -> Inputs:
        """Rows sorted by the length of their sources; nothing is random."""
        order = by_length(rows["source"])
        return replace(self._inputs({name: rows[name][order] for name in self.columns}), order=order)

    def _inputs(self, rows: Rows) -> Inputs:
        source, target = rows["source"].long(), rows["target"].long()
        return Inputs({"source": source, "target": target}, count=lengths(target).sum().clamp(min=1))

    def row_counts(self, inputs: Inputs) -> Tensor:
        return lengths(inputs["target"])

    def trim(self, model: nn.Module, inputs: Inputs) -> Inputs:
        """Both texts without columns that are padding in all rows, down to multiples of `bucket`."""
        if inputs.fixed:
            return inputs
        return Inputs({name: trimmed(inputs[name], self.bucket) for name in self.columns}, inputs.count, fixed=True)

    def predict(self, model: nn.Module, inputs: Inputs) -> Predicted:
        """Predictions of every token of the target, given the source and the target's earlier tokens."""
        assert isinstance(model, LanguageModel)
        inputs = self.trim(model, inputs)
        target = inputs["target"]
        before = torch.cat([torch.full_like(target[:, :1], model.start), target[:, :-1]], 1)
        predicted: Predicted = model(
            **_encoded(inputs["source"], model.pad),
            decoder_input_ids=before.masked_fill(before == PAD_TOKEN_ID, model.pad),
        )
        return predicted

    def _targets(self, inputs: Inputs, predicted: Predicted) -> Tensor:
        return padded(inputs["target"], predicted.logits.shape[1])

    def positions(self, path: str, inputs: Inputs, length: int) -> Tensor:
        """Tokens of the source for layers of the encoder, otherwise of the target."""
        column = "source" if "encoder" in path.split(".") else "target"
        return padded(inputs[column], length) != PAD_TOKEN_ID

    def sample(self, model: nn.Module, conditions: Conditions, draws: Draws) -> dict[str, Tensor]:
        """The sources, and a generated target for each."""
        assert isinstance(model, LanguageModel)
        sources = conditions.columns["source"]
        length = model.shapes["target"]
        inputs = _encoded(trimmed(sources.long(), self.bucket), model.pad)
        targets = until_end(self._generate(model, inputs, length, draws, stop=True), model.end)
        return {"source": sources, "target": padded(targets, length).to(model.dtype)}


def _encoded(source: Tensor, pad: int) -> dict[str, Tensor]:
    mask = source != PAD_TOKEN_ID
    return {"input_ids": source.masked_fill(~mask, pad), "attention_mask": mask.long()}
