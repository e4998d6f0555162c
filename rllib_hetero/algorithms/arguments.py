"""What becomes of every argument of a config's fluent methods: used, refused, or without meaning.

RLlib's methods take arguments of its older stack, of offline learning and of other algorithms. One
that would be accepted and change nothing is refused, unless it cannot mislead anybody; one that
only RLlib's stock runner reads is refused where another samples.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator
from enum import Enum
from typing import Any, NamedTuple

import numpy as np
from ray._common.deprecation import DEPRECATED_VALUE
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rllib_hetero.algorithms.setting_types import problem_with_setting
from rllib_hetero.runners.team_env_runner import TeamEnvRunner

OLD = "it is of RLlib's old API stack"
OFFLINE = "teams are not trained on recorded data"
IMPALA = "it is of IMPALA"
NOT_COMPILED = "no part of a team's update is compiled"

REFUSED: dict[str, dict[str, str]] = {
    "training": {
        "train_batch_size": "use config.training(train_batch_size_per_learner=...)",
        "model": "use config.rl_module(model_config={...})",
        "optimizer": "use config.training(lr=..., adam_epsilon=...)",
    },
    "environment": {
        "observation_space": "spaces are read from the environment",
        "action_space": "spaces are read from the environment",
        "clip_rewards": "rewards are taken as they are: clip them in the environment",
        "render_env": "film it: run_training(video_every=...), or record_episode",
        "action_mask_key": "the keys are 'observations' and 'action_mask'",
    },
    "env_runners": {
        "observation_filter": "normalise in the environment, or use MultiAgentEnvRunner with an "
        "env-to-module connector",
        "compress_observations": OLD,
        "sample_collector": OLD,
        "remote_worker_envs": "use more runners: config.env_runners(num_env_runners=...)",
        "preprocessor_pref": OLD,
        "exploration_config": "exploration is the algorithm's: config.training(...)",
        "gym_env_vectorize_mode": "RLlib's stock runner steps a team's environments one by one, "
        "and the team env runner those that are VectorTeamEnv as one",
        "use_env_runner_state_server": IMPALA,
        "env_runner_state_server_max_concurrency": IMPALA,
    },
    "framework": {
        "torch_compile_learner": NOT_COMPILED,
        "torch_compile_learner_what_to_compile": NOT_COMPILED,
        "torch_compile_learner_dynamo_mode": NOT_COMPILED,
        "torch_compile_learner_dynamo_backend": NOT_COMPILED,
        "torch_compile_worker": "policies are not compiled",
        "torch_compile_worker_dynamo_backend": "policies are not compiled",
        "torch_compile_worker_dynamo_mode": "policies are not compiled",
        "torch_ddp_kwargs": "learners sum their gradients without DDP",
        "torch_skip_nan_gradients": "an update along a gradient that is not finite raises "
        "NonFiniteUpdateError before its step",
    },
    "learners": {
        "num_aggregator_actors_per_learner": IMPALA,
        "add_default_connectors_to_learner_pipeline": "the learner needs them",
    },
    "multi_agent": {
        "count_steps_by": "steps are those of the environment",
        "observation_fn": "change observations in the environment",
    },
    "evaluation": {
        "off_policy_estimation_methods": OFFLINE,
        "offline_evaluation_interval": OFFLINE,
        "offline_eval_runner_class": OFFLINE,
        "offline_evaluation_type": OFFLINE,
        "num_offline_eval_runners": OFFLINE,
    },
    "resources": {
        "num_gpus": "use config.learners(num_gpus_per_learner=...)",
    },
    "checkpointing": {
        "export_native_model_files": "checkpoints hold the policies: load_policies",
        "checkpoint_trainable_policies_only": "a checkpoint is whole",
    },
    "debugging": {"fake_sampler": OLD},
    "reporting": {"keep_per_episode_custom_metrics": OLD},
    "api_stack": {
        "enable_rl_module_and_learner": "the old stack has no teams",
        "enable_env_runner_and_connector_v2": "the old stack has no teams",
    },
    "offline_data": {"input_": OFFLINE, "output": "record in the environment, or by callbacks"},
    "experimental": {
        "_validate_config": "a team is read from its environment where settings are checked",
        "_torch_grad_scaler_class": "losses are not scaled",
        "_torch_lr_scheduler_classes": "use config.training(lr=[[0, 5e-4], [1_000_000, 0.0]])",
    },
}
"""Method to argument to the reason; they must keep their defaults."""

OF_THE_STOCK_RUNNER: dict[str, frozenset[str]] = {
    "environment": frozenset({"disable_env_checking"}),
    "env_runners": frozenset({
        "episode_lookback_horizon", "episodes_to_numpy",
        "add_default_connectors_to_env_to_module_pipeline",
        "add_default_connectors_to_module_to_env_pipeline",
    }),
}  # fmt: skip
"""Method to those arguments that `MultiAgentEnvRunner` reads, and `TeamEnvRunner` does not."""

NOT_OF_EVALUATION: dict[str, str] = {
    **dict.fromkeys(("training", "learners", "checkpointing"), "an evaluation trains nothing"),
    **dict.fromkeys(("multi_agent", "rl_module"), "the policies are the training's"),
    "evaluation": "it belongs into config.evaluation(...) itself",
}
"""Method of RLlib's to why none of its arguments has a place in `evaluation_config`."""

