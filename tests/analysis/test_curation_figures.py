from __future__ import annotations

import math

from collapse_sim.analysis.curation_figures import curation_document, curation_figures

LINES = [
    {"event": "session"},
    {
        "event": "curation",
        "generation": 1,
        "arm": "a",
        "seeds": [0, 1],
        "figures": {"kept": [5, 6], "auc": [0.5, None]},
    },
    {"event": "curation", "generation": 0, "arm": "a", "seeds": [0, 1], "figures": {"kept": [5, 5]}},
    {"event": "scores", "generation": 0, "arm": "b", "seeds": [0], "metrics": {}},
    {"event": "curation", "generation": 1, "arm": "a", "seeds": [1], "figures": {"kept": [7]}},
]


def test_later_lines_count_and_null_is_nan():
    figures = curation_figures(LINES)
    assert list(figures) == ["a"]
    assert figures["a"][0] == {"kept": {0: 5.0, 1: 5.0}}
    assert figures["a"][1]["kept"] == {0: 5.0, 1: 7.0}
    assert figures["a"][1]["auc"][0] == 0.5
    assert math.isnan(figures["a"][1]["auc"][1])


def test_the_document_has_generations_in_order_and_null_where_nothing_is_known():
    document = curation_document(curation_figures(LINES), ["a", "b"], [1, 0, 2], 1)
    assert document == {
        "a": [
            {"generation": 0, "kept": [5.0, 5.0, None]},
            {"generation": 1, "kept": [7.0, 5.0, None], "auc": [None, 0.5, None]},
        ]
    }
    assert curation_document(curation_figures(LINES), ["a"], [0], 0)["a"] == [{"generation": 0, "kept": [5.0]}]
