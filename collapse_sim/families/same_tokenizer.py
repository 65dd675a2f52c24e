"""Whether two tokenizers give the same tokens for the same text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from collapse_sim.data.text.tokens import Tokenizer

PARTS = ("normalizer", "pre_tokenizer", "model")  # of a definition: what decides about tokens


def tokenizer_differences(theirs: Tokenizer, ours: Tokenizer) -> Iterator[str]:
    """What differs between a model's tokenizer and the data's, in words; nothing if texts have the same tokens."""
    one, other = (tokenizer.vocabulary() for tokenizer in (theirs, ours))
    if one != other:
        shared = one.keys() & other.keys()
        moved = sum(one[token] != other[token] for token in shared)
        yield (
            f"tokenizer: the model's has {len(one)} tokens, the data's {len(other)}; {len(shared)} are in both, "
            f"{moved} of them with other ids: set the data's `tokenizer` to the model's"
        )
    else:
        parts = [json.loads(tokenizer.definition) for tokenizer in (theirs, ours)]
        unlike = [name for name in PARTS if _comparable(parts[0].get(name)) != _comparable(parts[1].get(name))]
        if unlike:
            yield (
                f"tokenizer: the model's and the data's have the same {len(one)} tokens, but divide texts in other "
                f"ways ({', '.join(unlike)}): set the data's `tokenizer` to the model's"
            )
    for role in ("begin", "end"):
        mine, yours = (getattr(tokenizer, role) for tokenizer in (theirs, ours))
        if mine != yours:
            yield (
                f"tokenizer: texts {role} with the token {mine} ({theirs.token(mine)!r}) in the model's, with {yours} "
                f"({ours.token(yours)!r}) in the data's"
            )


def _comparable(part: Any) -> Any:
    """A part of a definition without settings that have their default: libraries write them, or leave them out."""
    if not isinstance(part, dict):
        return part
    left_out = ("vocab",)  # compared as a whole, with the added tokens
    return {name: value for name, value in part.items() if name not in left_out and value not in (None, False, "")}
