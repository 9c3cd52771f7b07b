"""Certified intervals of distortions: `python benchmarks/signed_embedding.py [--draws 400]`.

Pairs of random dissimilarities (uniform, of both signs, l1, Euclidean) between 5 to 13 atoms of
random weights are embedded with random ranks, with and without moved eigenvalues. Told are, for
random vertices and the product coupling, whether the distortion of the dissimilarities is in the
interval that the embeddings give, how wide that is, and how often the kept eigenvalues are the best
of all subsets.
"""

import argparse
import itertools
import warnings

import jax
import numpy as np
import ot

from meanfield.matching import distortion_interval, signed_embedding


warnings.simplefilter("ignore")
jax.config.update("jax_enable_x64", True)


def uniform(rng, n):
    d = rng.random((n, n))
    return d + d.T


def signed(rng, n):
    d = rng.normal(size=(n, n))
    return d + d.T


def city(rng, n):
    z = rng.normal(size=(n, 4))
    return np.abs(z[:, None] - z).sum(axis=-1)


def euclidean(rng, n):
    z = rng.normal(size=(n, 5))
    return np.square(z[:, None] - z).sum(axis=-1)


KINDS = (uniform, signed, city, euclidean)


def drawn(rng, n):
    d = KINDS[rng.integers(len(KINDS))](rng, n)
    np.fill_diagonal(d, 0)
    return d, rng.dirichlet(np.ones(n))


def distortion(d, e, plan):
    a, b = plan.sum(axis=1), plan.sum(axis=0)
    return a @ d**2 @ a + b @ e**2 @ b - 2 * np.sum((d @ plan @ e) * plan)


def intervals(rng, draws):
    """How many were drawn and violated, and the widths as shares of the true distortion."""
    violated, widths = 0, []
    for _ in range(draws):
        (d, a), (e, b) = (drawn(rng, int(n)) for n in rng.integers(5, 14, 2))
        x, y = (
            signed_embedding(c, int(rng.integers(1, len(w))), w, bend=bool(rng.integers(2)))
            for c, w in ((d, a), (e, b))
        )
        vertices = [ot.emd(a, b, rng.normal(size=(len(a), len(b)))) for _ in range(4)]
        for plan in [np.outer(a, b), *vertices]:
            true = distortion(d, e, plan)
            near = distortion(x.dissimilarities, y.dissimilarities, plan)
            low, high = distortion_interval(near, x, y)
            violated += not low <= true <= high
            widths.append((high - low) / true)
    return violated, np.array(widths)


def not_the_best(rng, kind, draws=50, n=8, rank=3):
    """How often another subset of the eigenvalues has less stress."""
    count, centre = 0, np.eye(n) - 1 / n
    for _ in range(draws):
        d = kind(rng, n)
        np.fill_diagonal(d, 0)
        values, vectors = np.linalg.eigh(-centre @ d @ centre / 2)
        stresses = []
        for kept in itertools.combinations(range(n), rank):
            z = vectors[:, list(kept)]
            b = (z * values[list(kept)]) @ z.T
            near = np.diag(b)[:, None] + np.diag(b) - 2 * b
            stresses.append(np.mean((d - near) ** 2))
        count += signed_embedding(d, rank, bend=False).stress > min(stresses) * (1 + 1e-9)
    return count


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=400)
    rng, draws = np.random.default_rng(7), parser.parse_args().draws
    violated, widths = intervals(rng, draws)
    print(f"{len(widths)} intervals, {violated} violated")
    print("width over distortion, deciles 1, 5, 9:", np.quantile(widths, [0.1, 0.5, 0.9]).round(3))
    for kind in KINDS:
        print(f"{kind.__name__}: another subset is better in {not_the_best(rng, kind)} of 50")
