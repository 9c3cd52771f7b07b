"""Strict settings for every test: float64, and a seed that is printed on failure."""

import importlib.metadata
import os
import pathlib
import random


# before JAX and NumPy load: small programs are compiled quickly rather than well, without the
# emitters of fusions that take half of the compiler's time (where XLA, which ends the process at a
# flag that it does not know, can still do without them) and in one thread a worker, and small
# matrices are not shared among threads that wait for each other
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
    + " --xla_cpu_use_fusion_emitters=false"
    * (int(importlib.metadata.version("jaxlib").split(".")[1]) < 11),
)
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import equinox as eqx
import jax
import pytest


jax.config.update("jax_enable_x64", os.environ.get("MEANFIELD_TEST_X64", "1") == "1")


# Laws are tried on every kind of map; the fast lane keeps to the plain ones.
_ELABORATE = (
    "l2-attention",
    "rotary",
    "relative-bias",
    "soft-cap",
    "query-key-norm",
    "causal-window",
    "causal-block",
    "composition",
    "residual",
    "gated",
    "rms-norm",
    "mlp",
    "affine",
    "qwen",
    "distilbert",
    "dinov2",
    "mistral",
)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name != "test_local_every_kind.py")  # the longest
    for item in items:
        if item.get_closest_marker("float64") and not jax.config.read("jax_enable_x64"):
            item.add_marker(pytest.mark.skip(reason="speaks of float64"))
        if any(kind in item.name for kind in _ELABORATE):
            item.add_marker(pytest.mark.slow)
        if not any(item.get_closest_marker(name) for name in ("slow", "exhaustive", "real_model")):
            item.add_marker(pytest.mark.fast)


@pytest.fixture
def seed() -> int:
    """Fixed by default; MEANFIELD_SEED=random draws a fresh one. pytest shows it on failure."""
    value = os.environ.get("MEANFIELD_SEED", "2312")
    chosen = random.randrange(2**31) if value == "random" else int(value)
    print(f"MEANFIELD_SEED={chosen}")
    return chosen


@pytest.fixture
def key(seed):
    return jax.random.key(seed)


# A process may have 65,530 maps of memory, and each compiled program takes several.
_MAPS = 25_000


def _maps() -> int:
    listed = pathlib.Path("/proc/self/maps")
    return len(listed.read_bytes().splitlines()) if listed.exists() else _MAPS + 1


@pytest.fixture(autouse=True, scope="module")
def _programs_are_forgotten():
    """Thousands of programs crash the compiler; small ones are shared by files until there are
    many, or until nobody can tell how many there are."""
    yield
    if _maps() > _MAPS:
        eqx.clear_caches()
        jax.clear_caches()
