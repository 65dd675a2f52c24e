"""What is no causal model is found by what it does, whatever it is called."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from collapse_sim.families import pretrained_checks
from collapse_sim.families.causal_lm import CausalLM
from collapse_sim.families.seq2seq import Seq2Seq
from tests.families.wording import PAIRS, TEXT, WORDS

SIZES = {"vocab_size": WORDS.size, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
WIDE = {"intermediate_size": 32, "max_position_embeddings": 64}


def save(folder, config, auto="AutoModelForCausalLM"):
    torch.manual_seed(0)
    getattr(transformers, auto).from_config(config).save_pretrained(folder / "model")
    return CausalLM(pretrained="model").resolve_files(folder)


@pytest.mark.parametrize(
    ("config", "auto"),
    [
        (transformers.BertConfig(**SIZES, **WIDE), "AutoModelForMaskedLM"),
        (transformers.RobertaConfig(**SIZES, **WIDE, pad_token_id=1), "AutoModelForMaskedLM"),
        (transformers.ElectraConfig(**SIZES, **WIDE, embedding_size=16), "AutoModelForMaskedLM"),
    ],
    ids=["bert", "roberta", "electra"],
)
def test_masked_models_are_no_causal_ones(config: Any, auto: str, tmp_path) -> None:
    family = save(tmp_path, config, auto)
    with pytest.raises(ValueError, match=rf"pretrained: .*model: it looks at .* \({config.model_type};"):
        family.check(TEXT)


@pytest.mark.parametrize(
    "config",
    [
        transformers.BertConfig(**SIZES, **WIDE, is_decoder=True),
        transformers.GPTNeoXConfig(**SIZES, **WIDE),
        transformers.OPTConfig(vocab_size=31, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, ffn_dim=8),
        transformers.MistralConfig(**SIZES, **WIDE, num_key_value_heads=1, sliding_window=3),
        transformers.MambaConfig(vocab_size=31, hidden_size=16, num_hidden_layers=1, state_size=4),
        transformers.BloomConfig(vocab_size=31, hidden_size=16, n_layer=1, n_head=2),
    ],
    ids=lambda config: config.model_type,
)
def test_causal_models_of_many_kinds_are_taken(config: Any, tmp_path) -> None:
    """BERT, too, where its own configuration makes it a decoder."""
    save(tmp_path, config).check(TEXT)


def test_an_encoder_decoder_is_taken(tmp_path) -> None:
    config = transformers.BartConfig(
        vocab_size=31, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8, max_position_embeddings=64,
        pad_token_id=1, bos_token_id=0, eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.BartForConditionalGeneration(config).save_pretrained(tmp_path / "model")
    Seq2Seq(pretrained="model").resolve_files(tmp_path).check(PAIRS)


class Network(nn.Module):
    """Logits of which every one depends on the tokens `reach` places on."""

    def __init__(self, reach: int, *, decoder: bool = False, spoilt: float = 0.0) -> None:
        super().__init__()
        self.config = SimpleNamespace(vocab_size=31, is_encoder_decoder=decoder, model_type="own")
        self.reach, self.spoilt = reach, spoilt

    def forward(self, input_ids: Tensor, decoder_input_ids: Tensor | None = None, *, use_cache: bool) -> Any:
        seen = (input_ids if decoder_input_ids is None else decoder_input_ids).double()
        logits = torch.stack([torch.stack([seen[:, : j + 1 + self.reach].sum(1)] * 31, 1) for j in range(8)], 1)
        return SimpleNamespace(logits=logits + self.spoilt)


@pytest.mark.parametrize("decoder", [False, True])
@pytest.mark.parametrize("reach", range(8))
def test_a_look_ahead_of_any_length_is_found(reach: int, decoder: bool) -> None:
    ids = torch.randint(31, (2, 8), generator=torch.Generator().manual_seed(0))
    found = pretrained_checks._next_token(Network(reach, decoder=decoder), ids)
    assert ("look" in found) == (reach > 0)
    assert ("decoder looks" in found) == (reach > 0 and decoder)


def test_logits_that_are_not_finite() -> None:
    assert "not finite" in pretrained_checks._next_token(
        Network(0, spoilt=float("nan")), torch.zeros(2, 8, dtype=torch.long)
    )
