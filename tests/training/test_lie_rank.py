"""Conservation laws counted exactly: the published tables, to the integer."""

import itertools

import pytest

from meanfield.training import LinearNetwork, MonomialMap, ReLUNetwork, count_laws, lie_rank
from meanfield.training.factorization import AbstractFactorization
from meanfield.training.polynomial import (
    PRIME,
    RowSpace,
    bracket,
    evaluate,
    gradient,
    random_point,
)


TWO_LAYERS = {
    (1, 1, 1): 1,
    (1, 1, 2): 1,
    (2, 2, 2): 3,
    (2, 2, 3): 3,
    (1, 2, 1): 3,
    (1, 3, 1): 5,
    (1, 4, 2): 9,
    (2, 3, 3): 6,
    (2, 5, 2): 14,
    (3, 2, 3): 3,
}
DEEP = {
    "2-2-2": 3,
    "2-3-2": 6,
    "3-2-3": 3,
    "2-2-2-2": 6,
    "2-3-2-2": 9,
    "3-2-2-3": 6,
    "2-2-2-2-2": 9,
    "4-2-3-2": 9,
    "1-5-1": 9,
    "2-6-2": 18,
    "3-4-3-4": 16,
    "5-5-5": 15,
    "3-3-3-3": 12,
    "5-3-4-5": 16,
}
RELU = {"2-2-2": 2, "3-4-2": 4, "2-2-5-3": 7, "3-4-4-3": 8, "2-3-3-3-2": 9, "6-8-7": 8}
WITH_BIASES = {"2-2-2": 2, "3-4-2": 4, "2-3-4-2": 7}


def widths(name: str) -> tuple[int, ...]:
    return tuple(map(int, name.split("-")))


@pytest.mark.parametrize("shape, laws", TWO_LAYERS.items())
def test_two_linear_layers_conserve_what_the_formula_says(shape, laws):
    m, r, n = shape
    rank = min(n + m, r)
    assert count_laws(LinearNetwork(shape)) == laws == rank * (2 * r + 1 - rank) // 2


@pytest.mark.parametrize("name, laws", DEEP.items())
def test_deep_linear_networks(name, laws):
    assert count_laws(LinearNetwork(widths(name))) == laws


@pytest.mark.slow
def test_the_deepest_linear_network_of_the_table():
    assert count_laws(LinearNetwork((2, 4, 4, 4, 2))) == 30


@pytest.mark.parametrize("name, laws", RELU.items())
def test_relu_networks_conserve_one_number_for_each_hidden_neuron(name, laws):
    assert count_laws(ReLUNetwork(widths(name))) == laws == sum(widths(name)[1:-1])


@pytest.mark.parametrize("name, laws", WITH_BIASES.items())
def test_relu_networks_with_biases(name, laws):
    assert count_laws(ReLUNetwork(widths(name), bias=True)) == laws


def test_a_product_of_numbers_conserves_all_differences_of_squares():
    assert [count_laws(MonomialMap(d)) for d in (1, 2, 5)] == [0, 1, 4]


class Unaware(AbstractFactorization):
    """The same network to one who knows none of its laws."""

    network: AbstractFactorization

    @property
    def size(self):
        return self.network.size

    def terms(self):
        return self.network.terms()

    def known_laws(self):
        return iter(())


@pytest.mark.parametrize(
    "network",
    [LinearNetwork((2, 3, 2)), LinearNetwork((2, 2, 2, 2)), ReLUNetwork((3, 4, 2)), MonomialMap(4)],
    ids=repr,
)
@pytest.mark.parametrize("seed", range(2))
def test_without_its_laws_the_brackets_end_at_the_same_rank(network, seed):
    found = lie_rank(Unaware(network), seed=seed)
    assert found.closed == "brackets add nothing" and found.brackets > 0
    assert found.rank == lie_rank(network).rank


@pytest.mark.parametrize(
    "network", [LinearNetwork((2, 3, 2, 2)), ReLUNetwork((2, 3, 2), bias=True)]
)
def test_the_known_laws_are_orthogonal_to_every_gradient(network):
    point = random_point(network.size, 1)
    fields = [evaluate(gradient(phi), point) for phi in network.terms()]
    laws = [evaluate(gradient(law), point) for law in network.known_laws()]
    for field, law in itertools.product(fields, laws):
        assert sum(a * b for a, b in zip(field, law, strict=True)) % PRIME == 0


def test_brackets_are_antisymmetric_and_satisfy_jacobi():
    point = random_point(3, 0)
    X, Y, Z = {0: {(1, 2): 1}}, {1: {(0, 0): 2}, 2: {(1,): 3}}, {2: {(0, 1): 5}, 0: {(): 1}}
    assert evaluate(bracket(X, Y), point) == [-x % PRIME for x in evaluate(bracket(Y, X), point)]
    cycle = [bracket(X, bracket(Y, Z)), bracket(Y, bracket(Z, X)), bracket(Z, bracket(X, Y))]
    sums = zip(*(evaluate(field, point) for field in cycle), strict=True)
    assert [sum(values) % PRIME for values in sums] == [0, 0, 0]


def test_the_rank_of_dependent_rows_is_found():
    space = RowSpace()
    assert [space.add(row) for row in ([1, 2, 3], [2, 4, 6], [0, 1, 1], [1, 3, 4], [0, 0, 5])] == [
        True,
        False,
        True,
        False,
        True,
    ]
    assert space.rank == 3


def test_fewer_than_two_widths_are_refused():
    with pytest.raises(ValueError, match="`widths` must be at least two positive numbers; got"):
        LinearNetwork((3,))
