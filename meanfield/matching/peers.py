r"""Solvers of Gromov-Wasserstein between any matrices: POT's, OTT's and ours, from our starts.

Each is begun at vertices that pair leading axes of both matrices in all signs, never at the product
coupling. What it returns is judged by its own mass and by whether it is stationary, not by what
the library says of it.
"""

import abc
import warnings
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ..transport.entropic_problem import EntropicProblem
from ..transport.pairs import TablePairs
from .dissimilarities import Compared, KullbackLeiblerLoss, SquareLoss
from .unit_mass import UnitMass, iterated


# A transport problem is solved to this marginal error, in at most so many rounds; above the last
# error potentials may have far to go.
_ERROR, _ROUNDS, _FAR = 1e-6, 100, 0.5


class AbstractPeer(eqx.Module):
    """A solver of Gromov-Wasserstein problems between matrices, in O(n^3) a step."""

    axes: eqx.AbstractVar[int]
    tolerance: eqx.AbstractVar[float]

    @abc.abstractmethod
    def temperature(self, critical: float) -> float:
        r"""$\varepsilon$ in units of the distortion; zero without entropy."""

    @abc.abstractmethod
    def coupling(
        self, task: Compared, start: Float[np.ndarray, "n m"], epsilon: float
    ) -> tuple[Float[np.ndarray, "n m"], int]:
        """The coupling found from a start, and the number of steps."""

    @abc.abstractmethod
    def unsettled(self, task: Compared, plan: Float[np.ndarray, "n m"], epsilon: float) -> float:
        """How far a coupling is from stationary, to be compared with `tolerance`."""


