"""The coupling of entropic transport, made from its potentials when it is asked for."""

import equinox as eqx
from jaxtyping import Array, Float

from .coupling import AbstractCoupling
from .entropic_problem import EntropicProblem


class EntropicCoupling(AbstractCoupling):
    r"""The coupling $P_{ij} = M a_i b_j e^{(f_i + g_j - C_{ij}) / \varepsilon}$.

    `apply`, `marginals` and `barycentric` go through the pairs by blocks, in O((n + m) d) memory;
    only `matrix` writes out n m numbers. All of them differentiate, potentials included.

    Attributes:
      problem: the costs, the shares a and b, and the temperature.
      f, g: the potentials.
      total: the mass M.
    """

    problem: EntropicProblem
    f: Float[Array, "*batch n"]
    g: Float[Array, "*batch m"]
    total: Float[Array, "*batch"]

    @property
    def shape(self) -> tuple[int, int]:
        return self.f.shape[-1], self.g.shape[-1]

    @property
    def matrix(self) -> Float[Array, "n m"]:
        return self.total * self.problem.plan(self.f, self.g)

    @property
    def transpose(self) -> "EntropicCoupling":
        return EntropicCoupling(self.problem.transpose, self.g, self.f, self.total)

    @eqx.filter_jit
    def apply(self, values: Float[Array, "m ..."]) -> Float[Array, "n ..."]:
        flat = values.reshape(values.shape[0], -1).astype(self.g.dtype)
        sums = self.problem.spread(self.f, self.g, flat)
        carried = (self.total * self.problem.a)[:, None] * sums
        return carried.reshape(-1, *values.shape[1:])
