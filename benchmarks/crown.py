"""CROWN and interval propagation on one attention head, by auto_LiRPA (xu2020).

Import this file only where auto_LiRPA is installed (from its repository; it brings torch);
meanfield depends on neither. The head is spelled in torch, with a linear map in front of every use
of the points: where a raw input stands inside a product of two perturbed terms, auto_LiRPA gives it
bounds of no width when balls are Euclidean, and certifies less than what is reached.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from auto_LiRPA import (  # pyright: ignore[reportMissingImports]
    BoundedModule,
    BoundedTensor,
    PerturbationLpNorm,
)

import meanfield as mf


class Affine:
    """$x \\mapsto W x + b$ in float64; b may be None."""

    def __init__(self, weight, bias):
        self.weight = np.asarray(weight, np.float64)
        self.bias = None if bias is None else np.asarray(bias, np.float64)

    def then(self, matrix) -> "Affine":
        """$x \\mapsto M (W x + b)$."""
        matrix = np.asarray(matrix, np.float64)
        return Affine(matrix @ self.weight, None if self.bias is None else matrix @ self.bias)

    def layer(self):
        """The same map in torch."""
        layer = torch.nn.Linear(*self.weight.T.shape, bias=self.bias is not None)
        layer.weight = torch.nn.Parameter(torch.tensor(self.weight), requires_grad=False)
        if self.bias is not None:
            layer.bias = torch.nn.Parameter(torch.tensor(self.bias), requires_grad=False)
        return layer


class TokenBalls(PerturbationLpNorm):
    """Every token moves by at most epsilon in Euclidean norm: a product of balls."""

    def concretize_matrix(self, x, A, sign, constraints=None):
        """The extreme of $A x$ over the balls, $A x_0 \\pm \\epsilon \\sum_i |A_i|$; A is an
        object of its own where it is the identity."""
        if not isinstance(A, torch.Tensor):
            return x.flatten(1) + sign * self.eps
        A = A.reshape(*A.shape[:2], *x.shape[1:])  # (1, outputs, n, d)
        return torch.einsum("bond,bnd->bo", A, x) + sign * self.eps * A.norm(dim=3).sum(2)


class Attention(torch.nn.Module):
    """$x_i \\mapsto \\sum_j p_{ij} v(x_j)$ with scores $\\langle q(x_i), k(x_j) \\rangle$."""

    def __init__(self, query: Affine, key: Affine, value: Affine):
        super().__init__()
        self.query, self.key, self.value = query.layer(), key.layer(), value.layer()

    def forward(self, x):
        scores = self.query(x) @ self.key(x).transpose(1, 2)
        return torch.softmax(scores, dim=2) @ self.value(x)


class Verifier:
    """auto_LiRPA on one head at the points (n, d).

    The default type of torch is read inside auto_LiRPA, so it is set while that runs. In float32
    nothing is rounded outwards: the figures are then those of its real arithmetic up to about 1e-4.

    Raises:
      TypeError: an attention that is not one plain head.
      ArithmeticError: the head as spelled in torch is another map.
    """

    def __init__(self, f: mf.SelfAttention | mf.MultiheadAttention, points, dtype=torch.float64):
        self.dtype = dtype
        with default_type(dtype):
            self.points = torch.tensor(np.asarray(points, np.float64)).to(dtype)[None]
            attention = Attention(*factors(f)).to(dtype)
            self.image = attention(self.points)
            self.module = BoundedModule(attention, self.points)
        expected = np.asarray(f(mf.Measure(points)).points)
        digits = torch.finfo(dtype).eps ** 0.5
        if not np.allclose(self.image[0].numpy(), expected, rtol=0, atol=digits):
            raise ArithmeticError("`f` differs from its spelling in torch")

    def tightness(self, epsilon: float, method: str = "backward") -> float:
        """$\\max_i |r_i| / \\epsilon$ with $r_i$ the certified radii of the coordinates of output
        i, when every token moves by epsilon. The method is `backward` (CROWN) or `ibp`."""
        return float(self._radii(TokenBalls(eps=epsilon, norm=2.0), method).norm(dim=2).max())

    def whole(self, epsilon: float) -> float:
        """$|r| / \\epsilon$ for the whole output, when the whole input moves by epsilon."""
        return float(self._radii(PerturbationLpNorm(eps=epsilon, norm=2.0), "backward").norm())

    def _radii(self, ball: PerturbationLpNorm, method: str):
        with default_type(self.dtype):
            moved = BoundedTensor(self.points, ball)
            lower, upper = self.module.compute_bounds(x=(moved,), method=method)
            return torch.maximum(upper - self.image, self.image - lower) / ball.eps


def factors(f: mf.SelfAttention | mf.MultiheadAttention) -> tuple[Affine, Affine, Affine]:
    """Query, key and value of one head; the scale of the scores is in the query."""
    if isinstance(f, mf.SelfAttention):
        return Affine(f.A, f.a), Affine(np.eye(f.A.shape[1]), None), Affine(f.V, None)
    if len(f.query_proj) != 1 or f.rotary or f.query_norm or f.soft_cap or f.score_bias:
        raise TypeError(f"`f` must be one head of plain scores; got {f}")
    query, key, value = (
        Affine(weight[0], None if bias is None else bias[0])
        for weight, bias in (
            (f.query_proj, f.query_bias),
            (f.key_proj, f.key_bias),
            (f.value_proj, f.value_bias),
        )
    )
    scale = f.score_scale * np.eye(len(query.weight))
    return query.then(scale), key, value.then(f.output_proj[0])


@contextmanager
def default_type(dtype) -> Iterator[None]:
    """What torch makes numbers of, and no gradients, for a while."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_default_dtype(before)
