"""Texts of one's own: what their key depends on, and files and settings that make no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from collapse_sim.core.errors import RecipeError
from collapse_sim.data.text.text_files import TextFiles
from collapse_sim.data.text.tokens import Tokenizer
from tests.data.making import message_of

from .making_texts import TRAIN, WORDS, files, unpacked, write_txt


def test_the_place_is_not_in_the_key_and_the_content_is(folder: Path) -> None:
    before = unpacked().inspect(folder).fingerprint, unpacked().describe()
    (folder / "train.txt").rename(folder / "other.text")
    (folder / "words").rename(folder / "same")
    moved = unpacked(train=str(folder / "other.text"), format="txt", tokenizer="same")
    assert (moved.inspect(folder).fingerprint, moved.describe()) == before
    assert not any(str(folder) in str(value) or "other" in str(value) for value in moved.describe().values())
    write_txt(folder / "other.text", [*TRAIN[:3], "e e e e f"])
    changed = moved.inspect(folder).fingerprint
    Tokenizer.of_words([*WORDS, "g"]).save(folder / "same")
    assert len({before[0], changed, moved.inspect(folder).fingerprint}) == 3
    assert unpacked(length=5).describe() != unpacked(length=6).describe()


def test_what_is_held_out_is_not_trained_on(folder: Path) -> None:
    """The same file, under whatever name; and the same texts in another file, if they are most of them."""
    texts = {f"{number}.txt": [f"{word} {word}" for word in "abcdef"[number:]] for number in range(3)}
    for name, found in texts.items():
        write_txt(folder / "in" / name, found)
    (folder / "in" / "link.txt").symlink_to("0.txt")
    (folder / "in" / "hard.txt").hardlink_to(folder / "in" / "1.txt")
    for train, validation, said in (
        ("in/[01].txt", "in/1.txt", f"{folder}/in/1.txt is also among the files of `train`: what"),
        ("in/*.txt", "in/1.txt", "in/hard.txt is in/1.txt, by a link"),
        ("in/0.txt", "in/link.txt", f"{folder}/in/link.txt is also among the files of `train`, as {folder}/in/0.txt"),
        ("in/1.txt", "in/hard.txt", f"{folder}/in/hard.txt is also among the files of `train`, as {folder}/in/1.txt"),
        (["in/0.txt", "in/0.txt"], "in/2.txt", f"data.train: {folder}/in/0.txt is named twice, so its texts would"),
        (["in/0.txt", "in/link.txt"], "in/2.txt", f"{folder}/in/link.txt is {folder}/in/0.txt, by a link, so its"),
        ("in/0.txt", ["in/2.txt", "in/./2.txt"], "data.validation: "),
    ):
        text = message_of(files(train, validation=validation), folder, RecipeError)
        assert said.replace("in/hard.txt is in/1.txt", f"{folder}/in/hard.txt is {folder}/in/1.txt") in text


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"validation": "v.txt", "held_out": 0.1}, "`held_out` takes texts from `train`"),
        ({"held_out": 1.5}, "1.5 is not a share between 0 and 1"),
        ({"length": 1}, "greater than or equal to 2"),
        ({"train": ()}, "at least 1"),
        ({"tokenizer": ""}, "at least 1"),
    ],
)
def test_settings(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        TextFiles(**{"train": "t.txt", "tokenizer": "words", **settings})
