"""Solves one entropic problem on shared rows and prints it: run by test_distributed_sinkhorn.py.

Arguments: the number of devices of this process, of processes, the index of this one, and a port.
Each line printed is a number of devices and what they found together.
"""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np

import meanfield as mf
from meanfield.transport import pairs


devices, processes, index, port = (int(word) for word in sys.argv[1:])
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_num_cpu_devices", devices)
if processes > 1:
    jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=processes, process_id=index)

pairs._BLOCK = 64  # several blocks on each device


def problem():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0.2, 1.0, size=30), rng.uniform(0.2, 1.0, size=26)
    a[-2:] = 0.0
    return rng.normal(size=(30, 3)), a / a.sum(), rng.normal(size=(26, 3)) + 0.5, b / b.sum()


def solve(mesh, x, a, y, b):
    """Numbers that depend on the value, the potentials, the coupling and a derivative."""

    def value(x):
        mu, nu = mf.Measure(x, a), mf.Measure(y, b)
        solver = mf.Sinkhorn(0.05, tolerance=1e-12, mesh=mesh)
        sol = mf.optimal_transport(mu, nu, solver=solver)
        return sol.value, (jnp.vdot(x, sol.coupling.apply(y)), jnp.vdot(a, sol.potentials[0]))

    (found, rest), slope = jax.value_and_grad(value, has_aux=True)(x)
    return jnp.stack([found, *rest, jnp.vdot(x, slope)])


for used in (1, 2, 4) if processes == 1 else (devices * processes,):
    mesh = jax.make_mesh((used,), ("rows",), devices=jax.devices()[:used])
    found = jax.jit(functools.partial(solve, mesh))(*problem())
    print(used, *(f"{number:.15e}" for number in np.asarray(found)))
