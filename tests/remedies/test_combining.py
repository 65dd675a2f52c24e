"""Which families' weights can be combined."""

from __future__ import annotations

import pytest

from collapse_sim.core import registry
from collapse_sim.remedies.combining import check_combinable


@pytest.mark.parametrize("name", ["gaussian", "linear", "vae", "flow", "ddpm"])
def test_weights_that_correspond(name):
    check_combinable(registry.load("families", name)())


@pytest.mark.parametrize("name", ["gmm", "kde"])
def test_parameters_that_do_not_correspond(name):
    with pytest.raises(ValueError, match=f"the parameters of two {name} models do not correspond"):
        check_combinable(registry.load("families", name)())
