# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What does training conserve?
#
# Gradient flow on any loss, for any data, leaves some functions of the weights of a network as
# they were at the start. Which ones, for an attention head? We ask the gradients, not the theory.

# %%
import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import optax

import meanfield as mf
from meanfield.training import (
    LawMonitor,
    attention_laws,
    balance_gauge,
    balancedness,
    find_quadratic_laws,
)


jax.config.update("jax_enable_x64", True)


def loss(f, batch):
    x, y = batch
    return jnp.mean((f(mf.Measure(x)).points - y) ** 2)


def batch(key):
    one, other = jr.split(key)
    return jr.normal(one, (6, 3)), jr.normal(other, (6, 3))


# %% [markdown]
# ## Laws from gradients alone
#
# The 324 monomials of degree one and two of the 24 weights of a head change at rates that are
# linear in the gradient. At random weights and random data these rates make a matrix; its null
# space is what never changes. The softmax makes the head no polynomial, and no formula is used.

# %%
head = mf.MultiheadAttention.random(dim=3, heads=1, head_dim=2, key=jr.key(0))
laws = find_quadratic_laws(loss, head, batch, key=jr.key(1))
print(laws)
print("of the entries of Q Q^T - K K^T and V V^T - O^T O, the farthest from a law is off by")
print(f"an angle of {laws.distance(attention_laws, head):.0e}")

# %% [markdown]
# Six laws: the entries of two symmetric 2 x 2 matrices. They belong to the freedom to write
# $Q^T K$ and $O V$ with other factors.
#
# ## Steps are not a flow
#
# A step of gradient descent of size $\eta$ adds exactly $\eta^2$ times the law of the gradient.
# Momentum and Adam do not move along the gradient, and move the laws in the first order.
# `LawMonitor` sits in any optax loop and tells both terms.


# %%
def trained(optimizer, f, steps=300):
    """The monitor after every step."""

    def step(carry, key):
        f, state, monitor = carry
        gradient = jax.grad(loss)(f, batch(key))
        updates, state = optimizer.update(gradient, state, f)
        monitor = monitor.update(f, updates)
        return (optax.apply_updates(f, updates), state, monitor), monitor

    start = (f, optimizer.init(f), LawMonitor.start(attention_laws, f))
    return jax.lax.scan(step, start, jr.split(jr.key(2), steps))


def sizes(laws):
    """The norm of all laws together, step by step."""
    squares = [np.sum(np.square(law), axis=tuple(range(1, law.ndim))) for law in laws.values()]
    return np.sqrt(sum(squares))


optimizers = {
    "descent, 0.02": optax.sgd(0.02),
    "descent, 0.2": optax.sgd(0.2),
    "momentum, 0.02": optax.sgd(0.02, momentum=0.9),
    "Adam, 0.02": optax.adam(0.02),
}
drifts, predicted, ends = {}, {}, {}
for name, optimizer in optimizers.items():
    (ends[name], _, _), monitors = trained(optimizer, head)
    drifts[name], predicted[name] = sizes(monitors.drift), sizes(monitors.predicted)
    turned = sizes(monitors.turned)[-1]
    print(f"{name:>15}: drift {drifts[name][-1]:.1e}, of first order {turned:.1e}")

# %% [markdown]
# ## The gauge that training left
#
# What is conserved is how unequal the two factors of a product are. It says nothing about the map:
# `balance_gauge` takes it out, and leaves the least sum of squares that the same attention can
# have. Bounds on the map must not see the difference.

# %%
trained_head = ends["Adam, 0.02"]
balanced = balance_gauge(trained_head)
for name, f in {"as trained": trained_head, "balanced": balanced}.items():
    squares = sum(float(jnp.sum(x**2)) for x in jax.tree.leaves(f))
    bound = mf.lipschitz_bound(f, mf.Ball(2.0), n=6)
    apart = max(part.max() for part in balancedness(f).values())
    print(
        f"{name:>10}: sum of squares {squares:.3f}, imbalance {apart:.1e}, bound {bound.value:.12f}"
    )

# %%
figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.8), layout="constrained")
mf.plot.law_spectrum(laws, ax=axes[0])
ax = mf.plot.law_drift(drifts, predicted, ax=axes[1])

# %% [markdown]
# **Gradients alone tell what an attention head conserves; a step adds the square of its size, and
# what momentum and Adam add besides can be told to the last digit.**
