"""Certificates where a share rounds to zero at the measure and is large elsewhere in the ball."""

import jax.numpy as jnp
import numpy as np
import pytest

import meanfield as mf
from meanfield.lipschitz import displacement_bound
from meanfield.lipschitz.certificates.head import Atoms
from meanfield.lipschitz.certificates.kinds import local_model


pytestmark = pytest.mark.float64
ATTENTION = mf.SelfAttention(jnp.eye(1), jnp.eye(1))
# The token at -1 gives the one at 1000 the share exp(-1001); at 0 it gives it a half.
HERE, FAR = -1.0, 1000.0


@pytest.mark.parametrize("p", [1, 2, np.inf])
def test_a_certificate_counts_atoms_that_come_into_sight(p):
    mu = mf.Measure(jnp.asarray([[HERE], [FAR]]))
    slope = FAR**2 / 4  # the variance of what the token at 0 sees, the derivative in its query
    assert mf.certify(ATTENTION, mu, 2.0, p=p).value >= slope


def test_an_output_that_sees_a_new_atom_moves_as_far_as_is_told():
    mu = mf.Measure(jnp.asarray([[HERE], [FAR]]))
    moved = float(ATTENTION(mu.with_points(jnp.asarray([[1.0], [FAR]]))).points[0, 0]) - HERE
    np.testing.assert_allclose(moved, FAR - HERE)
    assert moved / 2 <= displacement_bound(ATTENTION, mu, 2.0).value <= 1.1 * moved


def test_what_a_mask_hides_stays_hidden_in_the_ball():
    sequence = mf.ConditionalMeasure.from_sequence(jnp.asarray([[HERE], [FAR]]))
    (head,) = local_model(mf.CausalAttention(ATTENTION), Atoms.of(sequence)).reach(2.0)
    np.testing.assert_array_equal(head.weight[0] > 0, [True, False])
