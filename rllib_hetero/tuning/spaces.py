"""Which settings are searched, and in which range.

The ranges span what the papers' authors have tuned by hand over their benchmarks:

[1] Zhong et al.: Heterogeneous-Agent Reinforcement Learning. JMLR 2024. HAPPO, HATRPO, HAA2C and
    MAPPO on MPE, MA-MuJoCo, SMAC, SMACv2, football and hands; HADDPG, HATD3, HAD3QN and their
    baselines on MPE and MA-MuJoCo.
[2] Wang et al.: Order Matters: Agent-by-agent Policy Optimization. ICLR 2023. A2PO and CoPPO.
[3] Li et al.: Backpropagation Through Agents. AAAI 2024. BPPO and ARMAPPO.
[4] Liu et al.: Maximum Entropy Heterogeneous-Agent Reinforcement Learning. ICLR 2024. HASAC.
[5] Foerster et al.: Counterfactual Multi-Agent Policy Gradients. AAAI 2018. COMA.
[6] Iqbal and Sha: Actor-Attention-Critic for Multi-Agent Reinforcement Learning. ICML 2019. MAAC.
[7] Li et al.: F2A2. JMLR 2023. F2A2-COMA, -DDPG, -TD3, -SAC and -ISAC.
[8] Zhang et al.: Fully Decentralized Multi-Agent Reinforcement Learning with Networked Agents.
    ICML 2018. NetworkedAC.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import yaml
from ray import tune
from ray.tune.search.sample import Categorical, Domain, Float, Integer

from rllib_hetero.errors import TeamError

Space = dict[str, Domain]
"""Argument of the config's `training()` to the values it may take."""

_LR = {"lr": tune.loguniform(1e-4, 1e-3)}
_ENTROPY = {"entropy_coeff": tune.uniform(0.0, 0.01)}
_EPOCHS = {"num_epochs": tune.choice([5, 10, 15])}
_CLIPPED = {**_LR, "clip_param": tune.uniform(0.05, 0.2), **_ENTROPY, **_EPOCHS}
# One or a few steps on a surrogate that nothing bounds.
_UNCLIPPED = {**_LR, **_ENTROPY, "num_epochs": tune.choice([1, 3, 5])}
_OF_ORDER_MATTERS = {
    **_LR,
    "clip_param": tune.uniform(0.05, 0.25),
    "entropy_coeff": tune.uniform(0.0, 0.05),
    "num_epochs": tune.choice([5, 8, 10]),
}

_OFF_POLICY = {
    **_LR,
    "critic_lr": tune.loguniform(3e-4, 2e-3),
    "n_step": tune.choice([1, 5, 10, 20]),
}
_DETERMINISTIC = {**_OFF_POLICY, "exploration_noise": tune.uniform(0.05, 0.2)}
_TWIN_DELAYED = {**_DETERMINISTIC, "policy_delay": tune.choice([2, 4, 8])}
_DECOMPOSED = {**_LR, "lambda_": tune.choice([0.0, 0.6]), "gamma": tune.uniform(0.95, 0.99)}
_SOFT = {**_OFF_POLICY, "alpha_lr": tune.loguniform(1e-4, 1e-3)}

# Beside the learning rates, how much actor and critic are given of each other's objective.
_JOINT = {
    "lr": tune.loguniform(3e-4, 2e-3),
    "critic_lr": tune.loguniform(3e-4, 2e-3),
    "critic_alpha1": tune.loguniform(1e-4, 1e-2),
    "actor_alpha2": tune.loguniform(1e-4, 1e-1),
}

