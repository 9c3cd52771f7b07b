"""A step of the gradient flow beside the same step of the same ResNet in plain JAX and optax.

Both make 20 Euler steps in one compiled loop on one batch: L = 32 layers of M = 256 particles in
dimension 16, 256 examples, float32. The plain one is what one writes without this library: arrays
(u, w, b), a scan over layers, `optax.sgd` with the learning rate step * L * M. Run it from the root
of the repository: `python benchmarks/gradient_flow.py`.
"""

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from timing import interleaved, machine, report

import meanfield as mf
from meanfield.training.problem import training_problem
from meanfield.training.steps import at_start, steps_until


DEPTH, WIDTH, DIM, BATCH, STEPS, ROUNDS = 32, 256, 16, 256, 20, 15
STEP = 0.05


def plain(points, x, y):
    """Twenty steps of optax.sgd, compiled, from the same start."""
    optimiser = optax.sgd(STEP * DEPTH * WIDTH)

    def loss(params):
        def layer(x, layer_params):
            u, w, b = layer_params
            return x + jnp.tanh(x @ w.T + b) @ u / (DEPTH * WIDTH), None

        last, _ = jax.lax.scan(layer, x, params)
        return jnp.mean(jnp.sum((last - y) ** 2, axis=-1)) / 2

    @jax.jit
    def run(params):
        def step(carry, _):
            params, state = carry
            value, gradient = jax.value_and_grad(loss)(params)
            update, state = optimiser.update(gradient, state, params)
            return (optax.apply_updates(params, update), state), value

        return jax.lax.scan(step, (params, optimiser.init(params)), length=STEPS)[0][0]

    u, w, b = points[..., :DIM], points[..., DIM : 2 * DIM], points[..., 2 * DIM]
    return lambda: run((u, w, b))


def flow(net, x, y, method):
    """Twenty steps of `gradient_flow`, without its records."""
    problem, start = training_problem(net, mf.training.SquaredError())
    begun = at_start(method, start, start.params.points.dtype)
    return lambda: steps_until(problem, method, begun, jnp.array(STEPS), (x, y), None)


def main() -> None:
    net_key, x_key, y_key = jr.split(jr.key(0), 3)
    net = mf.training.MeanFieldResNet.random(dim=DIM, depth=DEPTH, width=WIDTH, key=net_key)
    x = jr.normal(x_key, (BATCH, DIM))
    y = x + 0.5 * jr.normal(y_key, (BATCH, DIM))
    step = jnp.float32(STEP)
    contestants = {
        "plain JAX and optax": plain(net.params.points, x, y),
        "gradient_flow, Euler": flow(net, x, y, mf.training.Euler(step)),
        "gradient_flow, Optax(sgd)": flow(net, x, y, mf.training.Optax(optax.sgd(STEP))),
        "gradient_flow, Heun": flow(net, x, y, mf.training.Heun(step)),
    }
    ours = contestants["gradient_flow, Euler"]().trained.params.points
    u, w, b = contestants["plain JAX and optax"]()
    gap = jnp.max(jnp.abs(ours - jnp.concatenate([u, w, b[..., None]], axis=-1)))
    moved = jnp.max(jnp.abs(ours - net.params.points))
    print(machine())
    print(f"{STEPS} steps, L {DEPTH}, M {WIDTH}, d {DIM}, batch {BATCH}, float32")
    print(f"particles moved by up to {moved:.1e}, and differ between the two by {gap:.1e}")
    report(interleaved(contestants, ROUNDS), "plain JAX and optax")


if __name__ == "__main__":
    main()
