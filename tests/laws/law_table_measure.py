"""The table's part on measures themselves."""

import jax.numpy as jnp
from law_subject import Number, Subject

import meanfield as mf


def _moments(ms, unit):
    (mu,) = ms
    return {"mass": mu.mass, "mean": mu.mean[None], "covariance": mu.covariance}


def _extent(ms, unit):
    (mu,) = ms
    return {"radius": mu.radius, "pushed": mu.pushforward(lambda x: 2 * x).radius}


def _written(ms, unit):
    """Verbs that write a measure otherwise: the second moment about a point tells it apart."""
    (mu,) = ms
    ways = {
        "merged": mu.merge(),
        "padded": mu.pad(mu.size + 3),
        "halved": mu.split(2),
        "parted": mu.split(0, [0.25, 0.75]),
        "normal": mu.normalize(),
        "stacked": mf.stack([mu, mu]),
        "whole": mu.restrict(mu.size),
        "moved": mu.with_points(mu.points),
    }
    moments = {name: _second_moment(way, unit) for name, way in ways.items()}
    return {name: moment.ravel()[0] for name, moment in moments.items()}


def _second_moment(mu, unit):
    away = jnp.where(mu.present[..., None], mu.points, 0) - unit
    return jnp.sum(mu.weights * jnp.sum(away**2, axis=-1), axis=-1)


NAMES = ("merged", "padded", "halved", "parted", "normal", "stacked", "whole", "moved")

MEASURE = [
    Subject(
        "moments",
        (
            "measure.Measure",
            "measure.Measure.mass",
            "measure.Measure.mean",
            "measure.Measure.covariance",
            "measure.Measure.present",
        ),
        _moments,
        {"mass": Number(), "mean": Number(1), "covariance": Number(2)},
        sizes=(6,),
        slack=2e4,
        quick=True,
        translates="The mean moves with the measure; sums of large numbers round at their size.",
    ),
    Subject(
        "extent",
        ("measure.Measure.radius", "measure.Measure.pushforward"),
        _extent,
        {"radius": Number(1), "pushed": Number(1)},
        sizes=(6,),
        slack=2e3,
        quick=True,
        translates="The radius is measured from the origin.",
    ),
    Subject(
        "written",
        tuple(
            f"measure.Measure.{verb}"
            for verb in ("merge", "pad", "split", "normalize", "restrict", "with_points")
        )
        + ("measure.stack",),
        _written,
        {name: Number(2) for name in NAMES},
        sizes=(6,),
        slack=2e4,
        translates="The moment about a fixed point changes with a shift.",
    ),
    Subject(
        "conditional",
        ("measure.ConditionalMeasure", "measure.ConditionalMeasure.radius")
        + ("measure.ConditionalMeasure.mass", "transport.conditional_wasserstein"),
        lambda ms, unit: {
            "mass": ms[0].mass,
            "radius": ms[0].radius,
            "distance": mf.conditional_wasserstein(*ms, p=2),
            "of order three": mf.conditional_wasserstein(*ms, p=3),
        },
        {"mass": Number(), "radius": Number(1)}
        | {"distance": Number(1), "of order three": Number(1)},
        sizes=(3, 4),
        positions=4,
        slack=2e3,
        translates="The radius is measured from the origin.",
    ),
]
