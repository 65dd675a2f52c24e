"""How a generation's texts look: samples for the dashboard, Markdown pages and histograms, from the store."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file

from collapse_sim.analysis.text_tables import Answers, Prompt, in_line, same_prompt_page, samples_page
from collapse_sim.core.events import Event, Note, TextSamples
from collapse_sim.core.files import write_atomic
from collapse_sim.core.printable import json_text
from collapse_sim.core.randomness import Draws
from collapse_sim.data.text.tokens import PAD_TOKEN_ID, Tokenizer, texts_of
from collapse_sim.engine import artefacts
from collapse_sim.engine.sample import model_in_use
from collapse_sim.engine.work import JobContext
from collapse_sim.families.hooks import Continues
from collapse_sim.metrics.base import DrawnRows
from collapse_sim.plan.experiment import Experiment
from collapse_sim.plan.generations import ArmPlan
from collapse_sim.plan.specs import SampleSpec
from collapse_sim.run.attempts import attempts_of
from collapse_sim.run.sample_files import texts_by_row
from collapse_sim.run.shown_rows import ShownRows
from collapse_sim.store.rowfile import VALUES_FILE
from collapse_sim.store.store import Store

SCHEMA = 1  # of same-prompt.json
SHOWN = 3  # texts per arm
LONGEST = 240  # characters of a text on the dashboard
EMPTY = "(empty)"  # shown for a target without words
SOURCE = 60  # characters of a source shown beside its target
PROMPTS = 4  # prompts that all generations' answers are kept for
PROMPT_TOKENS = 8  # tokens of a held-out text that a language model continues
SEARCHED = 1000  # held-out rows searched for prompts
DRAWN_EVERY_S = 60.0  # histograms take a second: generations quicker than this share one


def show_texts(experiment: Experiment, context: JobContext, k: int) -> list[Path]:
    """Emit the first samples of every arm's generation k, for the first seed: an observer of the loop, without files.

    Nothing for data without texts. What cannot be read is reported as a Note and left out. Raises InterruptedRunError
    only.
    """
    for event in text_samples(experiment, k, context.store):
        context.emit(event)
    return []


def text_samples(experiment: Experiment, k: int, store: Store) -> Iterator[TextSamples | Note]:
    """The first samples of every arm's generation k, for the first seed; nothing for data without texts."""
    as_line = IN_A_LINE.get(experiment.info.kind)
    if as_line is None:
        return
    events: list[Event] = []
    for plan in experiment.arm_plans:

        def samples(plan: ArmPlan = plan) -> list[TextSamples]:
            spec = plan.generations[k].samples
            if not store.has(spec, experiment.recipe.seeds[0]):
                return []
            return [TextSamples(k, plan.name, tuple(map(as_line, _samples(experiment, spec, store))))]

        events += attempts_of(store).make(events.append, "texts of samples", samples)
    yield from (event for event in events if isinstance(event, (TextSamples, Note)))


def _shortened(text: str, longest: int = LONGEST) -> str:
    return text if len(text) <= longest else text[:longest] + "..."


IN_A_LINE: dict[str, Callable[[Mapping[str, str]], str]] = {
    "text": lambda row: _shortened(row["text"]),
    "pairs": lambda row: f"{_shortened(row['target']).strip() or EMPTY} (of: {_shortened(row['source'], SOURCE)})",
}


def draw_texts(experiment: Experiment, k: int, context: JobContext, folder: Path) -> list[Path]:
    """Pages and histograms for the first seed: generation k's samples, and what changed since generation 0.

    What cannot be made is reported as a Note and left out. Raises InterruptedRunError only.
    """
    make = partial(attempts_of(context.store).make, context.emit)
    paths = [
        *make("the page of texts", lambda: _samples_page(experiment, k, context.store, folder)),
        *make("answers to the same prompts", lambda: _same_prompt(experiment, k, context, folder)),
    ]
    for name, metric in experiment.recipe.metrics.items():
        if isinstance(metric, DrawnRows):
            draw = partial(_histogram, experiment, name, metric, k, context.store, folder)
            paths += make(f"the histogram of {name}", draw)
    return paths


def _samples_page(experiment: Experiment, k: int, store: Store, folder: Path) -> list[Path]:
    path = folder / "texts.md"
    show = IN_A_PAGE[experiment.info.kind]
    pages = {"real": map(show, texts_by_row(_real_rows(experiment, store, SHOWN), experiment.info))}
    shown = ShownRows(experiment, store, folder, "texts", lambda columns: {n: c[:SHOWN] for n, c in columns.items()})
    for plan in experiment.arm_plans:
        if rows := shown.of(plan.generations[k].samples):
            pages[plan.name] = map(show, texts_by_row(rows, experiment.info))
    seed = experiment.recipe.seeds[0]
    note = f"Seed {seed}: {SHOWN} real rows, and the first {SHOWN} samples of every arm."
    write_atomic(path, samples_page(f"{experiment.recipe.name}, generation {k}", note, pages), durable=False)
    return [path]