_SET_BY_EVALUATION = {
    "num_env_runners": "use config.evaluation(evaluation_num_env_runners=...)",
    "batch_mode": "it follows from config.evaluation(evaluation_duration_unit=...)",
    "rollout_fragment_length": "it follows from config.evaluation(evaluation_duration=...)",
}

MEANINGLESS: dict[str, frozenset[str]] = {
    "environment": frozenset({"is_atari"}),
    "env_runners": frozenset({
        "use_worker_filter_stats", "update_worker_filter_stats", "remote_env_batch_wait_ms",
        "enable_tf1_exec_eagerly", "sampler_perf_stats_ema_coef",
    }),
    "framework": frozenset({
        "eager_tracing", "eager_max_retraces", "tf_session_args", "local_tf_session_args",
    }),
    "learners": frozenset({
        "max_requests_in_flight_per_aggregator_actor", "max_requests_in_flight_per_learner",
    }),
    "multi_agent": frozenset({"policy_map_capacity", "policy_states_are_swappable"}),
    "evaluation": frozenset({
        "ope_split_batch_by_episode", "offline_loss_for_module_fn",
        "offline_eval_batch_size_per_runner", "dataset_num_iters_per_offline_eval_runner",
        "offline_eval_rl_module_inference_only", "num_cpus_per_offline_eval_runner",
        "num_gpus_per_offline_eval_runner", "custom_resources_per_offline_eval_runner",
        "offline_evaluation_timeout_s", "max_requests_in_flight_per_offline_eval_runner",
        "broadcast_offline_eval_runner_states", "validate_offline_eval_runners_after_construction",
        "restart_failed_offline_eval_runners", "ignore_offline_eval_runner_failures",
        "max_num_offline_eval_runner_restarts", "offline_eval_runner_health_probe_timeout_s",
        "offline_eval_runner_restore_timeout_s",
    }),
    # The gradients' norms are always logged.
    "reporting": frozenset({"metrics_episode_collection_timeout_s", "log_gradients"}),
    "resources": frozenset({"_fake_gpus"}),
    "callbacks": frozenset({
        "on_evaluate_offline_start", "on_evaluate_offline_end", "on_offline_eval_runners_recreated",
    }),
    # Without `input_` or `output`, nothing reads or writes.
    "offline_data": frozenset({
        "offline_data_class", "input_read_method", "input_read_method_kwargs", "input_read_schema",
        "input_read_episodes", "input_read_sample_batches", "input_read_batch_size",
        "input_filesystem", "input_filesystem_kwargs", "input_compress_columns",
        "materialize_data", "materialize_mapped_data", "map_batches_kwargs", "iter_batches_kwargs",
        "ignore_final_observation", "prelearner_class", "prelearner_buffer_class",
        "prelearner_buffer_kwargs", "prelearner_module_synch_period",
        "prelearner_use_recorded_module_states", "dataset_num_iters_per_learner", "input_config",
        "actions_in_input_normalized", "postprocess_inputs", "shuffle_buffer_size",
        "output_config", "output_compress_columns", "output_max_file_size",
        "output_max_rows_per_file", "output_write_remaining_data", "output_write_method",
        "output_write_method_kwargs", "output_filesystem", "output_filesystem_kwargs",
        "output_write_episodes", "offline_sampling",
    }),
    "experimental": frozenset({
        "_tf_policy_handles_more_than_one_loss", "_disable_preprocessor_api",
        "_disable_action_flattening", "_disable_initialize_loss_from_dummy_batch",
    }),
}  # fmt: skip
"""Method to those arguments that change nothing, and are accepted."""

