"""Which families' weights can be combined."""

from __future__ import annotations

import pytest

from collapse_sim.core import registry
from collapse_sim.remedies.average import Average
from collapse_sim.remedies.combining import check_combinable
from collapse_sim.remedies.neon import Neon


@pytest.mark.parametrize("name", ["gaussian", "linear", "vae", "flow", "ddpm"])
def test_weights_that_correspond(name):
    check_combinable(registry.load("families", name)())


@pytest.mark.parametrize("name", ["gmm", "kde"])
def test_parameters_that_do_not_correspond(name):
    with pytest.raises(ValueError, match=f"the parameters of two {name} models do not correspond"):
        check_combinable(registry.load("families", name)())


@pytest.mark.parametrize("name", ["vae", "flow"])
def test_networks_have_nothing_to_project(name):
    family = registry.load("families", name)()
    with pytest.raises(
        ValueError, match=f"infeasible: project changes nothing: any combined weights are those of a {name}"
    ):
        check_combinable(family, "project")
    for remedy in (Neon(w=0.5, infeasible="project"), Average(infeasible="project")):
        with pytest.raises(ValueError, match="infeasible: project changes nothing"):
            remedy.check(None, None, family)
    check_combinable(registry.load("families", "gaussian")(), "project")
