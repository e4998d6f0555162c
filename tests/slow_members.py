"""F2A2's members by hand: one sample after another, in the paper's own terms, in float64.

The paper minimises costs. So does this: c = -r, Q_c = -Q, and the entropy a cost, too. Nothing of
`rllib_hetero` is used but the networks of a member, of which there are copies, and the documented
order of the noise: of an update's generator, the own Gumbels (B, k, p) for actions drawn anew,
those of every other agent in team order, then the same again for the states that follow; F2A2-TD3
takes clipped normals for these.
"""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import numpy as np
import torch

TINY = torch.finfo(torch.float32).tiny


def double(x):
    """Every float tensor of a batch, of a history, of a dict in float64."""
    if isinstance(x, torch.Tensor):
        return x.double() if x.is_floating_point() else x
    if isinstance(x, dict):
        return {k: double(v) for k, v in x.items()}
    if hasattr(x, "__dataclass_fields__"):
        return type(x)(**{k: double(getattr(x, k)) for k in x.__dataclass_fields__})
    return x


class Noise:
    """The noise of one update, in its order."""

    def __init__(self, seed):
        entropy = np.random.SeedSequence((*seed, 2)).generate_state(1, np.uint64)[0] >> 1
        self.generator = torch.Generator().manual_seed(int(entropy))

    def gumbels(self, *shape):
        drawn = torch.empty(shape).exponential_(generator=self.generator)
        return -drawn.clamp(min=TINY).log()

    def normals(self, *shape):
        return torch.randn(shape, generator=self.generator)


