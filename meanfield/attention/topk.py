r"""The k largest entries of a vector, softly: sparse, differentiable, with an exact threshold.

For routing. These act on vectors and count entries; the form for measures, which counts mass, is
`ChiSquare(scale, cap)`. After {cite}`sander2023`, whose isotonic problem is solved here through one
threshold: sorting finds the piece of the piecewise linear equation, and one division solves it.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from .choice import Number, check_above
from .threshold import power_level, ramp_level


Vectors = Float[Array, "*batch n"]
Numbers = Shaped[Array, "*batch n"]  # of any dtype: integers are taken as reals


def topk_mask(x: Numbers, k: Number, *, scale: Number = 1.0, p: float | int = 2) -> Vectors:
    r"""The mask y of the k largest entries, $0 \le y \le 1$, $\sum_i y_i = k$:

    $$y = \arg\max_{y \in [0, 1]^n,\ \sum y = k} \langle x, y \rangle - \frac\lambda p \|y\|_p^p,
    \qquad y_i = \min\big(1, ((x_i - \tau)_+ / \lambda)^{1/(p-1)}\big).$$

    For p = 2 the derivative is $(\mathrm{diag}(u) - u u^T / |u|_1) / \lambda$ with u the indicator
    of 0 < y < 1; for p < 2 the mask is continuously differentiable below 1. With k = 1,
    p = 2 and lambda = 1 this is sparsemax. As lambda tends to 0 it is the hard mask.

    Args:
      x: vectors along the last axis; finite. Integers are taken as reals.
      k: 0 < k <= n, not necessarily an integer.
      scale: lambda > 0.
      p: 1 < p <= 2. The threshold is exact for p = 2, and found by bisection to rounding otherwise.

    Raises:
      ValueError: an argument out of range, or x is complex.

    References: {cite}`sander2023`.
    """
    x = real_vectors(x)
    check_count(k, x)
    check_above("scale", scale, 0)
    if not 1 < p <= 2:
        raise ValueError(f"`p` must lie in (1, 2]; got {p}.")
    scale = jnp.asarray(scale, x.dtype)
    slopes = jnp.ones_like(x) / scale
    if p == 2:
        pieces = ramp_level(x, slopes, k, jnp.ones_like(x))
        return jnp.where(pieces.ended, 1, jnp.minimum(pieces.rise / scale, 1))
    power = 1 / (p - 1)
    heights = x / scale
    level = power_level(heights, jnp.ones_like(x), k, power, cap=1)
    inside = heights > level
    return jnp.where(inside, jnp.minimum(jnp.where(inside, heights - level, 1) ** power, 1), 0)


def topk_magnitude(x: Numbers, k: Number, *, scale: Number = 1.0) -> Vectors:
    r"""The k entries of largest magnitude, softly: as lambda tends to 0, x where |x| is among the k
    largest and 0 elsewhere.

    $$y_i = \mathrm{sign}(x_i)\,(1 + \lambda)
    \min\Big(\frac{(|x_i| - \nu)_+}{\lambda}, \frac{|x_i|}{1 + \lambda}\Big), \qquad
    \sum_i \mathrm{clip}\Big(\frac{|x_i|/\nu - 1}{\lambda}, 0, 1\Big) = k:$$

    $(1 + \lambda)$ times the proximal map of half the squared k-support norm, scaled, at $x$. If
    at most k entries are not zero, y = x.

    Args:
      x: vectors along the last axis; finite. Integers are taken as reals.
      k: 0 < k <= n, not necessarily an integer.
      scale: lambda > 0.

    Raises:
      ValueError: an argument out of range, or x is complex.

    References: {cite}`sander2023`.
    """
    x = real_vectors(x)
    check_count(k, x)
    check_above("scale", scale, 0)
    scale = jnp.asarray(scale, x.dtype)
    size = jnp.abs(x)
    some = size > 0
    # in the unknown -1/nu the equation is piecewise linear, an entry rising from -1/|x_i|
    starts = -1 / jnp.where(some, size, 1)
    pieces = ramp_level(starts, size / scale, k, jnp.ones_like(x))
    # the rise is 1/nu - 1/|x_i|, so that (|x_i| - nu) / |x_i| is this part
    part = pieces.rise * size / (1 + pieces.rise * size)
    return x * jnp.where(pieces.ended, 1, jnp.minimum(part * ((1 + scale) / scale), 1))


def real_vectors(x: Numbers) -> Vectors:
    """x with integers and truth values as reals; complex numbers are refused."""
    x = jnp.asarray(x)
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        raise ValueError(f"`x` must be real; got {x.dtype}. Pass its real part or its magnitude.")
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(float)


def check_count(k: Number, x: Vectors) -> None:
    """Raises ValueError unless 0 < k <= n, where k is known."""
    check_above("k", k, 0)
    n = x.shape[-1]
    if isinstance(k, int | float) and k > n:
        raise ValueError(f"`k` must be at most {n}, the number of entries; got {k}.")
