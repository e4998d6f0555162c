"""The trust-region step: natural gradient by conjugate gradients, then a backtracking search.

Vectors are [P]: all parameters of one actor in a row, as `flat` gives them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rllib_hetero.functional._shapes import same_shape


class Trial(NamedTuple):
    """What a trial point of the line search measures.

    Attributes:
        improvement: Scalar, the objective there minus the objective at the old parameters.
        kl: Scalar, mean KL(old || new) there.
    """

    improvement: Tensor | float
    kl: Tensor | float


class LineSearchResult(NamedTuple):
    """Where the line search ended.

    Attributes:
        fraction: Accepted share of the full step; 0 if no trial was accepted.
        improvement: Measured improvement of the accepted trial, else 0.
        kl: Mean KL of the accepted trial, else 0.
        steps: Number of trials made.
    """

    fraction: float
    improvement: float
    kl: float
    steps: int


def flat(tensors: Iterable[Tensor]) -> Tensor:
    """Puts tensors into one row.

    Args:
        tensors: Parameters, or gradients in the order of the parameters; at least one.

    Returns:
        [P] their elements, one tensor after another.
    """
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def unflat(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Undoes `flat`.

    Args:
        vector: [P] elements.
        like: Tensors that give the shapes, of P elements together.

    Returns:
        Views of the vector, of the shapes of `like`.

    Raises:
        ValueError: If the vector is not of shape [P].
    """
    sizes = [tensor.numel() for tensor in like]
    if vector.shape != (sum(sizes),):
        raise ValueError(f"Vector must have shape ({sum(sizes)},), got {tuple(vector.shape)}.")
    parts = torch.split(vector, sizes)
    return [part.view(tensor.shape) for part, tensor in zip(parts, like, strict=True)]


def fisher_product(
    outputs: Tensor, mean_kl: Callable[[Tensor], Tensor], parameters: Sequence[Tensor]
) -> Callable[[Tensor], Tensor]:
    """Products with the Fisher matrix, without the matrix: the Hessian of the KL at new = old.

        H v = J^T (K (J v)),    J = d z / d theta,    K = Hessian of mean_kl(z) at z

    where z are the distribution inputs of all samples. The Hessian of KL(pi_old || pi_theta) in
    theta has a second term, with the gradient of the KL in z; at new = old that gradient is 0.

    H is the Fisher matrix: it is -E_old[hess log pi_theta], and at theta = old

        E[hess log pi] = E[(hess pi) / pi] - E[grad log pi (grad log pi)^T],

    whose first term is the Hessian of sum_a pi(a) = 1, hence 0. So H is positive semi-definite,
    as conjugate gradients need.

    J v is the derivative of J^T u in u, whatever u. That graph is built once; a product then
    needs less than differentiating the KL twice through the network.

    The mean over states is the one that `mean_kl` takes. A learner that holds a share of the
    batch gives its share of the mean (`masked_mean` with the total of all learners) and sums the
    products over the learners. Damping, `+ c v`, is added after that sum, once.

    Args:
        outputs: [..., p] distribution inputs z with their graph, twice differentiable.
        mean_kl: Outputs -> scalar mean KL(old || new), old being `outputs` without their graph.
        parameters: The actor's parameters. Those that the outputs do not depend on get zeros.

    Returns:
        The map from v [P] to H v [P]. It keeps the graph: drop it when the step is done.

    Raises:
        ValueError: If `outputs` have no graph, or the mean is not a scalar. The map raises it if
            v is not [P].

    Reference:
        HARL eq. 8; Schulman et al., "Trust Region Policy Optimization", ICML 2015, appendix C;
        Martens, "New Insights and Perspectives on the Natural Gradient Method", JMLR 2020.
    """
    parameters = list(parameters)
    with torch.enable_grad():
        z = outputs.detach().requires_grad_()
        kl = mean_kl(z)
        if kl.ndim != 0 or not outputs.requires_grad:
            raise ValueError(
                "Outputs with a graph, and a scalar mean of them, are needed; got shape "
                f"{tuple(kl.shape)} and a graph: {outputs.requires_grad}."
            )
        (slope,) = torch.autograd.grad(kl, z, create_graph=True)
        u = torch.zeros_like(outputs, requires_grad=True)
        pulled = torch.autograd.grad(outputs, parameters, u, create_graph=True, allow_unused=True)

    def product(v: Tensor) -> Tensor:
        parts = zip(pulled, unflat(v, parameters), strict=True)
        rows, directions = zip(*((g, part) for g, part in parts if g is not None), strict=True)
        (change,) = torch.autograd.grad(rows, u, directions, retain_graph=True)  # J v
        (curved,) = torch.autograd.grad(slope, z, change, retain_graph=True)
        result = torch.autograd.grad(
            outputs, parameters, curved, retain_graph=True, allow_unused=True
        )
        return flat(
            torch.zeros_like(p) if row is None else row
            for p, row in zip(parameters, result, strict=True)
        )

    return product