class SlowMember:
    """What one update of a member is made of.

    Args:
        config: Of all members.
        m: Which member.
        batch: Its batch, in float64.
        critic: A copy of its critic's networks.
        others: Module id to the actor of another member.
        seed: Of the update.
    """

    def __init__(self, config, m, batch, actor, critic, others, seed):
        self.c, self.m, self.b = config, m, batch
        self.actor, self.critic, self.others = actor, critic, others
        self.team, self.groups = config.layout.team, dict(config.layout.groups)
        self.own = self.groups[m]
        self.rows = range(len(batch.rewards))
        self.home = {a: (n, k) for n, agents in self.groups.items() for k, a in enumerate(agents)}
        self.noise = Noise(seed)

    # ---- what agents do ---------------------------------------------------------------------

    def sees(self, a, b, later=False):
        n, k = self.home[a]
        return (self.b.next_observations if later else self.b.observations)[n][b, k]

    def observes(self, a, b, later=False):
        """Without the one-hot of a shared module."""
        return self.sees(a, b, later)[: self.team.observation_spaces[a].shape[0]]

    def lives(self, a, b, later=False):
        n, k = self.home[a]
        return bool((self.b.next_active if later else self.b.active)[n][b, k])

    def logits(self, network, a, b, later=False):
        n, k = self.home[a]
        x = network(self.sees(a, b, later))
        masks = self.b.next_masks if later else self.b.masks
        if n in masks:
            x = torch.where(masks[n][b, k], x, torch.finfo(x.dtype).min)
        return x

    def network(self, a, target=False):
        n = self.home[a][0]
        actor = self.actor if n == self.m else self.others[n]
        if target and n == self.m:
            body, head = actor.target_network
        else:
            body, head = actor.body, actor.head
        return lambda x: head(body(x))

    def done(self, a, b):
        n, k = self.home[a]
        return int(self.b.actions[n][b, k])

    def num_actions(self, a):
        return int(self.team.action_spaces[a].n)

    def one_hot(self, a, b, choice, later=False):
        x = torch.zeros(self.num_actions(a), dtype=torch.float64)
        x[choice] = float(self.lives(a, b, later))
        return x

    @torch.no_grad()
    def draw(self, later=False, target=False):
        """Row to agent to a choice, drawn from the policies."""
        p, chosen = self.num_actions(self.own[0]), [{} for _ in self.rows]
        own = self.noise.gumbels(len(self.rows), len(self.own), p)
        for k, a in enumerate(self.own):
            for b in self.rows:
                x = self.logits(self.network(a, target), a, b, later)
                chosen[b][a] = int((x + own[b, k]).argmax())
        if self.c.critic != "own":
            for a in self.team.agents:
                if a not in self.own:
                    noise = self.noise.gumbels(len(self.rows), self.num_actions(a))
                    for b in self.rows:
                        x = self.logits(self.network(a), a, b, later)
                        chosen[b][a] = int((x + noise[b]).argmax())
        self.own_noise = own
        return chosen

    # ---- what they are worth ----------------------------------------------------------------

    def values(self, a, b, joint, later=False, target=False):
        """Of K critics, Q_c of a joint action: agent to a vector."""
        module = self.critic
        networks = module.target_networks if target else module.networks
        if self.c.critic == "own":
            rows = [network(self.sees(a, b, later)) for network in networks]
            return [-(row * joint[a]).sum() for row in rows]
        if self.c.critic == "attention":
            ask = module.target_q_values if target else module.q_values
            said = ask(
                [self.observes(j, b, later)[None] for j in self.team.agents],
                [joint[j][None] for j in self.team.agents],
                torch.tensor([[self.lives(j, b, later) for j in self.team.agents]]),
            )
            place = self.own.index(a)
            return [-(out.values[place][0] * joint[a]).sum() for out in said]
        state = (self.b.next_state if later else self.b.state)[b]
        who = torch.zeros(len(self.team.agents), dtype=torch.float64)
        who[self.team.agents.index(a)] = 1.0
        asked = torch.cat([module.norm(state), who])
        acted = torch.cat([joint[j] for j in self.team.agents])
        return [-network(asked, acted)[0] for network in networks]

    def joint(self, b, chosen, later=False):
        return {a: self.one_hot(a, b, choice, later) for a, choice in chosen.items()}

    def replayed(self, b):
        return {a: self.done(a, b) for a in self.team.agents}

    def cost(self, a, b):
        return -float(self.b.agent_rewards[b, self.team.agents.index(a)])

    @torch.no_grad()
    def baseline(self, a, b, chosen, log_pi):
        """sum_b' pi(b' | o_i) Q_c(o, (b', a_-i)) of the first critic."""
        total = 0.0
        for choice in range(self.num_actions(a)):
            joint = self.joint(b, chosen) | {a: self.one_hot(a, b, choice)}
            total += float(log_pi[choice].exp()) * float(self.values(a, b, joint)[0])
        return total

    def each(self):
        """Rows and own agents that count."""
        for b in self.rows:
            for k, a in enumerate(self.own):
                if self.lives(a, b):
                    yield b, k, a

    def mean(self, terms):
        return sum(terms) / max(1, len(list(self.each())))


def clipped(log_p, log_q, most):
    return min(most, math.exp(min(float(log_p) - float(log_q), 700.0)))


def weights_of(c):
    """alpha_1 and alpha_2 of the actor and of the critic, and which resampled errors count."""
    if c.joint is False:
        return SimpleNamespace(aa1=c.alpha1, aa2=0.0, ca1=0.0, ca2=c.alpha2, how="off", plain=True)
    if c.joint == "paper":
        return SimpleNamespace(
            aa1=c.alpha1, aa2=c.alpha2, ca1=c.alpha1, ca2=c.alpha2, how="paper", plain=False
        )
    return SimpleNamespace(
        aa1=c.alpha1, aa2=c.actor_alpha2, ca1=c.critic_alpha1, ca2=c.alpha2,
        how=c.critic_resampled, plain=False,
    )  # fmt: skip


# ---- losses whose gradients are the paper's -----------------------------------------------------


