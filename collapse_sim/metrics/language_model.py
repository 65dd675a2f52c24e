"""A language model by name or folder, which reads texts that others wrote: their likelihood, and features of them."""

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

NUMBERS_AT_ONCE = 2**25  # of logits that a batch may have: 134 MB, 667 tokens of GPT-2
IGNORED = -100


@dataclass(frozen=True)
class Reader:
    """A model and its own tokenizer, found and not yet loaded."""

    model: hub.PretrainedFiles
    tokenizer: hub.PretrainedFiles

    @classmethod
    def find(cls, setting: str, name: str, data_dir: Path) -> Reader:
        """Raises MissingError: where a model or a tokenizer of that name was looked for, and which files would do."""
        try:
            return cls(hub.find(name, data_dir, "model"), hub.find(name, data_dir, "tokenizer"))
        except MissingError as error:
            raise MissingError(f"{setting}: {error}") from error

    @property
    def key(self) -> list[str]:
        """What it is in keys: the content of its files, not their place."""
        return [self.model.sha256, self.tokenizer.sha256]

    @property
    def label(self) -> str:
        """For people: "gpt2 6726825d"."""
        return f"{Path(self.model.name).name} {self.model.sha256[:8]}"

    def check(self, *, predicts: bool) -> None:
        """Raises ValueError when its tokenizer is not its own, or it does not predict the next token from those before
        (`predicts`; else, when it has no features). MissingError for weights that cannot be read."""
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
            raise ValueError(
                f"{folder}: an encoder-decoder ({config.model_type}); needed is a causal one, such as gpt2"
            )
        if _begin(tokenizer) is None:
            raise ValueError(
                f"{self.tokenizer.folder}: the tokenizer has no token that begins or ends a text (bos_token, eos_token)"
            )
        check_next_token(self.model, "AutoModelForCausalLM")

    def nats(self, texts: Sequence[str], machine: Machine) -> tuple[Tensor, Tensor]:
        """-log p of every text, and of how many of its tokens: (n,) float64 and (n,) int64, on the CPU.

        Begun with the tokenizer's BOS (or EOS), which is not predicted, as no end is; cut to the model's positions.
        Texts of no token have 0 and 0. Neither batches nor padding change the numbers, but for rounding.
        """
        tokenizer = self._tokenizer()
        model = self._load("AutoModelForCausalLM", machine)
        begin = _begin(tokenizer)
        assert begin is not None
        encoded = [[begin, *ids] for ids in self._encoded(tokenizer, texts, room=1)]
        nats = torch.zeros(len(texts), dtype=torch.float64)
        with torch.no_grad(), machine.autocast():
            for chosen, ids, there in self._batches(encoded, least=2):
                ids, there = ids.to(machine.device), there.to(machine.device)
                logits = model(input_ids=ids, attention_mask=there.long(), use_cache=False).logits[:, :-1].float()
                targets = ids[:, 1:].masked_fill(~there[:, 1:], IGNORED)
                flat = logits.flatten(0, 1), targets.flatten()  # a third of the time that (n, V, L) takes
                each = F.cross_entropy(*flat, ignore_index=IGNORED, reduction="none").view_as(targets)
                nats[chosen] = each.double().sum(1).cpu()
        return nats, torch.tensor([len(ids) - 1 for ids in encoded], dtype=torch.int64)

    def features(self, texts: Sequence[str], machine: Machine) -> Tensor:
        """The last layer's output at the last token of every text that has one: (m <= n, width) float32 on the CPU."""
        tokenizer = self._tokenizer()
        model = self._load("AutoModel", machine)
        encoded = [ids for ids in self._encoded(tokenizer, texts, room=0) if ids]
        found = torch.zeros(len(encoded), model.config.hidden_size)
        with torch.no_grad(), machine.autocast():
            for chosen, ids, there in self._batches(encoded, least=1):
                ids, there = ids.to(machine.device), there.to(machine.device)
                states = model(input_ids=ids, attention_mask=there.long(), use_cache=False).last_hidden_state
                last = there.sum(1) - 1
                found[chosen] = states[torch.arange(len(ids), device=states.device), last].float().cpu()
        return found

    def _encoded(self, tokenizer: Any, texts: Sequence[str], room: int) -> list[list[int]]:
        """Every text's tokens, cut so that `room` more fit into the model's positions."""
        limit = positions_of(self._config())
        cut = {"truncation": True, "max_length": limit - room} if limit else {}
        found: list[list[int]] = tokenizer(list(texts), add_special_tokens=False, **cut)["input_ids"] if texts else []
        return found

    def _batches(self, encoded: Sequence[Sequence[int]], least: int) -> Iterator[tuple[list[int], Tensor, Tensor]]:
        """(which texts, their ids, where there are any), texts of about equal length together; those shorter than
        `least` in none."""
        most = max(1, NUMBERS_AT_ONCE // self._config().vocab_size)
        order = sorted((i for i, ids in enumerate(encoded) if len(ids) >= least), key=lambda i: (len(encoded[i]), i))
        while order:
            size = max(1, most // len(encoded[order[-1]]))  # of the longest that are left, so that padding fits, too
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
        except Exception as error:  # transformers has many for files that are not what it expects
            raise ValueError(f"{self.tokenizer.folder}: {hub.reason_of(error)}") from error

    def _load(self, auto: Literal["AutoModelForCausalLM", "AutoModel"], machine: Machine) -> Any:
        import transformers

        return machine.for_inference(network_of(self.model.folder, getattr(transformers, auto), self._config()))


class ReadingMetric(TextMetric):
    """Texts as a model reads them that one of the settings names."""

    reads: ClassVar[str]  # the setting

    _reader: Reader | None = PrivateAttr(default=None)

    def resolve_files(self, data_dir: Path) -> Self:
        """Itself with the model's folders. Raises MissingError when there are none."""
        copy = self.model_copy()
        copy._reader = Reader.find(self.reads, getattr(self, self.reads), data_dir)
        return copy

    def describe(self) -> dict[str, Any]:
        """The model is in the keys by its content, not by its name."""
        described = super().describe()
        return described | {self.reads: self._reader.key} if self._reader else described

    @property
    def _found(self) -> Reader:
        assert self._reader is not None, "the model was not located"
        return self._reader


@contextlib.contextmanager
def reading(machine: Machine) -> Iterator[Machine]:
    """The same device in full precision, with all its threads: a model from a file is large work, however small the
    models of this run are."""
    with machine.limit_threads(math.inf):
        yield machine.with_precision("fp32")


def _begin(tokenizer: Any) -> int | None:
    found: int | None = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    return found
