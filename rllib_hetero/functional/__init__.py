"""Pure functions on tensors: the mathematics of the algorithms. Nothing here imports Ray.

"HARL" in the references is Zhong et al., "Heterogeneous-Agent Reinforcement Learning", JMLR 2024.
"""

from rllib_hetero.functional.advantages import (
    generalized_advantages,
    moments,
    normalize,
    standardize,
)
from rllib_hetero.functional.correction import fold, policy_ratio
from rllib_hetero.functional.distributions import (
    Categorical,
    DiagGaussian,
    Distribution,
    MultiCategorical,
    distribution_for,
)
from rllib_hetero.functional.surrogates import (
    approx_kl,
    clip_fraction,
    clipped_surrogate,
    linear_surrogate,
    masked_mean,
)
from rllib_hetero.functional.value_loss import (
    clipped_value_loss,
    error_moments,
    explained_variance,
    variance_ratio,
)

__all__ = [
    "Categorical",
    "DiagGaussian",
    "Distribution",
    "MultiCategorical",
    "approx_kl",
    "clip_fraction",
    "clipped_surrogate",
    "clipped_value_loss",
    "distribution_for",
    "error_moments",
    "explained_variance",
    "fold",
    "generalized_advantages",
    "linear_surrogate",
    "masked_mean",
    "moments",
    "normalize",
    "policy_ratio",
    "standardize",
    "variance_ratio",
]
