"""What a member is beside its gradients: what it shares, remembers, knows of others, refuses."""

import copy

import numpy as np
import pytest
import torch
from member_toys import Hall, member_config
from test_f2a2_gradients import EQUAL, KINDS, UNEQUAL
from toys import CountingTeam

from rllib_hetero.learners.agents.models import Past
from rllib_hetero.modules.models_of_others import ModelOfKind


def hall_of(kind, env_config=None, **settings):
    config = member_config(
        KINDS[kind], env_config=env_config or (EQUAL if kind == "isac" else UNEQUAL), **settings
    )
    return Hall(config)


def practised(hall, rounds=2):
    for i in range(rounds):
        hall.sample(random=i == 0)
        hall.update()
        hall.publish()
    return hall


def weights(member):
    state = {f"actor.{n}": x for n, x in member.actor.state_dict().items()}
    return state | {f"critic.{n}": x for n, x in member.critic.module.state_dict().items()}


# ---- what is shared -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "shared"),
    [("coma", "critic"), ("sac", "attention"), ("sac", "critic"), ("isac", "actor_and_critic")],
)
def test_copies_start_alike_and_the_rest_does_not(kind, shared):
    hall = hall_of(kind, consensus={"shared": shared})
    first, *rest = hall.members.values()
    for other in rest:
        assert other.shared.signature == first.shared.signature
        assert torch.equal(other.shared.vector(), first.shared.vector())
        for target, online in other.critic.module.target_pairs():
            assert torch.equal(target, online)
    assert first.shared.size > 0
    b, c = list(hall.members.values())[-2:]  # of equal spaces
    same = torch.equal(b.actor.head.weight, c.actor.head.weight)
    assert same == (shared == "actor_and_critic")


@pytest.mark.parametrize("shared", ["attention", "critic", "none"])
def test_which_parameters_are_shared(shared):
    member = hall_of("sac", consensus={"shared": shared}).members["a"]
    names = set(member.shared.names)
    assert not any(n.startswith("actor.") or "target" in n or "norm" in n for n in names)
    heads = {n for n in names if ".heads." in n}
    agents = {n.split(".heads.")[1].split(".")[0] for n in heads}
    assert agents == ({"0", "1", "2"} if shared == "critic" else set())
    assert bool(names) == (shared != "none")
    own = {n for n in member.named_parameters() if ".heads." in n} - heads
    assert {n.split(".heads.")[1].split(".")[0] for n in own} == (
        set() if shared == "critic" else {"1"}  # The team's order is b, a, c.
    )


def test_a_predicate_chooses():
    def hidden_bias(name):
        return name.endswith("bias") and "head" not in name

    chosen = hall_of("ddpg", consensus={"shared": hidden_bias})
    names = chosen.members["a"].shared.names
    assert names and all(n.endswith("bias") for n in names)
    assert {n.split(".")[0] for n in names} == {"actor", "critic"}


def test_heads_of_others_only_follow():
    """With the whole attention critic shared, no loss of a member reaches another's head."""
    hall = practised(hall_of("sac", consensus={"shared": "critic"}))
    member = hall.members["a"]
    before = copy.deepcopy(weights(member))
    hall.update(["a"], exchange=False)
    after = weights(member)
    moved = {n for n, x in after.items() if ".heads." in n and not torch.equal(x, before[n])}
    online = {n for n in moved if ".networks." in n}
    assert online and all(".heads.1." in n for n in online)


def test_one_that_comes_back_takes_a_neighbours_part():
    hall = practised(hall_of("sac"), rounds=4)
    old, lost = hall.members["b"], hall.config.get_member_class()(hall.config, "a")
    individual = {
        n: p.detach().clone()
        for n, p in lost.named_parameters().items()
        if n not in lost.shared.names
    }
    lost.load_shared(old.shared_state())
    assert torch.equal(lost.shared.vector(), old.shared.vector())
    for target, online in lost.critic.module.target_pairs():
        assert torch.equal(target, online)
    for n, x in individual.items():
        assert torch.equal(lost.named_parameters()[n], x)
    assert torch.equal(lost.consensus.average, old.shared.vector())
    assert not lost.consensus.multiplier.any()


