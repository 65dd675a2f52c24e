"""Small recipes, what a worker is told of a run of one, and what a run has written."""

from __future__ import annotations

import json
from pathlib import Path

from collapse_sim.plan.experiment import Experiment, prepare
from collapse_sim.recipe.loader import load
from collapse_sim.run.ray_messages import WorkOrder
from collapse_sim.run.ray_worker import plan_hash, program
from collapse_sim.store.store import Store

TOY = """
name: toy
data: {use: gaussian, rows: 20, held_out_rows: 10}
model: {use: gaussian}
samples: 20
generations: 1
seeds: [0, 1]
arms: {replace: {data: replace}}
metrics: [test_loss]
"""
RECIPE = """
name: nodes
data: {use: digits, rows: 60, held_out_rows: 20}
model: {use: vae, hidden: 16, latent: 2}
train: {steps: STEPS, batch_size: 32, evaluate: never}
samples: 40
generations: 1
seeds: [0, 1]
arms: {replace: {data: replace}}
metrics: [test_loss]
"""


def order_for(sandbox, text: str = TOY) -> tuple[Experiment, WorkOrder]:
    """The experiment of a recipe in a sandbox, with its store, and the order for its workers."""
    experiment = prepare(load(sandbox.recipe(text)), sandbox.root / "data")
    store = sandbox.root / ".store"
    Store(store)
    (store / "tmp" / "mark").write_text("seen")
    order = WorkOrder(
        document=dict(experiment.recipe.document),
        plugins=None,
        folder=str(sandbox.root),
        paths=(),
        variables={},
        program=program(),
        plan=plan_hash(experiment),
        store=store,
        data_dir=sandbox.root / "data",
        mark=("mark", "seen"),
        device="cpu",
        checkpoint_s=60.0,
        together=1,
        compiled="off",
    )
    return experiment, order


def journal(run: Path, event: str) -> list[dict]:
    lines = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def scores(run: Path) -> dict[tuple, object]:
    return {(line["arm"], line["generation"]): line["metrics"] for line in journal(run, "scores")}
