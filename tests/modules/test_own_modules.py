"""What modules of a user's own must do, and what they are told where they do not."""

import pytest
import runner_toys as toys
import torch
import toys as learner_toys
from kinds_toys import KindsTeam
from ray.rllib.core import Columns
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from torch import nn

from rllib_hetero import HAPPOConfig, HASACConfig, TeamError
from rllib_hetero.modules.value_norm import ValueNorm
from rllib_hetero.spaces import unpack

OUT, OBS = Columns.ACTION_DIST_INPUTS, Columns.OBS
SEEN = {"observations": {"a": "mixed", "b": "mixed"}, "actions": {"a": "mixed", "b": "mixed"}}


class Looks(TorchRLModule):
    """Reads the parts of what its agents see: choices, numbers and their deviations out."""

    def setup(self):
        self.eye = nn.Conv2d(3, 2, 12)
        self.head = nn.Linear(2 + 2 + 3, 3 + 2 + 2 + 2)
        self.log_std = nn.Parameter(torch.zeros(2))

    def _forward(self, batch, **kwargs):
        seen = unpack(batch[OBS], self.observation_space)
        lead = seen["arm"].shape[:-1]
        eye = self.eye(seen["eye"].reshape(-1, 12, 12, 3).permute(0, 3, 1, 2)).view(*lead, 2)
        x = self.head(torch.cat([eye, seen["arm"], seen["gear"]], -1))
        return {OUT: torch.cat([x, self.log_std.expand(*lead, 2)], -1)}


class Remembers(Looks):
    """The same, with a sum of what it saw."""

    def get_initial_state(self):
        return {"sum": torch.zeros(9)}

    def _forward(self, batch, **kwargs):
        x = super()._forward(batch)[OUT]
        out = x[..., :9] + batch[Columns.STATE_IN]["sum"][:, None]
        state = batch[Columns.STATE_IN]["sum"] + x[..., :9].sum(1)
        return {OUT: torch.cat([out, x[..., 9:]], -1), Columns.STATE_OUT: {"sum": state}}


class Flat(TorchRLModule):
    """A critic of a linear function, from nothing of the library but its normaliser."""

    def setup(self):
        self.value = nn.Linear(self.observation_space.shape[0], 1)
        self.normalizer = ValueNorm()

    def compute_values(self, batch, embeddings=None):
        return self.value(batch[OBS].float() / 255).squeeze(-1)

    def _forward(self, batch, **kwargs):
        return {Columns.VF_PREDS: self.compute_values(batch)}


def with_own(actor=None, critic=None, *, base=HAPPOConfig, sharing=None, learner_only=True):
    config = base().environment(KindsTeam, env_config=SEEN).debugging(seed=1)
    config.env_runners(num_env_runners=0, num_envs_per_env_runner=2)
    names = ["eyes"] if sharing else ["a", "b"]
    if sharing:
        config.multi_agent(parameter_sharing=sharing)
    if base is HAPPOConfig:
        config.training(train_batch_size_per_learner=12, num_epochs=1)
    specs = {m: RLModuleSpec(module_class=actor or Looks, model_config={}) for m in names}
    if critic is not None:
        specs["critic"] = RLModuleSpec(
            module_class=critic, learner_only=learner_only, model_config={},
            observation_space=critic_space(), action_space=critic_space(),
        )  # fmt: skip
    spec = MultiRLModuleSpec(rl_module_specs=specs)
    return config.rl_module(rl_module_spec=spec, model_config={"max_seq_len": 3})


def critic_space():
    plain = HAPPOConfig().environment(KindsTeam, env_config=SEEN)
    plain.validate()
    return plain.layout.team.critic_space


