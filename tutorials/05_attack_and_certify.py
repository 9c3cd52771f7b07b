# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # How far can a layer really be upset, and what can be proved?
#
# The local Lipschitz constant of a layer is a derivative: it speaks of moves without size. Two
# questions of finite size remain. What does an adversary reach who may move tokens by some
# $\epsilon$, or who may take a *little* of a token and send it far? And what can be promised,
# whatever the adversary does? An attack answers from below, a certificate from above.

# %%
import jax
import matplotlib.pyplot as plt

import meanfield as mf


model = mf.models.load("shakespeare-gpt")
text = mf.models.zoo.sample_text()
mu = model.contexts(model.tokenize(text)[:24])[0]
attention = model.layers[0].attention
key = jax.random.key(0)
local = float(mf.local_lipschitz(attention, mu, key=key, rtol=1e-3).value)
print(f"the derivative: {local:.2f}, at tokens of norm up to {float(mu.radius):.2f}")

# %% [markdown]
# ## From above: a certificate
#
# `mf.certify` bounds the constant at *every* measure whose tokens, split or not, lie within a
# radius of ours. At a small radius it is hardly more than the derivative; then it grows.

# %%
for radius in (1e-3, 1e-2, 1e-1):
    bound = mf.certify(attention, mu, radius, key=key)
    print(f"radius {radius:5}: at most {bound.value:6.2f}  ({bound.theorem})")

# %% [markdown]
# ## From below: a little mass, sent far
#
# No certificate on a small ball speaks of mass that travels. Take a fraction of one token's mass
# and send it to the point, among those that the LayerNorm before the layer can put out, where it
# does the most harm. Both distances are measured by exact transport.

# %%
norm = model.layers[0].norm
domain = mf.LayerNormRange(norm.gamma, norm.beta)
method = mf.MassPeeling((1.0, 0.1, 0.01, 0.001), domain=domain, starts=1, steps=40)
peeled = mf.attack(attention, mu, method, key=key)
for fraction, ratio in zip(method.fractions, peeled.ratio, strict=True):
    print(f"{fraction:6} of a token: output moves {float(ratio):6.1f} times as far as the input")

# %% [markdown]
# The less mass, the larger the ratio: moving a mass $m$ by a fixed distance costs $\sqrt m$ in
# $W_2$, while attention, once it looks at the new place, answers with far more than that. A text in
# which a token occurs $k$ times realises the fraction $1/k$.
#
# ## All layers, and all of them together
#
# `meanfield audit --attack --certify --whole` asks this of every layer, and of the blocks of the
# model as one map: residual connections, perceptrons and all.

# %%
settings = mf.audits.AuditSettings(
    metrics=("local", "attack", "certify", "whole"),
    max_tokens=24,
    fractions=(1.0, 0.1, 0.01, 0.001),
    attack_starts=1,
    attack_steps=40,
)
audit = mf.audit(model, {"sample": text}, key=key, settings=settings)
header, rows = mf.report.table.layer_table(audit)
for cells in [header, *rows]:
    print(" | ".join(f"{cell:>15}" for cell in cells))

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
mf.plot.peeling(audit, left)
mf.plot.radii(audit, right)
plt.show()

# %% [markdown]
# On the right, the truth of each layer lies between its solid and its dashed line. A build can be
# made to fail on any of these numbers.

# %%
judged = mf.audits.judge(audit, ["certificate@0.001 > 100", "gap@0.001 > 2", "peel@0.01 > 30"])
for check in judged.checks:
    ending = "passed" if check.passed else "failed"
    print(f"fail on {check.expression:22} it is {check.value:.3g}: {ending}")

# %% [markdown]
# **Nearby, a layer is as tame as its derivative, and that can be proved; but a hundredth of a
# token, sent far, moves it many times more.**
