"""Models and tokenizers by name or folder: where they are searched, how they are fetched, what identifies them."""

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
from collapse_sim.core.readable import check_pointer, file_problem, path_exists

Part = Literal["model", "tokenizer"]
SAFE, SAFE_INDEX = "model.safetensors", "model.safetensors.index.json"
OLDER, OLDER_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"  # torch's format, read weights-only
WEIGHTS = (SAFE, SAFE_INDEX, OLDER, OLDER_INDEX)  # in the order of preference
VOCABULARIES = (
    "tokenizer.json", "spiece.model", "tokenizer.model", "vocab.json", "vocab.txt", "sentencepiece.bpe.model",
    "spm.model", "source.spm", "tekken.json",
)  # fmt: skip
# Files of a folder that transformers' tokenizers read, among them config.json for their class. Files that are not
# listed here would be neither fetched, nor noticed when they change.
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
TIMEOUT_S = 10  # for a server's response
STATUS = re.compile(r"\d{3} (Client|Server) Error\.")  # a line of the client's messages, before their meaning

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PretrainedFiles:
    """A folder that holds a model's or a tokenizer's files. The hash goes into keys, the folder does not."""

    name: str  # as in the recipe
    folder: Path
    sha256: str


def find(name: str, data_dir: Path, part: Part, revision: str | None = None) -> PretrainedFiles:
    """A folder by its path, or by its name below the data folder; else from a Hugging Face hub's cache, or the hub.

    `revision`: a branch, tag or commit on the hub; None: the main branch.

    Raises MissingError: which folders were searched, why nothing could be fetched, and which files are needed; or which
    file of weights is incomplete.
    """
    candidates = [Path(name).expanduser(), data_dir / name]
    try:
        existing = [path for path in candidates if path_exists(path)]
        folder = next((path for path in existing if path.is_dir()), None)
        if folder is None and existing:
            kind = file_problem(existing[0]) or "a file"
            raise MissingError(f"{existing[0].absolute()}: {kind}; needed: a folder that has {NEEDED[part]}")
        if folder is None:
            folder = _fetch(name, candidates, part, revision)
        elif revision is not None:
            raise MissingError(f"{folder.absolute()}: a folder has no revisions; remove `revision: {revision}`")
        else:
            _check_folder(folder, part)
        for path in _files(folder, part):
            check_pointer(path)
        if part == "model":
            _check_weights(folder)
        return PretrainedFiles(name, folder, _hash_of(folder, part))
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else "") or str(error)
        raise MissingError(f"{name}: the {part} cannot be read: {reason}") from None


def _check_folder(folder: Path, part: Part) -> None:
    """Raises MissingError when a needed file is absent, or is not a regular file."""
    for path in sorted(folder.iterdir()):
        problem = "" if path.is_dir() else file_problem(path)
        if problem and (_is_part(path.name, part) or problem.endswith("not a file")):  # transformers would open a pipe
            raise MissingError(f"{path.absolute()}: {problem}; needed for a {part}: {NEEDED[part]}")
    missing = _missing_file(folder, part)
    if not missing:
        return
    adapter = (folder / "adapter_config.json").is_file()
    hint = ": it holds an adapter, which has to be merged into its model first" if adapter and part == "model" else ""
    raise MissingError(f"{folder.absolute()}: no {missing} in it; needed for a {part}: {NEEDED[part]}{hint}")


def _missing_file(folder: Path, part: Part) -> str:
    """The file of a model or a tokenizer that a folder lacks; "" when it lacks none."""
    if part == "tokenizer":
        return "" if any((folder / file).is_file() for file in VOCABULARIES) else "tokenizer.json"
    if not (folder / "config.json").is_file():
        return "config.json"
    return "" if any((folder / file).is_file() for file in WEIGHTS) else "model.safetensors"


def has_part(folder: Path, part: Part) -> bool:
    """Whether a folder has the files that a model or a tokenizer needs, by their names."""
    return not _missing_file(folder, part)


