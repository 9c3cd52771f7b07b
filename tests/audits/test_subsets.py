"""Growth of images and of hidden states: which tokens the smaller inputs keep."""

import dataclasses

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from audit_toy import toy

import meanfield as mf
from meanfield.audits.settings import AuditSettings
from meanfield.audits.spread import spread
from meanfield.lipschitz import local_lipschitz
from meanfield.models import ModelError, zoo


SETTINGS = AuditSettings(dtype="f32", rtol=1e-5, metrics=("local", "growth"))
KEY = jr.key(0)


def constant(model, layer, mu):
    """The local constant in the program that the audit uses."""
    settings = {"rtol": 1e-5, "max_steps": 100, "upper": False, "throw": False}
    attention = model.layers[layer].attention
    return float(local_lipschitz(attention, mu.pad(32), key=KEY, **settings).value)


def test_every_beginning_of_the_order_is_spread_over_the_grid():
    for rows, columns in ((1, 1), (4, 4), (3, 7), (14, 14)):
        order = spread(rows, columns)
        assert sorted(order) == list(range(rows * columns))
    quarters = {(cell // 14 // 7, cell % 14 // 7) for cell in spread(14, 14)[:5]}
    assert len(quarters) == 4
    cells = np.stack(np.divmod(np.arange(196), 14), axis=1)
    gaps = []
    for count in (4, 16, 64):
        kept = cells[list(spread(14, 14)[:count])]
        gaps.append(np.linalg.norm(cells[:, None] - kept, axis=-1).min(axis=1).max())
    assert gaps[0] > gaps[1] > gaps[2] and gaps[2] < 3  # how far a patch is from those kept


@pytest.fixture(scope="module")
def model():
    return mf.models.load("digits-vit")


def test_patches_left_out_change_no_position_of_the_others(model):
    image = zoo.sample_images()[0]
    keep = (0, 6, 11)
    (whole, *_), (some, *_) = model.contexts(image), model.contexts(image, keep=keep)
    np.testing.assert_allclose(some.points, np.asarray(whole.points)[list(keep)], rtol=1e-6)
    np.testing.assert_allclose(some.weights, np.full(3, 1 / 3), rtol=1e-6)


@pytest.mark.parametrize("keep", [(), (0, 0), (17,), (-1, 0)])
def test_tokens_to_keep_must_be_there_once(model, keep):
    with pytest.raises(ModelError, match=r"distinct token numbers among 0\.\.16"):
        model.contexts(zoo.sample_images()[0], keep=keep)


def test_a_text_is_shortened_otherwise():
    with pytest.raises(ModelError, match="for images"):
        mf.models.load("shakespeare-gpt").contexts(np.arange(4), keep=(0, 1))


@pytest.mark.slow
def test_the_growth_of_an_image_is_that_of_its_patches(model):
    image = zoo.sample_images()[0]
    audit = mf.audit(model, image, key=KEY, settings=SETTINGS)
    for row in audit.rows:
        assert row.lengths == (4, 8, 17) and row.constants[-1] == row.local.value
        keep = (0, *(1 + cell for cell in spread(4, 4)[:7]))
        mu = model.contexts(image, keep=keep)[row.layer]
        assert row.constants[1] == pytest.approx(constant(model, row.layer, mu), rel=1e-3)
    assert all(growth.exponent is not None for growth in audit.growth)


@pytest.mark.slow
def test_hidden_states_of_a_causal_model_grow_as_its_text_does():
    model = mf.models.load("shakespeare-gpt")
    ids = model.tokenize(zoo.sample_text())[:40]
    states = np.asarray(model.hidden(ids))
    text, hidden = (mf.audit(model, {"x": x}, key=KEY, settings=SETTINGS) for x in (ids, states))
    for one, other in zip(text.rows, hidden.rows, strict=True):
        assert one.lengths == other.lengths == (16, 32, 40)
        assert one.constants == pytest.approx(other.constants, rel=2e-3)


@pytest.mark.slow
def test_hidden_states_of_other_models_are_cut_and_held():
    states = np.asarray(jr.normal(KEY, (2, 32, 4), jnp.float32), np.float64)
    settings = dataclasses.replace(SETTINGS, dtype="f64")
    model = toy()
    row = mf.audit(model, states, key=KEY, settings=settings).rows[1]
    mu = mf.Measure(states[1, :16])
    assert row.lengths == (16, 32)
    assert row.constants[0] == pytest.approx(constant(model, 1, mu), rel=1e-3)
