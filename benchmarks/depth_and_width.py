"""How fast networks approach their limits: `python benchmarks/depth_and_width.py`.

Depth: particles that are smooth functions of s, outputs and gradient field against the continuous
network. Width: networks trained to time T by gradient flow from random particles, outputs at probe
points against a network of the same depth with so many quasi-random particles that its measure is
the limit. Layers begin with particles of their own, or all with the same ("tied").
"""

import argparse
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from scipy.stats import qmc

from meanfield.measure import ConditionalMeasure
from meanfield.training import (
    ContinuousResNet,
    MeanFieldResNet,
    SingleHiddenLayer,
    SquaredError,
    gradient_field,
)


DIM, STEP, TIME, PROBES = 2, 0.05, 2.0, 16
DEPTHS = (16, 32, 64, 128, 256, 512)
INDEPENDENT = (
    (4, 4),
    (16, 1),
    (16, 4),
    (64, 1),
    (64, 4),
    (16, 16),
    (256, 4),
    (64, 16),
    (16, 64),
    (256, 16),
    (16, 256),
)
TIED = tuple((L, M) for M in (4, 16, 64, 256) for L in (16, 64, 256))


class Waves(eqx.Module):
    first: jax.Array
    second: jax.Array

    def __call__(self, s):
        return self.first * jnp.cos(2 * s) + self.second * jnp.sin(3 * s)


def data(n: int, seed: int = 0):
    x_key, y_key = jr.split(jr.key(seed))
    return jr.normal(x_key, (n, DIM)), jr.normal(y_key, (n, DIM))


def depth_errors() -> dict[str, list[float]]:
    """For each depth, the error of outputs (particles taken at the beginnings of the layers and at
    their middles), and of the field at s = 1/2."""
    waves = Waves(*jr.normal(jr.key(0), (2, 5, 2 * DIM + 1)))
    limit = ContinuousResNet(SingleHiddenLayer(), waves, jnp.full(5, 0.2), 1e-11)
    x, y = data(4)
    output = jax.jit(jax.vmap(limit))(x)
    middle = eqx.filter_jit(limit.gradient_field)(SquaredError(), (x, y), jnp.array([0.5]))[0]

    def output_error(L, offset):
        return float(jnp.linalg.norm(limit.discretize(L, offset=offset).outputs(x) - output))

    def field_error(L):
        field = gradient_field(limit.discretize(L), SquaredError(), (x, y))
        return float(jnp.linalg.norm(field[L // 2] - middle))

    return {
        "outputs": [output_error(L, 0.0) for L in DEPTHS],
        "field at 1/2": [field_error(L) for L in DEPTHS],
        "outputs, midpoints": [output_error(L, 0.5) for L in DEPTHS],
    }


@functools.partial(jax.jit, static_argnames="depth")
def trained(points, x, y, probes, depth):
    """Outputs at the probes after training for the time T, for each of S starts, whose particles
    have shape (S, L, M, p), or (S, 1, M, p) if all layers begin with the same."""

    def outputs(points):
        points = jnp.broadcast_to(points, (depth, *points.shape[1:]))
        net = MeanFieldResNet(SingleHiddenLayer(), ConditionalMeasure(points))

        def step(points, _):
            field = gradient_field(net.with_points(points), SquaredError(), (x, y))
            return points - STEP * field, None

        last, _ = jax.lax.scan(step, points, None, length=round(TIME / STEP))
        return net.with_points(last).outputs(probes)

    return jax.vmap(outputs)(points)


def limit_particles(count: int) -> jax.Array:
    """Particles (0, 2 N, N) from a scrambled Sobol sequence."""
    inner = qmc.MultivariateNormalQMC(np.zeros(DIM + 1), rng=np.random.default_rng(0)).random(count)
    scaled = inner * np.array([2.0] * DIM + [1.0])
    return jnp.concatenate([jnp.zeros((count, DIM)), jnp.asarray(scaled)], axis=1)


def width_errors(shapes, seeds: int, particles: int, tied: bool) -> np.ndarray:
    """The root mean square error over probes and seeds, for each (L, M)."""
    x, y = data(8)
    probes = jr.normal(jr.key(7), (PROBES, DIM))
    limit = limit_particles(particles)
    depths = sorted({L for L, _ in shapes})
    references = {L: trained(limit[None, None], x, y, probes, L) for L in depths}

    def error(L, M):
        keys = jr.split(jr.key(1000 * L + M), seeds)
        shape = (1 if tied else L, M)
        points = [SingleHiddenLayer().random(shape, DIM, key=key) for key in keys]
        outputs = trained(jnp.stack(points), x, y, probes, L)
        return float(jnp.sqrt(jnp.mean(jnp.sum((outputs - references[L]) ** 2, axis=-1))))

    return np.array([error(L, M) for L, M in shapes])


def slope(sizes, errors) -> tuple[float, float]:
    """The slope of log error against log size, and its standard error."""
    X = np.stack([np.ones(len(sizes)), np.log(sizes)], axis=1)
    found, squares, *_ = np.linalg.lstsq(X, np.log(errors), rcond=None)
    spread = np.sum((X[:, 1] - X[:, 1].mean()) ** 2)
    variance = squares[0] / (len(sizes) - 2) / spread
    return float(found[1]), float(np.sqrt(variance))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--particles", type=int, default=4096, help="of the limit in width")
    parser.add_argument("--figure", help="where to save the figure")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)

    depths = depth_errors()
    print(f"{'depth':20s}", *(f"{L:9d}" for L in DEPTHS))
    for name, errors in depths.items():
        print(f"{name:20s}", *(f"{e:9.2e}" for e in errors))
        ratios = np.array(errors[:-1]) / errors[1:]
        print(f"{'  ratio':30s}", *(f"{r:9.3f}" for r in ratios), flush=True)

    free = width_errors(INDEPENDENT, options.seeds, options.particles, tied=False)
    tied = width_errors(TIED, options.seeds, options.particles, tied=True)
    for name, shapes, errors in (("independent", INDEPENDENT, free), ("tied", TIED, tied)):
        print(name, *(f"({L},{M}): {e:.4f}" for (L, M), e in zip(shapes, errors, strict=True)))
    counts = {"independent": np.prod(INDEPENDENT, axis=1), "tied": np.array(TIED)[:, 1]}
    found = {"independent": free, "tied": tied}
    for name, what in (("independent", "L M"), ("tied", "M")):
        value, error = slope(counts[name], found[name])
        print(f"{name} layers: slope in {what} {value:.3f} +- {error:.3f}")
    if options.figure:
        import matplotlib.pyplot as plt

        from meanfield import plot

        figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
        plot.depth_errors(DEPTHS, depths, axes[0])
        plot.width_errors(counts, found, axes[1])
        figure.savefig(options.figure, dpi=150)


if __name__ == "__main__":
    main()
