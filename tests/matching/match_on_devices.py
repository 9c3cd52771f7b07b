"""Matches blocked clouds in a process of its own: run by test_search.py.

One argument: `agree` prints what one device and two find; `memory`, by how much the largest memory
of the process grows.
"""

import json
import resource
import sys

import jax
import numpy as np

from meanfield import Measure
from meanfield.matching import Alternation, GromovWasserstein, match
from meanfield.transport import pairs


what = sys.argv[1]
jax.config.update("jax_num_cpu_devices", 2)
if what == "agree":
    jax.config.update("jax_enable_x64", True)
    pairs._BLOCK = 256  # several blocks on each device


def clouds(n):
    rng = np.random.default_rng(0)
    x = (rng.gamma(1.5, size=(n, 3)) - 1.5) * np.array([2.0, 1.0, 0.5])
    x = x if what == "agree" else x.astype(np.float32)
    return Measure(x), Measure(x[:, :2])


def matched(n, start=None, **settings):
    solver = Alternation(0.2, memory=0, **settings)
    return match(*clouds(n), GromovWasserstein(), solver, start=start, throw=False)


if what == "agree":
    found = []
    for mesh in (None, jax.make_mesh((2,), ("rows",))):
        sol = matched(61, sample=None, mesh=mesh)  # neither blocks nor devices are full
        found.append([*sol.starts.objective.tolist(), *np.ravel(sol.map(np.eye(3))).tolist()])
else:
    quick = {"sample": None, "max_steps": 1, "marginal_tolerance": 1.0}
    matched(2000, np.eye(2, 3), **quick).top(3)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    matched(7000, np.eye(2, 3), **quick).top(3)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    found = {"megabytes": grown / 1024}
print(json.dumps(found))
