"""Random matching problems from NumPy, and the single-cell data where they are present."""

import os
import pathlib

import numpy as np
import pytest

from meanfield import Measure


HOMES = [
    pathlib.Path(os.environ.get("MEANFIELD_DATA", "../shared/data")),
    pathlib.Path("shared/data"),
]


def random_measure(rng, n: int, d: int, mean: float = 0.0) -> Measure:
    return Measure(rng.normal(size=(n, d)) * np.linspace(2, 1, d) + mean, rng.dirichlet(np.ones(n)))


def skewed_points(rng, n: int, d: int) -> np.ndarray:
    """Points without a symmetry: no rotation or reflection maps their law to itself."""
    return (rng.gamma(1.5, size=(n, d)) - 1.5) * np.linspace(2, 0.5, d)


def clusters(rng, n: int, p: int) -> tuple[np.ndarray, np.ndarray]:
    """Six Gaussians of unequal weights, and the cluster of each point."""
    labels = rng.choice(6, size=n, p=np.array([6, 5, 4, 3, 2, 1]) / 21)
    return rng.normal(size=(6, p))[labels] * 2 + 0.5 * rng.normal(size=(n, p)), labels


def planted(seed: int, n: int = 300, p: int = 20, q: int = 10, nonzeros: int = 15):
    """Clusters, their images under a sparse map with a little noise, and the map."""
    rng = np.random.default_rng(seed)
    x, labels = clusters(rng, n, p)
    transform = np.zeros(q * p)
    support = rng.choice(q * p, nonzeros, replace=False)
    transform[support] = rng.choice([-1, 1], nonzeros) * rng.uniform(0.5, 1.5, nonzeros)
    transform = transform.reshape(q, p)
    y = x @ transform.T + 0.05 * rng.normal(size=(n, q))
    return x, y, transform, labels


def singlecell(name: str) -> np.ndarray:
    """A file of the single-cell data; the test is skipped where they are absent."""
    for home in HOMES:
        path = home / "singlecell" / name
        if path.exists():
            return np.load(path) if name.endswith(".npy") else np.loadtxt(path)
    pytest.skip("needs the single-cell data; set MEANFIELD_DATA to the folder that holds them")


def snare() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chromatin (19 features), expression (10), rows of norm one, and the cell types."""
    x, y = singlecell("SNAREseq_atac_feat.npy"), singlecell("SNAREseq_rna_feat.npy")
    x, y = (points / np.linalg.norm(points, axis=1, keepdims=True) for points in (x, y))
    return x, y, singlecell("SNAREseq_atac_types.txt")
