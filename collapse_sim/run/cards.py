"""The cards that the Hugging Face hub shows of an exported model and its rows: README.md and DATASET_CARD.md.

Front matter as the hub specifies it, `model-index` with the scores of this model's seed; then how it was made. Whatever
is from a recipe is one line in a code span, so that it can be neither markup nor front matter. The license is the
user's to choose, and left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from collapse_sim import __version__
from collapse_sim.analysis.numbers import figure, with_interval
from collapse_sim.analysis.results import Results, read_results
from collapse_sim.core.errors import RecipeError, StoreError
from collapse_sim.core.printable import escaped, line
from collapse_sim.core.registry import identity
from collapse_sim.data.base import OnHub
from collapse_sim.data.sources import REAL, Source
from collapse_sim.families.imported import GivenModel
from collapse_sim.plan.curation_specs import CurationSpec
from collapse_sim.plan.merges import MergeSpec
from collapse_sim.plan.specs import FitSpec
from collapse_sim.run.saved_run import SavedRun, StoredModel
from collapse_sim.store import journal
from collapse_sim.store.run_directory import JOURNAL_FILE, read_run, recipe_of
from collapse_sim.ui import formatting
from collapse_sim.ui.run_status import continue_command

MODEL_CARD, DATASET_CARD = "README.md", "DATASET_CARD.md"
TAGS = ("collapse-sim", "model-collapse", "synthetic-data")
TASKS = {"images": "unconditional-image-generation", "text": "text-generation", "pairs": "text2text-generation"}
_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_LISTED = 16  # sources of a fit that are listed one by one
_NOT_INTENDED = (
    "It exists to measure model collapse: what happens to models that are fitted to what models generated. It is not "
    "meant for use."
)


@dataclass(frozen=True)
class CardFacts:
    """What the cards of all models of a run say alike."""

    results: Results | None  # None: the run's journal cannot be read
    metrics: dict[str, Any]  # as run.json has them
    command: str
    versions: dict[str, str]
    recipe: str  # YAML

    @classmethod
    def read(cls, run: SavedRun) -> CardFacts:
        """Raises StoreError for a damaged run directory."""
        lines = journal.read(run.folder / JOURNAL_FILE)
        sessions = [entry for entry in lines if entry["event"] == "session"]
        versions = sessions[-1].get("environment") if sessions else None
        try:
            results = read_results(run.folder)
        except (RecipeError, StoreError):
            results = None
        recipe = recipe_of(run.folder).read_text(encoding="utf-8").partition("\n")[2]
        metrics = dict(read_run(run.folder)["metrics"])
        return cls(results, metrics, continue_command(run.folder, lines), dict(versions or {}), recipe)


def model_card(stored: StoredModel, facts: CardFacts, data_files: Sequence[str], labelled: bool) -> str:
    """README.md of an exported folder. `data_files`: patterns of the rows' files in it; [] if the datasets library
    reads none of them."""
    from huggingface_hub import EvalResult, ModelCardData

    experiment = stored.run.experiment
    task = TASKS.get(experiment.info.kind)
    data = _data_name(stored)
    results = [
        EvalResult(
            task_type=task or "other",
            dataset_type=data,
            dataset_name=data,
            metric_type=str(facts.metrics[name].get("settings", {}).get("use", name)),
            metric_name=line(name),
            metric_value=value,
            metric_args={"arm": line(stored.arm), "generation": stored.generation, "seed": stored.seed},
        )
        for name, value in _own_scores(stored, facts)
        if math.isfinite(value) and name in facts.metrics
    ]
    title = line(f"{experiment.recipe.name}, {stored.arm}, generation {stored.generation}, seed {stored.seed}")
    front = ModelCardData(
        model_name=title,
        library_name="collapse-sim",
        pipeline_tag=task,
        tags=[*TAGS, *([_tag(stored)] if _tag(stored) else [])],
        datasets=_hub_data(stored) or None,
        base_model=_base_model(stored),
        eval_results=results or None,
        **(_configs(data_files, labelled)),
    )
    parts = [
        f"# {_code(title)}",
        f"Generation {stored.generation} of the arm {_code(stored.arm)}, seed {stored.seed}, of the experiment "
        f"{_code(experiment.recipe.name)}, made with collapse-sim. {_NOT_INTENDED}",
        "## How it was made",
        *_behind(stored, facts),
    ]
    return _card(front, parts)


def dataset_card(stored: StoredModel, facts: CardFacts, data_files: Sequence[str], labelled: bool) -> str:
    """DATASET_CARD.md: the card of the rows that the model generated in its run, README.md of a data set's repository
    with the same files."""
    from huggingface_hub import DatasetCardData

    experiment, samples = stored.run.experiment, stored.plan.samples
    title = line(f"{experiment.recipe.name}, rows of {stored.arm}, generation {stored.generation}, seed {stored.seed}")
    front = DatasetCardData(
        pretty_name=title,
        tags=[*TAGS, *([_tag(stored)] if _tag(stored) else [])],
        size_categories=[_size_category(samples.rows)],
        source_datasets=[f"extended|{name}" for name in _hub_data(stored)] or None,
        **(_configs(data_files, labelled)),
    )
    made = "read from files" if samples.imported else f"drawn from the model {_code(samples.model.digest[:16])}"
    shaped = f", with {_code(samples.guidance.describe()['use'])}" if samples.guidance else ""
    parts = [
        f"# {_code(title)}",
        f"{samples.rows:,} rows, {made}{shaped}: generation {stored.generation} of the arm {_code(stored.arm)}, seed "
        f"{stored.seed}, of the experiment {_code(experiment.recipe.name)}. No row is real. {_NOT_INTENDED}",
        "## How the model was made",
        *_behind(stored, facts),
    ]
    return _card(front, parts)


def _behind(stored: StoredModel, facts: CardFacts) -> list[str]:
    """What both cards say of the model: where it is from, its scores, the recipe."""
    return [
        "\n".join(f"- {fact}" for fact in lineage(stored, stored.plan.model.fitted.given)),
        _made_with(facts),
        "## Scores",
        _scores(stored, facts),
        "## Recipe",
        _block(facts.recipe, "yaml"),
    ]


def lineage(stored: StoredModel, given: GivenModel | None) -> Iterator[str]:
    """What the model comes from: lines of Markdown. Keys are the first 16 of 64 digits."""
    model = stored.plan.model
    fit = model.fitted
    yield f"key: {_code(model.digest)}"
    if isinstance(model, MergeSpec):
        pairs = zip(model.models, model.coefficients, strict=True)
        weights = (f"{weight:g} of {_code(each.digest[:16])}" for each, weight in pairs)
        yield f"weights combined: {', '.join(weights)}"
    if given is not None:
        yield f"imported, not fitted: {_code(given.name)} (sha256 of its tensors {_code(given.sha256[:16])})"
        return
    yield f"fitted to: {_rows(fit)}; real share {real_share(fit):.3g}"
    if fit.curation is not None:
        yield f"of these, a curation chose the rows: {_code(fit.curation.digest[:16])}"
    for axis, remedy in remedies_of(stored).items():
        yield f"{axis}: {_code(str(remedy['use']))}"
    if fit.teacher is not None:
        terms = ", ".join(f"{term} {weight:g}" for term, weight in fit.weights.items())
        yield f"teacher: generation {fit.teacher.generation}, {_code(fit.teacher.digest[:16])}; weights: {_code(terms)}"
    if fit.init is not None:
        yield f"initial weights: generation {fit.init.generation}, {_code(fit.init.digest[:16])}"
    yield f"family: {_code(str(model.family.describe()['use']))}; data: {_code(_data_name(stored))}"


def remedies_of(stored: StoredModel) -> dict[str, Any]:
    """{axis: settings} of what shaped the rows and the loss of the fit, its weights, and the samples; an arm's remedy
    that changed nothing of this generation is left out."""
    arm, plan, fit = stored.arm_plan.arm, stored.plan, stored.plan.model.fitted
    curated = any(isinstance(spec, CurationSpec) for spec in (fit.curation, *fit.sources))
    used = {
        "curation": arm.curation if curated else None,
        "weighting": fit.weighting,
        "merge": arm.merge if plan.model is not fit else None,
        "guidance": plan.samples.guidance,
    }
    return {axis: remedy.describe() for axis, remedy in used.items() if remedy is not None}


def real_share(fit: FitSpec) -> float:
    """The share of real rows in what a fit is fitted to, before any curation."""
    rows = sum(source.rows for source in fit.plan.sources)
    return sum(source.rows for source in fit.plan.sources if source.generation == REAL) / rows if rows else math.nan


def _rows(fit: FitSpec) -> str:
    def words(source: Source) -> str:
        if source.generation == REAL:
            return f"{source.rows:,} real rows ({_code(fit.data.digest[:16])})"
        past = fit.past[source.generation]
        kept = "curated " if isinstance(past, CurationSpec) else ""
        return f"{source.rows:,} {kept}rows of generation {source.generation} ({_code(past.digest[:16])})"

    sources = fit.plan.sources
    shown = [words(source) for source in sources[:_LISTED]]
    if len(sources) > _LISTED:
        shown.append(f"and rows of {len(sources) - _LISTED:,} more sources")
    budget = f", of which {fit.plan.rows:,} are drawn" if fit.plan.budget is not None else ""
    return ", ".join(shown) + budget


def _made_with(facts: CardFacts) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
    exported = f"Exported with collapse-sim {__version__}. Made with: {_code(versions or 'not recorded')}."
    return f"{exported} Command:\n\n{_block(facts.command, 'sh')}"


def _own_scores(stored: StoredModel, facts: CardFacts) -> Iterator[tuple[str, float]]:
    """(metric, value) of this model's seed."""
    for name in facts.results.metrics_without_parts() if facts.results else ():
        assert facts.results is not None
        scores = facts.results.scores(stored.arm, name, stored.generation)
        if stored.seed in scores:
            yield name, scores[stored.seed]


