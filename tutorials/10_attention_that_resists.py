# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Is there an attention that one stray token cannot upset?
#
# Softmax attention weighs tokens by $e^{score}$. A token of tiny mass can outweigh all others if
# its score is high enough, and moving it costs next to nothing in $W_2$: the Lipschitz constant on
# a ball of radius R grows like $e^{\gamma R^2}$. The rule that spreads the attention can be
# changed. With the chi-square divergence in place of the entropy, weights grow like the score and
# not like its exponential, and the constant is *proved* to be a polynomial of the radius.

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import optax

import meanfield as mf


jax.config.update("jax_enable_x64", True)
choices = {"softmax": mf.Softmax(), "chi-square": mf.ChiSquare(scale=1.0)}

# %% [markdown]
# ## The same measures
#
# `worst_measure` finds the two Diracs at which softmax attention is worst. Both rules are then
# measured at this pair, and bounded on the ball.

# %%
radii = (2.0, 4.0, 6.0, 8.0, 10.0)
layers = {name: mf.SelfAttention(jnp.eye(2), jnp.eye(2), choice=c) for name, c in choices.items()}
pairs = [mf.worst_measure(layers["softmax"], mf.Ball(R), steps=0).measure for R in radii]


@eqx.filter_jit
def constant(f, mu):
    return mf.local_lipschitz(f, mu, key=jr.key(0), upper=False, throw=False).value


worst = {name: [float(constant(f, mu)) for mu in pairs] for name, f in layers.items()}
bounds = {
    name: [mf.lipschitz_bound(f, mf.Ball(R)).value for R in radii] for name, f in layers.items()
}
for i, R in enumerate(radii):
    shown = [f"{name} {worst[name][i]:.3g} (at most {bounds[name][i]:.3g})" for name in choices]
    print(f"R = {R:4.0f}: " + ", ".join(shown))

# %% [markdown]
# ## A small model, trained with each
#
# A resistant layer that cannot learn would be of no use. The task: sixteen tokens, each with a key
# on a sphere and a value $\pm 1$; the first asks for the value of one of the others by its key.
# One layer of attention solves it, if it looks where it should.

# %%
TOKENS, KEYS = 16, 4


def draw(key, batch):
    """Tokens (key, value, whether it asks), and the value that is asked for."""
    one, other, third = jr.split(key, 3)
    keys = jr.normal(one, (batch, TOKENS, KEYS))
    keys /= jnp.linalg.norm(keys, axis=-1, keepdims=True)
    values = jr.rademacher(other, (batch, TOKENS, 1), dtype=keys.dtype)
    row, asked = jnp.arange(batch), jr.randint(third, (batch,), 1, TOKENS)
    keys = keys.at[:, 0].set(keys[row, asked])
    asks = jnp.zeros_like(values).at[:, 0].set(1.0)
    points = jnp.concatenate([keys, values.at[:, 0].set(0.0), asks], axis=-1)
    return points, values[row, asked, 0]


@jax.vmap
def tokens_of(points):
    return mf.Measure(points)


def answers(f, points):
    return 4 * jax.vmap(f)(tokens_of(points)).points[:, 0, 0]


def trained(choice, steps=500, rate=3e-2):
    """One layer with this choice, trained with the logistic loss."""
    start = [0.3 * jr.normal(jr.key(1), (6, 6)), 0.3 * jr.normal(jr.key(2), (1, 6))]
    optimiser = optax.adam(rate)

    def loss(weights, points, truth):
        f = mf.SelfAttention(*weights, choice=choice)
        return jnp.mean(jax.nn.softplus(-truth * answers(f, points)))

    def step(state, key):
        weights, memory = state
        slope = jax.grad(loss)(weights, *draw(key, 128))
        change, memory = optimiser.update(slope, memory)
        return (optax.apply_updates(weights, change), memory), None

    state = (start, optimiser.init(start))
    (weights, _), _ = jax.jit(lambda s: jax.lax.scan(step, s, jr.split(jr.key(3), steps)))(state)
    return mf.SelfAttention(*weights, choice=choice)


models = {name: trained(choice) for name, choice in choices.items()}
points, truth = draw(jr.key(9), 1000)
mu = mf.Measure(points[0])
for name, f in models.items():
    right = float(jnp.mean(answers(f, points) * truth > 0))
    print(f"{name}: {100 * right:.1f} % right")

# %% [markdown]
# Both have learnt it. Now take a fraction of one token and send it anywhere within a radius of 3,
# about twice as far as the tokens themselves.

# %%
domain = mf.Ball(3.0)
fractions = (1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5)
peel = mf.MassPeeling(fractions, domain, starts=2, steps=60)
found = {name: mf.attack(f, mu, peel, key=jr.key(0)) for name, f in models.items()}
for name, attack in found.items():
    bound = mf.lipschitz_bound(models[name], domain)
    ratios = ", ".join(f"{float(ratio):.3g}" for ratio in attack.ratio)
    print(f"{name}: small moves {float(attack.local):.3g}; a part sent far {ratios}", end="")
    print(f" (no attack exceeds 10^{bound.log10_value:.1f})")

# %%
colors = {"softmax": "#c2410c", "chi-square": "#3b78be"}
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
for name, color in colors.items():
    left.semilogy(radii, worst[name], "o-", color=color, label=name)
    left.semilogy(radii, bounds[name], "--", color=color, lw=1)
    right.loglog(fractions, found[name].ratio, "o-", color=color, label=name)
left.set_ylim(0.3, 1e10)
left.set_xlabel("radius of the ball")
left.set_ylabel("local constant at the worst pair (bound dashed)")
right.set_xlabel("fraction of the token's mass")
right.set_ylabel("ratio of distances, trained models")
for ax in (left, right):
    ax.legend(frameon=False)
plt.show()

# %% [markdown]
# On the left no layer was trained: at radius 10 the softmax is a million times worse at this pair,
# and what is proved of chi-square (dashed) is a polynomial. On the right both models do the same
# work, and small moves upset them alike. But sent far enough, a hundred-thousandth of a token takes
# over the softmax, while chi-square gives it no more than its mass times a density that its scores
# allow. This has a price: to look at one of very many tokens chi-square needs scores as large as
# their number, where the softmax needs the logarithm.
#
# **Attention resists a stray token if its weights grow no faster than its scores, and it need not
# learn worse for that.**
