"""A transformers folder as generation 0: whether it is the same network as a family's own, for the same tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from collapse_sim.core import hub
from collapse_sim.data.base import Info
from collapse_sim.data.text.tokenizers_made import tokenizer_in
from collapse_sim.data.text.tokens import Tokenizer
from collapse_sim.families.same_tokenizer import tokenizer_differences

# Settings that change no prediction: names, where texts begin and end (which the data's tokenizer says), how weights
# are initialised, what a call returns.
WITHOUT_EFFECT = frozenset(
    (
        "_name_or_path", "architectures", "transformers_version", "dtype", "torch_dtype", "use_cache", "bos_token_id",
        "eos_token_id", "pad_token_id", "sep_token_id", "id2label", "label2id", "num_labels", "problem_type", "prefix",
        "task_specific_params", "return_dict", "output_hidden_states", "output_attentions", "finetuning_task",
        "tokenizer_class", "initializer_range", "initializer_factor", "pretraining_tp", "n_ctx", "is_decoder",
    )
)  # fmt: skip
OF_HEADS = "summary_"  # settings of GPT-2's classification head


def _other_architecture(theirs: Any, ours: Any, left_out: tuple[str, ...]) -> Iterator[str]:
    """The settings of two configurations of transformers that differ, except `left_out` and those without effect."""
    one, other = theirs.to_dict(), ours.to_dict()
    if theirs.model_type != ours.model_type:
        yield f"model_type: {theirs.model_type} there, {ours.model_type} here"
        return
    for name in dict.fromkeys((*other, *one)):
        if name in WITHOUT_EFFECT or name in left_out or name.startswith(OF_HEADS):
            continue
        if one.get(name) != other.get(name):
            yield f"{name}: {one.get(name)} there, {other.get(name)} here"


def check_same(files: hub.PretrainedFiles, theirs: Any, ours: Any, left_out: tuple[str, ...], info: Info) -> None:
    """Raises ValueError with every difference between a folder's configuration and tokenizer and those of a family and
    its data, except settings in `left_out`; MissingError when its tokenizer cannot be read."""
    problems = list(_other_architecture(theirs, ours, left_out))
    advice = [f"to take its architecture, set the model's `pretrained: {files.folder}`"] if problems else []
    problems += _other_tokenizer(files, info)
    if problems:
        raise ValueError("\n".join([*(f"{files.folder}: {problem}" for problem in problems), *advice]))


def _other_tokenizer(files: hub.PretrainedFiles, info: Info) -> Iterator[str]:
    """How the tokenizer in a model's folder, if there is one, differs from the data's."""
    if hub.has_part(files.folder, "tokenizer"):
        ours = info.text()
        read = tokenizer_in(hub.find(str(files.folder), files.folder, "tokenizer"))
        end = ours.end if read.end is None else read.end  # the data says where texts end, if the tokenizer does not
        theirs = Tokenizer(read.definition, end if read.begin is None else read.begin, end, ours.pad)
        yield from tokenizer_differences(theirs, ours)
