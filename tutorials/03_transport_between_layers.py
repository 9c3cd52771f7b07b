# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Does a layer move its tokens the short way?
#
# A block of a transformer takes a cloud of tokens to another cloud. Each token has an image, so the
# block comes with a coupling of the two clouds: token i to image i. Is this the cheapest way to get
# from the one cloud to the other? **Optimal transport** knows the cheapest, and the two costs can
# be compared. The model is the small character GPT that ships with meanfield.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt

import meanfield as mf


model = mf.models.load("shakespeare-gpt")
text = mf.models.zoo.sample_text()[:64]
states = model.hidden(model.tokenize(text))  # what enters block 0, block 1, and what leaves
clouds = [mf.Measure(points) for points in states]
print(repr(text))

# %% [markdown]
# ## Two costs
#
# The block's own coupling costs the mean square of the displacements of its tokens. The
# **Wasserstein distance** $W_2$ is the root of the least cost over all couplings. The share of the
# mass that the cheapest coupling sends to the token's own image says how far they agree.

# %%
plans = []
for k, (mu, nu) in enumerate(zip(clouds[:-1], clouds[1:], strict=True)):
    own = jnp.sqrt(jnp.mean(jnp.sum((mu.points - nu.points) ** 2, axis=-1)))
    sol = mf.optimal_transport(mu, nu)
    plans.append(sol)
    kept = jnp.trace(sol.coupling.matrix)
    print(
        f"block {k}: own way {own:.3f}, cheapest {sol.value**0.5:.3f}, tokens that agree {kept:.0%}"
    )

# %% [markdown]
# The second block moves every token the short way: its coupling *is* the optimal one. The first
# does not: nearly every token ends where another one could have gone for less.

# %%
figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
for k, (ax, sol) in enumerate(zip(axes, plans, strict=True)):
    mf.plot.coupling(sol.coupling, clouds[k], clouds[k + 1], ax)
    ax.set_title(f"block {k}: the cheapest coupling", fontsize="medium")
plt.show()

# %% [markdown]
# ## How far, typically and at most
#
# $W_1$ is the mean displacement of the cheapest coupling, $W_2$ the root mean square, and
# $W_\infty$ the least possible *largest* displacement. They grow with p; if they are close, all
# tokens move by about as much.

# %%
for k, (mu, nu) in enumerate(zip(clouds[:-1], clouds[1:], strict=True)):
    distances = [float(mf.wasserstein(mu, nu, p)) for p in (1, 2, 8, jnp.inf)]
    print(f"block {k}: W_1, W_2, W_8, W_inf =", [round(x, 3) for x in distances])

# %% [markdown]
# ## Which tokens make the distance?
#
# The distance has a derivative with respect to the mass of each token: the **potential**, how much
# $W_2^2$ would grow if a little more of the mass were there. It names the tokens that are
# far from where the next cloud is.

# %%
mu, nu = clouds[0], clouds[1]


def squared_distance(weights):
    return mf.optimal_transport(mf.Measure(mu.points, weights), nu).value


slope = jax.grad(squared_distance)(mu.weights)
order = jnp.argsort(slope)
print("farthest:", [text[int(i)] for i in order[-8:][::-1]])
print("nearest: ", [text[int(i)] for i in order[:8]])

# %% [markdown]
# ## Blurring the coupling
#
# `Sinkhorn` adds an entropy: the coupling spreads out, runs on the device at any size, and is
# smooth. Its value is above the exact one; how much depends on the temperature, told in
# units of the mean cost. Follow the **barycentric map** (each token to the mean of where its mass
# goes) and see how near it comes to the block itself.

# %%
epsilons = [0.5, 0.2, 0.1, 0.05, 0.02, 0.01]
values, errors = [], []
mu, nu = clouds[1], clouds[2]
for epsilon in epsilons:
    sol = mf.optimal_transport(mu, nu, solver=mf.Sinkhorn(epsilon, max_steps=20_000))
    values.append(float(sol.value))
    gone = sol.coupling.barycentric(nu.points) - nu.points
    errors.append(float(jnp.sqrt(jnp.mean(jnp.sum(gone**2, axis=-1)))))
exact = float(plans[1].value)

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
left.loglog(epsilons, [value - exact for value in values], "o-", color="#1d4ed8")
left.set_ylabel("value above the exact one")
right.loglog(epsilons, errors, "o-", color="#c2410c")
right.set_ylabel("barycentric map to the block (r.m.s.)")
for ax in (left, right):
    ax.set_xlabel("temperature, in units of the mean cost")
plt.show()

# %% [markdown]
# As the temperature falls, transport finds the second block again without being told which token
# is which: **what a block does to the cloud can say what it does to each token.**