IN_A_PAGE: dict[str, Callable[[Mapping[str, str]], str]] = {
    "text": lambda row: in_line(row["text"]),
    "pairs": lambda row: f"{in_line(row['target'])} (of: {in_line(row['source'], LONGEST)})",
}


# The same prompts over generations


class PromptSet(NamedTuple):
    """Prompts, and a function that returns what the model of a generation writes for each."""

    prompts: list[Prompt]
    answer: Callable[[SampleSpec], list[str]]
    per_row: bool = False  # the prompts are those of the first samples' real rows


def _same_prompt(experiment: Experiment, k: int, context: JobContext, folder: Path) -> list[Path]:
    """Answers of all arms to the same prompts, generations 0..k, as same-prompt.json and same-prompt.md.

    Answers of the same models are reused from the JSON file and all others are generated, so that each model answers
    once, whenever and in however many sessions it is run.
    """
    prompt_set = PROMPT_SETS[experiment.info.kind](experiment, context)
    if prompt_set is None:
        return []
    path = folder / "same-prompt.json"
    seed, prompts = experiment.recipe.seeds[0], prompt_set.prompts
    head: dict[str, Any] = {
        "schema": SCHEMA,
        "run": experiment.recipe.name,
        "kind": experiment.info.kind,
        "seed": seed,
        "prompts": [prompt._asdict() for prompt in prompts],
    }
    known = _answered(path, head)
    answers = []
    for plan in experiment.arm_plans:
        for j, generation in enumerate(plan.generations):
            spec = generation.samples
            if spec.imported is not None:
                continue  # no model answers, and rows from files are for other prompts
            if prompt_set.per_row and plan.data.info.rows != experiment.info.rows:
                continue  # an arm with its own number of real rows has samples for other ones
            made = all(context.store.has(of, seed) for of in (spec, *spec.models))
            if j <= k and spec.digest not in known and made:
                context.stop.check()
                known[spec.digest] = tuple(prompt_set.answer(spec))
            if spec.digest in known:
                answers.append(Answers(plan.name, j, spec.digest, known[spec.digest]))
    document = head | {"answers": [{**answer._asdict(), "texts": list(answer.texts)} for answer in answers]}
    write_atomic(path, json_text(document, indent=1) + "\n", durable=False)
    page = path.with_suffix(".md")
    note = f"{NOTES[experiment.info.kind]} Seed {seed}. Whole texts are in {path.name}."
    title = f"{experiment.recipe.name}: the same prompts over generations"
    write_atomic(page, same_prompt_page(title, note, prompts, answers), durable=False)
    return [page, path]


