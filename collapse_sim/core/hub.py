"""Models and tokenizers by name or folder: where they are looked for, how they are fetched, what they are known by."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from collapse_sim.core.errors import MissingError
from collapse_sim.core.files import file_hash
from collapse_sim.core.readable import check_pointer, fault, there

Part = Literal["model", "tokenizer"]
SAFE, SAFE_INDEX = "model.safetensors", "model.safetensors.index.json"
OLDER, OLDER_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"  # torch's format, read weights-only
WEIGHTS = (SAFE, SAFE_INDEX, OLDER, OLDER_INDEX)  # in the order of preference
VOCABULARIES = (
    "tokenizer.json", "spiece.model", "tokenizer.model", "vocab.json", "vocab.txt", "sentencepiece.bpe.model",
    "spm.model", "source.spm", "tekken.json",
)  # fmt: skip
# What transformers' tokenizers read of a folder, config.json for their class among it. What is left out here would be
# neither fetched, nor noticed when it changes.
TOKENIZER_FILES = (
    "tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "config.json", "vocab*", "merges*",
    "*vocab.json", "*.model", "*.spm", "*.tiktoken", "*.tokenizer", "tekken.json", "bpe.codes", "dict.txt",
    "emoji.json", "normalizer.json", "word_*.json", "byte_maps.json",
)  # fmt: skip
FETCHED: dict[Part, tuple[str, ...]] = {
    "model": ("config.json", "generation_config.json", "model*.safetensors", SAFE_INDEX),
    "tokenizer": TOKENIZER_FILES,
}
NEEDED: dict[Part, str] = {
    "model": "config.json and model.safetensors (or pytorch_model.bin), as save_pretrained writes them",
    "tokenizer": "tokenizer.json and tokenizer_config.json, as save_pretrained writes them",
}
TIMEOUT_S = 10  # for a server's answer
STATUS = re.compile(r"\d{3} (Client|Server) Error\.")  # a line of the client's messages, before what it means

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PretrainedFiles:
    """A folder that holds a model's or a tokenizer's files. The hash goes into keys, the place does not."""

    name: str  # as the recipe has it
    folder: Path
    sha256: str


def find(name: str, data_dir: Path, part: Part) -> PretrainedFiles:
    """A folder by its path, or by its name below the data folder; else a Hugging Face hub's cache, or the hub itself.

    Raises MissingError: which folders were looked at, why nothing could be fetched, and which files would do; or which
    file of weights is not whole.
    """
    candidates = [Path(name).expanduser(), data_dir / name]
    try:
        here = [path for path in candidates if there(path)]
        folder = next((path for path in here if path.is_dir()), None)
        if folder is None and here:
            what = fault(here[0]) or "a file"
            raise MissingError(f"{here[0].absolute()}: {what}; needed: a folder that has {NEEDED[part]}")
        if folder is None:
            folder = _fetched(name, candidates, part)
        else:
            _check_folder(folder, part)
        for path in _files(folder, part):
            check_pointer(path)
        if part == "model":
            _check_weights(folder)
        return PretrainedFiles(name, folder, _hash_of(folder, part))
    except (OSError, ValueError) as error:
        said = (error.strerror if isinstance(error, OSError) else "") or str(error)
        raise MissingError(f"{name}: no {part} can be read: {said}") from None


def _check_folder(folder: Path, part: Part) -> None:
    """Raises MissingError when a folder lacks a file, or has something else in its place."""
    for path in sorted(folder.iterdir()):
        wrong = "" if path.is_dir() else fault(path)
        if wrong and (_counts(path.name, part) or wrong.endswith("not a file")):  # transformers would wait for a pipe
            raise MissingError(f"{path.absolute()}: {wrong}; needed for a {part}: {NEEDED[part]}")
    lacking = _lacking(folder, part)
    if not lacking:
        return
    adapter = (folder / "adapter_config.json").is_file()
    hint = ": it holds an adapter, which has to be merged into its model first" if adapter and part == "model" else ""
    raise MissingError(f"{folder.absolute()}: no {lacking} in it; needed for a {part}: {NEEDED[part]}{hint}")


def _lacking(folder: Path, part: Part) -> str:
    """What a folder has not of what a model or a tokenizer needs; "" when it has all."""
    if part == "tokenizer":
        return "" if any((folder / file).is_file() for file in VOCABULARIES) else "tokenizer.json"
    if not (folder / "config.json").is_file():
        return "config.json"
    return "" if any((folder / file).is_file() for file in WEIGHTS) else "model.safetensors"


def is_safe(folder: Path) -> bool:
    """Whether a model's weights are in the safetensors format, and not in torch's."""
    return (folder / SAFE).is_file() or (folder / SAFE_INDEX).is_file()


def _check_weights(folder: Path) -> None:
    """Raises MissingError for weights that lack a file or a part of one; only their headers are read."""
    from safetensors import SafetensorError, safe_open

    single, index = (SAFE, folder / SAFE_INDEX) if is_safe(folder) else (OLDER, folder / OLDER_INDEX)
    try:
        if not (folder / single).is_file():
            named = {str(file) for file in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
            beside = sorted(file for file in named if Path(file).name != file)
            if beside:
                raise ValueError(f"it names {beside[0]}, which is no name of a file beside it")
            absent = sorted(file for file in named if fault(folder / file))
            if absent:
                raise MissingError(
                    f"{folder.absolute()}: {index.name} names files that are not there: {', '.join(absent[:5])}"
                )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MissingError(f"{index.absolute()}: no index of weights ({error}): save the model again") from None
    for path in sorted(folder.glob("model*.safetensors")):
        try:
            with safe_open(path, "numpy"):
                pass
        except (SafetensorError, OSError) as error:
            raise MissingError(
                f"{folder.absolute()}: its weights cannot be read: {path.name}: {error}; get them again"
            ) from None


def _fetched(name: str, candidates: Sequence[Path], part: Part) -> Path:
    looked = " or ".join(dict.fromkeys(str(folder.absolute()) for folder in candidates))
    missing = f"{name}: no such {part}: there is no folder {looked}"
    if name.startswith(("/", "~", ".")) or name.count("/") > 1:
        raise MissingError(f"{missing}; needed in it: {NEEDED[part]}")
    from huggingface_hub import snapshot_download

    patterns = [*FETCHED[part]]
    for local in (True, False):
        why = "" if local else refusal("model", name)
        if why:
            break
        try:
            with _quiet():
                folder = Path(
                    snapshot_download(name, allow_patterns=patterns, local_files_only=local, etag_timeout=TIMEOUT_S)
                )
            if part == "model" and _lacking(folder, part) == "model.safetensors":  # an older model, in torch's format
                with _quiet():
                    older = [*patterns, "pytorch_model*"]
                    snapshot_download(name, allow_patterns=older, local_files_only=local, etag_timeout=TIMEOUT_S)
            if not _lacking(folder, part):
                return folder
            why = f"what could be fetched has no {_lacking(folder, part)}"
        except Exception as error:  # the hub's client has many for a server that is not there or does not know the name
            why = reason_of(error)
    raise MissingError(
        f"{missing}, and it could not be fetched from a hub ({why}); put a folder there that has {NEEDED[part]}"
    )


_silent: list[str] = []  # why no hub answers, once that is known: nobody waits for it twice


def refusal(kind: Literal["model", "dataset"], name: str) -> str:
    """Why a hub has nothing of that name, after one question; "" if it has.

    Downloads wait for an answer without end, and the datasets library asks six times.
    """
    from huggingface_hub import HfApi

    if _silent:
        return _silent[0]
    try:
        ask = HfApi().model_info if kind == "model" else HfApi().dataset_info
        ask(name, timeout=TIMEOUT_S)
    except Exception as error:  # likewise
        reason = reason_of(error)
        if getattr(error, "response", None) is None and not isinstance(error, ValueError):  # else of this name alone
            _silent.append(reason)
        return reason
    return ""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the client's own warnings and progress bars: what is wrong is told once, by us."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    client = logging.getLogger("huggingface_hub")
    level, shown = client.level, not are_progress_bars_disabled()
    client.setLevel(logging.ERROR)
    disable_progress_bars()
    try:
        yield
    finally:
        client.setLevel(level)
        if shown:
            enable_progress_bars()


def _hash_of(folder: Path, part: Part) -> str:
    """sha256 over the files that decide what the model or tokenizer computes, by name."""
    return _hash(tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in _files(folder, part)))


def _files(folder: Path, part: Part) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and _counts(path.name, part))


def _counts(name: str, part: Part) -> bool:
    if part == "tokenizer":
        return any(fnmatchcase(name, pattern) for pattern in TOKENIZER_FILES)
    return name == "config.json" or name.startswith(("model", "pytorch_model"))


@functools.lru_cache(maxsize=64)
def _hash(stamps: tuple[tuple[Path, int, int], ...]) -> str:
    total = hashlib.sha256()
    for path, size, _ in stamps:
        logger.debug("hashing %s (%d bytes)", path, size)
        total.update(os.fsencode(f"{path.name} {file_hash(path)}\n"))
    return total.hexdigest()


def reason_of(error: Exception) -> str:
    """The line of a client's message that says most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if not STATUS.match(line)]
    return next(iter(said or lines), type(error).__name__)
