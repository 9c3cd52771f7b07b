"""Certificates of L2 attention near random measures, attacked: `python distance_certificates.py`.

Heads of all sizes, one or two of them, four unequal atoms in two equal parts each. At each radius:
the largest norm in L^2 of the Jacobian over random measures of the ball, over the certificate; and
medians of the certificate over the constant at the measure, and of the bound on the ball of points,
which was all that was known, over the certificate.
"""

import jax
import jax.numpy as jnp
import numpy as np

import meanfield as mf
from meanfield.attention import L2Attention


HEADS, ATOMS, DRAWS = 80, 4, 60
RADII = (1e-3, 1e-2, 3e-2, 1e-1, 3e-1)


def main():
    jax.config.update("jax_enable_x64", True)
    rng, found = np.random.default_rng(0), []
    for _ in range(HEADS):
        f, mu = drawn(rng)
        stretch, exact = stretches(f, mu.split(2)), mf.certify(f, mu, 0.0).value
        for radius in RADII:
            bound = mf.certify(f, mu, radius).value
            domain = mf.lipschitz_bound(f, mf.Ball(float(mu.radius) + radius)).value
            found.append((stretch(rng, radius) / bound, bound / exact, domain / bound))
    found = np.array(found).reshape(HEADS, len(RADII), 3)
    closest, middle = found[..., 0].max(axis=0), np.median(found[..., 1:], axis=0)
    print(
        "radius: closest draw / certificate; certificate / constant; bound on points / certificate"
    )
    for radius, ratio, (grown, saved) in zip(RADII, closest, middle, strict=True):
        print(f"{radius:<6g} {ratio:.6f}  {grown:10.3f}  {saved:10.3g}")
    if closest.max() > 1:
        raise SystemExit("FAILED: a draw is above its certificate")


def drawn(rng: np.random.Generator) -> tuple[L2Attention, mf.Measure]:
    heads, size = rng.integers(1, 3), np.exp(rng.uniform(-1, 1))
    query, key = jnp.asarray(size * rng.normal(size=(2, heads, 2, 3)))
    value, output = jnp.asarray(rng.normal(size=(2, heads, 3, 3)))
    points, masses = rng.normal(size=(ATOMS, 3)), np.exp(rng.normal(size=ATOMS))
    f = L2Attention(query_proj=query, key_proj=key, value_proj=value, output_proj=output)
    return f, mf.Measure(jnp.asarray(points), jnp.asarray(masses))


def stretches(f: L2Attention, mu: mf.Measure):
    """The largest norm of the Jacobian over random moves of the atoms."""
    root, x = np.sqrt(np.asarray(mu.weights)), np.asarray(mu.points)
    ratio = (root[:, None] / root)[:, None, :, None]
    jacobian = jax.jit(jax.vmap(jax.jacfwd(lambda x: f(mu.with_points(x)).points)))

    def largest(rng: np.random.Generator, radius: float) -> float:
        moves = rng.normal(size=(DRAWS, *x.shape))
        moves *= radius / np.linalg.norm(moves, axis=-1, keepdims=True)
        J = ratio * np.asarray(jacobian(x + moves))
        dense = J.reshape(DRAWS, J.shape[1] * J.shape[2], -1)
        return float(np.linalg.norm(dense, 2, axis=(1, 2)).max())

    return largest


if __name__ == "__main__":
    main()
