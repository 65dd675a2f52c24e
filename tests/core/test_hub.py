"""Folders of models and tokenizers: what counts in them, and what they must not be."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from collapse_sim.core import hub
from collapse_sim.core.errors import MissingError
from collapse_sim.data.text.tokenizers_made import Learned, tokenizer_of
from collapse_sim.families.causal_lm import CausalLM
from tests.families.wording import TEXT, WORDS

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 548105171\n"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A GPT-2 and its tokenizer, in a folder that is called "model"."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=31, n_embd=8, n_layer=1, n_head=2, n_positions=40, bos_token_id=0, eos_token_id=0)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "model")
    WORDS.save(tmp_path / "model")
    return tmp_path / "model"


def family(model: Path) -> CausalLM:
    return CausalLM(pretrained=model.name).resolve_files(model.parent)


def logits(model: Path) -> torch.Tensor:
    found: torch.Tensor = family(model).build(TEXT)(input_ids=torch.arange(20)[None]).logits
    return found


def in_torchs_format(model: Path, parts: int) -> None:
    from safetensors.torch import load_file

    state = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    if parts == 1:
        torch.save(state, model / "pytorch_model.bin")
        return
    names, where = sorted(state), {}
    for part in range(parts):
        file = f"pytorch_model-{part + 1:05}-of-{parts:05}.bin"
        torch.save({name: state[name] for name in names[part::parts]}, model / file)
        where |= dict.fromkeys(names[part::parts], file)
    (model / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_weights_in_torchs_format(parts: int, model: Path) -> None:
    expected, sha256 = logits(model), family(model).describe()["pretrained"]
    in_torchs_format(model, parts)
    (model / "training.safetensors").write_bytes(b"of something else")
    assert torch.equal(logits(model), expected)
    family(model).check(TEXT)
    assert family(model).describe()["pretrained"] != sha256
    if parts > 1:
        last = model / f"pytorch_model-{parts:05}-of-{parts:05}.bin"
        before = family(model).describe()["pretrained"]
        last.write_bytes(last.read_bytes() + b"\0")
        assert family(model).describe()["pretrained"] != before  # every part is in the key
        last.unlink()
        with pytest.raises(MissingError, match=r"pytorch_model.bin.index.json names files that are not there: "):
            family(model)


@pytest.mark.parametrize("map", [{"a": "../secret.bin"}, {"a": "/etc/passwd"}, [], None, {"a": 3}])
def test_an_index_that_is_none(map: Any, model: Path) -> None:
    in_torchs_format(model, 2)
    (model / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": map}))
    with pytest.raises(MissingError, match=r"pytorch_model\.bin\.index\.json"):
        family(model)


def test_a_folder_of_torchs_that_holds_code(model: Path) -> None:
    """It is not run, and torch's advice to switch the guard off is not passed on."""

    class Boom:
        def __reduce__(self) -> Any:
            return (pytest.fail, ("it was run",))

    (model / "model.safetensors").unlink()
    for content in ({"transformer.wte.weight": Boom()}, None):
        if content:
            torch.save(content, model / "pytorch_model.bin")
        else:
            (model / "pytorch_model.bin").write_bytes(b"no weights at all")
        with pytest.raises(MissingError, match="its weights cannot be read: it ") as told:
            family(model).build(TEXT)
        for advice in ("weights_only", "safe_globals", "trust"):
            assert advice not in str(told.value)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "config.json"])
def test_pointers_of_git_lfs_in_place_of_a_model(name: str, model: Path) -> None:
    if name == "pytorch_model.bin":
        (model / "model.safetensors").unlink()
    (model / name).write_text(POINTER)
    with pytest.raises(MissingError, match=rf"{name}: a pointer of git-lfs, and not .* run `git lfs pull` in .*model"):
        family(model)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "spiece.model"])
def test_pointers_of_git_lfs_in_place_of_a_tokenizer(name: str, model: Path) -> None:
    (model / name).write_text(POINTER)
    with pytest.raises(MissingError, match=rf"{name}: a pointer of git-lfs"):
        hub.find("model", model.parent, "tokenizer")


@pytest.mark.parametrize("part", ["model", "tokenizer"])
@pytest.mark.parametrize("make", [os.mkfifo, lambda p: p.symlink_to("nowhere"), lambda p: p.symlink_to(p)])
def test_what_is_no_file(make: Any, part: Any, model: Path) -> None:
    path = model / {"model": "model.safetensors", "tokenizer": "tokenizer.json"}[part]
    path.unlink()
    make(path)
    with pytest.raises(MissingError, match=rf"{path}: a (named pipe, not a file|link to a file that|loop of links)"):
        hub.find("model", model.parent, part)
    shutil.rmtree(model)
    make(model)
    with pytest.raises(MissingError, match=rf"{model}: a (named pipe, not a file|link to a file that|loop of links)"):
        hub.find("model", model.parent, part)


@pytest.mark.parametrize("part", ["model", "tokenizer"])
def test_a_pipe_among_files_that_only_transformers_reads(part: Any, model: Path) -> None:
    os.mkfifo(model / "chat_template.jinja")
    with pytest.raises(MissingError, match=r"chat_template\.jinja: a named pipe, not a file"):
        hub.find("model", model.parent, part)


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_names_that_no_folder_can_have(name: str, tmp_path: Path) -> None:
    with pytest.raises(MissingError):
        hub.find(f"./{name}", tmp_path, "model")


