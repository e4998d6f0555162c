"""Two processes for runners and learners: starting them takes longer than what a test does."""

import contextlib
import signal
import sys

import pytest
import ray
import toys

from rllib_hetero import HAPPOConfig
from rllib_hetero.algorithms.off_policy.replay_data import ReplayData
from rllib_hetero.runners.fragment import shard

# The processes cannot import this file.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Pair:
    """Two processes: one of them samples by any config, and both train its learner together."""

    def __init__(self):
        self._group = None

    def __call__(self, config, state, data, *, repeat=1, train=None):
        """State of the first learner and, of both, all weights, after updates on `data`.

        `train` takes a learner, the fragments of all learners and its rank; on-policy by default.
        """
        train = train or train_on_policy

        def work(hosting):
            import torch.distributed as dist

            learner = toys.make_learner(config)
            learner.set_state(state)
            rank = dist.get_rank()
            for _ in range(repeat):
                for fragments in data:
                    train(learner, fragments, rank)
            return rank, learner.get_state(), weights_of(learner)

        (_, first, one), (_, _, two) = self._on_each(work)
        return first, one, two

    def sample(self, config, state):
        """Fragments of a remote runner with the actors of a learner's state."""

        def work(hosting):
            import torch.distributed as dist

            rank = dist.get_rank()
            if rank:
                return rank, None
            runner = toys.make_runner(config, worker_index=1)
            for m, module in runner.module.items():
                module.set_state(state["rl_module"][m])
            return rank, runner.sample()

        return self._on_each(work)[0][1]

    def _on_each(self, work):
        """What the function returns in each, by the rank that it begins with."""
        if self._group is None:
            host = toys.small_config(HAPPOConfig).copy(copy_frozen=False)
            host.learners(num_learners=2, num_cpus_per_learner=0.5)
            self._group = host.build_learner_group()
        with killed_if_it_fails(self._group, self.forget):
            results = [r.get() for r in self._group.foreach_learner(work)]
        assert sorted(rank for rank, *_ in results) == [0, 1]
        return sorted(results, key=lambda result: result[0])

    def forget(self):
        self._group = None

    def stop(self):
        if self._group is not None:
            self._group.shutdown()


def train_on_policy(learner, fragments, rank):
    own = shard(fragments, 2)[rank] or [fragments[0].select(range(0))]
    toys.update(learner, own)


def train_off_policy(learner, fragments, rank):
    """Four updates, once each environment's steps are with the learner that is its home."""
    own, _ = ReplayData.of(fragments, learner.config).shard(2)[rank]
    learner.update(training_data=own, timesteps={}, num_updates=4)


def weights_of(learner):
    """All tensors of all modules, buffers too."""
    return {
        (m, name): x.detach().numpy().copy()
        for m in learner.module.keys()  # noqa: SIM118
        for name, x in learner.module[m].state_dict().items()
    }


@contextlib.contextmanager
def killed_if_it_fails(group, forget):
    """Learners may still wait for a message that was lost: no other test must have them."""
    try:
        with at_most(600):
            yield
    except BaseException:
        forget()
        for actor in group._workers:  # A shutdown would wait for them.
            ray.kill(actor)
        group._is_shut_down = True
        raise


@contextlib.contextmanager
def at_most(seconds):
    """Fails after so many seconds of waiting for Ray.

    While Ray waits, it heeds a signal's handler only if that raises KeyboardInterrupt, so that
    pytest-timeout's, which raises another exception, ends nothing.
    """
    late = []

    def stop(*_):
        late.append(True)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    except KeyboardInterrupt:
        if late:
            pytest.fail(f"No answer from the learners in {seconds} s.")
        raise
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