SPACES: Mapping[str, Space] = {
    "F2A2COMA": {**_JOINT, "lambda_": tune.uniform(0.6, 0.95), **_ENTROPY},
    "F2A2DDPG": _JOINT,
    "F2A2TD3": {**_JOINT, "policy_delay": tune.choice([1, 2, 4])},
    "F2A2SAC": {**_JOINT, "temperature": tune.loguniform(3e-3, 1e-1)},
    "F2A2ISAC": {**_JOINT, "temperature": tune.loguniform(3e-3, 1e-1)},
    "NetworkedAC": {
        "lr": tune.loguniform(3e-4, 2e-3),
        "critic_lr": tune.loguniform(3e-3, 3e-2),
        **_ENTROPY,
    },
    "HAPPO": _CLIPPED,
    "MAPPO": _CLIPPED,
    "BPPO": _CLIPPED,
    "ARMAPPO": _CLIPPED,
    # `lr` and `num_epochs` are the critic's: actors take one step, as long as the threshold allows.
    "HATRPO": {"kl_threshold": tune.loguniform(1e-3, 6e-2), **_LR, **_EPOCHS},
    "COMA": {
        **_LR,
        "critic_lr": tune.loguniform(3e-4, 2e-3),
        **_ENTROPY,
        "lambda_": tune.uniform(0.6, 0.95),
        "critic_num_epochs": tune.choice([5, 10, 20]),
    },
    "HAA2C": _UNCLIPPED,
    "MAA2C": _UNCLIPPED,
    "A2PO": {**_OF_ORDER_MATTERS, "lambda_": tune.uniform(0.9, 0.95)},
    # Its outer clip follows `clip_param`.
    "CoPPO": _OF_ORDER_MATTERS,
    "HADDPG": _DETERMINISTIC,
    "MADDPG": _DETERMINISTIC,
    "HATD3": _TWIN_DELAYED,
    "MATD3": _TWIN_DELAYED,
    "HASAC": _SOFT,
    "MASAC": _SOFT,
    "MAAC": {
        "lr": tune.loguniform(3e-4, 2e-3),
        "critic_lr": tune.loguniform(3e-4, 2e-3),
        "alpha": tune.loguniform(3e-3, 1e-1),
    },
    "QMIX": _DECOMPOSED,
    "VDN": _DECOMPOSED,
    "IQL": _DECOMPOSED,
    "HAD3QN": {**_LR, "critic_lr": tune.loguniform(3e-4, 2e-3), "gamma": tune.uniform(0.9, 0.99)},
}
"""Algorithm to its default space."""

_CALLS: Mapping[str, Callable[..., Domain]] = {
    "uniform": tune.uniform,
    "loguniform": tune.loguniform,
    "randint": tune.randint,
}
_CALL = re.compile(r"(\w+)\(([^,()]+),([^,()]+)\)")


def search_space(algorithm: type) -> Space:
    """The default space of an algorithm; of its nearest parent that has one.

    Raises:
        TeamError: If there is none.
    """
    for ancestor in algorithm.__mro__:
        if ancestor.__name__ in SPACES:
            return dict(SPACES[ancestor.__name__])
    raise TeamError(
        f"There is no default search space for {algorithm.__name__}. Say what is searched: "
        "make_study(..., space={'lr': tune.loguniform(1e-4, 1e-3)})."
    )


def parse_space(texts: Iterable[str]) -> Space:
    """The space of lines such as "lr=loguniform(1e-4, 1e-3)" and "num_epochs=[5, 10]".

    Raises:
        TeamError: If a line cannot be read, or gives a setting again.
    """
    space: Space = {}
    for text in texts:
        name, equals, values = (part.strip() for part in text.partition("="))
        domain = _domain(values) if name and equals else None
        if domain is None:
            raise TeamError(
                f"{text!r} says no range. Write setting=uniform(LOW, HIGH), loguniform(LOW, HIGH), "
                "randint(LOW, ABOVE_HIGH), or setting=[VALUE, VALUE]."
            )
        if name in space:
            raise TeamError(f"{name!r} is given twice.")
        space[name] = domain
    return space


def _domain(text: str) -> Domain | None:
    call = _CALL.fullmatch(text)
    try:
        if call and call[1] in _CALLS:
            whole = call[1] == "randint"
            low, high = ((int if whole else float)(x) for x in call.group(2, 3))
            return _CALLS[call[1]](low, high) if low < high else None
        values = yaml.safe_load(text)
    except (ValueError, yaml.YAMLError):
        return None
    if not (isinstance(values, list) and values):
        return None
    # YAML 1.1 takes 3e-4 for text.
    return tune.choice([_number(x) if isinstance(x, str) else x for x in values])


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


# ---- for population-based training --------------------------------------------------------------


def mutations(space: Space) -> dict[str, Any]:
    """What Tune's PBT perturbs: it shifts within a list, and multiplies within a range."""
    return {
        name: list(domain.categories) if isinstance(domain, Categorical) else domain
        for name, domain in space.items()
    }


class Within:
    """Puts perturbed values back into their ranges: PBT multiplies by 1.2 without a limit."""

    def __init__(self, space: Space) -> None:
        self.space = space

    def __call__(self, config: dict[str, Any]) -> dict[str, Any]:
        for name, domain in self.space.items():
            if isinstance(domain, (Float, Integer)):
                high = domain.upper - 1 if isinstance(domain, Integer) else domain.upper
                config[name] = min(max(config[name], domain.lower), high)
        return config
