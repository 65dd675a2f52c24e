"""Causal language models: GPT-2, Llama and others from transformers, trained on texts or on packed blocks."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.data.text.tokens import PAD_TOKEN_ID
from collapse_sim.families.base import Conditioning, Conditions, Inputs, Rows
from collapse_sim.families.guided_text import guided_text
from collapse_sim.families.language import Count, TextFamily, sizes
from collapse_sim.families.pretrained import positions_of
from collapse_sim.families.text_network import LanguageModel, Predicted
from collapse_sim.families.token_rows import by_length, lengths, padded, trimmed
from collapse_sim.families.writing import Writer

TEXT_ROWS = 16  # rows that a generated text may span, unless `longest` sets a number of tokens

Preset = Literal["tiny", "gpt2-9m", "llama-12m", "llama-42m", "llama-126m"]

# Named by their number of parameters with a vocabulary of 10,000 tokens; embeddings are tied. A change here changes
# results under equal settings: raise the family's version with it.
PRESETS: dict[Preset, dict[str, Any]] = {
    "tiny": {"architecture": "gpt2", "width": 64, "layers": 2, "heads": 2},  # 0.1 M without the embeddings
    "gpt2-9m": {"architecture": "gpt2", "width": 256, "layers": 8, "heads": 8},
    "llama-12m": {"architecture": "llama", "width": 288, "layers": 9, "heads": 6, "inner": 768},
    "llama-42m": {"architecture": "llama", "width": 512, "layers": 12, "heads": 8, "inner": 1344},
    "llama-126m": {"architecture": "llama", "width": 768, "layers": 16, "heads": 12, "inner": 2176},
}


class CausalLM(TextFamily):
    """A language model (GPT-2, Llama and others): predicts every token of a row but the first from those before it."""

    preset: Preset | None = None
    """A new network of a named size, instead of `pretrained`; `width`, `layers` and `heads` change it."""
    prompt: Annotated[int, Field(ge=0)] = 0
    """Number of tokens of a row that samples continue. 0: samples begin at the start of a text."""
    prompts: Literal["real", "own"] = "real"
    """Source of the prompts. real: real rows; own: the rows that the sampled model was fitted to."""
    keep_prompt: bool = False
    """Whether a sample's row contains the prompt, or only the generated tokens."""
    stop: Literal["auto", "end", "length"] = "auto"
    """Where samples end: at the end of a text, or when the row is full. auto: like the data's rows."""
    longest: Count | None = None
    """Packed rows without a prompt: tokens after which an unfinished text is cut. Default: the tokens of 16 rows."""

    version: ClassVar[int] = 3
    kinds: ClassVar[tuple[str, ...]] = ("text",)
    columns: ClassVar[tuple[str, ...]] = ("tokens",)
    sampling: ClassVar[tuple[str, ...]] = (*TextFamily.sampling, "prompt", "prompts", "keep_prompt", "stop", "longest")
    limits: ClassVar[str] = "the data's `length`"

    @model_validator(mode="after")
    def _check_prompt_settings(self) -> CausalLM:
        if self.keep_prompt and not self.prompt:
            raise ValueError("keep_prompt: there is no prompt to keep; set `prompt` to its number of tokens")
        if self.prompts == "own" and not self.prompt:
            raise ValueError("prompts: own, but there is no prompt; set `prompt` to its number of tokens")
        if self.longest and (self.prompt or self.stop != "auto"):
            other = "a `prompt`" if self.prompt else f"`stop: {self.stop}`"
            raise ValueError(f"longest: is for packed rows of whole texts, not with {other}; remove one of them")
        return self

    @property
    def conditions(self) -> tuple[str, ...]:
        """The columns that samples are conditioned on."""
        return ("tokens",) if self.prompt else ()

    @property
    def conditioned_on(self) -> Conditioning:
        """The rows that these columns come from."""
        return "fitted" if self.prompts == "own" else "real"

    def check(self, info: Info) -> None:
        """Raises ValueError when tokenizer, lengths or prompt do not fit the data."""
        (length,) = info.shape("tokens")
        limit = length - 1 if self.keep_prompt else length
        if self.prompt > limit:
            reason = ", which leaves nothing to generate" if self.keep_prompt else ""
            raise ValueError(f"prompt: {self.prompt} tokens of rows of {length}{reason}; use at most {limit}")
        if self.stop == "end" and info.packed:
            raise ValueError("stop: end gives rows of one text, but the data's are packed; use auto, or `pack: false`")
        if self.longest and not info.packed:
            raise ValueError("longest: is for packed rows, but the data's rows have one text each; remove it")
        super().check(info)

    def _positions(self, info: Info) -> int:
        return info.shape("tokens")[0]

    def _preset_config(self, info: Info) -> Any:
        from transformers import GPT2Config, LlamaConfig

        assert self.preset is not None
        size, tokenizer = sizes(PRESETS[self.preset], self), info.text()
        common = {
            "vocab_size": tokenizer.size,
            "bos_token_id": tokenizer.begin,
            "eos_token_id": tokenizer.end,
            "tie_word_embeddings": True,
        }
        positions = self._positions(info)  # only this many are ever trained
        if size["architecture"] == "gpt2":  # type: ignore[comparison-overlap]
            return GPT2Config(
                n_positions=positions, n_embd=size["width"], n_layer=size["layers"], n_head=size["heads"], **common
            )
        return LlamaConfig(
            max_position_embeddings=positions,
            hidden_size=size["width"],
            num_hidden_layers=size["layers"],
            num_attention_heads=size["heads"],
            intermediate_size=size["inner"],
            **common,
        )

    def corrupt(self, rows: Rows, draws: Draws) -> Inputs:
        """Rows sorted by length; nothing is random."""
        order = by_length(rows["tokens"])
        return replace(self._inputs({"tokens": rows["tokens"][order]}), order=order)

    def _inputs(self, rows: Rows) -> Inputs:
        tokens = rows["tokens"].long()
        return Inputs({"tokens": tokens}, count=lengths(tokens[:, 1:]).sum().clamp(min=1))

    def row_counts(self, inputs: Inputs) -> Tensor:
        return lengths(inputs["tokens"][:, 1:])

    def trim(self, model: nn.Module, inputs: Inputs) -> Inputs:
        """Without columns that are padding in all rows, down to a multiple of `bucket`."""
        assert isinstance(model, LanguageModel)
        if inputs.fixed:
            return inputs
        tokens = inputs["tokens"]
        return Inputs({"tokens": tokens if model.packed else trimmed(tokens, self.bucket)}, inputs.count, fixed=True)

    def predict(self, model: nn.Module, inputs: Inputs) -> Predicted:
        """Predictions for every token but a row's first. Padding is at the end, where a decoder does not see it."""
        assert isinstance(model, LanguageModel)
        tokens = self.trim(model, inputs)["tokens"]
        context = tokens[:, :-1] if tokens.shape[1] > 1 else tokens
        predicted: Predicted = model(input_ids=context.masked_fill(context == PAD_TOKEN_ID, model.pad))
        return predicted

    def _targets(self, inputs: Inputs, predicted: Predicted) -> Tensor:
        targets = inputs["tokens"][:, 1:]
        return padded(targets, predicted.logits.shape[1])

    def positions(self, path: str, inputs: Inputs, length: int) -> Tensor:
        """Those from which a token is predicted."""
        return padded(inputs["tokens"][:, 1:], length) != PAD_TOKEN_ID

    def sample(self, model: nn.Module, conditions: Conditions, draws: Draws) -> dict[str, Tensor]:
        """Rows of generated tokens: after prompts, whole texts joined and cut, or each from the start of a text."""
        assert isinstance(model, LanguageModel)
        if self.prompt:
            prompts = conditions.columns["tokens"][:, : self.prompt]
        elif model.packed and self.stop == "auto":
            length = model.shapes["tokens"]
            longest = self.longest or TEXT_ROWS * length
            rows = self._writer(model, draws).packed(conditions.rows, length, model.begin, longest, draws)
            return {"tokens": rows.to(model.dtype)}
        else:
            prompts = torch.full((conditions.rows, 1), model.begin, device=draws.device)
        rows = self._continue(model, prompts.long(), draws, keep=self.keep_prompt or not self.prompt)
        return {"tokens": rows.to(model.dtype)}

    @property
    def guides(self) -> bool:
        """Beam search runs transformers' own loop, with one network."""
        return self.decoding != "beam"

    def guided(self, model: nn.Module, auxiliary: nn.Module, w: float) -> nn.Module:
        """Logits combined before temperature, top_k and top_p, which see a normalised distribution."""
        assert isinstance(model, LanguageModel)
        assert isinstance(auxiliary, LanguageModel)
        return guided_text(model, auxiliary, w)

    def continuations(self, model: nn.Module, prompts: Tensor, draws: Draws) -> Tensor:
        """(n, P) prompts -> (n, L) rows that begin with them, with the most likely next token each time."""
        assert isinstance(model, LanguageModel)
        return self._continue(model, prompts.long(), draws, keep=True, greedy=True).to(model.dtype)

    def _continue(
        self, model: LanguageModel, prompts: Tensor, draws: Draws, *, keep: bool, greedy: bool = False
    ) -> Tensor:
        """Rows that continue prompts of any lengths. Prompts of one length are one batch, without padding."""
        stop = self.stop == "end" or (self.stop == "auto" and not model.packed)
        if not model.packed:  # a text that ends within its prompt is continued from before its end
            prompts = torch.cat([prompts[:, :1], _without(prompts[:, 1:], model.end)], 1)
        prompt_lengths, row_length = lengths(prompts), model.shapes["tokens"]
        writer = self._writer(model, draws, greedy=greedy)
        rows = torch.full((len(prompts), row_length), PAD_TOKEN_ID, device=prompts.device)
        for length in sorted(set(prompt_lengths.tolist())):
            chosen = (prompt_lengths == length).nonzero().squeeze(1)
            start = prompts[chosen, :length]
            head = start if keep else torch.full_like(start[:, : int(not model.packed)], model.begin)
            continuation = writer.continued(start, row_length - head.shape[1], stop=stop)
            rows[chosen] = torch.cat([head, continuation], 1)
        return rows

    def _writer(self, model: LanguageModel, draws: Draws, *, greedy: bool = False) -> Writer:
        """The context is a row's length for a new network, which was trained on no more, else the network's limit."""

        def write(tokens: Tensor, new: int, *, stop: bool) -> Tensor:
            inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
            return self._generate(model, inputs, new, draws, stop=stop, greedy=greedy)

        config: Any = model.network.config
        context = model.shapes["tokens"] if self.pretrained is None else positions_of(config) or sys.maxsize
        return Writer(write, model.end, context)


def _without(rows: Tensor, end: int) -> Tensor:
    """Rows with PAD_TOKEN_ID from the first `end` onwards."""
    return rows.masked_fill((rows == end).cumsum(1) > 0, PAD_TOKEN_ID)