USED: dict[str, frozenset[str]] = {
    "training": frozenset({
        "gamma", "lr", "grad_clip", "grad_clip_by", "train_batch_size_per_learner", "num_epochs",
        "minibatch_size", "shuffle_batch_per_epoch", "learner_class", "learner_connector",
        "add_default_connectors_to_learner_pipeline", "learner_config_dict",
    }),
    "environment": frozenset({"env", "env_config", "normalize_actions", "clip_actions"}),
    "env_runners": frozenset({
        "env_runner_cls", "num_env_runners", "create_local_env_runner",
        "create_env_on_local_worker", "num_envs_per_env_runner", "num_cpus_per_env_runner",
        "num_gpus_per_env_runner", "custom_resources_per_env_runner",
        "validate_env_runners_after_construction", "sample_timeout_s",
        "max_requests_in_flight_per_env_runner", "env_to_module_connector",
        "module_to_env_connector", "merge_env_runner_states", "broadcast_env_runner_states",
        "rollout_fragment_length", "batch_mode", "explore",
    }),
    "framework": frozenset({"framework"}),
    "learners": frozenset({
        "num_learners", "num_cpus_per_learner", "num_gpus_per_learner",
        "custom_resources_per_learner", "local_gpu_idx", "learner_class", "learner_connector",
        "learner_config_dict",
    }),
    "multi_agent": frozenset({"policies", "policy_mapping_fn", "policies_to_train"}),
    "evaluation": frozenset({
        "evaluation_interval", "evaluation_duration", "evaluation_duration_unit",
        "evaluation_auto_duration_min_env_steps_per_sample",
        "evaluation_auto_duration_max_env_steps_per_sample", "evaluation_sample_timeout_s",
        "evaluation_parallel_to_training", "evaluation_unhealthy_workers_timeout_s",
        "evaluation_error_after_n_consecutive_skips",
        "evaluation_force_reset_envs_before_iteration", "evaluation_config",
        "evaluation_num_env_runners", "custom_evaluation_function",
    }),
    "reporting": frozenset({
        "metrics_num_episodes_for_smoothing", "min_time_s_per_iteration",
        "min_train_timesteps_per_iteration", "min_sample_timesteps_per_iteration",
        "custom_stats_cls_lookup",
    }),
    "resources": frozenset({
        "num_cpus_for_main_process", "custom_resources_for_main_process", "placement_strategy",
    }),
    "debugging": frozenset({"log_level", "log_sys_usage", "seed"}),
    "fault_tolerance": frozenset({
        "restart_failed_env_runners", "ignore_env_runner_failures", "max_num_env_runner_restarts",
        "delay_between_env_runner_restarts_s", "restart_failed_sub_environments",
        "num_consecutive_env_runner_failures_tolerance", "env_runner_health_probe_timeout_s",
        "env_runner_restore_timeout_s",
    }),
    "rl_module": frozenset({
        "model_config", "rl_module_spec", "algorithm_config_overrides_per_module",
    }),
    "callbacks": frozenset({
        "callbacks_class", "on_algorithm_init", "on_train_result", "on_evaluate_start",
        "on_evaluate_end", "on_env_runners_recreated", "on_checkpoint_loaded",
        "on_environment_created", "on_episode_created", "on_episode_start", "on_episode_step",
        "on_episode_end", "on_sample_end",
    }),
    "python_environment": frozenset({
        "extra_python_environs_for_driver", "extra_python_environs_for_worker",
    }),
    "experimental": frozenset({"_use_msgpack_checkpoints"}),
}  # fmt: skip
"""Method to those arguments that do what RLlib says. Arguments of our own are used, all of them."""

METHODS = tuple(dict.fromkeys([*USED, *REFUSED, *OF_THE_STOCK_RUNNER, *MEANINGLESS]))
"""RLlib's fluent methods. Families add some of their own, which need not be named here."""


class Argument(NamedTuple):
    """An argument of a fluent method.

    Attributes:
        method: The method's name.
        name: The argument's, and of the attribute that holds it.
        annotation: What it may be.
        ours: Whether it is not RLlib's.
    """

    method: str
    name: str
    annotation: Any
    ours: bool


def arguments_of(config_class: type, methods: tuple[str, ...] = METHODS) -> Iterator[Argument]:
    """Every argument that the config's methods take, those of its parents included.

    Deprecated ones, which RLlib answers itself, are left out.
    """
    seen = set()
    for owner in config_class.__mro__:
        if not issubclass(owner, AlgorithmConfig):
            continue
        for method in methods:
            if method not in vars(owner):
                continue
            signature = inspect.signature(vars(owner)[method], eval_str=_evaluates(owner))
            for name, parameter in signature.parameters.items():
                named = parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
                deprecated = parameter.default == DEPRECATED_VALUE
                if not named or deprecated or name == "self" or (method, name) in seen:
                    continue
                seen.add((method, name))
                ours = owner.__module__.split(".")[0] != "ray"
                yield Argument(method, name, parameter.annotation, ours)


def _evaluates(owner: type) -> bool:
    # Ours are strings, which can be evaluated; RLlib's name classes that are not imported.
    return owner.__module__.split(".")[0] != "ray"


