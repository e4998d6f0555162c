"""What the actors of the off-policy algorithms share: their pass, and their target network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from ray.rllib.core import Columns
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from ray.rllib.utils.annotations import override
from torch import Tensor, nn
from typing_extensions import Self

from rllib_hetero.functional import Distribution
from rllib_hetero.modules.memory import Memory
from rllib_hetero.modules.targets import pairs, target_of


class OffPolicyActor(TorchRLModule):
    """Body, memory if any, and head; a subclass's `setup` makes them.

    Feed-forward, it maps observations (..., d) to `Columns.ACTION_DIST_INPUTS` (..., p), the
    inputs of `dist`. Recurrent, it maps sequences (B, L, d) and states `Columns.STATE_IN` (B, S)
    to (B, L, p) and `Columns.STATE_OUT` (B, S). Masks are applied outside.

    Attributes:
        dist: The distribution of the actions.
        exploration: How much is explored, a number (): the learner sets it from its schedule, it
            travels to the runners with the weights, and is the last of the distribution's inputs.
            0 until it is set. None where the distribution has no such input.
    """

    dist: Distribution
    body: nn.Sequential
    memory: Memory | None
    head: nn.Module
    exploration: Tensor | None

    def add_exploration(self, wanted: bool = True) -> None:
        """Registers `exploration`."""
        self.register_buffer("exploration", torch.zeros(()) if wanted else None)

    @override(TorchRLModule)
    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Tensor]:
        return self._pass(batch, self._parts())

    def _pass(self, batch: dict[str, Any], parts: Iterable[Any]) -> dict[str, Tensor]:
        body, *memory, head = parts
        outputs, x = {}, body(batch[Columns.OBS])
        if memory:
            x, outputs[Columns.STATE_OUT] = memory[0](x, batch[Columns.STATE_IN])
        x, constants = self.finish(head(x)), self.constants()
        if constants is not None:
            x = torch.cat([x, constants.expand(*x.shape[:-1], -1)], dim=-1)
        return outputs | {Columns.ACTION_DIST_INPUTS: x}

    def _parts(self) -> list[nn.Module]:
        return [part for part in (self.body, self.memory, self.head) if part is not None]

    def finish(self, x: Tensor) -> Tensor:
        """What becomes of the head's output (..., j) before the constants follow. No weights."""
        return x

    def constants(self) -> Tensor | None:
        """(j,) inputs that are the same whatever is observed; they come last. None: none."""
        return None if self.exploration is None else self.exploration[None]

    @override(TorchRLModule)
    def get_initial_state(self) -> dict[str, Tensor]:
        """Name to zeros (S,); empty for a feed-forward network."""
        return {} if self.memory is None else self.memory.initial_state()

    @override(nn.Module)
    def train(self, mode: bool = True) -> Self:
        # RLlib asks for it before each pass of a learner. To walk over all parts for nothing
        # would take a third as long as the pass itself.
        return self if mode == self.training else super().train(mode)

    def target_pairs(self) -> list[tuple[nn.Parameter, nn.Parameter]]:
        """The target network's parameters, each with the one that it follows."""
        return []

    @override(nn.Module)
    def extra_repr(self) -> str:
        return f"dist={self.dist}"


class TargetedActor(OffPolicyActor, InferenceOnlyAPI):
    """An off-policy actor with a target network, which follows it slowly.

    The target is a copy that only the learner has: runners neither build nor receive it.
    """

    target_network: nn.ModuleList

    def add_target(self) -> None:
        """Copies the parts made so far; to be called at the end of `setup`."""
        if not self.inference_only:
            self.target_network = target_of(nn.ModuleList(self._parts()))

    def forward_target(self, batch: dict[str, Any]) -> Tensor:
        """The target's distribution inputs, in the shapes of the actor's own.

        Args:
            batch: `Columns.OBS` and, if recurrent, `Columns.STATE_IN`.
        """
        return self._pass(batch, self.target_network)[Columns.ACTION_DIST_INPUTS]

    @override(OffPolicyActor)
    def target_pairs(self) -> list[tuple[nn.Parameter, nn.Parameter]]:
        return pairs(self.target_network, nn.ModuleList(self._parts()))

    @override(InferenceOnlyAPI)
    def get_non_inference_attributes(self) -> list[str]:
        return ["target_network"]
