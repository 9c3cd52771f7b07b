"""Errors of derivatives at loose tolerance, refined and not, beside optimistix and OTT.

`python benchmarks/refined_gradients.py [--figure FILE]`: each table has the distance of the point
from the solution in its first column and the relative errors of derivatives in the others; the last
line is the slope of their logarithms. The exact derivatives are closed forms at the solution, or
those of a solve to 1e-13.
"""

import argparse
import functools
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np


jax.config.update("jax_enable_x64", True)

import meanfield as mf  # noqa: E402
from meanfield.implicit import Newton, Preconditioned, Unrefined, refined_root  # noqa: E402


def regression(seed: int = 0):
    """The stationarity of a regularised logistic regression, its root and its derivative."""
    rng = np.random.default_rng(seed)
    A, labels = jnp.asarray(rng.normal(size=(40, 7))), jnp.asarray(rng.choice([-1.0, 1.0], size=40))
    y = jnp.asarray(rng.uniform(-1, 1, size=7))

    def loss(x, y):
        return jnp.mean(jax.nn.softplus(-labels * (A @ x))) + jnp.mean(jnp.exp(y) * x**2) / 2

    F = jax.grad(loss)
    root = jnp.zeros(7)
    for _ in range(30):
        root = root - jnp.linalg.solve(jax.jacobian(F)(root, y), F(root, y))
    return (
        F,
        root,
        y,
        -jnp.linalg.solve(jax.jacobian(F)(root, y), jax.jacobian(F, argnums=1)(root, y)),
    )


def roots() -> tuple[str, list[str], np.ndarray]:
    """At the points that optimistix's gradient descent leaves at tolerances from 0.1 down."""
    import optimistix as optx

    F, root, y, exact = regression()
    diagonal = jnp.diag(jax.jacobian(F)(root, y))
    choices = [Unrefined(), Preconditioned(lambda x, r: r / diagonal), Newton()]

    def by_optimistix(y, tolerance):
        solver = optx.FixedPointIteration(rtol=tolerance, atol=tolerance)
        step = lambda x, y: x - F(x, y)  # noqa: E731
        return optx.fixed_point(step, solver, jnp.zeros(7), y, max_steps=10_000).value

    @jax.jit
    def derivatives(y, tolerance):
        x = by_optimistix(y, tolerance)
        ours = [jax.jacobian(lambda y, c=c: refined_root(F, x, y, c).value)(y) for c in choices]
        return x, [jax.jacobian(by_optimistix)(y, tolerance), *ours]

    rows = []
    for tolerance in 10.0 ** -np.arange(1, 6):
        x, found = derivatives(y, tolerance)
        errors = [jnp.linalg.norm(J - exact) / jnp.linalg.norm(exact) for J in found]
        rows.append([float(jnp.linalg.norm(x - root)), *map(float, errors)])
    names = ["optimistix", "unrefined", "diagonal", "Newton"]
    return "logistic regression, derivative of the minimiser", names, np.array(rows)


def clouds(n: int = 200, d: int = 5, seed: int = 0):
    rng = np.random.default_rng(seed)
    x, y = jnp.asarray(rng.normal(size=(n, d))), jnp.asarray(rng.normal(size=(n, d)) + 0.5)
    return x, jnp.asarray(rng.dirichlet(np.ones(n))), y, jnp.asarray(rng.dirichlet(np.ones(n)))


EPSILON = 0.5  # of about 13, the mean squared distance


def of_ott(x, a, y, b, threshold: float):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ott.geometry.pointcloud import PointCloud
        from ott.problems.linear.linear_problem import LinearProblem
        from ott.solvers.linear.implicit_differentiation import ImplicitDiff
        from ott.solvers.linear.sinkhorn import Sinkhorn
    solver = Sinkhorn(
        threshold=threshold,
        inner_iterations=1,
        max_iterations=100_000,
        implicit_diff=ImplicitDiff(),
    )
    return solver(LinearProblem(PointCloud(x, y, epsilon=EPSILON), a, b))


def of_ours(x, a, y, b, threshold: float, refinement):
    solver = mf.Sinkhorn(
        EPSILON, relative=False, tolerance=threshold, max_steps=100_000, refinement=refinement
    )
    return mf.optimal_transport(mf.Measure(x, a), mf.Measure(y, b), solver=solver, throw=False)


def carried(applied, a, y):
    """A function of the coupling: the sum of the sines of where atoms are sent on average."""
    return jnp.sum(jnp.sin(applied / a[:, None]))


