"""Language models: the engine's contract, transformers' own loss, decoding, pretrained folders, export."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch.optim.swa_utils import AveragedModel

from collapse_sim.core.errors import MissingError
from collapse_sim.core.machine import open_machine
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.data.text.tokens import PAD_TOKEN_ID, Tokenizer, texts_of
from collapse_sim.families.base import Conditions
from collapse_sim.families.causal_lm import PRESETS, CausalLM
from collapse_sim.families.held_out_loss import HeldOutLoss
from collapse_sim.families.language import Predicted
from collapse_sim.families.seq2seq import Seq2Seq
from collapse_sim.families.token_rows import until_end
from collapse_sim.testing import CPU, check_family

from .wording import LENGTH, PACKED, PAIRS, TARGET, TEXT, WORDS, blocks, ids, pairs, texts

TINY = CausalLM(preset="tiny")
T5 = Seq2Seq(preset="tiny")


def number(tensor):
    return float(tensor.detach())


def built(family, info, seed=0):
    with CPU.seeded(seed):
        return family.build(info).eval()


def draws(role="sample", seed=0):
    return Draws((seed,), role, 0)


@pytest.mark.parametrize(
    "family",
    [
        TINY,
        CausalLM(preset="llama-12m", width=48, layers=2, heads=2, kd_temperature=2.0),
        CausalLM(preset="tiny", prompt=5, bucket=1),
        CausalLM(preset="tiny", prompt=5, keep_prompt=True, decoding="greedy"),
        CausalLM(preset="tiny", layers=1, decoding="beam", beams=2),
        CausalLM(preset="tiny", stop="length", top_k=5, top_p=0.9, temperature=0.7),
    ],
    ids=["gpt2", "llama", "prompt", "kept-prompt", "beam", "full-rows"],
)
def test_a_causal_model_obeys_the_contract(family):
    """With rows of unequal length, empty texts, texts of one token, and texts that are cut."""
    check_family(family, TEXT, texts())


def test_packed_rows_obey_the_contract():
    check_family(TINY, PACKED, blocks())


@pytest.mark.parametrize(
    "family", [T5, Seq2Seq(preset="tiny", decoding="sample", bucket=7), Seq2Seq(preset="tiny", decoding="beam")]
)
def test_an_encoder_decoder_obeys_the_contract(family):
    check_family(family, PAIRS, pairs())


@pytest.mark.parametrize("architecture", ["tiny", "llama-12m"])
@pytest.mark.parametrize("bucket", [1, 32])
def test_the_loss_is_transformers_own(architecture, bucket):
    family = CausalLM(preset=architecture, width=48, layers=2, heads=2, bucket=bucket)
    model, rows = built(family, TEXT), texts()
    inputs = family.corrupt(rows, draws())
    nats, count = 0.0, 0
    for row in rows["tokens"].long():
        labels = row[row != PAD_TOKEN_ID][None]
        predicted = labels.shape[1] - 1
        nats += number(model.network(input_ids=labels, labels=labels).loss) * predicted
        count += predicted
    assert int(inputs.count) == count
    assert number(family.loss(family.predict(model, inputs), inputs)) / count == pytest.approx(nats / count, rel=1e-5)
    found, tokens = family.nats(model, rows)
    assert number(found.sum() / tokens.sum()) == pytest.approx(nats / count, rel=1e-5)


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


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_a_mean_loss_does_not_depend_on_how_many_rows_are_seen_at_once(at_once, monkeypatch):
    model, rows = built(TINY, TEXT), texts()
    whole = HeldOutLoss(TINY, model, rows, lambda batch: draws(), 1000, CPU).mean()
    monkeypatch.setattr(CausalLM, "rows_at_once", lambda *_: at_once)
    assert number(HeldOutLoss(TINY, model, rows, lambda batch: draws(), 13, CPU).mean()) == pytest.approx(
        number(whole), rel=1e-6
    )
    assert number(TINY.nats(model, rows)[0].sum() / TINY.nats(model, rows)[1].sum()) == pytest.approx(
        number(whole), rel=1e-6
    )


def test_bfloat16_does_not_round_the_logits_of_a_model_in_use():
    """All logits are near -100, as GPT-2's are, where the bfloat16 numbers are half a unit apart."""
    model, generator = built(TINY, TEXT), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in model.parameters():
            torch.nn.init.normal_(weights, std=0.3, generator=generator)
        model.network.transformer.ln_f.bias[0] = 100.0
        model.network.transformer.wte.weight[:, 0] = -1.0
    machine, inputs = open_machine("cpu", "bf16"), TINY.corrupt(texts(), draws())
    wanted = number(TINY.loss(TINY.predict(model, inputs), inputs) / inputs.count)
    for network in model, AveragedModel(model).module:
        with machine.autocast():
            predicted = TINY.predict(network, inputs)
        assert number(predicted.logits.float().mean()) == pytest.approx(-100, abs=3)
        assert number(TINY.loss(predicted, inputs) / inputs.count) == pytest.approx(wanted, abs=1e-3)
    with machine.autocast():
        assert TINY.predict(model.train(), inputs).logits.dtype == torch.bfloat16  # for speed


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


