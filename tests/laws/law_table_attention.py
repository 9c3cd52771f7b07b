"""The table's part on attention and on the constants of maps."""

import functools

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from law_subject import Number, Rows, Subject

import meanfield as mf
from meanfield import lipschitz


ORIGIN = "Scores are inner products of points, which have an origin."
DIM = 3


@functools.cache
def _arrays(seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(size=shape) / 2 for shape in [(2, 2, DIM)] * 3 + [(2, DIM, 2)])


def self_attention(choice, unit, dtype):
    query, key, value, output = _arrays()
    A, V = np.einsum("hka,hkb->ab", query, key), np.einsum("hka,hbk->ba", value, output)
    return mf.SelfAttention(jnp.asarray(A / unit**2, dtype), jnp.asarray(V, dtype), choice=choice)


def multihead(unit, dtype, **extra):
    arrays = [jnp.asarray(x, dtype) for x in _arrays()]
    return mf.MultiheadAttention(*arrays, scale=0.7 / unit**2, **extra)


def l2_attention(unit, dtype):
    query, key, value, output = (jnp.asarray(x, dtype) for x in _arrays(1))
    return mf.L2Attention(query / unit, key / unit, value, output)


def _dtype(ms):
    return ms[0].points.dtype


CHOICES = {
    "softmax": mf.Softmax(),
    "soft-cap": mf.Softmax(cap=2.0),
    "chi-square": mf.ChiSquare(0.7),
    "chi-square-cap": mf.ChiSquare(0.7, cap=2.0),
    "entmax": mf.Entmax(),
    "sigmoid": mf.Sigmoid(),
    "linear": mf.Linear(),
    "top-mass": mf.TopMass(0.5),
    "doubly-stochastic": mf.DoublyStochastic(),
}
MAPS = {name: functools.partial(self_attention, choice) for name, choice in CHOICES.items()}
MAPS |= {"multihead": multihead, "l2": l2_attention}
NEAR = ("generic", "ties", "light", "alike")
POWERS = (-40, -20, 20, 40)  # a bilinear form of scores has the unit to the power -2


def _image(name, make):
    def call(ms, unit):
        f = make(unit, _dtype(ms))
        seen = jnp.where(ms[0].present[:, None], ms[0].points, 0)
        return {"images": f(ms[0]).points, "at": f.at(ms[0], seen)}

    covered = {"multihead": "MultiheadAttention", "l2": "L2Attention"}.get(name, "SelfAttention")
    return Subject(
        f"attention-{name}",
        (f"attention.{covered}", *_choice_names(name)),
        call,
        {
            "images": Rows(0, 1, unique=name != "top-mass"),
            "at": Rows(0, 1, unique=name != "top-mass"),
        },
        sizes=(6,),
        slack=4000.0,
        translates=ORIGIN,
        powers=POWERS,
        traits=NEAR,
    )


def _choice_names(name):
    return (f"attention.{type(CHOICES[name]).__name__}",) if name in CHOICES else ()


def _constant(name, make):
    def call(ms, unit):
        f = make(unit, _dtype(ms))
        found = mf.local_lipschitz(f, ms[0], key=jr.key(1), rtol=1e-6)
        return {"value": found.value, "lower": found.lower, "upper": found.upper}

    return Subject(
        f"local-{name}",
        ("lipschitz.local_lipschitz", "lipschitz.LocalLipschitz", "lipschitz.upper_at"),
        call,
        {name: Number() for name in ("value", "lower", "upper")},
        sizes=(5,),
        slack=1e4,
        tolerance=1e-7,
        translates=ORIGIN,
        powers=POWERS,
        traits=("generic", "light"),
    )


def _certified(ms, unit):
    f = self_attention(mf.Softmax(), unit, _dtype(ms))
    radius = 0.01 * unit
    found = {f"bound-{p}": mf.certify(f, ms[0], radius, p=p).log_value for p in (1, 2, np.inf)}
    moved = lipschitz.displacement_bound(f, ms[0], radius)
    curve = lipschitz.certificate_curve(f, ms[0], [radius, 2 * radius])
    found["curve"] = curve[-1].log_value
    return found | {"displacement": moved.value if hasattr(moved, "value") else moved}


def _slopes(ms, unit):
    f = self_attention(mf.Softmax(), unit, _dtype(ms))
    found = lipschitz.slopes(f, ms[0], 2, domain=mf.Ball(8.0 * unit), key=jr.key(2))
    return {"value": jnp.maximum(found.move, found.split)}


def _products(ms, unit):
    f = multihead(unit, _dtype(ms))
    derivative = lipschitz.jacobian(f, ms[0])
    field = jnp.where(ms[0].present[:, None], jnp.sin(ms[0].points / unit), 0.0)
    return {"smooth": derivative.smooth(field), "split": derivative.split(field)}


CONSTANTS = [
    Subject(
        "jacobian",
        ("lipschitz.jacobian", "attention.AttentionDerivative", "lipschitz.LinearisedMap"),
        _products,
        {"smooth": Rows(unique=True), "split": Rows(unique=True)},
        sizes=(6,),
        slack=4000.0,
        translates=ORIGIN,
        powers=POWERS,
        traits=NEAR,
    ),
    *(
        _constant(name, MAPS[name])
        for name in ("softmax", "chi-square", "entmax", "sigmoid", "multihead", "l2")
    ),
    Subject(
        "certificates",
        (
            "lipschitz.certify",
            "lipschitz.certificate_curve",
            "lipschitz.displacement_bound",
            "lipschitz.Bound",
        ),
        _certified,
        {name: Number() for name in ("bound-1", "bound-2", "bound-inf", "curve")}
        | {"displacement": Number(1)},
        sizes=(4,),
        slack=1e4,
        tolerance=1e-7,
        translates=ORIGIN,
        powers=POWERS,
        traits=("generic", "light"),
    ),
    Subject(
        "slopes",
        ("lipschitz.slopes", "lipschitz.Slopes"),
        _slopes,
        {"value": Number()},
        sizes=(4,),
        slack=1e5,
        tolerance=1e-6,
        translates=ORIGIN,
        powers=POWERS,
        traits=("generic",),
    ),
]

ATTENTION = [*(_image(name, make) for name, make in MAPS.items()), *CONSTANTS]
