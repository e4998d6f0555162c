"""Whether modules can be built as the settings say, and do what is asked of them."""

from __future__ import annotations

from typing import Any

from ray.rllib.policy.policy import PolicySpec

from rllib_hetero.algorithms.arguments import check_arguments
from rllib_hetero.algorithms.evaluation import global_randomness_kept
from rllib_hetero.algorithms.model_settings import check_encoder_keys, check_model_config
from rllib_hetero.layout import CRITIC
from rllib_hetero.modules.own import check_actor, check_critic


def check_policy_specs(config: Any) -> None:
    """Raises ValueError for a PolicySpec that says more than a module's name."""
    for name, spec in config.policies.items() if isinstance(config.policies, dict) else ():
        if isinstance(spec, list | tuple):  # as RLlib copies it
            spec = PolicySpec(*spec)
        if isinstance(spec, PolicySpec) and (spec.config or spec.policy_class is not None):
            raise ValueError(
                f"The PolicySpec of {name!r} has a config or a class, which nothing reads. Set "
                "what is its own with config.rl_module(algorithm_config_overrides_per_module="
                f"{{{name!r}: {{...}}}}), or a class with config.rl_module(rl_module_spec=...)."
            )


def check_overrides(config: Any) -> None:
    """Raises ValueError unless what a module has of its own is read, and the module is there."""
    modules = [*config.layout.groups, CRITIC]
    for m, given in config.algorithm_config_overrides_per_module.items():
        if m not in modules:
            raise ValueError(
                f"`algorithm_config_overrides_per_module` names {m!r}; the modules are "
                f"{modules}. Mend it with config.rl_module(...)."
            )
        unread = sorted(set(given) - config.per_module)
        if unread:
            raise ValueError(
                f"{unread} cannot be overridden for the module {m!r}: of "
                f"{config.algo_class.__name__} these can: {sorted(config.per_module)}. Set it for "
                "all with config.training(...)."
            )
        check_arguments(config.copy(copy_frozen=False).update_from_dict(given))


def check_model(config: Any) -> None:
    """Raises ValueError unless modules can be built from `config.model_config`."""
    if config._rl_module_spec is not None:
        # Modules of a user's own have keys of their own, and the batch has sequences.
        if not (isinstance(config.max_seq_len, int) and config.max_seq_len >= 1):
            raise ValueError(
                f"`max_seq_len` must be an integer of at least 1, got {config.max_seq_len!r}. "
                "Set it with config.rl_module(model_config={'max_seq_len': 10})."
            )
        return
    given = config._given_model_config()
    check_model_config(given, config.model_defaults)
    check_encoder_keys(given, config.layout.team)
    if "action_projection" in given and not config.autoregressive:
        raise ValueError(
            "`action_projection` is for agents that act in sequence (BPPO, ARMAPPO): remove it "
            "from config.rl_module(model_config={...})."
        )


def check_own_modules(config: Any) -> None:
    """Raises unless modules of the user's own do what is asked of modules."""
    if config._rl_module_spec is None:
        return
    own = {
        m: spec
        for m, spec in config.get_multi_rl_module_spec().rl_module_specs.items()
        if spec.module_class.__module__.split(".")[0] != "rllib_hetero"
    }
    with global_randomness_kept():
        for m, spec in own.items():
            if m != CRITIC:
                check_actor(spec.build(), m, config.layout, attributes=config.actor_attributes)
                continue
            if not spec.learner_only:
                raise ValueError(
                    "The critic's RLModuleSpec needs `learner_only=True`: runners have none."
                )
            default = config.get_critic_spec().module_class
            check_critic(spec.build(), m, config.layout, default=default)
