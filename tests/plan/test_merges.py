"""Specs of combined weights: what is in their keys."""

from __future__ import annotations

from collapse_sim.plan.merges import merge_spec
from tests.remedies.chains_of import VAE, digits, gaussian, plans


def test_the_key_is_parents_and_coefficients(sandbox):
    fits = [plan.fit for plan in plans(sandbox, gaussian("init: fresh"))["plain"]]
    merged = merge_spec((fits[1], fits[0]), (0.4, 0.6), "refuse")
    assert merged.description["models"] == [[fits[1].digest, 0.4], [fits[0].digest, 0.6]]
    assert (merged.generation, merged.stacked, merged.fitted, merged.parents) == (1, True, fits[1], (fits[1], fits[0]))
    digests = {
        merge_spec((fits[1], fits[0]), coefficients, infeasible).digest
        for coefficients in ((0.4, 0.6), (0.6, 0.4))
        for infeasible in ("refuse", "project")
    }
    assert len(digests) == 4


def test_networks_have_no_infeasible_weights(sandbox):
    fit = plans(sandbox, digits(VAE, "init: fresh"))["plain"][0].fit
    assert "infeasible" not in merge_spec((fit, fit), (2.0, -1.0), "project").description
