"""The table's part on transport."""

import jax
import jax.numpy as jnp
import jax.random as jr
from law_subject import Number, Rows, Shares, Subject

import meanfield as mf
from meanfield import transport


ABSOLUTE = "An absolute temperature or price is a unit of its own: only those in units scale."
STEPS = "The start is drawn from the atoms as they are written, and the optimum is a local one."


def _distance(name, p, solver=mf.Exact(), slack=400.0, dim=3, **laws):
    return Subject(
        f"wasserstein-{name}",
        ("transport.wasserstein",),
        lambda ms, unit: {"value": mf.wasserstein(*ms, p=p, solver=solver)},
        {"value": Number(1)},
        dim=dim,
        slack=slack,
        **laws,
    )


def _told(ms, unit, solver, images):
    """What a `Transport` tells, atoms by rows."""
    solver = solver(unit) if callable(solver) else solver
    sol = mf.optimal_transport(*ms, mf.PowerCost(2), solver)
    told = {
        "value": sol.value,
        "primal": sol.primal,
        "dual": sol.dual,
        "sent": sol.coupling.marginals[0],
        "received": sol.coupling.marginals[1],
    }
    if images:  # without entropy the halves of a split atom may go to different places
        told["images"] = sol.coupling.barycentric(ms[1].points)
    return told


def _transport(name, solver, covers, slack, dim=3, degree=2.0, images=True, **laws):
    answers = {
        "value": Number(degree),
        "primal": Number(degree),
        "dual": Number(degree),
        "sent": Shares(0, unique=True),
        "received": Shares(1, unique=True),
    }
    if images:
        answers["images"] = Rows(0, 1, follows=True, unique=True)
    return Subject(
        f"transport-{name}",
        ("transport.optimal_transport", "transport.Transport", "transport.Transport.gap", *covers),
        lambda ms, unit: _told(ms, unit, solver, images),
        answers,
        dim=dim,
        slack=slack,
        powers=(-50, -20, 20, 50),
        **laws,
    )


def _barycenter(ms, unit):
    both = mf.stack([m.normalize() for m in ms])
    start = jnp.asarray([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], ms[0].points.dtype) * unit
    found = transport.barycenter(both, key=jr.key(0), start=start, throw=False)
    return {"value": found.value}


def _gaussian(ms, unit):
    return {
        "distance": transport.gaussian_wasserstein(*ms),
        "images": _mapped(transport.gaussian_map(*ms), ms[0]),
    }


def _mapped(f, mu):
    seen = jnp.where(mu.present[:, None], mu.points, mu.mean)
    return jax.vmap(f)(seen)


def _sliced(ms, unit):
    found = transport.sliced_wasserstein(*ms, transport.Sliced(directions=8), key=jr.key(3))
    return {
        name: getattr(found, name) for name in ("value", "lower", "upper", "standard_error")
    } | {"powers": found.powers}


LINE = ("transport.Line",)
FINE = mf.Sinkhorn(0.2, tolerance=1e-6)

TRANSPORT = [
    *(_distance(f"exact-{p}", p, quick=p == 3) for p in (1, 2, 3, 6, 8, 20)),
    _distance("line-2", 2, dim=1, quick=True),
    _distance("line-1", 1, dim=1),
    _distance("line-7", 7, dim=1),
    _distance("inf", jnp.inf),
    _distance("bottleneck-line", jnp.inf, dim=1),
    _distance("sinkhorn", 2, FINE, slack=4000.0),
    _transport("exact", mf.Exact(), ("transport.Exact",), 400.0, images=False),
    _transport("line", mf.Line(), LINE, 400.0, dim=1, images=False),
    _transport("sinkhorn", FINE, ("transport.Sinkhorn",), 4000.0),
    _transport(
        "unbalanced",
        lambda unit: transport.Unbalanced(2.0 * unit**2, epsilon=0.1, tolerance=1e-7),
        ("transport.Unbalanced", "transport.KullbackLeibler"),
        4000.0,
    ),
    _transport(
        "unbalanced-variation",
        lambda unit: transport.Unbalanced(
            2.0 * unit**2, transport.TotalVariation(), epsilon=0.1, tolerance=1e-7
        ),
        ("transport.TotalVariation",),
        4000.0,
    ),
    _transport(
        "unbalanced-exact",
        lambda unit: transport.UnbalancedExact(2.0 * unit**2),
        ("transport.UnbalancedExact",),
        4000.0,
        tolerance=1e-9,
        images=False,
    ),
    Subject(
        "sinkhorn-divergence",
        ("transport.sinkhorn_divergence",),
        lambda ms, unit: {"value": transport.sinkhorn_divergence(*ms, solver=FINE)},
        {"value": Number(2)},
        slack=4000.0,
        powers=(-50, -20, 20, 50),
    ),
    Subject(
        "sliced",
        ("transport.sliced_wasserstein", "transport.Sliced", "transport.SlicedDistance"),
        _sliced,
        {
            "value": Number(1),
            "lower": Number(1),
            "upper": Number(1),
            "standard_error": Number(1),
            "powers": Number(2),
        },
        slack=400.0,
    ),
    Subject(
        "gaussian",
        ("transport.gaussian_wasserstein", "transport.gaussian_map", "transport.Gaussian"),
        _gaussian,
        {"distance": Number(1), "images": Rows(0, 1, follows=True, unique=True)},
        sizes=(7, 8),
        slack=2e5,
        traits=("generic",),
    ),
    Subject(
        "barycenter",
        ("transport.barycenter", "transport.Barycenter"),
        _barycenter,
        {"value": Number(2)},
        translates=STEPS,
        slack=1e4,
        traits=("generic",),
    ),
]
