"""The solver of matching problems, and its settings."""

from typing import Any

import equinox as eqx
import jax
import numpy as np

from ..transport.pairs import MEMORY


class Alternation(eqx.Module):
    r"""Alternation between couplings and transforms, from many starts {cite}`sebbouh2024`.

    Large measures are first sampled: all starts run on the sample, and those that end at different
    optima are carried on to larger samples and to all atoms, as long as their objectives are
    within the sampling error of the lowest. The lowest objective on all atoms wins. Every step with
    the best transform lowers the objective (theory page); nothing more is promised, since the
    problem is not convex.

    Args:
      epsilon: the temperature, positive.
      relative: whether `epsilon` is a share of the critical one, above which the product coupling
        attracts; otherwise it is in units of the cost.
      axes: starts pair so many leading principal axes of the two measures, in all signs.
      random: so many more starts with axes turned at random.
      clusters: more starts, from matches between so many clusters of either measure, which are
        found first, exactly and from many random transforms (24 to 48 serve; zero: none).
      inner: the iterations of Sinkhorn between two transforms.
      hottest: the first temperature, as a multiple of epsilon; the regularizer waits until it is
        cold, since under a norm the zero transform attracts at every temperature.
      cooling: by what the temperature is multiplied after each transform.
      tolerance: by what share of itself the transform may still change at the end.
      marginal_tolerance: the marginal error of the coupling returned, as a share of the mass.
      max_steps: the largest number of transforms.
      sample: the number of atoms of each measure that the starts are run on; None for all.
      finalists: at most so many optima are carried on from a sample.
      step: the step of the proximal map; None takes the best transform at once.
      memory: the kernel is kept where it takes at most so many bytes, and otherwise made again
        block by block.
      mesh: devices to share the rows among, along the first axis of the mesh; by default one. The
        kernel is then not kept.

    Raises:
      ValueError: a setting out of range.
    """

    epsilon: float
    relative: bool = eqx.field(static=True)
    axes: int
    random: int
    clusters: int
    inner: int
    hottest: float
    cooling: float
    tolerance: float
    marginal_tolerance: float
    max_steps: int
    sample: int | None
    finalists: int
    step: float | None
    memory: int
    mesh: jax.sharding.Mesh | None = eqx.field(static=True)

    def __init__(
        self,
        epsilon: Any = 0.05,
        *,
        relative: bool = True,
        axes: int = 3,
        random: int = 0,
        clusters: int = 0,
        inner: int = 10,
        hottest: Any = 2.0,
        cooling: Any = 0.9,
        tolerance: Any = 1e-3,
        marginal_tolerance: Any = 1e-4,
        max_steps: int = 500,
        sample: int | None = 400,
        finalists: int = 4,
        step: Any = None,
        memory: int = MEMORY,
        mesh: jax.sharding.Mesh | None = None,
    ):
        self.epsilon = _checked("epsilon", epsilon, epsilon > 0, "positive")
        self.hottest = _checked("hottest", hottest, hottest >= 1, "at least 1")
        self.cooling = _checked("cooling", cooling, 0 < cooling < 1, "between 0 and 1")
        self.tolerance = _checked("tolerance", tolerance, tolerance > 0, "positive")
        self.marginal_tolerance = _checked(
            "marginal_tolerance", marginal_tolerance, marginal_tolerance > 0, "positive"
        )
        for name, count in (("axes", axes), ("inner", inner), ("max_steps", max_steps)):
            _checked(name, count, count >= 1, "at least 1")
        _checked("random", random, random >= 0, "nonnegative")
        _checked("clusters", clusters, clusters == 0 or clusters >= 2, "zero or at least two")
        _checked("finalists", finalists, finalists >= 1, "at least 1")
        self.step = None if step is None else _checked("step", step, step > 0, "positive")
        self.relative, self.axes, self.random, self.inner = relative, axes, random, inner
        self.clusters = clusters
        self.max_steps, self.sample, self.finalists = max_steps, sample, finalists
        self.memory = memory
        self.mesh = None if mesh is None else jax.sharding.Mesh(mesh.devices, mesh.axis_names)


def _checked(name: str, value: Any, allowed: Any, words: str) -> float:
    if not allowed:
        raise ValueError(f"`{name}` must be {words}; got {value}.")
    return float(np.asarray(value))


def in_range(epsilon: float, dtype: Any) -> float:
    """A temperature in units of the cost, refused where the precision does not reach it."""
    numbers = np.finfo(dtype)
    if not 1e3 * float(numbers.tiny) < epsilon < 1e-3 * float(numbers.max):
        raise ValueError(
            f"`mu` and `nu` must have points whose costs {np.dtype(dtype).name} can hold; in units "
            f"of the cost the temperature is {epsilon:.3g}. Multiply both by one number, which "
            "changes no coupling, or use float64."
        )
    return epsilon
