"""`torch.export` programs act as `TeamPolicies` does."""

import json
import subprocess
import sys

import numpy as np
import pytest
import runner_toys as toys
import torch
from kinds_toys import KindsTeam, team
from toys import small_config

from rllib_hetero import (
    BPPOConfig,
    HASACConfig,
    HATD3Config,
    MAPPOConfig,
    QMIXConfig,
    TeamError,
    export_programs,
    load_policies,
)
from rllib_hetero.algorithms.checkpoint import export_description
from rllib_hetero.modules.input_norm import running_norms

EQUAL = {"a": 4, "b": 4, "c": 4}
MIXED = {"a": "uneven", "b": "discrete", "c": "multi"}
DISCRETE = dict.fromkeys("abc", "discrete")
CASES = {
    "unlike, masked": (MAPPOConfig, {"actions": MIXED, "masked": "bc"}, "none", {}, None),
    "shared, remembering": (
        MAPPOConfig, {"agents": EQUAL, "actions": DISCRETE, "masked": "abc"}, "full", {}, "gru",
    ),
    "normalized, lstm": (
        MAPPOConfig, {"actions": MIXED}, "none", {"normalize_actions": True}, "lstm",
    ),
    "squashed": (HASACConfig, {}, "none", {}, None),
    "deterministic": (HATD3Config, {"actions": {"a": "uneven"}}, "none", {}, None),
    "squashed, far off": (HASACConfig, {}, "none", {"input_norm": True}, None),
    "scaled, masked, remembering": (
        MAPPOConfig, {"actions": MIXED, "masked": "bc"}, "none", {"input_norm": True}, "gru",
    ),
    "values, masked": (QMIXConfig, {"actions": DISCRETE, "masked": "b"}, "none", {}, "gru"),
}  # fmt: skip


def checkpoint_of(tmp_path, cls, env_config, sharing, settings, memory):
    """The policies of an untrained team, its weights far from their start."""
    config = toys.small(cls(), env_config=env_config).multi_agent(parameter_sharing=sharing)
    model = {"hidden_sizes": [8], "actor_head_gain": 0.5, "recurrent": memory}
    if memory is None:
        model.pop("recurrent")
    if cls is not MAPPOConfig:
        model.pop("actor_head_gain")
    if cls is QMIXConfig:
        model["max_seq_len"] = 5
    if "input_norm" in settings:
        model["input_norm"], settings = True, {}
    config.rl_module(model_config=model).update_from_dict(settings)
    config.validate()
    algo = type("Algo", (), {"config": config, "training_iteration": 0})()
    export_description(algo, tmp_path.as_uri())
    torch.manual_seed(1)
    modules = config.get_multi_rl_module_spec(inference_only=True).build()
    for m in config.layout.groups:
        for p in modules[m].parameters():
            p.data += 0.5 * torch.randn_like(p)
        for norm in running_norms(modules[m]):
            norm.mean.normal_()
            norm.variance.uniform_(0.5, 3.0)
        torch.save(modules[m].get_state(inference_only=True), tmp_path / "policies" / f"{m}.pt")
    return config


def to_tensors(path):
    state = torch.load(path, weights_only=False)
    torch.save({k: torch.as_tensor(np.asarray(x)) for k, x in state.items()}, path)


@pytest.mark.parametrize("case", CASES)
def test_programs_act_as_the_policies_do(case, tmp_path):
    config = checkpoint_of(tmp_path, *CASES[case])
    for path in (tmp_path / "policies").glob("*.pt"):
        to_tensors(path)
    team = config.layout.team
    files = export_programs(tmp_path, tmp_path / "programs")
    told = json.loads((tmp_path / "programs" / "programs.json").read_text())["programs"]
    assert [p["agent"] for p in told] == list(team.agents) == list(files)
    programs = {a: torch.export.load(path).module() for a, path in files.items()}
    policies = load_policies(tmp_path)
    rng = np.random.default_rng(0)
    memories = {p["agent"]: torch.tensor(p["initial_memory"])[None] for p in told}
    differing = set()
    for _ in range(6):
        seen, given = {}, {}
        for about in told:
            a, p = about["agent"], about["mask_size"]
            x = rng.normal(0, 3, about["observation_size"]).astype(np.float32)
            seen[a], given[a] = x, {"observation": torch.from_numpy(x)[None]}
            if p:
                mask = rng.random(p) < 0.5
                mask[[0, p - 1]] = True  # Of a MultiDiscrete's components, too.
                seen[a] = {"observations": x, "action_mask": mask}
                given[a]["action_mask"] = torch.from_numpy(mask)[None]
            if memories[a].numel():
                given[a]["memory"] = memories[a]
        expected = policies.act(seen)
        for a, u in expected.items():
            out = programs[a](**given[a])
            np.testing.assert_allclose(out["action"][0].numpy(), u, rtol=1e-5, atol=1e-5)
            memories[a] = out.get("memory", memories[a])
            differing.add((a, round(float(out["dist_inputs"][0, 0]), 4)))
            # Any number of rows: here a row thrice.
            many = programs[a](**{k: x.repeat(3, *[1] * (x.ndim - 1)) for k, x in given[a].items()})
            np.testing.assert_allclose(many["action"][2].numpy(), u, rtol=1e-5, atol=1e-5)
    assert len(differing) > 4 * len(team.agents)  # They depend on what is seen.


def test_a_program_needs_torch_alone(tmp_path):
    checkpoint_of(tmp_path, *CASES["squashed"])
    for path in (tmp_path / "policies").glob("*.pt"):
        to_tensors(path)
    file = export_programs(tmp_path, tmp_path / "programs")["b"]
    code = (
        "import sys, torch;"
        f"out = torch.export.load({str(file)!r}).module()(observation=torch.zeros(4, 5));"
        "print(tuple(out['action'].shape), {'ray', 'rllib_hetero', 'gymnasium'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "(4, 2) set()"


def test_agents_that_act_in_sequence_are_refused(tmp_path):
    checkpoint_of(tmp_path, BPPOConfig, {}, "none", {}, None)
    for path in (tmp_path / "policies").glob("*.pt"):
        to_tensors(path)
    with pytest.raises(TeamError, match="act in sequence must be told"):
        export_programs(tmp_path, tmp_path / "programs")


def test_what_is_no_vector_is_refused(tmp_path):
    config = small_config(
        MAPPOConfig,
        KindsTeam,
        team("vector picture vector", "box discrete mixed"),
        model={"conv_filters": [[4, 3, 3]], "conv_features": 8},
    )
    algo = type("Algo", (), {"config": config, "training_iteration": 0})()
    export_description(algo, tmp_path.as_uri())
    modules = config.get_multi_rl_module_spec(inference_only=True).build()
    for m in config.layout.groups:
        state = modules[m].get_state(inference_only=True)
        torch.save(state, tmp_path / "policies" / f"{m}.pt")
        to_tensors(tmp_path / "policies" / f"{m}.pt")
    with pytest.raises(TeamError, match=r"those of \['b', 'c'\].*load_policies"):
        export_programs(tmp_path, tmp_path / "programs")