class SlowOffPolicy(SlowMember):
    """F2A2-DDPG, -TD3, -SAC and -ISAC."""

    def prepare(self, kind):
        self.kind, self.w = kind, weights_of(self.c)
        self.resampled = self.draw()
        self.resampled_noise = self.own_noise
        if kind == "soft":
            self.nexts = self.draw(later=True)
        else:
            self.nexts = self.greedy_nexts(smooth=kind == "td3")
        self.y = {(b, a): self.target(b, a) for b, _, a in self.each()}

    @torch.no_grad()
    def greedy_nexts(self, smooth):
        chosen = [{} for _ in self.rows]
        agents = [*self.own, *(a for a in self.team.agents if a not in self.own)]
        p = self.num_actions(self.own[0])
        shape = (len(self.rows), len(self.own), p)
        own = self.noise.normals(*shape) if smooth else torch.zeros(shape)
        for a in agents:
            noise = own[:, self.own.index(a)] if a in self.own else None
            if noise is None:
                shape = (len(self.rows), self.num_actions(a))
                noise = self.noise.normals(*shape) if smooth else torch.zeros(shape)
            if smooth:
                scale, most = self.of("target_noise"), self.of("target_noise_clip")
                noise = (scale * noise).clamp(-most, most)
            for b in self.rows:
                x = self.logits(self.network(a, target=True), a, b, later=True)
                chosen[b][a] = int((x + noise[b]).argmax())
        return chosen

    def of(self, name):
        value = getattr(self.c, name)
        return value[self.m] if isinstance(value, dict) else value

    @torch.no_grad()
    def target(self, b, a):
        discount = float(self.b.discount[b]) * self.lives(a, b, later=True)
        if not discount:
            return self.cost(a, b)
        joint = self.joint(b, self.nexts[b], later=True)
        # Costs: what is worse of two critics is the larger one.
        value = max(map(float, self.values(a, b, joint, later=True, target=True)))
        if self.kind == "soft":
            log_pi = self.logits(self.network(a), a, b, later=True).log_softmax(-1)
            value += self.c.temperature * float(log_pi[self.nexts[b][a]])
        return self.cost(a, b) + discount * value

    def ratios(self, b, k, a):
        n, _ = self.home[a]
        log_pi = self.logits(self.network(a), a, b).detach().log_softmax(-1)
        log_mu = self.b.dist_inputs[n][b, k].log_softmax(-1)
        done, again = self.done(a, b), self.resampled[b][a]
        most = self.c.importance_clip
        stored = float(self.b.log_probs[n][b, k])  # By the runner, in float32.
        assert abs(stored - float(log_mu[done])) < 1e-5
        rho = clipped(log_pi[done], stored, most)
        return rho, clipped(log_mu[again], log_pi[again], most)

    def critic_loss(self):
        """alpha_1 J_actor + alpha_2 J_critic as a function of the critic (Propositions 4 to 6)."""
        terms, w = [], self.w
        for b, k, a in self.each():
            rho, kappa = self.ratios(b, k, a)
            replayed, again = self.replayed(b), self.resampled[b]
            who = [a] if self.c.critic == "own" else self.team.agents
            same = all(replayed[j] == again[j] for j in who if self.lives(j, b) or j == a)
            counts = {"paper": 1.0, "off": 0.0, "coincident": float(same)}[w.how]
            here = self.values(a, b, self.joint(b, replayed))
            there = self.values(a, b, self.joint(b, again))
            for j, (q, q_again) in enumerate(zip(here, there, strict=True)):
                first = w.ca1 if j == 0 else 0.0
                delta, delta_again = (float(x.detach()) - self.y[b, a] for x in (q, q_again))
                terms.append((first * rho + 2 * w.ca2 * delta) * q)
                terms.append((first + 2 * w.ca2 * counts * kappa * delta_again) * q_again)
            if self.c.critic == "attention":
                terms.append(self.c.attention_reg * self.magnitude(a, b, replayed))
        return self.mean(terms)

    def magnitude(self, a, b, chosen):
        joint = self.joint(b, chosen)
        said = self.critic.q_values(
            [self.observes(j, b)[None] for j in self.team.agents],
            [joint[j][None] for j in self.team.agents],
            torch.tensor([[self.lives(j, b) for j in self.team.agents]]),
        )
        return sum(out.magnitudes[0, self.own.index(a)] for out in said)

    def actor_loss(self):
        return self.soft_actor_loss() if self.kind == "soft" else self.deterministic_actor_loss()

    def deterministic_actor_loss(self):
        """(alpha_1 + 2 alpha_2 delta kappa) grad_psi pi grad_a Q_c, of straight-through actions."""
        terms, w = [], self.w
        for b, k, a in self.each():
            _, kappa = self.ratios(b, k, a)
            scores = self.logits(self.network(a), a, b) + self.resampled_noise[b, k]
            soft = (scores / self.c.gumbel_temperature).softmax(-1)
            joint = self.joint(b, self.resampled[b])
            action = joint[a].requires_grad_()
            for j, q in enumerate(self.values(a, b, joint)):
                weight = 2 * w.aa2 * (float(q.detach()) - self.y[b, a]) * kappa
                weight += w.aa1 if j == 0 else 0.0
                (slope,) = torch.autograd.grad(q, action, retain_graph=True)
                terms.append((weight * slope.detach() * soft).sum())
            log_pi = self.logits(self.network(a), a, b).log_softmax(-1)
            terms.append(self.c.entropy_coeff * (log_pi.exp() * log_pi).sum())
        return self.mean(terms)

    def soft_actor_loss(self):
        """Proposition 6 in costs: grad log pi (Q + tau log pi - B), kappa grad log pi delta^2."""
        terms, w, tau = [], self.w, self.c.temperature
        for b, k, a in self.each():
            rho, kappa = self.ratios(b, k, a)
            log_pi = self.logits(self.network(a), a, b).log_softmax(-1)
            fixed = log_pi.detach()
            for chosen, weight in ((self.replayed(b), rho), (self.resampled[b], 1.0)):
                if w.plain and chosen is not self.resampled[b]:
                    continue
                values = [float(q.detach()) for q in self.values(a, b, self.joint(b, chosen))]
                gain = values[0] + tau * float(fixed[chosen[a]])
                gain -= self.baseline(a, b, chosen, fixed)
                terms.append(w.aa1 * weight * gain * log_pi[chosen[a]])
            errors = sum((q - self.y[b, a]) ** 2 for q in values)
            terms.append(w.aa2 * kappa * errors * log_pi[self.resampled[b][a]])
        return self.mean(terms)


