"""The sum of two couplings: what is known beforehand, and what was found."""

from typing import Any

from jaxtyping import Array, Float

from ..transport import AbstractCoupling


class SumCoupling(AbstractCoupling):
    """The sum of two couplings between the same atoms, each kept in its own form."""

    first: AbstractCoupling
    second: AbstractCoupling

    @property
    def shape(self) -> tuple[int, int]:
        return self.first.shape

    @property
    def matrix(self) -> Float[Array, "n m"]:
        return self.first.matrix + self.second.matrix

    @property
    def transpose(self) -> "SumCoupling":
        return SumCoupling(self.first.transpose, self.second.transpose)

    def apply(self, values: Any) -> Any:
        return self.first.apply(values) + self.second.apply(values)
