"""Shared code of the text families: a transformers network by name, folder or preset; losses, terms and decoding."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, PrivateAttr, model_validator
from torch import Tensor, nn

from collapse_sim.core import hub
from collapse_sim.core.component import Component
from collapse_sim.core.errors import MissingError
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.data.text.tokens import PAD_TOKEN_ID
from collapse_sim.families.adapters import CONFIG_FILE, LoRA, check_installed, read_adapters, write_adapters
from collapse_sim.families.base import Inputs, Rows
from collapse_sim.families.decoding import Choose, TokenSampling, decode, likeliest
from collapse_sim.families.hooks import TokenPredictions
from collapse_sim.families.packed_layers import packed_layers
from collapse_sim.families.pretrained import config_of, network_of, positions_of, quiet
from collapse_sim.families.pretrained_checks import check_next_token
from collapse_sim.families.pretrained_import import check_same
from collapse_sim.families.text_network import LanguageModel, Predicted, WithLayers

AT_ONCE, AT_ONCE_ON_CPU = 2**29, 2**25  # numbers in memory at a time in an evaluation: 2.1 GB of logits, or 134 MB
SPARE_TOKENS = 1000  # ids by which a network's vocabulary may exceed its tokenizer's: it is padded to a round number
DROPOUTS = (
    "resid_pdrop", "embd_pdrop", "attn_pdrop", "dropout", "dropout_rate", "attention_dropout", "activation_dropout",
    "hidden_dropout",
)  # fmt: skip

Count = Annotated[int, Field(gt=0)]
Drop = Annotated[float, Field(ge=0.0, lt=1.0)]


class TextFamily(WithLayers, Component):
    """Base of the text families."""

    pretrained: str | None = None
    """A pretrained model to start from, by name or folder. Its files are in the key by content."""
    revision: str | None = None
    """A branch, tag or commit of a pretrained model on a hub; default: the main branch."""
    preset: str | None = None
    """A new network of a named size, instead of `pretrained`; `width`, `layers` and `heads` change it."""
    width: Count | None = None
    """Units of a layer's output."""
    layers: Annotated[int, Field(gt=0, le=1000)] | None = None
    """Layers of the network; for an encoder-decoder, of each side."""
    heads: Count | None = None
    """Attention heads."""
    dropout: Drop | None = None
    """Dropout. Default: none for a preset, the configuration's for a pretrained model."""
    lora: LoRA | None = None
    """Train only adapters of a pretrained model, which keeps its weights: {rank: 8, alpha: 16, targets: [q_proj]}."""
    bucket: Count = 32
    """Batches are padded to a multiple of this number of tokens."""
    kd_temperature: Annotated[float, Field(gt=0.0)] = 1.0
    """Divides the logits in the distillation term `logits`."""
    decoding: Literal["sample", "greedy", "beam"] = "sample"
    """How tokens are chosen when texts are generated."""
    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    """sample: divides the logits."""
    top_k: Count | None = None
    """sample: only from this number of most likely tokens."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """sample: only from the most likely tokens with this total probability."""
    beams: Annotated[int, Field(ge=2)] = 5
    """beam: number of beams."""

    terms: ClassVar[tuple[str, ...]] = ("logits", "hidden")
    loss_unit: ClassVar[str] = "nats per token"
    sampler_version: ClassVar[int] = 2  # tokens by the inverse CDF
    sampling: ClassVar[tuple[str, ...]] = ("decoding", "temperature", "top_k", "top_p", "beams")
    metrics: ClassVar[tuple[str, ...]] = ("perplexity", "sample_perplexity")  # added unless a recipe has them itself
    importable: ClassVar[str] = "a transformers folder, or its name on a hub"
    added: ClassVar[Mapping[str, Any]] = {"lora": None}
    not_in_key: ClassVar[tuple[str, ...]] = ("revision",)
    encoder_decoder: ClassVar[bool] = False
    limits: ClassVar[str]  # the settings that determine the number of tokens of a forward pass

    _files: hub.PretrainedFiles | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if (self.pretrained is None) == (self.preset is None):
            settings = "neither" if self.preset is None else "both"
            raise ValueError(f"exactly one of `pretrained` and `preset` is needed, found {settings}")
        sizes = [name for name in ("width", "layers", "heads") if getattr(self, name) is not None]
        unfit = [name for name in ("revision", "lora") if self.pretrained is None and getattr(self, name) is not None]
        if unfit:
            raise ValueError(f"{' and '.join(unfit)}: for a pretrained model, this is a preset; remove")
        if self.pretrained is not None and sizes:
            raise ValueError(f"{', '.join(sizes)}: a pretrained model has its own; remove, or use a `preset`")
        if self.decoding != "sample":
            unused = [name for name in ("top_k", "top_p") if getattr(self, name) is not None]
            unused += ["temperature"] if self.temperature != 1 else []
            if unused:
                raise ValueError(f"{', '.join(unused)}: for `decoding: sample` only, found {self.decoding}; remove")
        return self

    @property
    def deterministic(self) -> bool:
        return self.decoding != "sample"

    def resolve_files(self, data_dir: Path) -> Self:
        """A copy with the pretrained model's folder. Raises MissingError when there is none."""
        if self.pretrained is None:
            return self
        copy = self.model_copy()
        try:
            copy._files = hub.find(self.pretrained, data_dir, "model", self.revision)
        except MissingError as error:
            raise MissingError(f"pretrained: {error}") from error
        return copy

    def describe(self) -> dict[str, Any]:
        """A pretrained model is in the keys by its content, not by its name."""
        described = super().describe()
        return described | {"pretrained": self._files.sha256} if self._files else described

    # Network

    @abstractmethod
    def _preset_config(self, info: Info) -> Any:
        """A transformers configuration of the preset for this data."""

    @abstractmethod
    def _positions(self, info: Info) -> int:
        """The number of tokens that the network must take at once."""

    @property
    def combines(self) -> bool:
        """Not with adapters: their products are not those of combined factors."""
        return self.lora is None

    def check(self, info: Info) -> None:
        """Raises ValueError if tokenizer or lengths do not fit the network, or it does not predict the next token."""
        if self.lora is not None:
            check_installed()
        if self.pretrained is None:
            config = self._preset_config(info)
            width, heads = config.hidden_size, config.num_attention_heads
            if width % heads:
                raise ValueError(f"heads: the width {width} is not a multiple of {heads} heads; use another number")
            return
        config = self._config()
        if bool(config.is_encoder_decoder) != self.encoder_decoder:
            kind = "an encoder-decoder" if config.is_encoder_decoder else "a decoder only"
            other = "seq2seq" if config.is_encoder_decoder else "causal_lm"
            raise ValueError(f"pretrained: {self.pretrained} is {kind} ({config.model_type}); use: {other}")
        vocabulary, tokens = config.vocab_size, info.text().size
        if not tokens <= vocabulary < tokens + SPARE_TOKENS:
            raise ValueError(
                f"pretrained: {self.pretrained} has a vocabulary of {vocabulary} tokens, and the data's tokenizer has "
                f"{tokens}: set the data's `tokenizer` to {self.pretrained}'s own, or take a `preset`"
            )
        limit = positions_of(config)
        needed = self._positions(info)
        if limit is not None and not hasattr(config, "relative_attention_num_buckets") and needed > limit:
            raise ValueError(
                f"pretrained: {self.pretrained} takes {limit} tokens, and {needed} are needed: lower {self.limits}"
            )
        assert self._files is not None
        try:
            check_next_token(self._files, "AutoModelForSeq2SeqLM" if self.encoder_decoder else "AutoModelForCausalLM")
        except ValueError as error:
            raise ValueError(f"pretrained: {error}") from error

    def build(self, info: Info) -> nn.Module:
        """A new network, or the pretrained one with its weights."""
        with quiet():
            return LanguageModel(self._network(info), info, whole=self.lora is None)

    def _network(self, info: Info) -> nn.Module:
        from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, GenerationConfig

        auto = AutoModelForSeq2SeqLM if self.encoder_decoder else AutoModelForCausalLM
        config = self._preset_config(info) if self.pretrained is None else self._config()
        for name in DROPOUTS:
            if hasattr(config, name) and (self.dropout is not None or self.pretrained is None):
                setattr(config, name, self.dropout or 0.0)
        if self.pretrained is None or torch.get_default_device().type == "meta":
            network = auto.from_config(config)
        else:
            assert self._files is not None
            network = network_of(self._files.folder, auto, config)
        network.generation_config = GenerationConfig()  # no decoding settings are read from a file
        if not self.encoder_decoder:
            network.config.pad_token_id = None  # padding is at the end of a decoder's texts: no mask or warning needed
        shared = network.get_input_embeddings().weight
        for module in network.modules():  # the padding's vector is trained: texts often begin with this token
            if isinstance(module, nn.Embedding) and module.weight is shared:
                module.padding_idx = None
        float_network: nn.Module = network.float()
        if self.lora is not None:
            self.lora.insert(float_network)
        return float_network

    def import_model(self, path: Path, info: Info) -> Mapping[str, Tensor]:
        """The network in a transformers folder, if it has the architecture of this family's own; with `lora`, adapters
        in a folder of peft, or a pretrained model with adapters that change nothing."""
        if self.lora is not None and (path / CONFIG_FILE).is_file():
            return {f"network.{name}": tensor for name, tensor in read_adapters(self.lora, path).items()}
        files = hub.find(str(path), path, "model")
        if self.lora is not None and (self._files is None or files.sha256 != self._files.sha256):
            raise ValueError(f"{path}: with `lora`, generation 0 has the weights of `pretrained`; set it to this model")
        given = self.model_copy(update={"pretrained": str(path), "preset": None})
        given._files = files
        try:
            given.check(info)
        except ValueError as error:
            raise ValueError(str(error).removeprefix("pretrained: ")) from error
        ours = self._preset_config(info) if self.pretrained is None else self._config()
        check_same(files, given._config(), ours, DROPOUTS, info)
        with torch.random.fork_rng(devices=[]):  # adapters are random
            torch.manual_seed(0)
            state: dict[str, Tensor] = given.build(info).state_dict()
        return state

    def _config(self) -> Any:
        assert self._files is not None, "the pretrained model was not located"
        try:
            return config_of(self._files.folder)
        except ValueError as error:
            raise ValueError(f"pretrained: {error}") from error

    # Losses

    @abstractmethod
    def _targets(self, inputs: Inputs, predicted: Predicted) -> Tensor:
        """(n, L) int64: the target token of each prediction; PAD_TOKEN_ID where there is none."""

    @abstractmethod
    def predict(self, model: nn.Module, inputs: Inputs) -> Predicted:
        """Logits and hidden states."""

    @abstractmethod
    def corrupt(self, rows: Rows, draws: Draws) -> Inputs:
        """Rows sorted by length, so that the micro-batches need less padding; nothing is random."""

    def loss(self, prediction: Predicted, inputs: Inputs) -> Tensor:
        """Cross entropy in nats, summed over tokens."""
        return self.row_losses(prediction, inputs).sum()

    def row_losses(self, prediction: Predicted, inputs: Inputs) -> Tensor:
        """The loss of every row, summed over its tokens: (n,)."""
        return self.token_losses(prediction, inputs).sum(1)

    @abstractmethod
    def row_counts(self, inputs: Inputs) -> Tensor:
        """The number of tokens that are predicted in every row: (n,)."""

    def token_losses(self, prediction: Predicted, inputs: Inputs) -> Tensor:
        """-log p of every predicted token in nats: (n, L) float32, 0 where there is none."""
        targets = self._targets(inputs, prediction)
        logits = prediction.logits.flatten(0, 1).float()  # (n L, V): three times as fast on a CPU as (n, V, L)
        return F.cross_entropy(logits, targets.flatten(), ignore_index=PAD_TOKEN_ID, reduction="none").view_as(targets)

    def distillation(self, student: Predicted, teacher: Predicted, inputs: Inputs) -> dict[str, Tensor]:
        """Sums over tokens, without padding. `hidden`: cosine distance of the last layer's outputs (KD paper, KD-T5).
        `logits`: T^2 KL(teacher || student) at the temperature T = kd_temperature (Hinton et al. 2015)."""
        mask = self._targets(inputs, student) != PAD_TOKEN_ID

        def of_tokens(states: Tensor) -> Tensor:
            """(n, L, ...) -> (tokens, ...). Where shapes are fixed, padding is equal in student and teacher instead."""
            return states.masked_fill(~mask.unsqueeze(-1), 1.0).flatten(0, 1) if inputs.fixed else states[mask]

        temperature = self.kd_temperature
        student_log_p = (of_tokens(student.logits).float() / temperature).log_softmax(-1)
        teacher_log_p = (of_tokens(teacher.logits).float() / temperature).log_softmax(-1)
        distances = 1 - F.cosine_similarity(
            of_tokens(student.hidden).float(), of_tokens(teacher.hidden).float(), dim=-1
        )
        return {
            "logits": temperature**2 * F.kl_div(student_log_p, teacher_log_p, reduction="sum", log_target=True),
            "hidden": distances.sum(),
        }

    def rows_at_once(self, model: nn.Module, rows: Rows) -> int:
        """How many rows an evaluation passes to the network at a time."""
        assert isinstance(model, LanguageModel)
        config: Any = model.network.config
        logits = config.vocab_size * rows[self.columns[-1]].shape[-1]
        states = 4 * config.hidden_size * config.num_hidden_layers * sum(rows[name].shape[-1] for name in self.columns)
        on_cpu = next(model.parameters()).device.type == "cpu"
        return max(1, (AT_ONCE_ON_CPU if on_cpu else AT_ONCE) // int(max(logits, states)))

    @torch.no_grad()
    def nats(self, model: nn.Module, rows: Rows) -> tuple[Tensor, Tensor]:
        """-log p of every row and its number of predicted tokens: (n,) float64 and (n,) int64, on the CPU."""
        assert isinstance(model, LanguageModel)
        device = next(model.parameters()).device
        columns = {name: rows[name] for name in self.columns}
        size = self.rows_at_once(model, columns)
        nats, tokens = [], []
        for first in range(0, len(next(iter(columns.values()))), size):
            piece = {name: column[first : first + size].to(device) for name, column in columns.items()}
            inputs = self._inputs(piece)
            predicted = self.predict(model, inputs)
            nats.append(self.token_losses(predicted, inputs).double().sum(1).cpu())
            tokens.append(self.row_counts(inputs).cpu())
        return torch.cat(nats), torch.cat(tokens)

    def token_predictions(self, model: nn.Module, rows: Rows) -> TokenPredictions:
        """log p of every token of the vocabulary; an encoder-decoder predicts a text's first token, too."""
        inputs = self._inputs({name: rows[name] for name in self.columns})
        predicted = self.predict(model, inputs)
        log_p, targets = predicted.logits.float().log_softmax(-1), self._targets(inputs, predicted)
        return TokenPredictions(log_p, targets, self.columns[-1], int(not self.encoder_decoder))

    columns: ClassVar[tuple[str, ...]]

    @abstractmethod
    def _inputs(self, rows: Rows) -> Inputs:
        """The rows as a batch, in their order."""

    # Decoding

    @property
    def tempers(self) -> bool:
        return self.decoding == "sample"

    def tempered(self, model: nn.Module, temperature: float) -> tuple[TextFamily, nn.Module]:
        """Logits divided by the temperature, too."""
        return self.model_copy(update={"temperature": self.temperature * temperature}), model

    def _generate(
        self,
        model: LanguageModel,
        inputs: Mapping[str, Tensor],
        new: int,
        draws: Draws,
        *,
        stop: bool,
        greedy: bool = False,
    ) -> Tensor:
        """Up to `new` tokens after the inputs (for an encoder-decoder: after the decoder's start): (n, m <= new).

        With `stop` a row ends with the token `end`, followed by the network's padding.
        """
        decoding = "greedy" if greedy else self.decoding
        if decoding == "beam":
            return self._beam_search(model, inputs, new, stop=stop)
        choose: Choose = likeliest
        if decoding == "sample":
            choose = TokenSampling(self.temperature, self.top_k, self.top_p).chooser(len(inputs["input_ids"]), draws)
        start = model.start if self.encoder_decoder else None
        end = model.end if stop else None
        with quiet(), packed_layers(model.network, new):
            return decode(model.network, inputs, new, choose, end=end, pad=model.pad, start=start)

    def _beam_search(self, model: LanguageModel, inputs: Mapping[str, Tensor], new: int, *, stop: bool) -> Tensor:
        """The likeliest rows that transformers' beam search finds; nothing is random."""
        from transformers import GenerationConfig

        config = GenerationConfig(
            max_new_tokens=new,
            eos_token_id=model.end if stop else None,
            pad_token_id=model.pad,
            decoder_start_token_id=model.start if self.encoder_decoder else None,
            num_beams=self.beams,
            early_stopping=True,
        )
        with quiet(), packed_layers(model.network, new):
            out: Tensor = model.network.generate(**inputs, generation_config=config)  # type: ignore[operator]
        prefix = 1 if self.encoder_decoder else inputs["input_ids"].shape[1]
        return out[:, prefix:]

    def export(self, model: nn.Module, info: Info, folder: Path) -> list[Path]:
        """A folder `transformers/` with model and tokenizer, for from_pretrained; with `lora`, `adapters/` for peft."""
        assert isinstance(model, LanguageModel)
        if self.lora is not None:
            state = {name.removeprefix("network."): tensor for name, tensor in model.state_dict().items()}
            return write_adapters(self.lora, str(self.pretrained), state, folder / "adapters")
        target = folder / "transformers"
        network: Any = model.network
        tokenizer = info.text()
        network.config.bos_token_id, network.config.eos_token_id = tokenizer.begin, tokenizer.end
        network.config.pad_token_id = tokenizer.pad
        network.generation_config.bos_token_id = tokenizer.begin
        network.generation_config.eos_token_id, network.generation_config.pad_token_id = tokenizer.end, tokenizer.pad
        if self.encoder_decoder:
            network.config.decoder_start_token_id = network.generation_config.decoder_start_token_id = model.start
        with quiet():
            network.save_pretrained(target)
        tokenizer.save(target)
        return sorted(path for path in target.rglob("*") if path.is_file())


def sizes(preset: Mapping[str, Any], family: TextFamily) -> dict[str, int]:
    """A preset's sizes, overridden by the family's settings."""
    own = {name: getattr(family, name) for name in ("width", "layers", "heads")}
    return {**preset, **{name: value for name, value in own.items() if value is not None}}
