"""What run.json says of an experiment."""

from __future__ import annotations

from typing import Any

from collapse_sim.core.hashing import digest_of
from collapse_sim.plan.experiment import Experiment
from collapse_sim.plan.metric_notes import note_of, parts_of, shown_as, space_of
from collapse_sim.plan.protocol import training_of
from collapse_sim.plan.score_specs import ScoreSpec
from collapse_sim.plan.settings import Recipe
from collapse_sim.plan.theory import curves
from collapse_sim.store.run_directory import BY_ARM, common


def describe_run(experiment: Experiment) -> dict[str, Any]:
    """The content of run.json for an experiment (layout: store/run_directory.py)."""
    recipe = experiment.recipe
    return {
        "name": recipe.name,
        "recipe": digest_of(recipe.document),
        "generations": recipe.generations,
        "seeds": list(recipe.seeds),
        "arms": [arm.name for arm in recipe.arms],
        "baseline": recipe.baseline,
        "show": recipe.show,
        "metrics": {name: _described(name, experiment) for name in recipe.metrics},
        "tuned_on": None if recipe.tuned_on is None else list(recipe.tuned_on),
        "claims": [claim.model_dump(mode="json", exclude_none=True) for claim in recipe.claims],
        "reference": _references(recipe),
        "training": {plan.name: training for plan in experiment.arm_plans if (training := training_of(plan))},
        "theory": curves(experiment),
        "settings": dict(recipe.document),
        "samples": experiment.counts.samples,
        "kind": experiment.info.kind,
        "fingerprint": experiment.info.fingerprint,
    }


def _references(recipe: Recipe) -> list[dict[str, Any]]:
    """Published figures, each at its own generation: an arm that goes further does not move them."""
    return [
        reference.model_dump(mode="json") | {"generation": reference.at(recipe.generations)}
        for reference in recipe.references
    ]


def _described(name: str, experiment: Experiment) -> dict[str, Any]:
    """A metric as run.json has it (layout: store/run_directory.py)."""
    scores = {plan.name: plan.generations[0].scores[name] for plan in experiment.arm_plans}
    score = next(iter(scores.values()))
    by_rows: dict[Any, dict[str, Any]] = {}
    for own in scores.values():
        if _rows_of(own) not in by_rows:
            note, resolution = note_of(own), shown_as(own).get("resolution")
            notes = (note.note, note.warning) if note else (None, None)
            by_rows[_rows_of(own)] = dict(zip(BY_ARM, (*notes, resolution), strict=True))
    of_arms = {key: common({arm: by_rows[_rows_of(own)][key] for arm, own in scores.items()}) for key in BY_ARM}
    space, parts = space_of(score), parts_of(score)
    return {
        "better": score.metric.better,
        **shown_as(score),
        "settings": score.metric.describe(),
        **({"features": space.label} if space else {}),
        **{key: value for key, value in of_arms.items() if value is not None},
        **({"parts": parts} if parts else {}),
    }


def _rows_of(score: ScoreSpec) -> tuple[Any, ...]:
    """What a score's note depends on."""
    return score.data.digest, score.data.info.rows, score.samples.rows, score.network.digest if score.network else None
