# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A ResNet as a measure: is training a gradient flow?
#
# A residual network adds up what its neurons do, layer after layer. Neither the order of the
# neurons of a layer matters, nor whether one of them is written as two halves: the network is a
# function of a measure over (layer, neuron). Training moves this measure, layer by layer, and
# gradient descent claims to be the steepest way down. How well does the claim hold?

# %%
import warnings

import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt

import meanfield as mf


jax.config.update("jax_enable_x64", True)
net_key, x_key, y_key = jr.split(jr.key(3), 3)

# %% [markdown]
# ## The network and its measure
#
# Eight layers of 24 neurons $u \tanh(\langle w, x \rangle + b)$, each of mass 1 / 24, and layers
# of mass 1 / 8. The task: move five points of the plane to five others. At the start u = 0, and the
# network is the identity.

# %%
x = jr.normal(x_key, (5, 2))
y = x + 0.5 * jr.normal(y_key, (5, 2))
loss = mf.training.SquaredError()
net = mf.training.MeanFieldResNet.random(dim=2, depth=8, width=24, key=net_key)
halves = net.with_params(net.params.split(2))
print("a network of twice the neurons, the same measure:", halves.width, "against", net.width)
print("largest difference of outputs:", float(jnp.max(jnp.abs(halves.outputs(x) - net.outputs(x)))))

# %% [markdown]
# The gradient of the risk in this space of measures is what automatic differentiation gives,
# divided by the mass of each neuron: with 8 layers of 24 that is 192 times the gradient of the
# weights. Divided like this, it is the same for both ways to write the measure.

# %%
field = mf.training.gradient_field(net, loss, (x, y))
of_halves = mf.training.gradient_field(halves, loss, (x, y))
print("largest difference of fields:", float(jnp.max(jnp.abs(of_halves[:, ::2] - field))))

# %% [markdown]
# ## Following the flow
#
# Euler's method with a short step. The flow loses risk at the rate of its squared slope, so the
# ratio of squared slope to risk is the rate of log risk. A lower bound on this ratio can be
# proved from the eigenvalues of a kernel in each layer, as the network has more neurons than
# examples.

# %%
run = mf.gradient_flow(
    net,
    loss,
    (x, y),
    method=mf.training.Euler(step=0.2),
    steps=750,
    record_every=50,
    record=mf.training.Record(particles=True),
)
print(run)
rate, ratio = run.rate[-1], run.polyak_lojasiewicz[-1]
print(f"log risk falls at {rate:.5f}; the ratio is {ratio:.5f}, certified {run.certified[-1]:.5f}")
ball = run.ball()
print(
    f"distance {ball.travelled:.2f} <= path {run.path_length[-1]:.2f} "
    f"<= bound {run.path_bound[-1]:.2f} <= radius {ball.radius:.2f}"
)

# %%
figure, axes = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
mf.plot.particle_paths(run, ax=axes[0]).set(xlabel="$u_1$", ylabel="$u_2$")
mf.plot.layer_travel(run, ax=axes[1])
axes_of_ratio = mf.plot.polyak_lojasiewicz(run, ax=axes[2])

# %% [markdown]
# Left: the outer weights of the first, a middle and the last layer leave zero. Middle: all layers
# travel about equally far. Right: the rate settles, and risk falls exponentially with it.
#
# ## Steps that are too long
#
# A gradient flow with these slopes has a path of limited length. Longer steps go to and fro across
# the valley: their path is longer than any flow's, and the run says so, even where the risk falls.
# The proximal step (a minimising movement: the best measure, with its distance as a price) is
# stable at any size.

# %%
few = mf.training.Record(certificate=False, distance=False)
methods = {
    "Euler(0.2)": (mf.training.Euler(0.2), 750),
    "Euler(2)": (mf.training.Euler(2.0), 75),
    "Euler(6)": (mf.training.Euler(6.0), 25),
    "Proximal(10)": (mf.training.Proximal(10.0), 15),
    "Proximal(50)": (mf.training.Proximal(50.0), 3),
}
runs = {}
for name, (method, steps) in methods.items():
    with warnings.catch_warnings(record=True):
        runs[name] = mf.gradient_flow(
            net, loss, (x, y), method, steps, record_every=max(1, steps // 75), record=few
        )
    path, bound = runs[name].path_length[-1], runs[name].path_bound[-1]
    print(
        f"{name:<13} risk {runs[name].risk[-1]:.1e}, {runs[name].evaluations[-1]:4d} evaluations, "
        f"path {path:6.1f}, a flow's at most {bound:.1f}"
    )

# %%
figure, ax = plt.subplots(figsize=(6.6, 4.2), layout="constrained")
ax = mf.plot.step_sizes(runs, ax)

# %% [markdown]
# **With short steps, training is a gradient flow of a measure: its risk falls at the rate that its
# slope predicts; the length of the path tells when steps have become too long for that.**