def _answered(path: Path, head: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """A file's answers to the same prompts, by model; {} when there are none, or the file is damaged."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        document = json.loads(path.read_text(encoding="utf-8"))
        answers = {entry["model"]: tuple(map(str, entry["texts"])) for entry in document["answers"]}
        same = all(document[name] == value for name, value in head.items())
        return answers if same and all(len(texts) == len(head["prompts"]) for texts in answers.values()) else {}
    return {}


def _continued(experiment: Experiment, context: JobContext) -> PromptSet | None:
    """The first tokens of held-out texts, for models to continue; None without such texts, or if the family cannot."""
    info, seed = experiment.info, experiment.recipe.seeds[0]
    length = min(PROMPT_TOKENS, info.shape("tokens")[0] // 2)
    if not isinstance(experiment.recipe.model, Continues) or not info.held_out or length < 1:
        return None
    rows = _prompt_rows(experiment, context.store, length)
    if not len(rows):
        return None
    tokenizer = info.text()
    starts, rests = texts_of(rows[:, :length], tokenizer), _rests(rows[:, length:], tokenizer)

    def answer(spec: SampleSpec) -> list[str]:
        with model_in_use(context, spec, (seed,)) as (family, model, machine, shaped):
            assert isinstance(family, Continues)
            draws = shaped(Draws((seed,), "continuations", 0, device=machine.device))
            ids = family.continuations(model, machine.put(torch.from_numpy(rows[:, :length])), draws)
        return _rests(ids.cpu().numpy()[:, length:], tokenizer)

    return PromptSet([Prompt(*pair) for pair in zip(starts, rests, strict=True)], answer)


def _rests(rows: np.ndarray, tokenizer: Tokenizer) -> list[str]:
    """Texts from the middle of rows up to their end; in packed rows, other texts follow."""
    over = ((rows == tokenizer.end) | (rows == PAD_TOKEN_ID)).cumsum(1) > 0
    return [tokenizer.decode(row[~ended]) for row, ended in zip(rows, over, strict=True)]


def _prompt_rows(experiment: Experiment, store: Store, length: int) -> np.ndarray:
    """(at most PROMPTS, L): the first held-out rows whose first `length` tokens differ and whose texts go on."""
    tokenizer = experiment.info.text()
    file, columns = artefacts.columns(store, experiment.data, experiment.recipe.seeds[0], "held_out")
    rows = np.array(columns["tokens"][:SEARCHED])
    file.release()
    behind = rows[:, 1 : length + 1]
    rows = rows[((behind != PAD_TOKEN_ID) & (behind != tokenizer.end)).all(1)]
    _, first = np.unique(rows[:, :length], axis=0, return_index=True)
    chosen: np.ndarray = rows[np.sort(first)[:PROMPTS]]
    return chosen


def _summed_up(experiment: Experiment, context: JobContext) -> PromptSet:
    """The sources of the first samples, which are the same for all arms and generations, and their targets."""
    real = texts_by_row(
        _real_rows(experiment, context.store, min(PROMPTS, *(plan.counts.samples for plan in experiment.arm_plans))),
        experiment.info,
    )

    def answer(spec: SampleSpec) -> list[str]:
        return [row["target"] for row in _samples(experiment, spec, context.store, len(real))]

    return PromptSet([Prompt(row["source"], row["target"]) for row in real], answer, per_row=True)


PROMPT_SETS: dict[str, Callable[[Experiment, JobContext], PromptSet | None]] = {"text": _continued, "pairs": _summed_up}
NOTES = {
    "text": "Each generation continues the beginnings of the same held-out texts.",
    "pairs": "Each generation's targets for the same sources, of real rows.",
}


# Values of texts


def _histogram(experiment: Experiment, name: str, metric: DrawnRows, k: int, store: Store, folder: Path) -> list[Path]:
    """Histograms of a metric that keeps values of rows, for all generations so far; always drawn for the last one."""
    from collapse_sim.analysis.histograms import value_histograms

    path, seed = folder / f"perplexities-{file_name(name)}.png", experiment.recipe.seeds[0]
    unfinished = k < experiment.recipe.generations
    if unfinished and path.exists() and time.time() - path.stat().st_mtime < DRAWN_EVERY_S:
        return [path]
    label = name
    values: dict[str, dict[int, np.ndarray]] = {}
    for plan in experiment.arm_plans:
        values[plan.name] = {}
        for j, generation in enumerate(plan.generations[: k + 1]):
            score = generation.scores[name]
            if store.has(score, seed):
                label, numbers = metric.histogram(load_file(store.block(score, seed).file(VALUES_FILE)))
                values[plan.name][j] = numbers.double().numpy()
    counts = [len(numbers) for by_generation in values.values() for numbers in by_generation.values()]
    if not counts:
        return []
    note = f"Seed {seed}, {max(counts):,} texts per generation. Every histogram has its own height"
    value_histograms(values, name, label, path, note)
    return [path]


# Rows of the first seed


def _samples(experiment: Experiment, spec: SampleSpec, store: Store, rows: int = SHOWN) -> list[dict[str, str]]:
    _, columns = artefacts.columns(store, spec, experiment.recipe.seeds[0], "samples")
    return texts_by_row({name: np.array(column[:rows]) for name, column in columns.items()}, experiment.info)


def _real_rows(experiment: Experiment, store: Store, rows: int) -> dict[str, np.ndarray]:
    """The real rows that the first samples are made for, if they are made for conditions."""
    seed, names = experiment.recipe.seeds[0], tuple(experiment.info.columns)
    rows = min(rows, experiment.info.rows)
    columns = artefacts.conditions(store, experiment.data, names, (seed,), 0, rows)
    return {name: column.numpy() for name, column in columns.items()}


def file_name(name: str, longest: int = 100) -> str:
    """A name for use in file names: at most `longest` bytes, always the same, and different for different names.

    Characters that are unsafe in file names become "-". A name that is changed or cut gets part of its hash appended.
    """
    plain = "".join(c if c.isalnum() or c in "+-_.=" else "-" for c in name)
    if plain == name and len(name.encode()) <= longest:
        return name
    mark = "-" + hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    return plain.encode(errors="replace")[: longest - len(mark)].decode(errors="ignore") + mark
