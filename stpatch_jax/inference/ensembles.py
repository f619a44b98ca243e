"""Several predictions of one field: mean, spread and quantiles."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from stpatch_jax.errors import InputError, check_range


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """What the members of an ensemble say together.

    Attributes:
        mean: The members' mean, like a member.
        spread: Their standard deviation (divisor `members - 1`), like a member; 0 for one member.
        quantiles: Like a member with the quantiles as first axis; None where none were asked for.
    """

    members: int
    mean: Any
    spread: Any
    quantiles: Any


def ensemble(predictions: Iterable[Any], *, quantiles: Sequence[float] = ()) -> Ensemble:
    """Mean, spread and quantiles of predictions that come one after the other.

    Mean and spread are updated with every member (Welford), which is then let go: from a generator
    only one is held at a time. Exact quantiles need all of them at once, so they are held if any
    are asked for. Members may be several checkpoints, or one model with dropout and several keys.

    Args:
        predictions: Arrays, or trees of arrays, of equal shapes; best a generator.
        quantiles: Probabilities in [0, 1]; interpolated linearly between members.

    Returns:
        The statistics in float32 or better.

    Raises:
        InputError: There is no member, or members or quantiles do not fit.

    Example:
        >>> summary = ensemble((jnp.array([x, 2 * x]) for x in (1.0, 2.0, 6.0)), quantiles=[0.5])
        >>> summary.mean.tolist(), summary.quantiles.tolist()
        ([3.0, 6.0], [[2.0, 4.0]])

    References:
        B. P. Welford, "Note on a method for calculating corrected sums of squares and products",
        Technometrics 4, 1962.
    """
    for quantile in quantiles:
        check_range("quantiles", quantile, 0, 1)
    count, mean, squares, held = 0, None, None, []
    for member in predictions:
        member = jax.tree.map(jnp.asarray, member)
        count += 1
        if mean is None:
            mean = jax.tree.map(lambda x: x.astype(jnp.promote_types(x.dtype, "float32")), member)
            squares = jax.tree.map(jnp.zeros_like, mean)
        _require_like(member, mean, count)
        mean, squares = _updated(mean, squares, member, float(count))
        if quantiles:
            held.append(member)
    if not count:
        raise InputError("an ensemble must have at least one member, got none; give predictions")
    spread = jax.tree.map(lambda total: jnp.sqrt(total / max(count - 1, 1)), squares)
    exact = None
    if quantiles:
        levels = jnp.asarray(quantiles, jnp.float32)
        exact = jax.tree.map(
            lambda *x: jnp.quantile(jnp.stack(x).astype(jnp.float32), levels, axis=0), *held
        )
    return Ensemble(count, mean, spread, exact)


def _require_like(member: Any, mean: Any, number: int) -> None:
    same = jax.tree.structure(member) == jax.tree.structure(mean)
    shapes = [[leaf.shape for leaf in jax.tree.leaves(tree)] for tree in (member, mean)]
    if not same or shapes[0] != shapes[1]:
        raise InputError(
            f"all members must have the shapes {shapes[1]} of the first, got {shapes[0]} of number "
            f"{number}; predict the same field with each"
        )


@jax.jit
def _updated(mean: Any, squares: Any, member: Any, count: float) -> tuple[Any, Any]:
    """Welford's update of the mean and of the sum of squared deviations."""
    delta = jax.tree.map(lambda x, m: x - m, member, mean)
    mean = jax.tree.map(lambda m, d: m + d / count, mean, delta)
    squares = jax.tree.map(lambda s, d, x, m: s + d * (x - m), squares, delta, member, mean)
    return mean, squares