class SlowCOMA(SlowMember):
    """F2A2-COMA."""

    def prepare(self, runs):
        self.w = weights_of(self.c)
        nexts = self.draw(later=True)
        ends = set((np.cumsum(runs) - 1).tolist())
        self.y = {}
        for a in self.own:
            after = None
            for b in reversed(self.rows):
                discount = float(self.b.discount[b]) * self.lives(a, b, later=True)
                chosen = nexts[b] if b in ends else self.replayed(b + 1)
                joint = self.joint(b, chosen, later=True)
                with torch.no_grad():
                    (value,) = self.values(a, b, joint, later=True, target=True)
                value, lam = float(value), 0.0 if b in ends else self.c.lambda_
                ahead = (1 - lam) * value + (lam * after if lam else 0.0)
                after = self.cost(a, b) + (discount * ahead if discount else 0.0)
                self.y[b, a] = after

    def critic_loss(self):
        terms = []
        for b, _, a in self.each():
            (q,) = self.values(a, b, self.joint(b, self.replayed(b)))
            delta = float(q.detach()) - self.y[b, a]
            terms.append((self.w.ca1 + 2 * self.w.ca2 * delta) * q)
        return self.mean(terms)

    def actor_loss(self):
        terms = []
        for b, _, a in self.each():
            chosen = self.replayed(b)
            log_pi = self.logits(self.network(a), a, b).log_softmax(-1)
            (q,) = self.values(a, b, self.joint(b, chosen))
            q = float(q.detach())
            gain = q - self.baseline(a, b, chosen, log_pi.detach())
            weight = self.w.aa1 * gain + self.w.aa2 * (q - self.y[b, a]) ** 2
            terms.append(weight * log_pi[chosen[a]])
            terms.append(self.c.entropy_coeff * (log_pi.exp() * log_pi).sum())
        return self.mean(terms)


def copies(member):
    """The actor and the critic, as they are now."""
    return copy.deepcopy(member.actor), copy.deepcopy(member.critic.module)
