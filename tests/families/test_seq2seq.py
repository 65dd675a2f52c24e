"""Encoder-decoders: the engine's contract, and transformers' own loss and decoding."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from collapse_sim.data.base import Info
from collapse_sim.data.text.tokens import PAD_TOKEN_ID, Tokenizer
from collapse_sim.families.base import Conditions
from collapse_sim.families.seq2seq import Seq2Seq
from collapse_sim.families.token_rows import until_end
from collapse_sim.testing import CPU, check_family
from tests.families.wording import PAIRS, T5, TARGET, WORDS, built, draws, number, pairs, unlike


@pytest.mark.parametrize(
    "family", [T5, Seq2Seq(preset="tiny", decoding="sample", bucket=7), Seq2Seq(preset="tiny", decoding="beam")]
)
def test_an_encoder_decoder_obeys_the_contract(family):
    check_family(family, PAIRS, pairs())


@pytest.mark.parametrize("bucket", [1, 5])
def test_an_encoder_decoders_loss_is_transformers_own(bucket):
    family = Seq2Seq(preset="tiny", bucket=bucket)
    model, rows = built(family, PAIRS), pairs()
    inputs = family.corrupt(rows, draws())
    nats, count = [], []
    for source, target in zip(rows["source"].long(), rows["target"].long(), strict=True):
        labels = target[target != PAD_TOKEN_ID][None]
        nats.append(
            number(model.network(input_ids=source[source != PAD_TOKEN_ID][None], labels=labels).loss) * labels.numel()
        )
        count.append(labels.numel())
    assert int(inputs.count) == sum(count)
    assert number(family.loss(family.predict(model, inputs), inputs)) == pytest.approx(sum(nats), rel=1e-5)
    found, tokens = family.nats(model, rows)
    np.testing.assert_allclose(found.numpy(), nats, rtol=1e-4)
    assert tokens.tolist() == count


def test_a_decoder_begins_as_it_was_trained_to(tmp_path):
    """BART's with the token that ends texts, and not with the padding: in transformers' own loss, and when writing."""
    from transformers import BartConfig, BartForConditionalGeneration

    tokenizer = dataclasses.replace(WORDS, begin=0, end=2, pad=1)
    sizes = {f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in (("layers", 1), ("ffn_dim", 32))}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 40}
    special = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
    config = BartConfig(vocab_size=31, d_model=16, dropout=0.0, **sizes, **heads, **special)
    with CPU.seeded(0):
        theirs = BartForConditionalGeneration(config).eval()
        for weights in theirs.parameters():
            torch.nn.init.normal_(weights, std=0.5)
    theirs.save_pretrained(tmp_path / "bart")
    family, info = Seq2Seq(pretrained="bart").resolve_files(tmp_path), dataclasses.replace(PAIRS, tokenizer=tokenizer)
    model, source, target = built(family, info), torch.tensor([[5, 6, 7, 8, 2]]), torch.tensor([[9, 10, 2]])
    found, tokens = family.nats(model, {"source": source, "target": target})
    assert number(found / tokens) == pytest.approx(number(theirs(input_ids=source, labels=target).loss), rel=1e-5)
    written = family.sample(model, Conditions(1, {"source": source}), draws())["target"].long()
    wanted = theirs.generate(source, max_new_tokens=TARGET, do_sample=False, num_beams=1, forced_eos_token_id=None)
    assert torch.equal(written[written != PAD_TOKEN_ID], until_end(wanted[:, 1:], 2)[0])
    family.export(model, info, tmp_path)
    again = BartForConditionalGeneration.from_pretrained(tmp_path / "transformers")
    assert again.config.decoder_start_token_id == again.generation_config.decoder_start_token_id == 2


def test_an_evaluation_shows_a_gpu_many_rows_at_once():
    """T5-small on articles, of whose 1,152 tokens 128 have logits; a row at a time would leave a GPU idle."""
    tokenizer = Tokenizer.of_words([f"t{i}" for i in range(32_099)])
    columns = {"source": ((1024,), "int16"), "target": ((128,), "int16")}
    with torch.device("meta"):
        family = Seq2Seq(preset="tiny", width=512, layers=6, heads=8)
        model = family.build(Info("pairs", columns, 1, 1, 1, tokenizer=tokenizer))
        rows = {name: torch.zeros(1, *shape, dtype=torch.int16) for name, (shape, _) in columns.items()}
    logits_bytes = 4 * 32_100 * 128
    assert 30 <= family.rows_at_once(model, rows) <= 4 * 2**30 / logits_bytes


def test_greedy_summaries_are_the_likeliest_next_tokens():
    tokenizer = dataclasses.replace(WORDS, begin=1, end=1, pad=0)
    info, given = dataclasses.replace(PAIRS, tokenizer=tokenizer), pairs(24)
    model = unlike(built(T5, info))
    rows = T5.sample(model, Conditions(24, {"source": given["source"]}), draws())
    assert torch.equal(rows["source"], given["source"])
    likeliest = T5.predict(model, T5._inputs(rows)).logits.argmax(-1)
    assert ((likeliest == rows["target"]) | (rows["target"] == PAD_TOKEN_ID)).all()
    assert (rows["target"] == PAD_TOKEN_ID).any()
    assert (rows["target"][:, 0] != PAD_TOKEN_ID).all()


def test_a_pretrained_encoder_decoder(folder):
    from transformers import AutoModelForSeq2SeqLM

    family = Seq2Seq(pretrained="summarizer").resolve_files(folder)
    family.check(PAIRS)
    ours, theirs = built(family, PAIRS, seed=5), AutoModelForSeq2SeqLM.from_pretrained(folder / "summarizer").eval()
    source = pairs()["source"][9].long()
    source = source[source != PAD_TOKEN_ID][None]
    found = T5.sample(ours, Conditions(1, {"source": source.to(torch.int16)}), draws())["target"].long()
    wanted = theirs.generate(source, max_new_tokens=TARGET, do_sample=False)[:, 1:]
    assert torch.equal(found[found != PAD_TOKEN_ID], until_end(wanted, WORDS.end)[0])
