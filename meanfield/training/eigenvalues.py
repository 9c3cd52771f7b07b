r"""The smallest and the largest eigenvalue of a Gram matrix, enclosed (rump2006; float64, host)."""

import numpy as np
from jaxtyping import Float


EPS = float(np.finfo(np.float64).eps)


def enclosed(gram: Float[np.ndarray, "n n"], terms: int) -> tuple[float, float]:
    r"""A lower bound on $\lambda_{\min}(G)$ and an upper bound on $\lambda_{\max}(G)$, where
    $G = F F^T$ and `gram` is what floating point made of it.

    Both are guessed by an eigenvalue solver and proved by a Cholesky factorisation. The lower bound
    is not above the true eigenvalue, so it is exactly zero wherever G is singular.

    Args:
      gram: the computed matrix; its exact counterpart is positive semidefinite.
      terms: the number of columns of F, whose sums were rounded.
    """
    gram = (gram + gram.T) / 2
    guesses = np.linalg.eigvalsh(gram)
    return _lower(gram, float(guesses[0]), terms), _upper(gram, float(guesses[-1]), terms)


def _lower(gram: Float[np.ndarray, "n n"], guess: float, terms: int) -> float:
    slack = margin(float(np.trace(gram)), len(gram), terms)
    for step in slack * 4.0 ** np.arange(8):
        if factorises(gram - (guess - step) * np.eye(len(gram))):
            return max(0.0, guess - step - slack)
    return 0.0


def _upper(gram: Float[np.ndarray, "n n"], guess: float, terms: int) -> float:
    slack = margin(len(gram) * guess, len(gram), terms)
    for step in slack * 4.0 ** np.arange(8):
        if factorises((guess + step) * np.eye(len(gram)) - gram):
            return guess + step + slack
    return float(np.trace(gram)) + slack


def factorises(matrix: Float[np.ndarray, "n n"]) -> bool:
    """Whether floating-point Cholesky of a symmetric matrix B succeeds, which proves that
    lambda_min(B) is at least -(n + 2) eps tr(B)."""
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return False
    return True


def margin(trace: float, n: int, terms: int) -> float:
    """What rounding can have done to an eigenvalue: in the sums of `terms` products, and in the
    Cholesky factorisation that proves it (docs: theory/training, "Rounding")."""
    return 4 * (n + terms + 32) * EPS * trace
