"""Published text data sets: CNN/DailyMail and XSum for summaries, TinyStories and WikiText for language models.

Files below the data folder are used first, then the cache of the datasets library, then a hub.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from collapse_sim.core.errors import MissingError
from collapse_sim.core.readable import file_problem
from collapse_sim.data.data_files import names_in
from collapse_sim.data.saved_datasets import STATE
from collapse_sim.data.text import text_fields
from collapse_sim.data.text.text_files import Name
from collapse_sim.data.text.text_hub import fetched
from collapse_sim.data.text.text_places import folder_files
from collapse_sim.data.text.text_source import SUFFIXES, TextFile, TextSource
from collapse_sim.data.text.texts import PairedTexts, PlainTexts, TextSettings, TextSources
from collapse_sim.data.text.tokens import END_OF_TEXT

Layout = tuple[str, str]  # patterns of the training and of the validation files; a name without an ending is a folder
LAYOUTS: tuple[Layout, ...] = (
    ("train.parquet", "validation.parquet"),
    ("train.jsonl", "validation.jsonl"),
    ("train.csv", "validation.csv"),
    ("train", "validation"),
    ("train-*.parquet", "validation-*.parquet"),
    ("data/train-*.parquet", "data/validation-*.parquet"),
)
STORIES: tuple[Layout, ...] = (
    ("train.txt", "validation.txt"),
    ("TinyStories-train.txt", "TinyStories-valid.txt"),
    ("TinyStoriesV2-GPT4-train.txt", "TinyStoriesV2-GPT4-valid.txt"),
)
WIKI: tuple[Layout, ...] = (("wiki.train.raw", "wiki.valid.raw"), ("wiki.train.tokens", "wiki.valid.tokens"))
SHARD = re.compile(r"-(\d{5})-of-(\d{5})$")


@dataclass(frozen=True)
class Published:
    """A data set on a hub."""

    hub: str
    subset: str | None
    fields: tuple[str, ...]
    layouts: tuple[Layout, ...] = LAYOUTS
    separator: str | None = None
    articles: bool = False


def find_parts(settings: TextSettings, published: Published, folders: Sequence[Path]) -> TextSources:
    """The official training and validation parts, from the first of the folders that has them, or from a hub.

    Raises MissingError, which names the searched folders, the accepted files, and why nothing could be fetched.
    """
    folders = tuple(dict.fromkeys(folders))  # a subset may have the same name as its archive's folder
    for folder in folders:
        for layout in published.layouts:
            train, validation = (_matches(settings, folder, pattern) for pattern in layout)
            if train and validation:
                return _parts(settings, published, train, validation)
            if train or validation:
                missing = layout[1] if train else layout[0]
                raise MissingError(f"{settings.name}: {folder} lacks {missing}\n{_advice(published, folders)}")
    try:
        fetched_parts = fetched(published.hub, published.subset)
        train, validation = (
            [TextFile(path, "arrow") for path in fetched_parts[part]] for part in ("train", "validation")
        )
    except (MissingError, KeyError) as error:
        reason = error if isinstance(error, MissingError) else f"it has no part {error}"
        raise MissingError(
            f"{settings.name}: no data in {' or '.join(map(str, folders))}, and {published.hub} could not be fetched "
            f"from a hub ({reason})\n{_advice(published, folders)}"
        ) from None
    return _parts(settings, published, train, validation)


def _parts(settings: TextSettings, published: Published, *files: Sequence[TextFile]) -> TextSources:
    fields = tuple(text_fields.Field(name) for name in published.fields)
    train, validation = (
        TextSource(settings.name, tuple(part), fields, published.separator, published.articles) for part in files
    )
    return TextSources(train, validation)


def _matches(settings: TextSettings, folder: Path, pattern: str) -> list[TextFile]:
    """The files of one part that match a pattern."""
    if not Path(pattern).suffix:
        return folder_files(settings.name, folder / pattern) if (folder / pattern / STATE).is_file() else []
    below, _, name = pattern.rpartition("/")
    subfolder = folder / below
    paths = [path for path in map(subfolder.joinpath, names_in(subfolder)) if path.match(name) and not path.is_dir()]
    for path in paths:
        if wrong := file_problem(path):
            raise MissingError(f"{settings.name}: {path}: {wrong}: get it again")
    _check_shards(settings, paths)
    return [TextFile(path, SUFFIXES[path.suffix]) for path in paths]


def _check_shards(settings: TextSettings, paths: Sequence[Path]) -> None:
    """Raises MissingError when shards are missing, if the file names state the number of shards as on a hub."""
    numbers = [(int(match[1]), int(match[2])) for path in paths if (match := SHARD.search(path.stem))]
    if not numbers or len(numbers) < len(paths):
        return
    absent = sorted(set(range(max(total for _, total in numbers))) - {number for number, _ in numbers})
    if absent:
        raise MissingError(
            f"{settings.name}: {paths[0].parent} lacks {len(absent)} of the {len(absent) + len(numbers)} shards that "
            f"{paths[0].name} belongs to, first number {absent[0]:05}: get the missing shards"
        )


def _advice(published: Published, folders: Sequence[Path]) -> str:
    layouts = "; ".join(" and ".join(layout) for layout in published.layouts)
    subset = f", {published.subset!r}" if published.subset else ""
    return (
        f"  looked for: {layouts} (without an ending: folders of Dataset.save_to_disk),\n"
        f"  with the fields {', '.join(published.fields)} where files have fields\n"
        "  put them there, name their folder with `data.path`, --data-dir or COLLAPSE_SIM_DATA, or, with access to a\n"
        "  hub, create the folder once with:\n"
        f'  python -c "from datasets import load_dataset; '
        f'load_dataset({published.hub!r}{subset}).save_to_disk({str(folders[0])!r})"'
    )


def _absolute(folder: Path, path: str) -> Path:
    return (folder / Path(path).expanduser()).absolute()


class CNNDailyMail(PairedTexts):
    """287,113 news articles and their highlights, 13,368 held out (Hermann et al. 2015; See et al. 2017, not masked).

    The official training and validation parts of version 3.0.0. Lengths as in the self-distillation paper.
    """

    path: Name = "cnn_dailymail"
    """The folder of the files; relative to the data folder, or absolute."""
    source_length: Annotated[int, Field(ge=2)] = 1024
    """Tokens per source, including the end token; longer sources are truncated, and still end with it."""
    target_length: Annotated[int, Field(ge=2)] = 128
    """Tokens per target, including the end token; longer targets are truncated, and still end with it."""

    name: ClassVar[str] = "cnn_dailymail"
    hub: ClassVar[str] = "abisee/cnn_dailymail"
    not_in_key: ClassVar[tuple[str, ...]] = ("path",)

    def parts(self, folder: Path) -> TextSources:
        published = Published(self.hub, "3.0.0", ("article", "highlights"))
        path = _absolute(folder, self.path)
        return find_parts(self, published, (path, path / "3.0.0"))


class XSum(PairedTexts):
    """204,045 BBC articles with one-sentence summaries, 11,332 held out (Narayan et al. 2018)."""

    path: Name = "xsum"
    """The folder of the files; relative to the data folder, or absolute."""

    name: ClassVar[str] = "xsum"
    hub: ClassVar[str] = "EdinburghNLP/xsum"
    not_in_key: ClassVar[tuple[str, ...]] = ("path",)

    def parts(self, folder: Path) -> TextSources:
        published = Published(self.hub, None, ("document", "summary"))
        return find_parts(self, published, (_absolute(folder, self.path),))


class TinyStories(PlainTexts):
    """2.1 million short stories in the words of small children, generated by GPT-3.5 and GPT-4 (Eldan and Li 2023)."""

    path: Name = "tinystories"
    """The folder of the files; relative to the data folder, or absolute."""

    name: ClassVar[str] = "tinystories"
    hub: ClassVar[str] = "roneneldan/TinyStories"
    not_in_key: ClassVar[tuple[str, ...]] = ("path",)

    def parts(self, folder: Path) -> TextSources:
        published = Published(self.hub, None, ("text",), layouts=(*LAYOUTS, *STORIES), separator=END_OF_TEXT)
        return find_parts(self, published, (_absolute(folder, self.path),))


class WikiText(PlainTexts):
    """Good and featured articles of Wikipedia: WikiText-2 has 2 million words, 103 has 100 (Merity et al. 2017).

    A text is a whole article with line breaks; the published files and the hub have one record per line.
    """

    path: Name = "wikitext"
    """The folder of the files; relative to the data folder, or absolute."""
    subset: Name = "wikitext-2-raw-v1"
    """wikitext-2-raw-v1 or wikitext-103-raw-v1; versions without `raw` have <unk> for rare words."""

    name: ClassVar[str] = "wikitext"
    hub: ClassVar[str] = "Salesforce/wikitext"
    not_in_key: ClassVar[tuple[str, ...]] = ("path", "subset")

    def parts(self, folder: Path) -> TextSources:
        published = Published(self.hub, self.subset, ("text",), layouts=(*LAYOUTS, *WIKI), articles=True)
        unpacked = self.subset.removesuffix("-v1")  # the folder in the published archive
        path = _absolute(folder, self.path)
        return find_parts(self, published, (path / self.subset, path / unpacked, folder.absolute() / unpacked, path))