class ConditionalGradient(AbstractPeer):
    """POT's exact conditional gradient: a transport problem and a line search a step.

    Args:
      axes: starts pair so many leading axes, in all signs.
      max_steps: the largest number of steps.
      tolerance: the largest gap $\\langle \\nabla E, P - P' \\rangle$ to the best vertex P', as a
        share of the distortion of the product coupling.
    """

    axes: int = 3
    max_steps: int = 1000
    tolerance: float = 1e-6

    def temperature(self, critical: float) -> float:
        return 0.0

    def coupling(self, task: Compared, start: np.ndarray, epsilon: float):
        import ot

        loss = _name(task)
        kwargs: dict[str, Any] = {
            "G0": start,
            "max_iter": self.max_steps,
            "log": True,
            "symmetric": True,
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if task.table.any():
                share = 1 - task.weight
                plan, log = ot.gromov.fused_gromov_wasserstein(
                    task.table / share, *task.c, *task.shares, loss, alpha=task.weight, **kwargs
                )
            else:
                plan, log = ot.gromov.gromov_wasserstein(*task.c, *task.shares, loss, **kwargs)
        return np.asarray(plan), len(log["loss"])

    def unsettled(self, task: Compared, plan: np.ndarray, epsilon: float) -> float:
        slope = task.slope(plan)
        scale = max(abs(task.value(np.outer(*task.shares))), np.finfo(np.float64).tiny)
        return float(np.sum(slope * (plan - vertex(task, slope))) / scale)


class AbstractMirrorDescent(AbstractPeer):
    """Entropic steps, which have settled when one more moves no mass."""

    epsilon: eqx.AbstractVar[float]
    relative: eqx.AbstractVar[bool]

    def temperature(self, critical: float) -> float:
        return self.epsilon * critical if self.relative else self.epsilon

    def unsettled(self, task: Compared, plan: np.ndarray, epsilon: float) -> float:
        return _moved(task, plan, epsilon)


class MirrorDescent(AbstractMirrorDescent):
    r"""Entropic steps $P \leftarrow \arg\min \langle \nabla E(P), P' \rangle + \varepsilon
    \mathrm{KL}(P')$ {cite}`peyre2016`, as POT and OTT take them, by our iterations of Sinkhorn:
    potentials are logarithms and each step begins with those of the last.

    Args:
      epsilon: the temperature, positive.
      relative: whether it is a share of the critical one of the matrices' leading axes.
      axes: starts pair so many leading axes, in all signs.
      max_steps: the largest number of steps.
      tolerance: how much mass a step may still move at the end.
    """

    epsilon: float = 0.05
    relative: bool = True
    axes: int = 3
    max_steps: int = 200
    tolerance: float = 1e-4

    def coupling(self, task: Compared, start: np.ndarray, epsilon: float):
        plan, moved, steps = start, np.inf, 0
        potential = np.zeros((1, start.shape[1]))
        while moved > 0.5 * self.tolerance and steps < self.max_steps:
            new, potential = _entropic(task, plan, epsilon, potential)
            moved, plan, steps = np.abs(new - plan).sum(), new, steps + 1
        return plan, steps


class MirrorDescentOTT(AbstractMirrorDescent):
    """The same steps by OTT's `GromovWasserstein`, for the square loss.

    Args:
      epsilon, relative, axes, max_steps: as in `MirrorDescent`.
      tolerance: how much mass a step may still move at the end.
    """

    epsilon: float = 0.05
    relative: bool = True
    axes: int = 3
    max_steps: int = 200
    tolerance: float = 1e-2

    def coupling(self, task: Compared, start: np.ndarray, epsilon: float):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _by_ott(task, start, epsilon, self.max_steps)


def vertex(task: Compared, costs: Float[np.ndarray, "n m"]) -> Float[np.ndarray, "n m"]:
    """The best coupling for linear costs."""
    import ot

    return np.asarray(ot.emd(*task.shares, costs, numItermax=10_000_000))


def _moved(task: Compared, plan: np.ndarray, epsilon: float) -> float:
    """The mass that one more step moves."""
    new = _entropic(task, plan, epsilon, np.zeros((1, plan.shape[1])))[0]
    return float(np.abs(new - plan).sum())


def _entropic(task: Compared, plan: np.ndarray, epsilon: float, potential: Any):
    """The entropic coupling of the linearised energy, and its second potential."""
    (a, b), table = (jnp.asarray(share) for share in task.shares), jnp.asarray(task.slope(plan))
    (n, m), dtype = table.shape, table.dtype
    kept = jnp.asarray(np.inf, dtype)
    problem = UnitMass(
        u=jnp.zeros((1, n, 0), dtype),
        alpha=jnp.zeros((1, n), dtype),
        beta=jnp.zeros((1, m), dtype),
        v=jnp.zeros((m, 0), dtype),
        table=table,
        weights=(a, b),
        rho=(kept, kept),
        epsilon=jnp.asarray(epsilon, dtype),
        points=jnp.zeros((n, 0), dtype),
    )
    found = iterated(problem, jnp.asarray(potential, dtype), jnp.asarray(20), False)
    for _ in range(_ROUNDS):
        if not float(found.error[0]) > _ERROR:
            break
        near = bool(found.error[0] <= _FAR)
        found = iterated(problem, found.g, jnp.asarray(100), near)
    entropic = EntropicProblem(TablePairs(rows=table), a, b, problem.epsilon)
    return np.asarray(entropic.plan(found.f[0], found.g[0]), np.float64), found.g


def _by_ott(task: Compared, start: np.ndarray, epsilon: float, steps: int):
    from ott.geometry import geometry
    from ott.initializers.quadratic.initializers import QuadraticInitializer
    from ott.problems.quadratic import quadratic_problem
    from ott.solvers.linear import sinkhorn
    from ott.solvers.quadratic import gromov_wasserstein

    if not isinstance(task.loss, SquareLoss):
        raise ValueError("`MirrorDescentOTT` takes SquareLoss() alone; use MirrorDescent().")
    first, second = (geometry.Geometry(cost_matrix=jnp.asarray(c)) for c in task.c)
    fused = {}
    if task.table.any():
        table = geometry.Geometry(cost_matrix=jnp.asarray(task.table / task.weight))
        fused = {"geom_xy": table, "fused_penalty": 0.5}
    problem = quadratic_problem.QuadraticProblem(
        first, second, a=jnp.asarray(task.shares[0]), b=jnp.asarray(task.shares[1]), **fused
    )
    # OTT linearises the distortion without the factor two of its gradient
    solver = gromov_wasserstein.GromovWasserstein(
        sinkhorn.Sinkhorn(max_iterations=2000, threshold=1e-6),
        epsilon=epsilon / (2 * task.weight),
        initializer=QuadraticInitializer(init_coupling=jnp.asarray(start)),
        max_iterations=steps,
        threshold=1e-6,
    )
    out = solver(problem)
    return np.asarray(out.matrix, np.float64), int(jnp.sum(out.costs != -1))


def _name(task: Compared) -> str:
    return "kl_loss" if isinstance(task.loss, KullbackLeiblerLoss) else "square_loss"