def value_of(config: AlgorithmConfig, name: str) -> Any:
    """What the config holds for an argument; None where it keeps nothing."""
    place = _place_of(config, name)
    return None if place is None else vars(config)[place]


def _place_of(config: AlgorithmConfig, name: str) -> str | None:
    return next((place for place in _places(name) if place in vars(config)), None)


def _places(name: str) -> tuple[str, ...]:
    return (name, f"_{name}", f"callbacks_{name}", f"{name}_str")


def check_arguments(config: Any) -> None:
    """Raises unless every setting is used, of its type and in its range.

    Numbers of numpy become Python's.

    Raises:
        ValueError: The first that is not, with the call that mends it.
    """
    default = type(config)()
    for argument in arguments_of(type(config)):
        name = argument.name
        value = value_of(config, name)
        if isinstance(value, np.generic):  # RLlib takes Python's numbers only.
            value = value.item()
            setattr(config, _place_of(config, name) or name, value)
        check_argument(argument, value, value_of(default, name), config.env_runner_cls)


def check_argument(
    argument: Argument, value: Any, default: Any, runner: Any, call: str | None = None
) -> None:
    """Raises unless a setting is its default, or used, of its type and in its range.

    Args:
        argument: Whose value it is.
        value: What it is set to.
        default: What it is where nobody sets it.
        runner: The class of the env runner.
        call: How it is set, with "{}" for the value; by its own fluent method if None.

    Raises:
        ValueError: With the call that mends it.
    """
    method, name, annotation, ours = argument
    if value is default or _equal(value, default):
        return
    call = call or f"config.{method}({name}={{}})"
    why = None if ours else _why_refused(method, name, runner)
    if why is not None:
        raise ValueError(
            f"{call.replace('{}', in_short(value))} would change nothing: {why}. Leave it out."
        )
    problem = problem_with_setting(name, value, annotation, ours=ours)
    if problem is not None:
        raise ValueError(
            f"`{name}` is {in_short(value)}, but {problem} (it is of type {type(value).__name__}). "
            f"Mend it with {call.replace('{}', '...')}."
        )


def check_evaluation_arguments(config: Any) -> None:
    """Raises unless `evaluation_config` holds settings that an evaluation reads, and good ones.

    Raises:
        ValueError: The first that is not, with the call that mends it.
    """
    given = config.evaluation_config
    if isinstance(given, AlgorithmConfig):
        try:
            check_arguments(given)
        except ValueError as problem:
            raise ValueError(f"In config.evaluation(evaluation_config=...): {problem}") from None
        return
    default = type(config)()
    by_key = {key: a for a in arguments_of(type(config)) for key in _places(a.name)}
    runner = (given or {}).get("env_runner_cls", config.env_runner_cls)
    # RLlib makes a dict of a config that is given whole, most of which is to change nothing.
    whole = given is not None and default.to_dict().keys() <= given.keys()
    for key, value in (given or {}).items():
        name = config._translate_special_keys(key, warn_deprecated=False)
        if name not in by_key and name not in vars(default):
            near = difflib.get_close_matches(str(key), map(str, by_key), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"config.evaluation(evaluation_config={{{key!r}: ...}}) would change nothing: "
                f"there is no such setting.{hint}"
            )
        if name not in by_key:
            continue
        call = f"config.evaluation(evaluation_config={{{key!r}: {{}}}})"
        why = None if by_key[name].ours else NOT_OF_EVALUATION.get(by_key[name].method)
        why = _SET_BY_EVALUATION.get(key, why)
        if why is not None and not whole:
            raise ValueError(
                f"{call.replace('{}', in_short(value))} would change nothing: {why}. Leave it out."
            )
        check_argument(by_key[name], value, value_of(default, name), runner, call)


def in_short(value: Any) -> str:
    """A value on one line, at most 200 characters long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 200 else f"{text[:197]}..."


def _why_refused(method: str, name: str, runner: Any) -> str | None:
    why = REFUSED.get(method, {}).get(name)
    of_the_stock_runner = name in OF_THE_STOCK_RUNNER.get(method, ())
    if of_the_stock_runner and isinstance(runner, type) and issubclass(runner, TeamEnvRunner):
        why = (
            "only RLlib's stock runner reads it, "
            "config.env_runners(env_runner_cls=MultiAgentEnvRunner)"
        )
    return why


def _equal(value: Any, before: Any) -> bool:
    if isinstance(before, Enum) and isinstance(value, str):
        before = before.value  # Tune's files hold the text.
    elif isinstance(before, tuple) and isinstance(value, list):
        before = list(before)
    try:
        return type(value) is type(before) and bool(value == before)
    except Exception:
        return False  # arrays, say
