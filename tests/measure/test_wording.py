"""What is printed shows values and words."""

import jax
import jax.numpy as jnp
import pytest

import meanfield as mf
from meanfield.measure import RESULTS
from meanfield.measure.wording import ending, figure


MU = mf.Measure(jnp.array([[0.0], [1.0]]))
NU = mf.Measure(jnp.array([[2.0], [3.0]]))


@pytest.fixture
def transport():
    return mf.optimal_transport(MU, NU, mf.PowerCost(2))


def test_a_transport_shows_its_value_its_gap_and_its_ending(transport):
    shown = repr(transport)
    assert (
        shown == f"Transport(value 4, gap 0, marginal error 0, {transport.steps} steps: successful)"
    )
    assert str(transport.result).endswith("<successful>")


def test_a_batch_of_transports_says_how_many_were_successful():
    both = mf.stack([MU, NU])
    shown = repr(jax.vmap(lambda mu: mf.optimal_transport(mu, NU, mf.PowerCost(2)))(both))
    assert "value [4. 0.]" in shown and "2 of 2 successful" in shown


def test_a_transport_can_be_shown_while_it_is_traced():
    shown = []

    @jax.jit
    def value(mu):
        sol = mf.optimal_transport(mu, NU, mf.PowerCost(2))
        shown.append(repr(sol))
        return sol.value

    value(MU)
    assert shown[0].startswith("Transport(value traced")


def test_a_failure_is_told_in_its_first_sentence():
    message = ending(RESULTS.unequal_masses)
    assert message == "The two measures must have the same total mass"


def test_a_sliced_distance_shows_its_interval(key):
    sol = mf.transport.sliced_wasserstein(MU, NU, mf.transport.Sliced(8), key=key)
    assert repr(sol) == "SlicedDistance(2 in [2, 2], 8 directions)"


@pytest.mark.slow
def test_barycentres_show_their_value(key):
    found = mf.transport.barycenter(mf.stack([MU, NU]), key=key)
    assert repr(found).startswith("Barycenter(value 1, ") and "successful" in repr(found)


def test_figures_are_short():
    assert figure(1 / 3) == "0.33333"
    assert figure(jnp.array([1 / 3, 2.0])) == "[0.33333 2.     ]"
    assert figure(object()) == "unknown"


def test_parts_of_a_search_show_their_numbers():
    one = jnp.ones(1)
    triplet = mf.spectrum.SingularTriplet(
        2 * one, one[:, None], 1e-9 * one, jnp.array(7), one[0] > 0
    )
    assert repr(triplet) == "SingularTriplet([2.], residual [1.e-09], 7 products)"
