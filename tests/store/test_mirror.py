"""A store without a mirror: nothing is asked for, sent or waited for."""

from __future__ import annotations

from collapse_sim.core.events import Note
from collapse_sim.store.jobs import Request
from collapse_sim.store.mirror import Transferred, Unmirrored
from collapse_sim.store.spec import Spec
from collapse_sim.store.store import Store


def test_a_store_without_a_mirror_asks_nobody(tmp_path):
    mirror, asked, events = Store(tmp_path).mirror, [], []
    assert isinstance(mirror, Unmirrored)
    mirror.fetch([Request(Spec("fit", 0, {}), (0,), ("a",))], lambda *rest: asked.append(rest) or (0,), events.append)
    mirror.push(asked.append(folder) or folder for folder in [tmp_path])
    assert mirror.settled()
    assert mirror.finish(events.append) == Transferred()
    assert asked == [] == [event for event in events if isinstance(event, Note)]