# ---- what is remembered ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_restored_member_goes_on_to_the_bit(kind):
    hall = practised(hall_of(kind))
    m = hall.config.members[0]
    member = hall.members[m]
    state = member.get_state()
    torch.manual_seed(99)
    twin = hall.config.get_member_class()(hall.config, m)
    twin.set_state(state)
    hall.sample()
    for number in range(2):
        seed = (7, 100 + number, 0)
        for x in (member, twin):
            x.update(x.draw(hall.replays[m], seed), seed)
    first, second = weights(member), weights(twin)
    assert first.keys() == second.keys()
    for name, x in first.items():
        assert torch.equal(second[name], x), name
    moved = [n for n, x in state["critic"].items() if not torch.equal(first[f"critic.{n}"], x)]
    assert moved
    assert {"others_loss", "others_accuracy"} <= set(member.metrics()) or kind == "isac"


def test_an_update_follows_from_the_replay_and_the_seed():
    results = []
    for noise in (0, 1):
        hall = hall_of("sac")
        torch.manual_seed(noise)  # Nothing is drawn from PyTorch's own generator.
        practised(hall)
        results.append(weights(hall.members["a"]))
    assert all(torch.equal(x, results[1][n]) for n, x in results[0].items())


def test_schedules_and_metrics():
    hall = hall_of("td3", lr=[[0, 1e-3], [100, 1e-4]], policy_delay={"a": 1, "b": 2, "c": 1})
    practised(hall, rounds=4)
    a = hall.members["a"]
    a.explore_as_scheduled(50)
    assert a.actor_optimizer.param_groups[0]["lr"] == pytest.approx(5.5e-4)
    assert a.models.optimizer.param_groups[0]["lr"] == pytest.approx(5.5e-4)
    found = a.metrics()
    assert {"critic_loss", "actor_loss", "mean_q", "td_error", "rho", "kappa", "entropy"} <= set(
        found
    )
    assert all(np.isfinite(x) for x in found.values())
    assert 0 < found["rho"] <= 1 and 0 < found["kappa"] <= 1
    assert a.metrics() == {}


def test_each_actor_of_td3_waits_as_long_as_it_is_told():
    hall = hall_of("td3", policy_delay={"a": 1, "b": 3, "c": 1})
    hall.sample(random=True)
    moved = {m: [] for m in "ab"}
    for _ in range(6):
        before = {m: hall.members[m].actor.head.weight.detach().clone() for m in moved}
        hall.update()
        for m, x in before.items():
            moved[m].append(not torch.equal(hall.members[m].actor.head.weight, x))
    assert moved == {"a": [True] * 6, "b": [True, False, False, True, False, False]}


# ---- what is known of others ----------------------------------------------------------------


def stubborn(hall, m, choice):
    """The member's policy takes one action nearly always."""
    with torch.no_grad():
        hall.members[m].actor.head.weight.zero_()
        hall.members[m].actor.head.bias.fill_(0.0)
        hall.members[m].actor.head.bias[choice] = 5.0


def test_models_learn_what_others_do():
    hall = hall_of("ddpg", others={"lr": 1e-2, "batch_size": 60, "recent_steps": 200}, steps=20)
    stubborn(hall, "b", 2), stubborn(hall, "c", 0)  # of equal spaces: one model serves both
    hall.publish()
    hall.sample()
    a = hall.members["a"]
    (kind,) = a.models.kinds
    assert kind.agents == ["b", "c"]
    accuracies = []
    for number in range(40):
        seed = (7, number, 0)
        a.update(a.draw(hall.replays["a"], seed), seed)
        accuracies.append(a.metrics()["others_accuracy"])
    # Of 60 pairs that are right with probability e^5 / (e^5 + 2) = 0.99.
    assert accuracies[0] < 0.8 and np.mean(accuracies[-10:]) > 0.93


def test_policies_are_asked_for_only_where_they_are_not_predicted():
    assert not hall_of("ddpg").members["a"].exchanges_policies
    assert not hall_of("isac").members["a"].exchanges_policies
    told = hall_of("ddpg", others={"model": False}).members["a"]
    assert told.exchanges_policies and told.models is None
    alone = hall_of("ddpg", EQUAL, sharing="full", others={"model": False}).members["shared"]
    assert not alone.exchanges_policies


def test_the_past_after_one_more_step():
    rng = np.random.default_rng(0)
    counts = [0, 1, 3, 4]
    steps = [[rng.normal(size=(2, 3)) for _ in range(c)] for c in counts]
    seen = torch.zeros(4, 4, 2, 3)
    for b, own in enumerate(steps):
        for t, x in enumerate(own):
            seen[b, t] = torch.from_numpy(x)
    filled = torch.tensor([[t < c for t in range(4)] for c in counts])
    new = torch.from_numpy(rng.normal(size=(4, 2, 3))).float()
    later = Past(seen, seen[..., :1], filled).then(new, new[..., :1])
    for b, own in enumerate(steps):
        expected = [*(torch.from_numpy(x).float() for x in own), new[b]][-4:]
        assert later.filled[b].sum() == len(expected)
        for t in range(4):
            x = expected[t] if t < len(expected) else torch.zeros(2, 3)
            assert torch.equal(later.seen[b, t], x)
            assert torch.equal(later.done[b, t], x[:, :1])


