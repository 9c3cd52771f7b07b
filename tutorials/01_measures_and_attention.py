# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Measures and attention in five minutes
#
# *How far can the output of attention move when its input moves a little?* To ask this properly
# we need to say what the input is. In this library it is a **measure**: a cloud of points with
# masses. A sequence of n tokens is n points of mass 1/n.

# %%
import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt

import meanfield as mf


jax.config.update("jax_enable_x64", True)  # we shall take small differences

tokens = jr.normal(jr.key(0), (6, 2))
mu = mf.Measure(tokens)
print("size", mu.size, "| dimension", mu.dim, "| mass", mu.mass, "| mean", mu.mean)

# %% [markdown]
# Masses need not be equal, and an atom of **mass zero is absent**: that is how measures of
# different sizes are padded and batched. The same measure can be written in many ways: in another
# order, with absent atoms, with an atom **split** into copies that share its mass. The
# Wasserstein distance, the least root mean square displacement that carries one measure to
# another, does not see the difference.

# %%
heavier = mf.Measure(tokens, jnp.array([0.5, 0.1, 0.1, 0.1, 0.1, 0.1]))
written = {
    "in reverse order": mf.Measure(mu.points[::-1]),
    "padded to ten atoms": mu.pad(10),
    "each atom split in three": mu.split(3),
    "the first atom split 30:70": mu.split(0, jnp.array([0.3, 0.7])),
    "with half its mass on one token": heavier,
}
for name, other in written.items():
    print(f"{name:32s} W2 = {mf.wasserstein(mu, other):.3f}")

# %% [markdown]
# ## Attention moves measures
#
# Self-attention with score matrix A and value matrix V sends a token x, in the context of a
# measure, to
#
# $$G(\mu, x) = \frac{\int e^{\langle A x, y \rangle}\, V y \; d\mu(y)}
# {\int e^{\langle A x, y \rangle}\, d\mu(y)} .$$
#
# It acts on the measure by moving each atom to its image, masses unchanged: the **pushforward**.
# Since the formula only knows the measure, it does not matter how the measure is written.

# %%
attn = mf.SelfAttention(jnp.array([[1.0, 0.5], [-0.5, 1.0]]), jnp.eye(2))
for name, other in written.items():
    print(f"{name:32s} W2 of the outputs = {mf.wasserstein(attn(mu), attn(other)):.3f}")

# %% [markdown]
# ## How far can the output move?
#
# The **local Lipschitz constant** at a measure is the largest ratio of distances, output to
# input, over all small perturbations. The library computes it exactly, with a lower bound, an
# upper bound, and the perturbation that attains it.

# %%
sol = mf.local_lipschitz(attn, mu, key=jr.key(1))
print(f"constant {sol.value:.6f}, between {sol.lower:.6f} and {sol.upper:.6f}")
print("share of each token in the worst direction:", sol.shares.round(3))


def ratio(f, mu, nu):
    """How much farther apart the outputs are than the inputs."""
    return mf.wasserstein(f(mu), f(nu)) / mf.wasserstein(mu, nu)


moved = mu.with_points(mu.points + 1e-5 * sol.tangent)
print(f"ratio reached by a step of 1e-5 in that direction: {ratio(attn, mu, moved):.6f}")

# %% [markdown]
# ## What splitting does
#
# A perturbation of a measure may do more than move tokens: it may cut one in two and pull the
# halves apart. Moving a token changes its own query *and* its own key, and the two can cancel.
# Splitting it into $x \pm \varepsilon u$ leaves the key where it was, to first order, and frees
# the query. Here is a family of two tokens built so that this happens.


# %%
def two_tokens(delta, w2, mass):
    """Two tokens whose query and key effects cancel when the light one moves."""
    w = jnp.array([1.0, w2])
    across = jnp.array([-w2, 1.0]) / jnp.linalg.norm(w)
    light = w * jnp.log((1 - mass) / mass) / (w @ w) + 3 * across
    points = jnp.stack([light, light - jnp.array([delta, 0.0])])
    A = jnp.stack([w / delta, -w2 * light / (light @ light)])
    V = jnp.array([[1.0, 0.0], [0.0, 0.0]])
    return mf.SelfAttention(A, V), mf.Measure(points, jnp.array([mass, 1 - mass]))


print("delta   w2    mass    moving  splitting")
for delta, w2, mass in [(5, 5, 0.1), (6, 20, 0.02), (8, 60, 0.005), (12, 300, 5e-4)]:
    sol = mf.local_lipschitz(*two_tokens(delta, w2, mass), key=jr.key(2))
    print(f"{delta:5} {w2:4} {mass:8} {sol.smooth:8.2f} {sol.split:8.2f}")

# %% [markdown]
# The constants are limits for small perturbations. To see that they are real, perturb by a
# distance $\varepsilon$, once by moving the tokens in the worst direction and once by splitting
# the light token, and measure both sides with exact transport.


# %%
def after_moving(mu, tangent, epsilon):
    return mu.with_points(mu.points + epsilon * tangent)


def after_splitting(mu, tangent, epsilon):
    halves = mu.split(2)
    signs = jnp.tile(jnp.array([1.0, -1.0]), mu.size)[:, None]
    apart = signs * jnp.repeat(tangent, 2, axis=0)
    return halves.with_points(halves.points + epsilon * apart)


attn, mu = two_tokens(5, 5, 0.1)
move = mf.local_lipschitz(attn, mu, splitting=False, key=jr.key(3))
split = mf.local_lipschitz(attn, mu, key=jr.key(3))
epsilons = jnp.logspace(-4, -1, 13)
by_moving = [ratio(attn, mu, after_moving(mu, move.tangent, e)) for e in epsilons]
by_splitting = [ratio(attn, mu, after_splitting(mu, split.tangent, e)) for e in epsilons]

# %%
figure, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
for values, constant, label, color in (
    (by_splitting, split.split, "splitting the light token", "#c2410c"),
    (by_moving, move.smooth, "moving the tokens", "#1d4ed8"),
):
    ax.semilogx(epsilons, values, "o-", color=color, label=label, markersize=4)
    ax.axhline(constant, color=color, linestyle=":", linewidth=1)
ax.set_xlabel(r"size $\varepsilon$ of the perturbation ($W_2$)")
ax.set_ylabel(r"output distance / input distance")
ax.set_ylim(bottom=0)
legend = ax.legend(frameon=False)

# %% [markdown]
# Cutting a token in two moves the output twice as far as any small move of the tokens can, just
# as the two constants (dotted) say.