def test_an_adapter_alone(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "adapter_config.json").write_text("{}")
    with pytest.raises(MissingError, match="it holds an adapter, which has to be merged into its model first"):
        hub.find("model", tmp_path, "model")


def test_a_name_that_is_not_utf8(model: Path) -> None:
    strange = model.rename(model.with_name(os.fsdecode(b"caf\xe9")))
    found = hub.find(str(strange), model.parent, "model")
    assert found.sha256 == hub.find(str(strange), Path("/"), "model").sha256


def test_a_revision_on_a_hub(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for, and what it gives is known by its content."""
    asked: list[Any] = []

    def download(name: str, **options: Any) -> str:
        asked.append((name, options["revision"]))
        return str(model)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    fetched = CausalLM(pretrained="someone/model", revision="v2").resolve_files(tmp_path / "nothing")
    assert asked == [("someone/model", "v2")]
    assert fetched.describe() == family(model).describe()
    hub.find("someone/model", tmp_path / "nothing", "tokenizer")
    assert asked[1:] == [("someone/model", None)]


def test_a_revision_that_a_hub_does_not_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(name: str, **options: Any) -> str:
        raise ValueError("not in the cache")

    def refuse(self: Any, name: str, *, revision: str, timeout: float) -> None:
        raise ValueError(f"no {revision}")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", refuse)
    with pytest.raises(MissingError, match=r"someone/model of revision v2: no such model: .* from a hub \(no v2\)"):
        hub.find("someone/model", tmp_path, "model", "v2")


def test_folders_and_presets_have_no_revisions(model: Path) -> None:
    with pytest.raises(MissingError, match=r"model: a folder has no revisions; remove `revision: v2`"):
        hub.find("model", model.parent, "model", "v2")
    with pytest.raises(ValueError, match="revision: for a pretrained model, this is a preset; remove"):
        CausalLM(preset="tiny", revision="v2")


# Configurations of models that will not do.


def changed(model: Path, **entries: Any) -> None:
    path = model / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "fp8", "awq"])
def test_quantised_weights(method: str, model: Path) -> None:
    changed(model, quantization_config={"quant_method": method, "bits": 4, "load_in_8bit": True})
    with pytest.raises(ValueError, match=rf"pretrained: .*model: its weights are quantised \({method}\), and"):
        family(model).check(TEXT)


def test_a_model_of_images_and_texts(model: Path) -> None:
    from transformers import Gemma3Config

    text = {"vocab_size": 31, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    Gemma3Config(text_config=text).save_pretrained(model)
    with pytest.raises(ValueError, match="gemma3 takes more than text"):
        family(model).check(TEXT)


def test_a_model_without_a_vocabulary(model: Path) -> None:
    from transformers import ViTConfig

    ViTConfig(hidden_size=16).save_pretrained(model)
    with pytest.raises(ValueError, match=r"its configuration \(vit\) has no vocab_size: it is not that of"):
        family(model).check(TEXT)


def test_a_limit_of_positions_that_is_none(model: Path) -> None:
    """XLNet has -1 for any number."""
    from transformers import GPT2Config, XLNetConfig

    from collapse_sim.families.pretrained import positions_of

    assert positions_of(XLNetConfig()) is None
    assert positions_of(GPT2Config(n_positions=40)) == 40


@pytest.mark.parametrize("entries", [{"n_embd": "wide"}, {"model_type": 3}, {"n_layer": None}, {"vocab_size": "many"}])
def test_a_strange_configuration(entries: dict[str, Any], model: Path) -> None:
    changed(model, **entries)
    with pytest.raises((ValueError, MissingError)):
        family(model).check(TEXT)


# Tokenizers: every file that transformers reads counts.


def older_tokenizer(place: Path, added: str) -> None:
    from tokenizers import pre_tokenizers

    place.mkdir(exist_ok=True)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["<|endoftext|>", *letters]
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    for name, content in (
        ("vocab.json", {word: number for number, word in enumerate(words)}),
        ("tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer", **special}),
        ("special_tokens_map.json", special),
        ("added_tokens.json", {added: len(words)}),
    ):
        (place / name).write_text(json.dumps(content))
    (place / "merges.txt").write_text("#version: 0.2\n")


def test_a_change_of_added_tokens_is_noticed(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    seen = []
    for added in ("fox", "old"):
        older_tokenizer(tmp_path / "older", added)
        found = tokenizer_of("older", tmp_path, Learned(lambda: iter(()), ()))
        theirs = AutoTokenizer.from_pretrained(tmp_path / "older")
        assert found.encode(["the old fox"])[0].tolist() == theirs("the old fox")["input_ids"]
        seen.append(found.sha256)
    assert seen[0] != seen[1]


def test_every_file_that_transformers_reads_is_fetched_and_counts(tmp_path: Path) -> None:
    """The names of all of its tokenizers that read files by name."""
    import transformers
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

    names = {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.json", "config.json"}
    classes = {name for name in TOKENIZER_MAPPING_NAMES.values() if isinstance(name, str)}
    assert len(classes) > 50
    for name in classes:
        with contextlib.suppress(ImportError):  # of those that are converted from sentencepiece
            cls = getattr(transformers, name, None)
            names |= {file for file in getattr(cls, "vocab_files_names", {}).values() if isinstance(file, str)}
    assert {"vocab.json", "merges.txt", "spiece.model"} < names
    left_out = {name for name in names if not hub._is_part(name, "tokenizer")}
    assert left_out <= {"preprocessor_config.json"}
