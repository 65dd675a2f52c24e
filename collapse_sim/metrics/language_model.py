"""A language model by name or folder that reads texts of other models: their likelihood and features."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import PrivateAttr
from torch import Tensor

from collapse_sim.core import hub
from collapse_sim.core.errors import MissingError
from collapse_sim.families.pretrained import config_of, network_of, positions_of, quiet
from collapse_sim.families.pretrained_checks import check_next_token, check_states
from collapse_sim.metrics.text_base import TextMetric

if TYPE_CHECKING:
    from collapse_sim.core.machine import Machine

NUMBERS_AT_ONCE = 2**25  # maximum number of logits in a batch: 134 MB, 667 tokens of GPT-2
IGNORED = -100


@dataclass(frozen=True)
class Reader:
    """The files of a model and its own tokenizer, located but not loaded."""

    model: hub.PretrainedFiles
    tokenizer: hub.PretrainedFiles

    @classmethod
    def find(cls, setting: str, name: str, data_dir: Path) -> Reader:
        """Raises MissingError with the places where a model or tokenizer was searched, and the files needed."""
        try:
            return cls(hub.find(name, data_dir, "model"), hub.find(name, data_dir, "tokenizer"))
        except MissingError as error:
            raise MissingError(f"{setting}: {error}") from error

    @property
    def key(self) -> list[str]:
        """Its description in keys: the content of its files, not their location."""
        return [self.model.sha256, self.tokenizer.sha256]

    @property
    def label(self) -> str:
        """For display: "gpt2 6726825d"."""
        return f"{Path(self.model.name).name} {self.model.sha256[:8]}"

    def check(self, *, predicts: bool) -> None:
        """Raises ValueError if the tokenizer is not the model's own, or if the model does not predict the next token
        (`predicts`) or has no features (otherwise). Raises MissingError for weights that cannot be read."""
        folder, config, tokenizer = self.model.folder, self._config(), self._tokenizer()
        if len(tokenizer) > config.vocab_size:
            raise ValueError(
                f"{folder}: its vocabulary has {config.vocab_size} tokens, but the tokenizer in "
                f"{self.tokenizer.folder} has {len(tokenizer)}: put the model's own there"
            )
        if not predicts:
            check_states(self.model)
            return
        if config.is_encoder_decoder:
            raise ValueError(f"{folder}: an encoder-decoder ({config.model_type}); use a causal model, such as gpt2")
        if _begin(tokenizer) is None:
            raise ValueError(
                f"{self.tokenizer.folder}: the tokenizer has no token that begins or ends a text (bos_token, eos_token)"
            )
        check_next_token(self.model, "AutoModelForCausalLM")

    def nats(self, texts: Sequence[str], machine: Machine) -> tuple[Tensor, Tensor]:
        """-log p of every text and its number of tokens: (n,) float64 and (n,) int64, on the CPU.

        Texts begin with the tokenizer's BOS (or EOS), which is not predicted, and neither is the end; they are cut to
        the model's positions. Texts without tokens have 0 and 0. Batches and padding change the numbers by rounding
        only.
        """
        tokenizer = self._tokenizer()
        model = self._load("AutoModelForCausalLM", machine)
        begin = _begin(tokenizer)
        assert begin is not None
        encoded = [[begin, *ids] for ids in self._encoded(tokenizer, texts, room=1)]
        nats = torch.zeros(len(texts), dtype=torch.float64)
        with machine.inference(model):
            for chosen, ids, mask in self._batches(encoded, min_length=2):
                ids, mask = ids.to(machine.device), mask.to(machine.device)
                logits = model(input_ids=ids, attention_mask=mask.long(), use_cache=False).logits[:, :-1].float()
                targets = ids[:, 1:].masked_fill(~mask[:, 1:], IGNORED)
                flat = logits.flatten(0, 1), targets.flatten()  # takes a third of the time of (n, V, L)
                token_nats = F.cross_entropy(*flat, ignore_index=IGNORED, reduction="none").view_as(targets)
                nats[chosen] = token_nats.double().sum(1).cpu()
        return nats, torch.tensor([len(ids) - 1 for ids in encoded], dtype=torch.int64)

    def features(self, texts: Sequence[str], machine: Machine) -> Tensor:
        """The last layer's output at the last token of every text with tokens: (m <= n, width) float32 on the CPU."""
        tokenizer = self._tokenizer()
        model = self._load("AutoModel", machine)
        encoded = [ids for ids in self._encoded(tokenizer, texts, room=0) if ids]
        features = torch.zeros(len(encoded), model.config.hidden_size)
        with machine.inference(model):
            for chosen, ids, mask in self._batches(encoded, min_length=1):
                ids, mask = ids.to(machine.device), mask.to(machine.device)
                states = model(input_ids=ids, attention_mask=mask.long(), use_cache=False).last_hidden_state
                last = mask.sum(1) - 1
                features[chosen] = states[torch.arange(len(ids), device=states.device), last].float().cpu()
        return features

    def _encoded(self, tokenizer: Any, texts: Sequence[str], room: int) -> list[list[int]]:
        """Every text's tokens, cut so that `room` more fit into the model's positions."""
        limit = positions_of(self._config())
        cut = {"truncation": True, "max_length": limit - room} if limit else {}
        if not texts:
            return []
        ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=False, **cut)["input_ids"]
        return ids

    def _batches(self, encoded: Sequence[Sequence[int]], min_length: int) -> Iterator[tuple[list[int], Tensor, Tensor]]:
        """(indices of texts, their ids, mask of their tokens) per batch. Texts of similar length are together; those
        shorter than `min_length` are left out."""
        most = max(1, NUMBERS_AT_ONCE // self._config().vocab_size)
        long_enough = (i for i, ids in enumerate(encoded) if len(ids) >= min_length)
        order = sorted(long_enough, key=lambda i: (len(encoded[i]), i))
        while order:
            size = max(1, most // len(encoded[order[-1]]))  # by the longest that is left, so that the padding fits
            chosen = order[-size:]
            del order[-size:]
            longest = len(encoded[chosen[-1]])
            lengths = torch.tensor([len(encoded[i]) for i in chosen])
            ids = torch.tensor([[*encoded[i], *[0] * (longest - len(encoded[i]))] for i in chosen])
            yield chosen, ids, torch.arange(longest) < lengths.unsqueeze(1)

    def _config(self) -> Any:
        return config_of(self.model.folder)

    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        try:
            with quiet():
                return AutoTokenizer.from_pretrained(
                    self.tokenizer.folder, local_files_only=True, trust_remote_code=False
                )
        except MemoryError:
            raise
        except Exception as error:  # transformers raises many types for unexpected files
            raise ValueError(f"{self.tokenizer.folder}: {hub.reason_of(error)}") from error

    def _load(self, auto: Literal["AutoModelForCausalLM", "AutoModel"], machine: Machine) -> Any:
        import transformers

        return machine.for_inference(network_of(self.model.folder, getattr(transformers, auto), self._config()))


class ReadingMetric(TextMetric):
    """Base: texts read by a language model that one of the settings names."""

    reads: ClassVar[str]  # the name of this setting

    _reader: Reader | None = PrivateAttr(default=None)

    def resolve_files(self, data_dir: Path) -> Self:
        """A copy with the model's folders. Raises MissingError when there are none."""
        copy = self.model_copy()
        copy._reader = Reader.find(self.reads, getattr(self, self.reads), data_dir)
        return copy

    def describe(self) -> dict[str, Any]:
        """The model is in the keys by its content, not by its name."""
        described = super().describe()
        return described | {self.reads: self._reader.key} if self._reader else described

    @property
    def reader(self) -> Reader:
        """The model's files."""
        assert self._reader is not None, "the model was not located"
        return self._reader


@contextlib.contextmanager
def reading(machine: Machine) -> Iterator[Machine]:
    """The same device in full precision, with all threads: a model from a file may be large even if the models of this
    run are small."""
    with machine.limit_threads(math.inf):
        yield machine.with_precision("fp32")


def _begin(tokenizer: Any) -> int | None:
    begin: int | None = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    return begin
