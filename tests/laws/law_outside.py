"""Public names that are no line of the table, each with the reason."""

ABSTRACT = "A contract: what fulfils it is in the table."
DOMAIN = "It speaks of a domain or of numbers, not of a measure."
PART = "A part of what is in the table: a setting, a result, or what its functions return."
HOST = "It asks a map, a batch of numbers or a model, not a measure."
OWN = "Its laws stand with its room, where its problems are drawn."

OUTSIDE = {
    "measure": {
        DOMAIN: "Ball LayerNormRange RESULTS Sphere",
        ABSTRACT: "AbstractDomain check_any_measure check_measures",
    },
    "transport": {
        ABSTRACT: "AbstractCost AbstractCoupling AbstractDivergence AbstractPointCost "
        "AbstractSolver",
        PART: "AffineMap Bottleneck DenseCoupling EntropicCoupling LowRankCoupling "
        "SparseCoupling PowerCost",
        HOST: "bures square_root gaussian_barycenter GaussianBarycenter",
        OWN: "FunctionCost UnbalancedLine LowRank MatrixCost Range conditional_wasserstein "
        "unbalanced_sinkhorn_divergence",
    },
    "attention": {
        ABSTRACT: "AbstractAttention AbstractChoice AbstractCoupledChoice AbstractInContextMap "
        "AbstractPointMap AbstractScoreBias AnyMeasure",
        HOST: "topk_magnitude topk_mask check_dim check_map input_dim is_softmax",
        OWN: "Affine CausalAttention CausalMask Composition LayerNorm LinearBias MLP RMSNorm "
        "RelativeBias Residual Rotary",
    },
    "lipschitz": {
        DOMAIN: "enclosing image lipschitz_bound lipschitz_bounds smallest two_dirac_bound "
        "worst_measure WorstMeasure WassersteinBall",
        OWN: "hardmax_limit local_model query_directions",
    },
    "attacks": {
        ABSTRACT: "AbstractAttackMethod AbstractObjective",
        PART: "OutputDisplacement TargetDirection TaskLoss",
        HOST: "TokenAttack TokenRepetition TokenSubstitution",
        OWN: "Attack MassPeeling MassSplitting TokenShift attack",
    },
    "spectrum": {HOST: "Sharpness SingularTriplet sharpness top_singular"},
    "implicit": {
        ABSTRACT: "AbstractRefinement",
        HOST: "Newton Preconditioned RefinedRoot Unrefined refined_root",
    },
}


def outside(room: str) -> set[str]:
    return {name for names in OUTSIDE.get(room, {}).values() for name in names.split()}
