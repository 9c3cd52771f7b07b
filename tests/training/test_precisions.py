"""Networks in float32 and data in float64, or the other way round, train in the precision of the
particles, with the numbers that float64 finds."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from resnet_problems import RESIDUALS, random_pair

import meanfield as mf
from meanfield.training import (
    Euler,
    Heun,
    Proximal,
    Record,
    SquaredError,
    conditional_kernel,
    gradient_field,
    outer_kernel,
    risk,
    squared_slope,
)


pytestmark = [pytest.mark.float64, pytest.mark.slow]

QUICK = Record(certificate=False, distance=False)


def narrow(tree):
    return jax.tree.map(lambda a: a.astype(jnp.float32), tree)


@pytest.mark.parametrize("kind", RESIDUALS)
@pytest.mark.parametrize("mixed", ["both", "net", "data"])
def test_functions_of_a_network_agree_in_both_precisions(kind, mixed):
    net, data = random_pair(kind, jr.key(1))
    other = narrow(net) if mixed != "data" else net
    given = narrow(data) if mixed != "net" else data
    for f in (
        lambda net, data: risk(net, SquaredError(), data),
        lambda net, data: squared_slope(net, gradient_field(net, SquaredError(), data)),
        lambda net, data: conditional_kernel(net, data[0], 1),
        lambda net, data: outer_kernel(net, data[0], 1),
    ):
        exact, found = f(net, data), f(other, given)
        assert found.dtype == other.params.points.dtype
        np.testing.assert_allclose(found, exact, rtol=2e-5, atol=2e-6 * np.max(np.abs(exact)))


@pytest.mark.parametrize("method", [Euler(0.05), Heun(0.05), Proximal(0.05)], ids=repr)
@pytest.mark.parametrize("mixed", ["both", "net"])
def test_runs_agree_in_both_precisions(method, mixed):
    net, data = random_pair("hidden-layer", jr.key(1))
    given = narrow(data) if mixed == "both" else data
    exact, found = (
        mf.gradient_flow(each, SquaredError(), on, method, 3, record=QUICK)
        for each, on in ((net, data), (narrow(net), given))
    )
    assert found.risk.dtype == np.float32 and found.result == exact.result
    # a minimum known to 1e-6 of its value is known in its place to the square root of that
    rtol = 1e-3 if isinstance(method, Proximal) else 1e-4
    for name in ("risk", "slope", "path_length", "least_ratio"):
        np.testing.assert_allclose(getattr(found, name), getattr(exact, name), rtol=rtol, atol=1e-6)