def is_safe(folder: Path) -> bool:
    """Whether a model's weights are in the safetensors format, rather than in torch's."""
    return (folder / SAFE).is_file() or (folder / SAFE_INDEX).is_file()


def _check_weights(folder: Path) -> None:
    """Raises MissingError when a file of weights is missing or incomplete; only the headers are read."""
    from safetensors import SafetensorError, safe_open

    single, index = (SAFE, folder / SAFE_INDEX) if is_safe(folder) else (OLDER, folder / OLDER_INDEX)
    try:
        if not (folder / single).is_file():
            files = {str(file) for file in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
            outside = sorted(file for file in files if Path(file).name != file)
            if outside:
                raise ValueError(f"it names {outside[0]}, which is not a file in the same folder")
            absent = sorted(file for file in files if file_problem(folder / file))
            if absent:
                raise MissingError(
                    f"{folder.absolute()}: {index.name} names files that are not there: {', '.join(absent[:5])}"
                )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MissingError(
            f"{index.absolute()}: not a valid index of weights ({error}); save the model again"
        ) from None
    for path in sorted(folder.glob("model*.safetensors")):
        try:
            with safe_open(path, "numpy"):
                pass
        except (SafetensorError, OSError) as error:
            raise MissingError(
                f"{folder.absolute()}: its weights cannot be read: {path.name}: {error}; get them again"
            ) from None


def _fetch(name: str, candidates: Sequence[Path], part: Part, revision: str | None) -> Path:
    searched = " or ".join(dict.fromkeys(str(folder.absolute()) for folder in candidates))
    missing = f"{name}{f' of revision {revision}' * bool(revision)}: no such {part}: there is no folder {searched}"
    if name.startswith(("/", "~", ".")) or name.count("/") > 1:
        raise MissingError(f"{missing}; needed in it: {NEEDED[part]}")
    from huggingface_hub import snapshot_download

    download = functools.partial(snapshot_download, name, revision=revision, etag_timeout=TIMEOUT_S)
    patterns = [*FETCHED[part]]
    for local in (True, False):
        reason = "" if local else refusal("model", name, revision)
        if reason:
            break
        try:
            with _quiet():
                folder = Path(download(allow_patterns=patterns, local_files_only=local))
            if part == "model" and _missing_file(folder, part) == "model.safetensors":
                with _quiet():  # an older model, in torch's format
                    older = [*patterns, "pytorch_model*"]
                    download(allow_patterns=older, local_files_only=local)
            if not _missing_file(folder, part):
                return folder
            reason = f"what could be fetched has no {_missing_file(folder, part)}"
        except Exception as error:  # the hub's client has many kinds for an unreachable server or an unknown name
            reason = reason_of(error)
    raise MissingError(
        f"{missing}, and it could not be fetched from a hub ({reason}); put a folder there that has {NEEDED[part]}"
    )


_unreachable: list[str] = []  # why no hub can be reached, once known, so that nothing waits for it twice


def refusal(kind: Literal["model", "dataset"], name: str, revision: str | None = None) -> str:
    """Why a hub has nothing of that name and revision, after one request; "" if it has.

    Downloads wait for a response without a timeout, and the datasets library tries six times.
    """
    from huggingface_hub import HfApi

    if _unreachable:
        return _unreachable[0]
    try:
        request = HfApi().model_info if kind == "model" else HfApi().dataset_info
        request(name, revision=revision, timeout=TIMEOUT_S)
    except Exception as error:  # many kinds, as in `_fetch`
        reason = reason_of(error)
        if getattr(error, "response", None) is None and not isinstance(error, ValueError):  # else of this name
            _unreachable.append(reason)
        return reason
    return ""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the client's own warnings and progress bars: this package reports a problem once."""
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
    """sha256 over the files that determine what the model or tokenizer computes, by name."""
    return _hash(tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in _files(folder, part)))


def _files(folder: Path, part: Part) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and _is_part(path.name, part))


def _is_part(name: str, part: Part) -> bool:
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
    """The most informative line of a client's message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    informative = [line for line in lines if not STATUS.match(line)]
    return next(iter(informative or lines), type(error).__name__)
