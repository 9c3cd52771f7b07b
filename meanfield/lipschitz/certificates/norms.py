"""Upper bounds on norms of matrices that hold whatever the search for them did (float64, host)."""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float


Array = np.ndarray
EPS = float(np.finfo(np.float64).eps)


def power_norms(grams: Float[Array, "*n k k"], squarings: int = 4) -> Float[Array, "*n"]:
    r"""Upper bounds on the largest eigenvalues of positive semidefinite matrices:
    $(\mathrm{tr}\, M^{p})^{1/p}$ with $p = 2^{squarings}$, at most $k^{1/p}$ times too large."""
    trace = np.trace(grams, axis1=-2, axis2=-1)
    log_scale = np.log(np.where(trace > 0, trace, 1))
    power = grams / np.where(trace > 0, trace, 1)[..., None, None]
    exponent = 1
    for _ in range(squarings - 1):
        power = power @ power
        size = np.maximum(np.trace(power, axis1=-2, axis2=-1), 1e-300)
        exponent *= 2
        log_scale = log_scale + np.log(size) / exponent
        power = power / size[..., None, None]
    # tr M^{2p} = |M^p|_F^2: the last squaring needs no product
    last = np.sum(power**2, axis=(-2, -1))
    rounding = 1 + 16 * (grams.shape[-1] + 8) * EPS
    return np.where(trace > 0, np.exp(log_scale) * last ** (0.5 / exponent) * rounding, 0.0)


def below(gram: Float[Array, "k k"], level: float) -> bool:
    r"""Whether $\lambda_{\max}(G) \le$ `level` is proved by a Cholesky factorisation.

    If floating-point Cholesky of $tI - G$ succeeds then $tI - G \ge -c$ with
    $c = 4 k (k + 2)\, u\, t$ (rump2006), so the test is made for a level lowered by that.
    """
    from scipy.linalg import cholesky  # slow to import

    k = gram.shape[0]
    lowered = level * (1 - 4 * (k + 2) * EPS * k)
    shifted = -gram
    shifted[np.diag_indices(k)] += lowered
    try:
        cholesky(shifted, lower=True, overwrite_a=True, check_finite=False)
    except np.linalg.LinAlgError:
        return False
    return True


def top_eigenvalue(gram: Float[Array, "k k"]) -> float:
    """An upper bound on the largest eigenvalue of a symmetric matrix, within 1e-6 of it or so: an
    approximation, raised until a Cholesky factorisation proves it."""
    top = lanczos_value(lambda x: gram @ x, gram.shape[0], 30)
    slack = 1e-9
    while slack < 1.0:
        if top > 0 and below(gram, top * (1 + slack)):
            return top * (1 + slack)
        slack *= 10
    return float(np.linalg.norm(gram)) * (1 + 4 * gram.shape[0] * EPS)


def spectral_norms(matrices: Float[Array, "n a b"]) -> Float[Array, " n"]:
    """Upper bounds on the norms of matrices, one after the other."""

    def one(matrix: Array) -> float:
        gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
        error = 8 * EPS * (sum(matrix.shape) + 16) * float(np.trace(gram))
        return math.sqrt(top_eigenvalue(gram) + error)

    return np.array([one(matrix) for matrix in matrices])


def positive_eigenvalue(matrix: Float[Array, "k k"], scale: Float[Array, " k"]) -> float:
    r"""An upper bound on $\lambda_{\max}(S M S)$, S = diag(scale), for a symmetric M without
    negative entries: $\max_k (M S^2 y)_k / y_k$ is one for every y > 0, and least at
    the Perron vector."""
    y, best = np.ones(len(matrix)), math.inf
    for _ in range(12):
        product = matrix @ (scale**2 * y)
        best = min(best, float(np.max(product / y)))
        y = product + 1e-6 * max(float(product.max()), 1e-300)
    return best * (1 + 8 * EPS * (len(matrix) + 16))


def lanczos_value(
    times: Callable[[Array], Array], size: int, steps: int = 20, rtol: float = 0.0
) -> float:
    """An estimate of the largest eigenvalue of a positive semidefinite map, from below; the search
    ends early where a step adds less than `rtol` of it."""
    x = np.random.default_rng(0).standard_normal(size)
    basis, diagonal, beside = [x / np.linalg.norm(x)], [], []
    top = 0.0
    for _ in range(min(steps, size)):
        y = times(basis[-1])
        diagonal.append(float(basis[-1] @ y))
        kept = np.stack(basis)
        for _ in range(2):
            y = y - kept.T @ (kept @ y)
        beside.append(float(np.linalg.norm(y)))
        before, top = top, _top_of(diagonal, beside)
        if beside[-1] <= 1e-12 * max(diagonal) or top - before < rtol * top:
            break
        basis.append(y / beside[-1])
    return top


def _top_of(diagonal: list[float], beside: list[float]) -> float:
    """The largest eigenvalue of the symmetric tridiagonal matrix with these entries."""
    inner = np.diag(diagonal) + np.diag(beside[: len(diagonal) - 1], -1)
    return float(np.linalg.eigvalsh(inner)[-1])


def chebyshev_level(
    times: Callable[[Array], Array],
    size: int,
    top: float,
    rng: np.random.Generator,
    *,
    gap: float = 0.08,
    failure: float = 1e-12,
    draws: int = 4,
) -> float:
    r"""A level that $\lambda_{\max}$ of a positive semidefinite map exceeds with probability at
    most `failure` over the draws of `rng` (docs: theory/certificates, randomised centre).

    Args:
      times: the map on (draws, size) matrices.
      top: an estimate of the largest eigenvalue, from below.
    """
    start = rng.standard_normal((draws, size))
    quantile = failure ** (1 / draws) / 0.8 / 2  # half is kept for rounding
    longest = float(np.max(np.linalg.norm(start, axis=1)))
    wanted = 2 * longest / quantile  # passes wherever all eigenvalues are below the level
    ratio = (1 + gap) / (1 - gap)
    degree = math.ceil(math.acosh(wanted) / math.acosh(ratio))
    reached = quantile * math.cosh(degree * math.acosh(ratio))
    level = top * (1 + 1e-3)
    for _ in range(200):
        if _chebyshev(times, start, level, degree, reached):
            return level / (1 - gap)
        level *= 1.05
    return math.inf


def _chebyshev(times, start: Array, level: float, degree: int, reached: float) -> bool:
    """Whether all rows of T_m(2 A / level - 1) stay below `reached`, at every degree on the way."""
    before, now = start, 2 / level * times(start) - start
    for _ in range(degree - 1):
        before, now = now, 2 * (2 / level * times(now) - now) - before
        if not float(np.max(np.linalg.norm(now, axis=1))) < reached:
            return False
    return True