def test_terms_of_distillation_are_what_they_are_called():
    """Token by token, against formulas written out."""
    family = CausalLM(preset="tiny", kd_temperature=3.0)
    inputs = family.corrupt(texts(), draws())
    student, teacher = (family.predict(built(family, TEXT, seed), inputs) for seed in (0, 1))
    hidden = divergence = 0.0
    for i, row in enumerate(inputs["tokens"]):
        for j in range(int((row != PAD_TOKEN_ID).sum()) - 1):
            s, t = student.hidden[i, j], teacher.hidden[i, j]
            hidden += 1 - number(s @ t / (s.norm() * t.norm()))
            p, q = (logits[i, j].div(3).softmax(-1) for logits in (teacher.logits, student.logits))
            divergence += 9 * number((p * (p / q).log()).sum())
    terms = family.distillation(student, teacher, inputs)
    assert number(terms["hidden"]) == pytest.approx(hidden, rel=1e-4)
    assert number(terms["logits"]) == pytest.approx(divergence, rel=1e-3)


def test_padding_counts_in_no_term():
    inputs = TINY.corrupt({"tokens": ids([3, 12], LENGTH, begin=True)}, draws())
    student, teacher = (TINY.predict(built(TINY, TEXT, seed), inputs) for seed in (0, 1))
    behind = inputs["tokens"][:, 1 : student.logits.shape[1] + 1] == PAD_TOKEN_ID
    spoilt = Predicted(*(tensor.masked_fill(behind[..., None], 1e3) for tensor in teacher))
    before, after = (TINY.distillation(student, other, inputs) for other in (teacher, spoilt))
    assert behind.any()
    assert {name: number(term) for name, term in before.items()} == {name: number(term) for name, term in after.items()}


def test_greedy_texts_in_a_batch_are_those_one_by_one():
    family = CausalLM(preset="tiny", prompt=6, keep_prompt=True, decoding="greedy")
    model, prompts = trained(family, TEXT, texts()), texts(16)["tokens"]
    together = family.sample(model, Conditions(16, {"tokens": prompts}), draws())["tokens"]
    alone = [family.sample(model, Conditions(1, {"tokens": row[None]}), draws())["tokens"][0] for row in prompts]
    assert torch.equal(together, torch.stack(alone))
    assert len({tuple(row.tolist()) for row in together}) > 8


def test_greedy_summaries_in_a_batch_are_those_one_by_one():
    model, given = trained(T5, PAIRS, pairs()), pairs(16)
    together = T5.sample(model, Conditions(16, {"source": given["source"]}), draws())["target"]
    alone = [T5.sample(model, Conditions(1, {"source": row[None]}), draws())["target"][0] for row in given["source"]]
    assert torch.equal(together, torch.stack(alone))
    assert len({tuple(row.tolist()) for row in together}) > 4


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


