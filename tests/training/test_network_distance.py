"""The distance of two mean-field networks is the conditional Wasserstein distance of their
parameters: order and splitting of particles change neither the network nor the distance."""

import jax.random as jr
import numpy as np
import pytest

import meanfield as mf


def network(seed):
    return mf.training.MeanFieldResNet.random(dim=2, depth=3, width=4, key=jr.key(seed))


def test_networks_are_as_far_as_their_parameters(key):
    one, two = network(0), network(1)
    found = mf.conditional_wasserstein(one.params, two.params)
    order = jr.permutation(key, 4)
    other = mf.ConditionalMeasure(
        two.params.points[:, order], two.params.weights[:, order], two.params.base
    )
    assert mf.conditional_wasserstein(one.params, other) == pytest.approx(float(found))
    assert mf.conditional_wasserstein(two.params, other) < 1e-12
    in_order = np.mean(np.sum((one.params.points - two.params.points) ** 2, axis=-1)) ** 0.5
    assert 0 < found <= in_order


def test_splitting_particles_moves_nothing():
    one, two = network(0), network(1)
    split = one.params.split(2)
    found = mf.conditional_wasserstein(one.params, two.params)
    again = mf.conditional_wasserstein(split, two.params)
    assert float(again) == pytest.approx(float(found), rel=1e-6)
