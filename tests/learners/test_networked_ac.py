"""NetworkedAC: copies of one critic, each of its own agent's rewards, averaged over a network."""

import copy

import numpy as np
import pytest
import torch
from member_toys import Hall, member_config
from toys import ULP, CountingTeam, MatrixTeam

from rllib_hetero import NetworkedACConfig
from rllib_hetero.learners.off_policy.joint_actions import replayed_actions, side_by_side

THREE = {"agents": {"a": (2, "three"), "b": (3, "discrete"), "c": (4, "three")}, "end": "alternate"}


class UnequalPay(MatrixTeam):
    """One state, one step; what is done does not matter: p0 is paid 1, p1 is paid 3."""

    reward_scheme = "individual"

    def __init__(self, config=None):
        super().__init__({"payoff": [[0.0, 0.0], [0.0, 0.0]]})

    def step(self, action_dict):
        seen, rewards, *ends = super().step(action_dict)
        return seen, dict(zip(rewards, (1.0, 3.0), strict=True)), *ends


def values_of(member, replay, seed):
    """Of what was done in its replay's rows."""
    batch, layout = member.draw(replay, seed).batch, member.layout
    actions = side_by_side(replayed_actions(batch, layout), layout)
    with torch.no_grad():
        state = member.critic.module.asked(batch.state, [0])[0]
        return member.critic.module.q_values(state, actions)[0].numpy()


def trained(topology, rounds=150):
    config = member_config(
        NetworkedACConfig, UnequalPay, num_envs=2, steps=4, lr=1e-4, critic_lr=1e-2,
        train_batch_size_per_learner=8, adam_epsilon=1e-8, model={"hidden_sizes": [8]},
        consensus={"topology": topology},
    )  # fmt: skip
    hall = Hall(config)
    for _ in range(rounds):
        hall.sample()
        hall.update(exchange=topology != "none")
    return {m: values_of(x, hall.replays[m], hall.seed(m)) for m, x in hall.members.items()}


def test_averaged_copies_learn_the_mean_of_the_agents_returns():
    found = trained("full")
    for q in found.values():
        assert np.allclose(q, 2.0, atol=0.1)
    apart = trained("none")
    assert np.allclose(apart["p0"], 1.0, atol=0.1) and np.allclose(apart["p1"], 3.0, atol=0.1)


def test_after_an_exchange_all_copies_are_one_and_nobody_asks_who_it_is_for():
    hall = Hall(member_config(NetworkedACConfig, CountingTeam, THREE))
    for _ in range(3):
        hall.sample()
        hall.update()
    first, *others = [m.shared.vector() for m in hall.members.values()]
    for other in others:
        # A mean of three numbers.
        assert float((first - other).abs().max()) <= 3 * ULP * float(first.abs().max())
    members = list(hall.members.values())
    assert len({tuple(p.shape for p in m.critic.module.parameters()) for m in members}) == 1
    asked = members[0].critic.module.asked(torch.randn(4, 9), [0, 1, 2])
    assert asked.shape == (3, 4, 9) and torch.equal(asked[0], asked[2])
    # Actors are their own.
    assert not any(n.startswith("actor") for n in members[0].shared.names)


def gradients_at_steps(member):
    """What the optimisers find when they step, by name; filled by an update."""
    found = {}
    for name, optimizer in (("critic", member.critic_optimizer), ("actor", member.actor_optimizer)):
        step = optimizer.step

        def stepping(*args, name=name, optimizer=optimizer, step=step, **kwargs):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            found[name] = [p.grad.clone() for p in parameters]
            return step(*args, **kwargs)

        optimizer.step = stepping
    return found


def test_a_step_is_that_of_the_own_td_error_and_then_of_the_counterfactual_advantage():
    """All episodes end in termination: nobody has to guess what is done next."""
    config = member_config(
        NetworkedACConfig, CountingTeam, THREE | {"end": "terminate", "length": 4},
        grad_clip=None, critic_grad_clip=None, entropy_coeff=0.0, model={"input_norm": False},
    )  # fmt: skip
    hall = Hall(config)
    hall.sample()
    member, replay = hall.members["b"], hall.replays["b"]
    drawn, found = member.draw(replay, hall.seed("b")), gradients_at_steps(member)
    batch = drawn.batch
    rows, gamma = range(len(batch)), config.gamma
    net, actor = copy.deepcopy((member.critic.module.networks[0], member.actor))
    taken = {a: batch.actions[a][:, 0] for a in "abc"}
    sizes = {"a": 3, "b": 4, "c": 3}

    def q(network, k, own=None):
        choice = {a: int(taken[a][k]) for a in "abc"}
        if own is not None:
            choice["b"] = own
        ones = [torch.eye(sizes[a])[choice[a]] for a in "abc"]
        return network(batch.state[k], torch.cat(ones))[0]

    loss = 0.0
    for k in rows:
        with torch.no_grad():
            y = float(batch.agent_rewards[k, 1])
            if batch.discount[k]:
                y += gamma * float(q(net, k + 1))
        loss = loss + (q(net, k) - y) ** 2 / len(rows)
    expected = {"critic": torch.autograd.grad(loss, list(net.parameters()))}

    policies = {n: x.actor for n, x in hall.members.items() if n != "b"}
    member.update(drawn, hall.seed("b"), policies)
    fitted = member.critic.module.networks[0]  # the actor asks the critic as it then is
    loss = 0.0
    for k in rows:
        out = actor.forward_train({"obs": batch.observations["b"][k : k + 1, 0]})
        log_probs = torch.log_softmax(out["action_dist_inputs"][0], -1)
        with torch.no_grad():
            baseline = sum(float(log_probs[u].exp() * q(fitted, k, u)) for u in range(4))
            advantage = float(q(fitted, k)) - baseline
        loss = loss - log_probs[int(taken["b"][k])] * advantage / len(rows)
    trained = [*actor.body.parameters(), *actor.head.parameters()]
    expected["actor"] = torch.autograd.grad(loss, trained)
    assert sum(int(batch.discount[k] == 0) for k in rows) >= 6
    for name, gradients in expected.items():
        for mine, theirs in zip(gradients, found[name], strict=True):
            # Means over 24 rows of products through layers of 8 units.
            allowed = 24 * 8 * ULP * max(1.0, float(mine.abs().max()))
            assert float((mine - theirs).abs().max()) <= allowed, name
            assert mine.abs().max() > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"joint": True}, r"`joint` is True.*config\.training\("),
        ({"others": {"model": True}}, r"do not predict each other.*config\.other_agents\("),
        ({"consensus": {"mode": "pdhg"}}, r"has no multipliers.*config\.consensus\("),
    ],
)
def test_what_would_make_it_another_algorithm_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        member_config(NetworkedACConfig, CountingTeam, THREE, **settings)