def _scores(stored: StoredModel, facts: CardFacts) -> str:
    own = list(_own_scores(stored, facts))
    if not own or facts.results is None:
        return "It has not been scored."
    rows = [f"| metric | better | seed {stored.seed} | mean over seeds, 95 % interval |", "| --- | --- | --- | --- |"]
    for name, value in own:
        mean = facts.results.mean(stored.arm, name, stored.generation)
        assert mean is not None
        seeds = formatting.plural(mean.n, "seed")
        text = f"{with_interval(mean.mean, mean.low, mean.high)} ({seeds})" if mean.n > 1 else "-"
        better = facts.results.metrics[name] or "-"
        rows.append(f"| {_code(name, cell=True)} | {better} | {figure(value)} | {text} |")
    return "\n".join(rows)


def _data_name(stored: StoredModel) -> str:
    return str(stored.run.experiment.data.data.describe()["use"])


def _hub_data(stored: StoredModel) -> list[str]:
    """The data set's name on the hub, if it is there."""
    data = stored.run.experiment.data.data
    return [data.hub] if isinstance(data, OnHub) else []


def _base_model(stored: StoredModel) -> str | None:
    """The hub's name of the model that generation 0 is, or began with; None if there is none, or it is a local file."""
    fit = stored.arm_plan.generations[0].fit
    name = fit.given.name if fit.given else getattr(fit.family, "pretrained", None)
    if not isinstance(name, str) or not _HUB_ID.fullmatch(name):
        return None
    local = fit.given is not None and fit.given.path.name == name.rpartition("/")[2]
    return None if local or (stored.run.data_dir / name).exists() else name


