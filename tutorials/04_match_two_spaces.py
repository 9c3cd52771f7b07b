# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Which cell is which?
#
# A cell can be measured in two ways, but seldom in both: here are the chromatin of some cells and
# the expression of genes in others, two clouds in spaces of different dimensions and no pairs. Can
# the clouds alone say **which point belongs to which**, and which features go together?
#
# The data of SNARE-seq do hold both measurements of 1047 cells, so an answer can be checked. Where
# the files are absent, a synthetic twin takes their place: clusters of unequal size in twelve
# dimensions, and a sparse linear image of them in six, with noise.

# %%
import os
import pathlib

import matplotlib.pyplot as plt
import numpy as np

import meanfield as mf


def twin(n=500, p=12, q=6):
    rng = np.random.default_rng(4)
    labels = rng.choice(4, size=n, p=[0.4, 0.3, 0.2, 0.1])
    x = 2 * rng.normal(size=(4, p))[labels] + 0.6 * rng.gamma(1.0, size=(n, p))
    truth = np.zeros((q, p))
    truth[np.arange(q), np.arange(q)] = 1.0
    return x, x @ truth.T + 0.1 * rng.normal(size=(n, q)), labels, truth


def single_cells(folder):
    x, y = (np.load(folder / f"SNAREseq_{kind}_feat.npy") for kind in ("atac", "rna"))
    x, y = (points / np.linalg.norm(points, axis=1, keepdims=True) for points in (x, y))
    return x, y, np.loadtxt(folder / "SNAREseq_atac_types.txt").astype(int), None


folder = pathlib.Path(os.environ.get("MEANFIELD_DATA", "nowhere")) / "singlecell"
if folder.exists():
    x, y, labels, truth = single_cells(folder)
else:
    print("MEANFIELD_DATA names no folder with `singlecell`: the synthetic twin is matched.")
    x, y, labels, truth = twin()
order = np.random.default_rng(0).permutation(len(y))
mu, nu = mf.Measure(x), mf.Measure(y[order])
print(f"{mu.size} points in dimension {mu.dim}, {nu.size} in dimension {nu.dim}")

# %% [markdown]
# ## A coupling and a transform at once
#
# No distance is given between a point x and a point y, so the cost is learnt: $- \langle M x, y
# \rangle$ with a matrix M, and a penalty on M. **The product coupling, which says nothing, is a
# stationary point of this problem**, and solvers that begin there stay there. A match begins from
# the principal axes of both clouds in all signs, and tells how each start ended. What is printed as
# **value** is the cost of the coupling plus the penalty: it is negative because a good partner has
# a large inner product, and it compares couplings of one problem, not two problems. The
# **objective** adds the entropy times the temperature; by it starts are ranked.

# %%
sol = mf.match(mu, nu, mf.CostRegularized(mf.L1(0.1)))
print(sol)
print(f"value {float(sol.value):.3f}, objective {float(sol.objective):.3f}")
print("gap to the runner-up:", round(sol.starts.gap, 4))

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
mf.plot.starts(sol, ax=left)
mf.plot.transform(sol, ax=right)
plt.show()

# %% [markdown]
# Starts fall into a few optima: mirror images, which preserve inner products nearly as well. The
# objective, and nothing else, chooses among them. Most entries of the transform are exactly zero.
#
# ## Was it right?
#
# The rows of x and of y are the same cells, which the match was not told. Two scores: for how many
# cells is another one closer to where the cell was mapped (zero is perfect, one half is chance);
# and how often do the five nearest neighbours have the right type.

# %%
mapped = np.asarray(sol.map(x))
closer = mf.matching.foscttm(mapped, y)
transferred = mf.matching.label_transfer_accuracy(mapped, labels, y, labels)
print(f"fraction of samples closer than the true match {closer:.3f}")
print(f"label transfer accuracy {transferred:.3f}")

# %%
figure, ax = plt.subplots(figsize=(6, 4.6), layout="constrained")
mf.plot.joint_embedding(sol, labels, ax=ax)
plt.show()

# %% [markdown]
# ## Which features go together?
#
# Not what the picture above shows: with inner products **M is a cross-moment**, and features that
# vary together all have large entries, whether one makes the other or not. The question asks for a
# regression, which squared distances learn: $\frac12 |M x - y|^2$ plus the penalty. Entropy blurs
# the partners, and a regression on blurred partners is too small. So the regression begins at the
# entropic match and goes on without entropy, one partner for each point; its value is half the mean
# squared error plus the penalty, and value and objective agree, since there is no entropy.

# %%
problem = mf.CostRegularized(mf.L1(0.03), mf.matching.SquaredDistance())
blurred = mf.match(mu, nu, problem)
sharp = mf.match(mu, nu, problem, mf.matching.ExactAlternation(), start=blurred)
for name, found in (("inner products", sol), ("distances", blurred), ("no entropy", sharp)):
    row = f"{name:15} {np.count_nonzero(found.transform):3} entries that are not zero"
    if truth is not None:
        scores = mf.matching.support_recovery(found.transform, truth)
        largest = np.argmax(np.abs(np.asarray(found.transform)), axis=1)
        pairs = int(np.sum(largest == np.argmax(truth, axis=1)))
        row += f", {pairs} of {len(truth)} paired rightly, precision {scores['precision']:.2f}"
    print(row)
print(f"value {float(sharp.value):.3f}, objective {float(sharp.objective):.3f}")

# %%
drawn = [sol.transform, blurred.transform, sharp.transform]
names = ["inner products", "distances", "distances, no entropy"]
if truth is not None:
    drawn, names = [*drawn, truth], [*names, "the truth"]
figure, axes = plt.subplots(1, len(drawn), figsize=(11, 2.2), layout="constrained")
for ax, matrix, name in zip(axes, drawn, names, strict=True):
    limit = np.abs(matrix).max()
    ax.imshow(matrix, cmap="RdBu_r", vmin=-limit, vmax=limit)
    ax.set(title=name, xlabel="feature of x", ylabel="feature of y")
plt.show()

# %% [markdown]
# On the twin all six features are found, with no entry beside them; single cells come without a
# truth for their features, and there the picture is a hypothesis.
#
# ## How few features will do?
#
# The strength of the penalty was a guess. A **regularization path** runs through many: each match
# begins where the one before ended, is checked against fresh starts at some strengths (full dots),
# and gives way wherever an optimum found at another strength is lower. At the end the zero
# transform wins (crosses).

# %%
strengths = np.geomspace(0.01, 0.8, 8)
path = mf.matching.regularization_path(mu, nu, mf.CostRegularized(mf.L1()), strengths)
figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
mf.plot.regularization_path(path, labels, labels[order], ax=ax)
plt.show()

# %% [markdown]
# ## What happens above the critical temperature
#
# The temperature is told in units of the critical one. Above it the product coupling attracts, and
# the match says so in place of returning it quietly.

# %%
hot = mf.match(mu, nu, solver=mf.Alternation(1.2), throw=False)
print(hot)
print(str(mf.RESULTS[hot.result]))

# %% [markdown]
# Two clouds without a pair between them hold enough to be matched: **look at the gap between the
# starts before you believe it.**
