"""Pure functions on tensors: the mathematics of the algorithms. Nothing here imports Ray.

"HARL" in the references is Zhong et al., "Heterogeneous-Agent Reinforcement Learning", JMLR 2024.
"""

from rllib_hetero.functional.advantages import generalized_advantages, moments, standardize
from rllib_hetero.functional.by_space import distribution_for, num_choices
from rllib_hetero.functional.correction import fold, policy_ratio
from rllib_hetero.functional.counterfactual import (
    action_probabilities,
    counterfactual_advantage,
    expected_value,
)
from rllib_hetero.functional.deterministic import NoisyDeterministic
from rllib_hetero.functional.distributions import ClosedForm, Density, Distribution
from rllib_hetero.functional.families import POLICY_FAMILIES
from rllib_hetero.functional.greedy import EpsilonGreedy
from rllib_hetero.functional.importance import truncated_ratio
from rllib_hetero.functional.joint_actions import (
    InTurn,
    agent_row,
    joint_actions,
    joint_index,
    values_in_turn,
)
from rllib_hetero.functional.joint_gradient import (
    JointGradient,
    deterministic_actor_loss,
    off_policy_critic_loss,
    on_policy_actor_loss,
    on_policy_critic_loss,
    soft_actor_loss,
)
from rllib_hetero.functional.masks import (
    mask_choices,
    mask_inputs,
    mask_logits,
    mask_logits_array,
    nothing_allowed,
)
from rllib_hetero.functional.messages import (
    encode,
    encode_tensor,
    message_size,
    posterior_gumbel,
    reparameterized,
)
from rllib_hetero.functional.mixed import Mixed
from rllib_hetero.functional.overflow import finite, finite_exp
from rllib_hetero.functional.squashed import SquashedGaussian
from rllib_hetero.functional.stochastic import (
    Categorical,
    DiagGaussian,
    MultiCategorical,
)
from rllib_hetero.functional.straight_through import gumbel_one_hots, straight_through
from rllib_hetero.functional.surrogates import (
    adaptive_clip,
    approx_kl,
    clip_fraction,
    clipped_joint_surrogate,
    clipped_surrogate,
    linear_surrogate,
    masked_mean,
    peer_surrogate,
)
from rllib_hetero.functional.td_targets import (
    best_value,
    smallest,
    soft_value,
    td_lambda_targets,
    td_loss,
    td_target,
)
from rllib_hetero.functional.temperature import (
    allowed_target_entropy,
    target_entropy,
    temperature_loss,
)
from rllib_hetero.functional.trust_region import (
    LineSearchResult,
    Trial,
    conjugate_gradient,
    fisher_product,
    flat,
    largest_step,
    line_search,
    unflat,
)
from rllib_hetero.functional.value_loss import (
    clipped_value_loss,
    error_moments,
    variance_ratio,
)

__all__ = [
    "POLICY_FAMILIES",
    "Categorical",
    "ClosedForm",
    "Density",
    "DiagGaussian",
    "Distribution",
    "EpsilonGreedy",
    "InTurn",
    "JointGradient",
    "LineSearchResult",
    "Mixed",
    "MultiCategorical",
    "NoisyDeterministic",
    "SquashedGaussian",
    "Trial",
    "action_probabilities",
    "adaptive_clip",
    "agent_row",
    "allowed_target_entropy",
    "approx_kl",
    "best_value",
    "clip_fraction",
    "clipped_joint_surrogate",
    "clipped_surrogate",
    "clipped_value_loss",
    "conjugate_gradient",
    "counterfactual_advantage",
    "deterministic_actor_loss",
    "distribution_for",
    "encode",
    "encode_tensor",
    "error_moments",
    "expected_value",
    "finite",
    "finite_exp",
    "fisher_product",
    "flat",
    "fold",
    "generalized_advantages",
    "gumbel_one_hots",
    "joint_actions",
    "joint_index",
    "largest_step",
    "line_search",
    "linear_surrogate",
    "mask_choices",
    "mask_inputs",
    "mask_logits",
    "mask_logits_array",
    "masked_mean",
    "message_size",
    "moments",
    "nothing_allowed",
    "num_choices",
    "off_policy_critic_loss",
    "on_policy_actor_loss",
    "on_policy_critic_loss",
    "peer_surrogate",
    "policy_ratio",
    "posterior_gumbel",
    "reparameterized",
    "smallest",
    "soft_actor_loss",
    "soft_value",
    "standardize",
    "straight_through",
    "target_entropy",
    "td_lambda_targets",
    "td_loss",
    "td_target",
    "temperature_loss",
    "truncated_ratio",
    "unflat",
    "values_in_turn",
    "variance_ratio",
]