def test_samples_are_repeatable_and_leave_the_global_generator_alone():
    model = built(TINY, TEXT)
    before = torch.random.get_rng_state()
    first, again, other = (TINY.sample(model, Conditions(9, {}), draws(seed=s))["tokens"] for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("special", [(0, 0, 0), (1, 2, 2), (1, 2, 0), (2, 2, 1)], ids=str)
@pytest.mark.parametrize("preset", ["tiny", "llama-12m"])
def test_greedy_texts_are_the_likeliest_next_tokens(preset, special):
    """As `predict` says of the written rows: whichever tokens begin, end and pad, and with padding's among prompts."""
    tokenizer = dataclasses.replace(WORDS, begin=special[0], end=special[1], pad=special[2])
    info = dataclasses.replace(TEXT, tokenizer=tokenizer)
    family = CausalLM(preset=preset, width=48, layers=2, heads=2, prompt=4, keep_prompt=True, decoding="greedy")
    model, dice = unlike(built(family, info)), torch.Generator().manual_seed(1)
    prompts = torch.randint(3, 31, (200, LENGTH), generator=dice, dtype=torch.int16)
    prompts[:, 0] = tokenizer.begin
    if tokenizer.pad != tokenizer.end:
        prompts[:50, 2] = tokenizer.pad
    rows = family.sample(model, Conditions(200, {"tokens": prompts}), draws())["tokens"]
    assert torch.equal(rows[:, :4], prompts[:, :4])
    written = rows[:, 4:]
    likeliest = TINY.predict(model, TINY._inputs({"tokens": rows})).logits.argmax(-1)[:, 3:]
    assert ((likeliest == written) | (written == PAD_TOKEN_ID)).all()
    assert (written == tokenizer.end).any()
    assert len(written.unique()) > 10


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


def unlike(model):
    """With weights so large that every text goes on differently."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.normal_(0, 0.4, generator=generator)
    return model


def test_top_k_of_one_is_greedy():
    one = CausalLM(preset="tiny", prompt=4, keep_prompt=True, top_k=1)
    greedy = CausalLM(preset="tiny", prompt=4, keep_prompt=True, decoding="greedy")
    model, given = built(TINY, TEXT), Conditions(8, texts(8))
    assert torch.equal(one.sample(model, given, draws())["tokens"], greedy.sample(model, given, draws())["tokens"])


def test_samples_follow_the_models_distribution():
    """Second tokens of 4,000 samples against the softmax; and at half the temperature."""
    for temperature in (1.0, 0.5):
        family = CausalLM(preset="tiny", layers=1, temperature=temperature)
        model = trained(family, TEXT, texts(), steps=20)
        rows = family.sample(model, Conditions(4000, {}), draws())["tokens"].long()
        with torch.no_grad():
            logits = model(input_ids=torch.zeros(1, 1, dtype=torch.long)).logits[0, -1]
        p = (logits / temperature).softmax(-1)
        seen = torch.bincount(rows[:, 1], minlength=31) / 4000
        assert float(((seen - p).abs() / (p * (1 - p) / 4000).sqrt()).max()) < 4.5


def test_nothing_of_how_to_sample_comes_from_elsewhere(tmp_path):
    """Neither from a model's files nor from transformers' defaults (top_k 50): of 300 words all are drawn."""
    tokenizer = Tokenizer.of_words([f"t{i}" for i in range(299)])
    info = Info("text", {"tokens": ((3,), "int16")}, 1, 1, 1, tokenizer=tokenizer)
    TINY.export(built(TINY, info), info, tmp_path)
    family = CausalLM(pretrained="transformers", stop="length").resolve_files(tmp_path)
    rows = family.sample(built(family, info), Conditions(4000, {}), draws())["tokens"]
    assert len(rows[:, 1].unique()) > 290
    assert (rows != PAD_TOKEN_ID).all()
    advice = {"top_k": 2, "top_p": 0.5, "repetition_penalty": 4.0, "no_repeat_ngram_size": 1, "num_beams": 3}
    advice |= {"temperature": 0.1, "min_length": 9, "max_length": 2, "do_sample": True, "suppress_tokens": [4]}
    advice |= {"forced_bos_token_id": 5, "forced_eos_token_id": 6, "eos_token_id": 7, "bad_words_ids": [[8]]}
    for name in ("config.json", "generation_config.json"):
        path = tmp_path / "transformers" / name
        path.write_text(json.dumps(json.loads(path.read_text()) | advice))
    advised = CausalLM(pretrained="transformers", stop="length").resolve_files(tmp_path)
    assert torch.equal(advised.sample(built(advised, info), Conditions(4000, {}), draws())["tokens"], rows)


def test_rows_end_with_their_texts():
    model = trained(TINY, TEXT, texts())
    rows = TINY.sample(model, Conditions(200, {}), draws())["tokens"]
    assert (rows[:, 0] == WORDS.begin).all()
    for row in rows:
        ends = (row[1:] == WORDS.end).nonzero().flatten() + 1
        last = int(ends[0]) if len(ends) else LENGTH - 1
        assert (row[last + 1 :] == PAD_TOKEN_ID).all()
        assert (row[: last + 1] != PAD_TOKEN_ID).all()


def test_samples_of_packed_data_are_full_rows_and_run_over_ends():
    model = trained(TINY, PACKED, blocks(), steps=10)
    rows = TINY.sample(model, Conditions(100, {}), draws())["tokens"]
    assert (rows != PAD_TOKEN_ID).all()
    assert (rows[:, 1:-1] == WORDS.end).any()
    family = CausalLM(preset="tiny", prompt=8)
    given = blocks(4)
    continued = family.sample(model, Conditions(4, given), draws())["tokens"]
    assert continued.shape == (4, LENGTH)
    kept = CausalLM(preset="tiny", prompt=8, keep_prompt=True).sample(model, Conditions(4, given), draws())["tokens"]
    assert torch.equal(kept[:, :8], given["tokens"][:, :8])
    assert torch.equal(kept[:, 8:], continued[:, : LENGTH - 8])


def test_prompts_are_continued_from_before_their_end():
    """A text shorter than the prompt, and an empty one."""
    family = CausalLM(preset="tiny", prompt=6, keep_prompt=True)
    given = ids([0, 2, 12], LENGTH, begin=True)
    rows = family.sample(built(family, TEXT), Conditions(3, {"tokens": given}), draws())["tokens"]
    assert rows[0, 0] == WORDS.begin
    assert torch.equal(rows[1, :3], given[1, :3])
    assert torch.equal(rows[2, :6], given[2, :6])


def test_an_empty_generation_is_a_row_without_text():
    model = built(TINY, TEXT)
    with torch.no_grad():
        model.network.transformer.wte.weight.zero_()
        model.network.transformer.wte.weight[WORDS.end] = 1.0
        model.network.transformer.ln_f.weight.zero_()
        model.network.transformer.ln_f.bias.fill_(10.0)
    rows = TINY.sample(model, Conditions(3, {}), draws())["tokens"]
    assert texts_of(rows.numpy(), WORDS) == ["", "", ""]
    inputs = TINY.corrupt({"tokens": rows}, draws())
    assert int(inputs.count) == 3
    assert number(TINY.loss(TINY.predict(model, inputs), inputs)) == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("name", PRESETS)
def test_the_token_that_begins_texts_is_learnt(name, tmp_path):
    """Although it is the padding, too; also by a model that is loaded."""
    family = CausalLM(preset=name, width=24, layers=1, heads=2)
    fresh = built(family, TEXT)
    family.export(fresh, TEXT, tmp_path)
    for model in fresh, built(CausalLM(pretrained="transformers").resolve_files(tmp_path), TEXT):
        embedding = model.network.get_input_embeddings()
        vector = embedding(torch.tensor([WORDS.begin]))
        vector.sum().backward()
        assert number(vector.norm()) > 0
        assert (embedding.weight.grad[WORDS.begin] == 1).all()


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_the_parameters_they_are_named_after(name):
    tokenizer = Tokenizer.of_words([f"t{i}" for i in range(9_999)])
    info = Info("text", {"tokens": ((256,), "int16")}, 1, 1, 1, tokenizer=tokenizer)
    with torch.device("meta"):
        model = CausalLM(preset=name).build(info)
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    said = {"tiny": 0.77}.get(name) or float(name.rpartition("-")[2].removesuffix("m"))
    assert millions == pytest.approx(said, rel=0.03)


def test_tied_weights_are_kept_once_and_come_back():
    model, fresh = built(TINY, TEXT), built(TINY, TEXT, seed=1)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    assert not any("lm_head" in name for name in state)
    fresh.load_state_dict(load(save(state)))
    inputs = TINY.corrupt(texts(), draws())
    assert torch.equal(TINY.predict(model, inputs).logits, TINY.predict(fresh, inputs).logits)
    average = AveragedModel(model)
    average.update_parameters(fresh)
    again = AveragedModel(built(TINY, TEXT, seed=2))
    again.load_state_dict(average.state_dict())
    assert torch.equal(TINY.predict(again.module, inputs).logits, TINY.predict(average.module, inputs).logits)
    copied = copy.deepcopy(model)
    assert copied.network.lm_head.weight is copied.network.transformer.wte.weight


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with two exported models, `writer/` and `summarizer/`."""
    data = tmp_path_factory.mktemp("models")
    for name, family, info in (("writer", TINY, TEXT), ("summarizer", T5, PAIRS)):
        (data / "exported").mkdir()
        family.export(built(family, info), info, data / "exported")
        shutil.move(data / "exported" / "transformers", data / name)
        (data / "exported").rmdir()
    return data


def test_an_exported_model_is_what_transformers_and_we_load(folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, rows = built(TINY, TEXT), texts()
    theirs = AutoModelForCausalLM.from_pretrained(folder / "writer").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "writer")
    row = rows["tokens"][9].long()
    row = row[row != PAD_TOKEN_ID][None]
    torch.testing.assert_close(theirs(row).logits, model(input_ids=row).logits)
    assert tokenizer.decode(row[0], skip_special_tokens=True) == WORDS.decode(row[0])
    assert (tokenizer.eos_token_id, tokenizer.bos_token_id) == (WORDS.end, WORDS.begin)
    family = CausalLM(pretrained="writer").resolve_files(folder)
    family.check(TEXT)
    ours = built(family, TEXT, seed=5)
    assert torch.equal(model(input_ids=row).logits, ours(input_ids=row).logits)


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


def test_a_pretrained_model_is_known_by_its_content(folder, tmp_path):
    shutil.copytree(folder / "writer", tmp_path / "elsewhere")
    here = CausalLM(pretrained="writer").resolve_files(folder).describe()
    there = CausalLM(pretrained=str(tmp_path / "elsewhere")).resolve_files(folder).describe()
    assert here == there
    assert "writer" not in str(here)
    weights = tmp_path / "elsewhere" / "model.safetensors"
    state = load(weights.read_bytes())
    weights.write_bytes(save({name: tensor + 1 for name, tensor in state.items()}, metadata={"format": "pt"}))
    assert CausalLM(pretrained=str(tmp_path / "elsewhere")).resolve_files(folder).describe() != here


def test_a_model_that_is_nowhere(tmp_path, monkeypatch):
    import socket

    def refuse(*args: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(
        MissingError, match=r"t5-tiniest: no such model: there is no folder .* a folder there that has"
    ) as error:
        Seq2Seq(pretrained="t5-tiniest").resolve_files(tmp_path)
    assert "config.json and model.safetensors" in str(error.value)
    with pytest.raises(MissingError, match="no such model: there is no folder"):
        CausalLM(pretrained="/nowhere/at/all").resolve_files(tmp_path)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.json").write_text("{}")
    with pytest.raises(MissingError, match=r"half: no model.safetensors in it; needed for a model: config.json and"):
        CausalLM(pretrained="half").resolve_files(tmp_path)


def test_a_folders_own_code_is_not_run(folder, tmp_path, monkeypatch):
    """Not even for one who would say yes."""
    place = shutil.copytree(folder / "writer", tmp_path / "own")
    own = {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | own))
    (place / "own.py").write_text("import pytest\npytest.fail('it was run')\n")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(ValueError, match=r"pretrained: .*own: "):
        CausalLM(pretrained="own").resolve_files(tmp_path).check(TEXT)


def test_weights_that_end_early(folder, tmp_path):
    place = shutil.copytree(folder / "writer", tmp_path / "writer")
    weights = place / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(MissingError, match=r"writer: its weights cannot be read: model\.safetensors: "):
        CausalLM(pretrained="writer").resolve_files(tmp_path)


def test_what_does_not_fit(folder):
    many = Tokenizer.of_words([f"t{i}" for i in range(50)])
    few = Tokenizer.of_words(["a"])
    writer = CausalLM(pretrained="writer").resolve_files(folder)
    with pytest.raises(ValueError, match="writer has a vocabulary of 31 tokens, and the data's tokenizer has 51: set"):
        writer.check(Info("text", TEXT.columns, 9, 9, 9, tokenizer=many))
    writer.check(Info("text", TEXT.columns, 9, 9, 9, tokenizer=few))  # padded vocabularies are common
    with pytest.raises(ValueError, match=r"writer takes 20 tokens, and 64 are needed: lower the data.s `length`"):
        writer.check(Info("text", {"tokens": ((64,), "int16")}, 9, 9, 9, tokenizer=WORDS))
    with pytest.raises(ValueError, match=r"writer is a decoder only \(gpt2\); use: causal_lm"):
        Seq2Seq(pretrained="writer").resolve_files(folder).check(PAIRS)
    with pytest.raises(ValueError, match=r"summarizer is an encoder-decoder \(t5\); use: seq2seq"):
        CausalLM(pretrained="summarizer").resolve_files(folder).check(TEXT)
    with pytest.raises(
        ValueError, match="prompt: 20 tokens of rows of 20, which leaves nothing to generate; use at most"
    ):
        CausalLM(preset="tiny", prompt=20, keep_prompt=True).check(TEXT)
    with pytest.raises(ValueError, match="prompt: 21 tokens of rows of 20; use at most 20"):
        CausalLM(preset="tiny", prompt=21).check(TEXT)
    CausalLM(preset="tiny", prompt=20).check(TEXT)
    with pytest.raises(ValueError, match="stop: end gives rows of one text, but the data's are packed"):
        CausalLM(preset="tiny", stop="end").check(PACKED)
    with pytest.raises(ValueError, match="the width 64 is not a multiple of 5 heads"):
        CausalLM(preset="tiny", heads=5).check(TEXT)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "exactly one of `pretrained` and `preset` is needed, found neither"),
        ({"preset": "tiny", "pretrained": "gpt2"}, "found both"),
        ({"pretrained": "gpt2", "layers": 3}, "layers: a pretrained model has its own"),
        ({"preset": "tiny", "decoding": "greedy", "top_p": 0.9}, "top_p: for `decoding: sample` only, found greedy"),
        ({"preset": "tiny", "keep_prompt": True}, "there is no prompt to keep"),
    ],
)
def test_settings_that_contradict_each_other(settings, message):
    with pytest.raises(ValueError, match=message):
        CausalLM(**settings)


def test_a_pretrained_models_dropout_is_its_own_unless_said(folder):
    own = CausalLM(pretrained="writer").resolve_files(folder).build(TEXT)
    said = CausalLM(pretrained="writer", dropout=0.3).resolve_files(folder).build(TEXT)
    rates = [{m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)} for model in (own, said)]
    assert rates == [{0.0}, {0.3}]


def test_until_end():
    rows = torch.tensor([[5, 0, 7, 0], [1, 2, 3, 4], [0, 0, 0, 0]])
    assert until_end(rows, 0).tolist() == [[5, 0, -1, -1], [1, 2, 3, 4], [0, -1, -1, -1]]
