"""Matches the single-cell data as users do, and prints what comes out as JSON.

Run in a process of its own: the tests compile quickly rather than well, which is slow here.
"""

import json
import sys

import jax
import numpy as np
from matching_problems import singlecell, snare

from meanfield import RESULTS, Measure
from meanfield.matching import (
    L1,
    Alternation,
    ColumnGroups,
    CostRegularized,
    Match,
    foscttm,
    label_transfer_accuracy,
    match,
)


def described(sol, x, y, labels) -> dict[str, float]:
    mapped = np.asarray(sol.map(x))
    return {
        "closer": float(foscttm(mapped, y)),
        "transferred": float(label_transfer_accuracy(mapped, labels, y, labels)),
        "zeros": 100 * float(np.mean(np.asarray(sol.transform) == 0)),
        "optima": len(np.unique(sol.starts.optimum)),
        "gap": sol.starts.gap,
        "epsilon": sol.epsilon,
    }


def of_snare() -> dict[str, dict[str, float]]:
    x, y, labels = snare()
    half = np.random.default_rng(0).permutation(len(x))[:500]
    pairs = {"from-chromatin": (x, y), "from-expression": (y, x)}
    found = {
        name: described(match(Measure(u), Measure(v), CostRegularized(L1(0.1))), u, v, labels)
        for name, (u, v) in pairs.items()
    }
    return found | {"half": described(match(Measure(x[half]), Measure(y[half])), x, y, labels)}


def coldest(mu: Measure, nu: Measure, problem: CostRegularized) -> Match:
    """The match at the lowest temperature that can be reached, by halving the default one.

    No label decides: it ends where a match does not settle, or where its objective is not below the
    one before. Entropy is not negative, so the least objective falls with the temperature; where
    the one that was found does not, the search has lost the optimum. Starts are cooled from the
    default temperature each time. Temperatures above the first that does not collapse are skipped.
    """
    last, share = None, 0.05
    while True:
        solver = Alternation(share, inner=100, max_steps=200, hottest=max(2.0, 0.05 / share))
        sol = match(mu, nu, problem, solver, throw=False)
        settled = sol.result == RESULTS.successful
        if last is not None and not (settled and sol.objective < last.objective):
            return last
        if not settled and not sol.collapsed:
            raise RuntimeError(str(RESULTS[sol.result]))
        last, share = sol if settled else None, share / 2


def of_scgem() -> dict[str, dict[str, float]]:
    jax.config.update("jax_enable_x64", True)
    x, y = singlecell("scGEM_GeneExpression.txt"), singlecell("scGEM_DNAmethylation.txt")
    labels = singlecell("scGEM_type1.txt")
    kinds = {
        "l1-1.5": L1(1.5, relative=False),
        "l1-2": L1(2.0, relative=False),
        "groups-7.5": ColumnGroups(7.5, relative=False),
    }
    mu, nu = Measure(x), Measure(y)
    return {
        name: described(coldest(mu, nu, CostRegularized(kind)), x, y, labels)
        for name, kind in kinds.items()
    }


if __name__ == "__main__":
    print(json.dumps({"snare": of_snare, "scgem": of_scgem}[sys.argv[1]]()))
