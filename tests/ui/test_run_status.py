"""The state of a run from its files: what its process knows, and what the journal says."""

from __future__ import annotations

import json

from collapse_sim.core.events import RunFinished
from collapse_sim.store import journal
from tests.ui.live import call, write_live


def test_the_journal_counts_where_the_process_knows_only_a_part(run_folder):
    folder = run_folder(done=2)
    write_live(folder, RunFinished("demo", "runs/demo", 3.0, "interrupted"))  # an older sitting's last word
    assert json.loads(call("status", folder, "--json").stdout)["status"] == "finished"


def test_seeds_and_metrics_that_came_later_complete_a_cell(run_folder):
    folder = run_folder(done=-1)
    parts = [([0], {"test_loss": [1.0], "fid": [4.0]}), ([7], {"test_loss": [3.0]}), ([7], {"fid": [float("nan")]})]
    done = []
    for seeds, metrics in parts:
        line = {"event": "scores", "generation": 0, "arm": "replace", "seeds": seeds, "metrics": metrics}
        journal.append(folder / "journal.jsonl", [line])
        document = json.loads(call("status", folder, "--json").stdout)
        done.append(document["arms"]["replace"]["generations_done"])
    assert done == [0, 0, 1]
    assert document["arms"]["replace"]["latest"]["test_loss"]["mean"] == 2.0
    assert document["arms"]["replace"]["latest"]["fid"]["mean"] == "nan"
