"""How large the local constant of attention gets on a ball, for several choices, and its bound.

A random search over measures of two to five Diracs on the line, with A = V = 1, beside the pair of
Diracs that is worst for the softmax; exact constants from dense Jacobians. Run with
`JAX_ENABLE_X64=1 python benchmarks/choices.py`; the table of docs/theory/choices comes from here.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import meanfield as mf


CHOICES = {
    "softmax": mf.Softmax(),
    "softmax, cap 4": mf.Softmax(cap=4.0),
    "entmax 3/2": mf.Entmax(1.5),
    "chi-square": mf.ChiSquare(1.0),
}
DRAWS, ATOMS, ROUNDS = 512, 5, 150


def attention(choice: mf.attention.AbstractChoice) -> mf.SelfAttention:
    return mf.SelfAttention(jnp.eye(1), jnp.eye(1), choice=choice)


@eqx.filter_jit
def jacobians(f, points, weights):
    """M^{1/2} J M^{-1/2} of a batch of measures on the line, without the light atoms' rows."""

    def one(x, w):
        J = jax.jacfwd(lambda x: f(mf.Measure(x, w)).points[:, 0])(x)[..., 0]
        root = jnp.sqrt(w)
        return root[:, None] * J / root

    return jax.vmap(one)(points, weights)


def constants(f, points, weights) -> np.ndarray:
    return np.linalg.norm(np.asarray(jacobians(f, points, weights)), 2, axis=(1, 2))


def searched(f: mf.SelfAttention, radius: float) -> float:
    """The largest constant that the random search finds."""
    rng = np.random.default_rng(0)
    points = radius * rng.uniform(-1, 1, (DRAWS, ATOMS, 1))
    logits = 4 * rng.normal(size=(DRAWS, ATOMS)) - 40 * (rng.uniform(size=(DRAWS, ATOMS)) < 0.4)
    best = np.zeros(DRAWS)
    for k in range(ROUNDS):
        size = rng.choice([0.3, 0.03, 0.003], (DRAWS, 1, 1)) * (k > 0)
        moved = np.clip(points + radius * size * rng.normal(size=points.shape), -radius, radius)
        tried = logits + 10 * size[..., 0] * rng.normal(size=logits.shape)
        weights = np.exp(tried - np.logaddexp.reduce(tried, axis=1, keepdims=True))
        values = constants(f, moved, weights)
        better = values > best
        best = np.where(better, values, best)
        points = np.where(better[:, None, None], moved, points)
        logits = np.where(better[:, None], tried, logits)
    return float(best.max())


def at_worst_pair(f: mf.SelfAttention, radius: float) -> float:
    """The constant at the Diracs R/2 and R, the outer one of mass e^{-R^2/4}."""
    light = math.exp(-(radius**2) / 4)
    points, weights = np.array([[[radius / 2], [radius]]]), np.array([[1 - light, light]])
    return float(constants(f, points, weights)[0])


def main() -> None:
    print(f"{'choice':<16}{'R':>4}{'searched':>12}{'worst pair':>12}{'bound':>12}")
    for name, choice in CHOICES.items():
        for radius in (2.0, 5.0, 8.0, 10.0):
            f = attention(choice)
            bound = mf.lipschitz_bound(f, mf.Ball(radius)).value
            found, pair = searched(f, radius), at_worst_pair(f, radius)
            assert max(found, pair) <= bound
            print(f"{name:<16}{radius:>4g}{found:>12.4g}{pair:>12.4g}{bound:>12.4g}")


if __name__ == "__main__":
    main()