def conjugate_gradient(
    product: Callable[[Tensor], Tensor],
    b: Tensor,
    *,
    iterations: int,
    tolerance: float = 1e-10,
) -> tuple[Tensor, Tensor]:
    """Solves H x = b for a positive definite H that is known by its products.

    Starts at x = 0, so that every iterate has x . b >= 0: an ascent direction when b is the
    gradient. Ends after `iterations`, at the tolerance, or where the curvature p . H p is not
    positive (H is singular there, or rounding made it look so); x is then what was reached.

    All decisions are made on numbers that `product` and `b` give. Where those are sums over all
    learners, every learner takes the same decisions and makes the same number of calls.

    Args:
        product: v [P] -> H v [P], over the whole batch.
        b: [P] right-hand side.
        iterations: Largest number of products, at least 1.
        tolerance: Relative residual at which to stop.

    Returns:
        [P] x without gradient, and the scalar |b - H x| / |b| as the recurrence has it (0 for
        b = 0). The residual is NaN if `b` is not finite; x is then zeros.

    Raises:
        ValueError: If `b` is not [P], a product is not of its shape, or `iterations` < 1.

    Reference:
        Hestenes and Stiefel, "Methods of Conjugate Gradients for Solving Linear Systems", 1952;
        its place in HATRPO: HARL Algorithm 3.
    """
    same_shape(rank=1, b=b)
    if iterations < 1:
        raise ValueError(f"`iterations` must be at least 1, got {iterations}.")
    residual = b.detach().clone()
    x = torch.zeros_like(residual)
    direction = residual.clone()
    square = start = residual.dot(residual)
    if start == 0:
        return x, start
    if not torch.isfinite(start):
        return x, torch.full_like(start, math.nan)
    for _ in range(iterations):
        image = product(direction).detach()
        same_shape(b=b, product=image)
        curvature = direction.dot(image)
        if not curvature > 0:  # NaN too.
            break
        step = square / curvature
        x = x + step * direction
        residual = residual - step * image
        previous, square = square, residual.dot(residual)
        if square <= tolerance**2 * start:
            break
        direction = residual + (square / previous) * direction
    return x, (square / start).sqrt()


def largest_step(direction: Tensor, product_of_direction: Tensor, kl_threshold: float) -> Tensor:
    """The multiple of a direction at which the quadratic model of the KL meets its threshold.

        beta = sqrt(2 delta / (x . H x)),    since KL(beta x) ~ beta^2 (x . H x) / 2

    With a damped H the KL model is the damped one, and beta the more careful for it.

    Args:
        direction: [P] x.
        product_of_direction: [P] H x.
        kl_threshold: delta > 0.

    Returns:
        Scalar beta without gradient; 0 where x . H x is not positive.

    Raises:
        ValueError: If shapes differ, are not [P], or `kl_threshold` is not positive.

    Reference:
        HARL Algorithm 3 (beta-hat); eq. 8.
    """
    same_shape(rank=1, direction=direction, product_of_direction=product_of_direction)
    if kl_threshold <= 0:
        raise ValueError(f"`kl_threshold` must be positive, got {kl_threshold}.")
    curvature = direction.detach().dot(product_of_direction.detach())
    usable = curvature > 0
    return torch.where(usable, (2 * kl_threshold / torch.where(usable, curvature, 1.0)).sqrt(), 0.0)


def line_search(
    try_fraction: Callable[[float], Trial],
    expected: float,
    *,
    kl_threshold: float,
    backtrack: float,
    max_steps: int,
    accept_ratio: float,
) -> LineSearchResult:
    """Takes the largest of geometrically shrinking steps that keeps what the model promised.

    Tries the fractions alpha^j of the full step for j = 0, 1, ..., L, that is L + 1 trials at
    most, and accepts the first for which

        improvement >= kappa * alpha^j * expected,    improvement > 0,    KL <= delta

    hold and are finite. Where `expected` is not positive and finite, the full step is no ascent
    direction: nothing is tried.

    Args:
        try_fraction: Fraction of the full step -> what the objective and the KL are there, over
            the whole batch. It may leave the parameters at the trial point: the last call is at
            the accepted fraction, but if none was accepted the parameters are the caller's to
            restore.
        expected: g . full_step, the gain of the linear model.
        kl_threshold: delta > 0.
        backtrack: alpha in (0, 1).
        max_steps: L >= 0.
        accept_ratio: kappa in [0, 1].

    Returns:
        The accepted fraction and what was measured there.

    Raises:
        ValueError: If a parameter is out of range.

    Reference:
        HARL Algorithm 3, and the constraint of eq. 7, which the quadratic model only approximates.
    """
    if kl_threshold <= 0:
        raise ValueError(f"`kl_threshold` must be positive, got {kl_threshold}.")
    if not 0 < backtrack < 1:
        raise ValueError(f"`backtrack` must be in (0, 1), got {backtrack}.")
    if max_steps < 0:
        raise ValueError(f"`max_steps` must be at least 0, got {max_steps}.")
    if not 0 <= accept_ratio <= 1:
        raise ValueError(f"`accept_ratio` must be in [0, 1], got {accept_ratio}.")
    if not (math.isfinite(expected) and expected > 0):
        return LineSearchResult(0.0, 0.0, 0.0, 0)
    for j in range(max_steps + 1):
        fraction = backtrack**j
        improvement, kl = (float(x) for x in try_fraction(fraction))
        if (
            math.isfinite(improvement)
            and improvement > 0
            and improvement >= accept_ratio * fraction * expected
            and math.isfinite(kl)
            and kl <= kl_threshold
        ):
            return LineSearchResult(fraction, improvement, kl, j + 1)
    return LineSearchResult(0.0, 0.0, 0.0, max_steps + 1)