def _tag(stored: StoredModel) -> str:
    """The strategy, if it is one of this package."""
    use = identity(type(stored.arm_plan.arm.strategy))
    return use if use.isidentifier() else ""


def _configs(data_files: Sequence[str], labelled: bool) -> dict[str, Any]:
    """How the datasets library finds the rows among the other files."""
    if not data_files:
        return {}
    drop = {"drop_labels": not labelled} if any(path.endswith(".png") for path in data_files) else {}
    files = [{"split": "train", "path": list(data_files)}]
    return {"configs": [{"config_name": "default", "data_files": files, **drop}]}


def _size_category(rows: int) -> str:
    """The hub's word for a number of rows."""
    return _SIZES[min(max(0, len(str(rows)) - 3), len(_SIZES) - 1)]


def _code(text: str, *, cell: bool = False) -> str:
    """A code span of one line, whatever is in it. `cell`: in a table, where a bar would end the cell."""
    shown = line(text)
    if cell:
        shown = shown.replace("|", "\\|")
    fence = "`" * (max((len(run) for run in re.findall("`+", shown)), default=0) + 1)
    space = " " if shown.startswith("`") or shown.endswith("`") or not shown else ""
    return f"{fence}{space}{shown}{space}{fence}"


def _block(text: str, language: str) -> str:
    """A code block, whatever is in it."""
    shown = escaped(text).rstrip("\n")
    fence = "`" * max(3, max((len(run) for run in re.findall("`+", shown)), default=0) + 1)
    return f"{fence}{language}\n{shown}\n{fence}"


def _card(front: Any, parts: Sequence[str]) -> str:
    return f"---\n{front.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"
