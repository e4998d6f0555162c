"""The gradients of all five F2A2 algorithms against a slow implementation, sample by sample."""

import copy

import pytest
import torch
from member_toys import Hall, member_config
from slow_members import SlowCOMA, SlowOffPolicy, copies, double
from toys import MaskedTeam

from rllib_hetero.algorithms.decentralised.f2a2_coma import F2A2COMAConfig
from rllib_hetero.algorithms.decentralised.f2a2_ddpg import F2A2DDPGConfig
from rllib_hetero.algorithms.decentralised.f2a2_isac import F2A2ISACConfig
from rllib_hetero.algorithms.decentralised.f2a2_sac import F2A2SACConfig
from rllib_hetero.algorithms.decentralised.f2a2_td3 import F2A2TD3Config
from rllib_hetero.functional import JointGradient

UNEQUAL = {"agents": {"b": (3, "three"), "a": (2, "discrete"), "c": (3, "three")}, "dies": {"c": 3}}
EQUAL = {"agents": {x: (2, "discrete") for x in "abcd"}, "dies": {"c": 3}}
KINDS = {
    "coma": F2A2COMAConfig, "ddpg": F2A2DDPGConfig, "td3": F2A2TD3Config, "sac": F2A2SACConfig,
    "isac": F2A2ISACConfig,
}  # fmt: skip
# All is float64: sums of some hundred products of numbers of size 1 to 10.
CLOSE = {"rtol": 1e-9, "atol": 1e-11}


def hall_of(kind, *, env_config=None, **settings):
    """Members that have been updated a few times, told of each other's policies."""
    defaults = {"joint": True, "critic_alpha1": 0.3, "actor_alpha2": 0.2, "gamma": 0.8}
    if kind in ("sac", "isac"):
        defaults["temperature"] = 0.3
    if kind in ("ddpg", "td3"):
        defaults["entropy_coeff"] = 0.3
    if kind == "isac":
        defaults["agents_per_module"] = 2
    if kind == "td3":
        defaults |= {"policy_delay": 1, "target_noise": 0.7}
    env = settings.pop("env", None)
    given = {} if env is None else {"env": env}
    config = member_config(
        KINDS[kind],
        env_config=env_config or (EQUAL if kind == "isac" else UNEQUAL),
        others={"model": False},
        **given,
        **defaults | settings,
    )
    hall = Hall(config)
    for i in range(3):
        hall.sample(random=i == 0)
        hall.update()
        hall.publish()
    return hall


def gradients_of(hall, m):
    """Of one update in float64: both steps' gradients by name, and what they were taken at."""
    member, seed, found = hall.members[m], hall.seed(m), {}
    drawn = double(member.draw(hall.replays[m], seed))
    for other in hall.members.values():
        other.actor.double(), other.critic.module.double()
    names = {id(p): n for n, p in member.named_parameters().items()}

    def step(name, loss, params, optimizer, limit):
        gradients = torch.autograd.grad(loss, params, allow_unused=True)
        known = {names[id(p)]: g for p, g in zip(params, gradients, strict=True)}
        found[name] = known, copies(member)
        with torch.no_grad():  # A step of another kind, so that the second sees it.
            for p, g in zip(params, gradients, strict=True):
                if g is not None:
                    p -= 0.01 * g

    member._step = step
    policies = {n: x.actor for n, x in hall.members.items() if n != m}
    member.update(drawn, seed, policies if member.exchanges_policies else None)
    return drawn, found, {n: copy.deepcopy(x) for n, x in policies.items()}


def assert_gradients_are_those_of(losses, found):
    for name, (known, (actor, critic)) in found.items():
        part = {"actor": actor, "critic": critic}[name]
        named = {f"{name}.{n}": p for n, p in part.named_parameters() if p.requires_grad}
        loss = losses(name, actor, critic)
        expected = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
        moved = 0
        for n, g in zip(named, expected, strict=True):
            if known[n] is None or g is None:
                nothing = torch.zeros_like(named[n])
                torch.testing.assert_close(
                    nothing if known[n] is None else known[n], nothing if g is None else g
                )
                continue
            torch.testing.assert_close(known[n], g, **CLOSE, msg=lambda x, n=n: f"{n}: {x}")
            moved += bool(g.abs().sum() > 1e-6)
        assert moved > len(named) // 3, name


def slow_losses(hall, m, drawn, kind, others, seed):
    def losses(name, actor, critic):
        cls = SlowCOMA if kind == "coma" else SlowOffPolicy
        slow = cls(hall.config, m, drawn.batch, actor, critic, others, seed)
        soft = "soft" if kind in ("sac", "isac") else kind
        slow.prepare(drawn.runs if kind == "coma" else soft)
        return slow.critic_loss() if name == "critic" else slow.actor_loss()

    return losses


def check(hall, kind, m):
    seed = hall.seed(m)
    drawn, found, others = gradients_of(hall, m)
    assert found.keys() == {"actor", "critic"}
    # Everything that others were paid is missing: gradients are of the own rewards alone.
    own = [hall.config.layout.team.agents.index(a) for a in hall.config.layout.groups[m]]
    rest = [i for i in range(drawn.batch.agent_rewards.shape[1]) if i not in own]
    assert drawn.batch.agent_rewards[:, own].isfinite().all()
    assert drawn.batch.agent_rewards[:, rest].isnan().all()
    assert_gradients_are_those_of(slow_losses(hall, m, drawn, kind, others, seed), found)


@pytest.mark.parametrize("joint", [True, "paper", False])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_of_every_algorithm(kind, joint):
    hall = hall_of(kind, joint=joint)
    check(hall, kind, "agents_1" if kind == "isac" else "c")


def test_sac_with_one_critic_of_the_joint_action():
    shared = {"shared": "critic"}
    hall = hall_of("sac", joint="paper", critic="joint", twin_q=False, consensus=shared)
    check(hall, "sac", "a")


def test_with_masks_and_a_global_state():
    agents = {"b": (3, "three"), "a": (2, "discrete"), "c": (3, "three")}
    case = {"agents": agents, "state": True, "end": "alternate"}
    check(hall_of("td3", env=MaskedTeam, env_config=case, joint="paper"), "td3", "b")


@pytest.mark.parametrize("critic", ["joint", "attention"])
def test_of_a_group_that_shares_its_module(critic):
    """Each agent's value has a slope in its own action alone."""
    group = {"sharing": {"pair": ["b", "d"]}, "critic": critic}
    check(hall_of("ddpg", env_config=EQUAL, joint="paper", **group), "ddpg", "pair")


def test_the_presets():
    config = F2A2SACConfig().training(alpha1=2.0, alpha2=3.0)
    assert config.joint_gradient == JointGradient(2.0, 3.0, 0.01, 0.01, "coincident")
    config.training(joint="paper")
    assert config.joint_gradient == JointGradient(2.0, 3.0, 2.0, 3.0, "paper")
    config.training(joint=False)
    assert config.joint_gradient == JointGradient(2.0, 3.0, 0.0, 0.0, "off", actor_replayed=False)
