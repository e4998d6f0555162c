"""Numbers that stay numbers: what overflows ends at the largest one.

A ratio past all numbers is harmless where an objective does not follow it: on the flat side of a
clip, at an advantage of 0. Infinity is not, as infinity times 0 is NaN, in values and in
gradients. These functions are what they are without overflow, to the last bit, slopes included.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def finite(x: Tensor) -> Tensor:
    """X with the largest numbers in place of infinities.

    Args:
        x: [...] data.

    Returns:
        [...] the same, with slope 1 everywhere. NaN stays NaN.
    """
    return _Finite.apply(x)


def finite_exp(x: Tensor) -> Tensor:
    """e^x, or the largest number where that is less.

    Args:
        x: [...] exponents.

    Returns:
        [...] powers, which are their slopes. Times a slope of 0 that is 0, everywhere.
    """
    return _FiniteExp.apply(x)


class _Finite(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        largest = torch.finfo(x.dtype).max
        return x.clamp(-largest, largest)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:  # type: ignore[override]
        return slope


class _FiniteExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.exp().clamp(max=torch.finfo(x.dtype).max)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:  # type: ignore[override]
        (y,) = ctx.saved_tensors
        return finite(slope) * y
