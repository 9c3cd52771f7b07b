# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Does attention get more sensitive as the text gets longer?
#
# A token of a text of n tokens has mass 1/n. Moving it by one costs $n^{-1/2}$ in $W_2$, and if it
# can pull all the others along, the output moves by one: the ratio is $\sqrt n$. How far does
# this go? We look at the worst inputs that there can be, and then at real ones.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt

import meanfield as mf


jax.config.update("jax_enable_x64", True)

# %% [markdown]
# ## The worst case
#
# On the unit ball take the scores $-s \langle x, y \rangle$. `worst_measure` puts all tokens but
# one at one point and the last where it pulls most, and returns the exact local constant there. The
# larger s, the more a single token can outweigh the others: up to $e^{2 s}$ of them.

# %%
lengths = [2**k for k in range(2, 15)]
strengths = (1.0, 2.0, 3.0, 4.0)
worst, ever = {}, {}
for s in strengths:
    attn = mf.SelfAttention(-s * jnp.eye(2), jnp.eye(2))
    worst[s] = [mf.worst_measure(attn, mf.Ball(1.0), n=n, steps=0).value for n in lengths]
    ever[s] = mf.worst_measure(attn, mf.Ball(1.0)).value  # two atoms of any masses, searched
    peak = lengths[max(range(len(lengths)), key=lambda i: worst[s][i])]
    print(
        f"s = {s:.0f}: largest at n = {peak} (e^(2s) = {jnp.exp(2 * s):.0f}), "
        f"with any masses {ever[s]:.1f}"
    )

# %%
figure, ax = plt.subplots(figsize=(6.6, 4.2), layout="constrained")
colors = ("#9ebee0", "#3b78be", "#173c78", "#c2410c")
for (s, values), color in zip(worst.items(), colors, strict=True):
    ax.loglog(lengths, values, "o-", ms=4, color=color, label=f"s = {s:.0f}")
    ax.axhline(ever[s], color=color, lw=0.8, ls=":")
ax.loglog(lengths, [n**0.5 for n in lengths], color="#8a94a0", lw=1, label=r"$\sqrt{n}$")
ax.set_xlabel("tokens")
ax.set_ylabel("largest local constant found")
legend = ax.legend(frameon=False)

# %% [markdown]
# The constant grows like $\sqrt n$ until one token can no longer outweigh the rest, about where
# $n = e^{2 s}$; then it falls. Dotted is what two atoms of unequal masses reach: the growth with n
# is not a law of attention, but the way of n equal masses to what measures can do.
#
# ## Real inputs
#
# On real texts nothing is chosen to be bad. The audit cuts the text to more and more tokens and
# fits an exponent, with a confidence interval of 95 %. These models read few tokens, so the
# intervals are wide; on longer texts the exponents of all-MiniLM-L6-v2 are 0.22 to 0.33.

# %%
settings = mf.audits.AuditSettings(metrics=("growth",), overflow="window", windows=4)
sources = {
    "shakespeare-gpt": {"a page": mf.models.zoo.sample_text()},
    "digits-vit": {"a digit": mf.models.zoo.sample_images()[0]},
}
for name, inputs in sources.items():
    audit = mf.audit(mf.models.load(name), inputs, key=jax.random.key(0), settings=settings)
    for record in audit.growth:
        fitted = f"n^{record.exponent:.2f} in [{record.low:.2f}, {record.high:.2f}]"
        print(f"{name}, layer {record.layer}: {fitted}")

# %% [markdown]
# **In the worst case sensitivity grows like the square root of the length, until the scores are
# outnumbered; on real texts the exponent is smaller, and the audit measures it.**
