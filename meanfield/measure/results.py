"""How a computation ended, in words that say what to try next."""

import equinox as eqx


class RESULTS(eqx.Enumeration):
    """The status of a result; compare with `==`, print for the advice."""

    successful = "successful"
    max_steps_reached = (
        "The search for the largest singular value used `max_steps` products before its residual "
        "fell below `rtol`. Raise `max_steps`, raise `rtol`, or pass throw=False: the value is "
        "still a lower bound."
    )
    not_finite = (
        "The derivative at this measure is not finite. Look for NaN or infinity in the points and "
        "in the arrays of the map, and, in float32, for scores beyond 1e37."
    )
    beyond_precision = (
        "The precision of these numbers cannot tell the scores of different atoms apart: the "
        "derivative is off by more than a hundredth. Use float64, or move the points to mean zero."
    )
    unequal_masses = (
        "The two measures must have the same total mass. Divide each by its own with "
        "`.normalize()`, or let mass appear and vanish with `solver=Unbalanced(rho)`."
    )
    nonfinite_cost = (
        "The cost between two points is not finite. Look for NaN or inf in `points`, or scale "
        "them down."
    )
    pivots_exhausted = (
        "The network simplex did not reach the optimum within `max_steps` pivots. Raise "
        "`max_steps` in `Exact(max_steps=...)`."
    )
    solver_failed = (
        "The solver did not reach the optimum. Look for weights that span more than fifteen "
        "orders of magnitude."
    )
    marginals_not_reached = (
        "The iterations ended before the marginals were met to `tolerance`. Raise `max_steps`, "
        "raise `epsilon`, or raise `tolerance`; `.marginal_error` says how far they are."
    )
    epsilon_too_small = (
        "`epsilon` is too small for the precision of these numbers: one unit in the last place of "
        "the largest cost is more than `epsilon` can resolve. Raise `epsilon`, or use float64."
    )
    barycenter_not_settled = (
        "The barycentre still moved by more than `rtol` after `max_steps` iterations. Raise "
        "`max_steps`, or raise `rtol`; with throw=False the last one is returned, whose objective "
        "is an upper bound on the optimum."
    )
    search_stalled = (
        "The search made no progress from any start and ended below the local constant. Raise "
        "`starts` or `steps`, or come from an easier problem: a larger budget, larger fractions."
    )
    potentials_not_settled = (
        "The iterations ended before the potentials settled to `tolerance`. Raise `max_steps`, "
        "raise `epsilon`, or raise `tolerance`; `.gap` says how far from optimal they are."
    )
    masses_out_of_range = (
        "No mass can move that both sides allow. Widen `Range(low, high)`, make `rho` finite, or "
        "divide each measure by its mass with `.normalize()`."
    )
    gap_not_closed = (
        "The steps ended before the duality gap fell below `tolerance`. Raise `max_steps`, or "
        "raise `tolerance`; for `UnbalancedLine`, `UnbalancedExact(rho)` closes gaps of any rho."
    )
    match_collapsed = (
        "The match collapsed to the product coupling, which says nothing. Lower `epsilon`, lower "
        "the strength of the regularizer, move both measures to mean zero, or give `known` pairs."
    )
    epsilon_above_critical = (
        "`epsilon` is above the critical temperature, where the product coupling attracts centred "
        "measures, and the match collapsed to it. Lower `epsilon` below `epsilon_critical`; "
        "relative to it, 0.05 is a good value."
    )
    transform_not_settled = (
        "The transform still changed by more than `tolerance` after `max_steps` steps. Raise "
        "`max_steps`, raise `tolerance`, or raise `epsilon`."
    )
    eigenvalue_not_reached = (
        "The search for the largest eigenvalue used `max_steps` products with the Hessian before "
        "its residual fell below `rtol`. Raise `max_steps`, raise `rtol`, or pass throw=False: "
        "`.lower` is still a lower bound."
    )
    hessian_not_finite = (
        "The Hessian at these parameters is not finite. Look for NaN or infinity in the parameters "
        "and the data, and for a loss that is not twice differentiable there (a square root or a "
        "norm at zero)."
    )
    risk_not_finite = (
        "The risk ceased to be finite. Lower `step`, or use `Proximal(step)`, which is stable at "
        "any; with throw=False the run ends at the last record before."
    )
    gradient_not_finite = (
        "The gradient of the risk is NaN where the risk is finite: no step can be taken. Look for "
        "a square root, a norm or a logarithm at zero in the loss and the network, and for a "
        "branch of `jnp.where` that is NaN; with throw=False the run ends at the last record "
        "before."
    )
    step_beyond_stability = (
        "The path is longer than that of a gradient flow with these slopes can be: the steps are "
        "too large to follow it. Lower `step`, or use `Proximal(step)`."
    )
    inner_steps_exhausted = (
        "Some proximal steps ended before the inner search reached its tolerance; they lower the "
        "risk as they should, but are not minimal. Raise `max_steps` or `tolerance` in `Proximal`."
    )
    no_clear_gap = (
        "Singular values of laws and of the rest are not set apart by a clear gap. Draw more "
        "`samples`, scale data and loss so that gradients are of order one, or count exactly by "
        "`count_laws`; with throw=False the best guess is returned."
    )
    certificate_is_zero = (
        "The certificate is zero: in every layer the kernel is singular, since it has fewer "
        "features (particles with mass) than there are examples, or examples or particles "
        "coincide. Training may still converge, and the ratio is what was measured. For a "
        "certificate take at least as many particles a layer as examples, or fewer examples."
    )