@pytest.mark.parametrize(
    ("actor", "critic", "sharing"),
    [(Looks, Flat, None), (Remembers, None, None), (Looks, None, {"eyes": ["a", "b"]})],
)
def test_they_act_and_learn(actor, critic, sharing):
    config = with_own(actor, critic, sharing=sharing)
    config.validate()
    learner, runner = learner_toys.make_learner(config), learner_toys.make_runner(config)
    before = learner_toys.all_weights(learner)
    learner_toys.update(learner, learner_toys.sample(runner, learner))
    after = learner_toys.all_weights(learner)
    stood = {name for name, x in before.items() if torch.equal(x, after[name])}
    assert not [name for name in stood if "normalizer" not in name[1]]


class Silent(Looks):
    def _forward(self, batch, **kwargs):
        return {"logits": super()._forward(batch)[OUT]}


class Short(Looks):
    def _forward(self, batch, **kwargs):
        return {OUT: super()._forward(batch)[OUT][..., :-1]}


class OneRow(Looks):
    def _forward(self, batch, **kwargs):
        return {OUT: super()._forward({OBS: batch[OBS].view(3, -1)})[OUT]}


class Wants(Looks):
    def _forward(self, batch, **kwargs):
        return {OUT: unpack(batch[OBS], self.observation_space)["ear"]}


class Drops(Looks):
    def _forward(self, batch, **kwargs):
        x = super()._forward(batch)[OUT]
        return {OUT: nn.functional.dropout(x, 0.5, training=True)}


class Cut(Looks):
    @torch.no_grad()
    def _forward(self, batch, **kwargs):
        return super()._forward(batch)


class Forgets(Remembers):
    def _forward(self, batch, **kwargs):
        return {OUT: super()._forward(batch)[OUT]}


class Square(Remembers):
    def get_initial_state(self):
        return {"sum": torch.zeros(3, 3)}


class NoValues(TorchRLModule):
    def _forward(self, batch, **kwargs):
        return {}


class NoNormalizer(Flat):
    def setup(self):
        super().setup()
        self.normalizer = None


class Wide(Flat):
    def compute_values(self, batch, embeddings=None):
        return super().compute_values(batch)[:2]


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Silent, r"'a' \(Silent\)\._forward_inference returns no 'action_dist_inputs', but \['log"),
        (Short, r"Short\).*of shape \(3, 10\); \(3, 11\) is wanted"),
        (OneRow, r"OneRow\).*of shape \(3, 11\); \(3, 1, 11\) is wanted: leading axes"),
        (Wants, r"\(Wants\).*raised KeyError for torch.uint8 observations of shape \(3, 4.*unpack"),
        (Drops, r"Drops\) returns other .* asked twice.*dropout"),
        (Cut, r"Cut\): no gradient reaches its parameters.*no_grad"),
        (Forgets, r"Forgets\).*returns no 'state_out'"),
        (Square, r"'sum' of a Square has the shape \(3, 3\); states of shape \(S,\)"),
    ],
)
def test_an_actor_is_told_what_it_lacks(module, message):
    with pytest.raises(TeamError, match=rf"(?s){message}"):
        with_own(module).validate()


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (NoValues, r"critic \(NoValues\) lacks compute_values.*Subclass TeamCritic"),
        (NoNormalizer, r"critic \(NoNormalizer\) lacks a `normalizer`"),
        (Wide, r"\(Wide\)\.compute_values gives \(2,\) for states \(3, "),
    ],
)
def test_a_critic_is_told_what_it_lacks(module, message):
    with pytest.raises(TeamError, match=rf"(?s){message}"):
        with_own(critic=module).validate()


def test_a_critic_stays_with_the_learner():
    with pytest.raises(ValueError, match="learner_only=True"):
        with_own(critic=Flat, learner_only=False).validate()


def test_an_off_policy_actor_is_told_what_it_lacks():
    config = HASACConfig().environment(toys.ScriptedTeam)
    config.rl_module(rl_module_spec=RLModuleSpec(module_class=toys.Linear))
    with pytest.raises(TeamError, match=r"\(Linear\) lacks exploration, which its learner asks"):
        config.validate()


def test_looking_draws_no_numbers():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with_own().validate()
    assert torch.equal(torch.rand(3), expected)