def test_a_model_reads_nothing_behind_the_last_step():
    torch.manual_seed(0)
    model = ModelOfKind(3, 2, 2, memory=4, hidden=5)
    now, seen, done = torch.randn(4, 2, 3), torch.randn(4, 3, 2, 3), torch.rand(4, 3, 2, 2)
    filled = torch.tensor([[t < c for t in range(3)] for c in (0, 1, 2, 3)])
    characters = model.encode_characters(seen, done, filled)
    out = model(now, seen, done, filled, characters)
    other = torch.where(filled[..., None, None], seen, 7.0)
    assert torch.equal(model(now, other, done, filled, characters), out)
    assert torch.equal(model.encode_characters(other, done, filled), characters)
    # The mean of those that have steps at all, one by one.
    each = [model.encode_characters(seen[i : i + 1], done[i : i + 1], filled[i : i + 1])
            for i in range(1, 4)]  # fmt: skip
    torch.testing.assert_close(torch.stack(each).mean(0), characters)
    # Who it is tells agents apart that see and do the same.
    alike = now[:, :1].expand(-1, 2, -1)
    a, b = model(alike, seen, done, torch.zeros_like(filled), characters).unbind(1)
    assert not torch.allclose(a, b)


# ---- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("sac", {"env_config": {}}, "Discrete"),
        ("coma", {"consensus": {"shared": "attention"}}, r"shared='critic'"),
        ("td3", {"consensus": {"shared": "actor_and_critic"}}, r"differs between .*shared="),
        ("sac", {"consensus": {"shared": lambda name: name == "critic"}}, "picks no parameter"),
        ("ddpg", {"n_step": 3}, r"remove config.training\(n_step"),
        ("ddpg", {"td_huber_delta": 1.0}, "td_huber_delta"),
        ("isac", {"critic": "joint"}, r"`critic` is 'joint'"),
        ("isac", {"env_config": UNEQUAL}, "unequal spaces"),
        ("isac", {"agents_per_module": 0.5}, "agents_per_module"),
        ("sac", {"joint": "both"}, r"training\(joint="),
        ("sac", {"critic_resampled": "some"}, "critic_resampled"),
        ("sac", {"alpha1": 0.0}, "alpha1"),
        ("sac", {"temperature": -1.0}, "temperature"),
        ("sac", {"twin_q": 2}, "twin_q"),
        ("sac", {"model": {"num_attention_heads": 3}}, "num_attention_heads"),
        ("ddpg", {"gumbel_temperature": 0.0}, "gumbel_temperature"),
        ("td3", {"entropy_coeff": -0.5}, "entropy_coeff"),
        ("td3", {"policy_delay": {"a": 1}}, "policy_delay"),
        ("td3", {"policy_delay": 1.5}, "policy_delay"),
        ("td3", {"target_noise": -0.1}, "target_noise"),
        ("coma", {"lambda_": 1.5}, "lambda_"),
        ("coma", {"train_batch_size_per_learner": 9}, "rollout_fragment_length"),
        ("ddpg", {"others": {"history": 0}}, r"other_agents\(history="),
        ("ddpg", {"others": {"model": "yes"}}, r"other_agents\(model="),
        ("ddpg", {"others": {"lr": -0.1}}, r"config\.other_agents\(lr="),
    ],
)
def test_bad_input(kind, settings, message):
    case = {"env_config": EQUAL if kind == "isac" else UNEQUAL} | settings
    with pytest.raises(ValueError, match=message):
        member_config(KINDS[kind], CountingTeam, **case)


def test_blocks_of_agents():
    config = member_config(KINDS["isac"], env_config=EQUAL, agents_per_module=3)
    assert config.layout.groups == {"agents_0": ("a", "b", "c"), "agents_1": ("d",)}
    hall = practised(Hall(config))
    one, two = hall.members.values()
    assert one.shared.signature == two.shared.signature
    given = member_config(KINDS["isac"], env_config=EQUAL, sharing={"x": ["a", "d"]})
    assert set(given.layout.groups) == {"x", "b", "c"}