def sinkhorn(of_coupling: bool) -> tuple[str, list[str], np.ndarray]:
    """The gradient of the value, or of a function of the coupling, with respect to points."""
    x, a, y, b = clouds()

    def ours(x, threshold, refinement):
        sol = of_ours(x, a, y, b, threshold, refinement)
        return carried(sol.coupling.apply(y), a, y) if of_coupling else sol.value

    def theirs(x, threshold):
        out = of_ott(x, a, y, b, threshold)
        return carried(out.apply(y.T, axis=1).T, a, y) if of_coupling else out.reg_ot_cost

    def potential(g):
        return g - b @ g

    gradient, of_theirs = eqx.filter_jit(jax.grad(ours)), jax.jit(jax.grad(theirs))
    exact = gradient(x, 1e-13, Unrefined())
    best = of_ours(x, a, y, b, 1e-13, Unrefined()).potentials[1]

    def error(found):
        return float(jnp.linalg.norm(found - exact) / jnp.linalg.norm(exact))

    def distance(g):
        return float(jnp.sqrt(b @ (potential(g) - potential(best)) ** 2) / EPSILON)

    rows = []
    for threshold in (1e-1, 3e-2, 1e-2, 1e-3, 1e-4, 1e-5):
        mine = distance(of_ours(x, a, y, b, threshold, Unrefined()).potentials[1])
        # its coupling is exp((f + g - C) / epsilon), without the weights
        other = distance(of_ott(x, a, y, b, threshold).g - EPSILON * jnp.log(b))
        rows.append(
            [
                other,
                error(of_theirs(x, threshold)),
                mine,
                error(gradient(x, threshold, Unrefined())),
                error(gradient(x, threshold, Newton())),
            ]
        )
    what = "barycentric images" if of_coupling else "the value"
    names = ["OTT", "(our distance)", "unrefined", "Newton"]
    return f"Sinkhorn (n = {len(x)}), derivative of {what}", names, np.array(rows)


def matching() -> tuple[str, list[str], np.ndarray]:
    """The derivative of the transform of a sparse match with respect to points."""
    rng = np.random.default_rng(0)
    x = rng.gamma(1.5, size=(60, 4)) * np.linspace(2, 0.5, 4)
    y = (x @ rng.normal(size=(4, 3)) + 0.1 * rng.normal(size=(60, 3)))[:50]
    mu, nu, problem = mf.Measure(x), mf.Measure(y), mf.CostRegularized(mf.L1(0.1))

    def at(tolerance):
        solver = mf.Alternation(0.2, tolerance=tolerance, marginal_tolerance=tolerance / 10)
        return mf.match(mu, nu, problem, solver, throw=False)

    direction = jnp.asarray(rng.normal(size=x.shape))

    def slope(sol, refinement):
        def transform(x):
            moved = mf.Measure(x, mu.weights)
            return mf.matching.refined_match(sol, problem, moved, refinement=refinement).transform

        return jax.jvp(transform, (mu.points,), (direction,))[1]

    fine = at(1e-13)
    exact = slope(fine, Newton())
    rows = []
    for tolerance in (1e-1, 3e-2, 1e-2, 1e-3, 1e-4):
        sol = at(tolerance)
        far = jnp.linalg.norm(sol.transform - fine.transform) / jnp.linalg.norm(fine.transform)
        errors = [
            float(jnp.linalg.norm(slope(sol, choice) - exact) / jnp.linalg.norm(exact))
            for choice in (Unrefined(), Newton())
        ]
        rows.append([float(far), *errors])
    return (
        "match with an L1 norm, derivative of the transform",
        ["unrefined", "Newton"],
        np.array(rows),
    )


def slopes(rows: np.ndarray, names: list[str]) -> list[float]:
    """The slopes of the logarithms over the rows above rounding, each over its own distance."""
    found, distance = [], rows[:, 0]
    for name, errors in zip(names, rows[:, 1:].T, strict=True):
        if name.startswith("("):
            distance = errors
            found.append(np.nan)
            continue
        kept = errors > 1e-11
        found.append(float(np.polyfit(np.log(distance[kept]), np.log(errors[kept]), 1)[0]))
    return found


def show(title: str, names: list[str], rows: np.ndarray) -> None:
    print(f"\n{title}\n{'distance':>12}" + "".join(f"{name:>18}" for name in names))
    for row in rows:
        print(f"{row[0]:12.1e}" + "".join(f"{error:18.1e}" for error in row[1:]))
    orders = ("" if np.isnan(s) else f"{s:.2f}" for s in slopes(rows, names))
    print(f"{'slope':>12}" + "".join(f"{order:>18}" for order in orders), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figure", help="where to save the figure")
    options = parser.parse_args()
    tables = []
    for table in (
        roots,
        functools.partial(sinkhorn, False),
        functools.partial(sinkhorn, True),
        matching,
    ):
        tables.append(table())
        show(*tables[-1])
    if options.figure:
        save(tables, options.figure)


def save(tables, path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(tables), figsize=(14, 3.6), layout="constrained")
    for ax, (title, names, rows) in zip(axes, tables, strict=True):
        errors, distance = {}, rows[:, 0]
        for name, column in zip(names, rows[:, 1:].T, strict=True):
            if name.startswith("("):
                distance = column
            else:
                errors[name] = (distance, column)
        mf.plot.derivative_errors(errors, ax=ax)
        ax.set_title(title.replace(", ", "\n", 1), fontsize="small")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
