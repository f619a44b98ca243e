"""How good an explanation is: deletion and insertion, and random weights."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.tree_util import Partial
from jax.typing import ArrayLike

from stpatch_jax.errors import check_size, require
from stpatch_jax.explain.score import FieldLike, Score, baseline_of, batches, prepared

_FEWEST = 3


def deletion_insertion(
    fn: Score,
    field: FieldLike,
    attribution: xr.DataArray | np.ndarray | jax.Array,
    *,
    baseline: ArrayLike = 0.0,
    shares: int = 16,
    unit: str = "score",
    batch_size: int = 32,
) -> xr.Dataset:
    """Takes away what an explanation says is most important, and puts it back, share by share.

    Cells (or values, where the attribution has channels) leave in the order of their attribution,
    the largest first, and the score of what is left is taken: if the explanation is right it falls
    early. Put into an empty field in the same order they make it rise early. `faithfulness` is the
    mean of the insertion curve minus that of the deletion curve: 0 on average for an order that is
    random, and the more the better, so that explanations of one score can be compared.

    The attribution is (time, *space) or (time, *space, channel), such as `occlusion` gives; it
    leaves in `shares` equal shares. Other arguments as in `occlusion`.

    Returns:
        `deletion` and `insertion` (share), the score at each share of the cells from 0 to 1,
        with the attribute `faithfulness`, in units of the score.

    Raises:
        InputError: The attribution does not fit the field.

    Examples:
        >>> field = xr.DataArray([[1.0], [2.0]], dims=("time", "channel"))
        >>> right = xr.DataArray([0.0, 2.0], dims="time")
        >>> curves = deletion_insertion(lambda x: x[:, 1, 0], field, right, shares=2)
        >>> curves.deletion.values.tolist(), curves.insertion.values.tolist()
        ([2.0, 0.0, 0.0], [0.0, 2.0, 2.0])

    References:
        Petsiuk, Das and Saenko, "RISE: randomized input sampling for explanation of black-box
        models", BMVC 2018.
    """
    score, field, x = prepared(fn, field)
    values = np.asarray(attribution, np.float64)
    require(
        values.shape in (field.shape[:-1], field.shape) and bool(np.isfinite(values).all()),
        f"an attribution must be finite, one number per cell {field.shape[:-1]} or value "
        f"{field.shape}, got shape {values.shape}; explain this field",
    )
    check_size("shares", shares)
    order = np.argsort(-values, axis=None, kind="stable")
    rank = np.empty(values.size, np.int32)
    rank[order] = np.arange(values.size)
    rank = rank.reshape(values.shape)
    rank = rank if values.ndim == field.ndim else rank[..., None]
    counts = np.round(np.linspace(0, values.size, shares + 1)).astype(np.int32)
    empty = baseline_of(baseline, field)

    def curve(first: np.ndarray, then: np.ndarray) -> np.ndarray:
        parts = []
        for numbers, real in batches(len(counts), batch_size):
            parts.append(np.asarray(_replaced(score, first, then, rank, counts[numbers]))[:real])
        return np.concatenate(parts).astype(np.float64)

    curves = {"deletion": curve(x, empty), "insertion": curve(empty, x)}
    means = {name: np.trapezoid(curve, dx=1 / shares) for name, curve in curves.items()}
    return xr.Dataset(
        {name: ("share", curve, {"units": unit}) for name, curve in curves.items()},
        {"share": ("share", counts / values.size, {"long_name": "share of the cells"})},
        {"faithfulness": float(means["insertion"] - means["deletion"])},
    )


@jax.jit
def _replaced(
    score: Partial, first: jax.Array, then: jax.Array, rank: jax.Array, counts: jax.Array
) -> jax.Array:
    """The score of a field whose first cells by rank are those of another."""
    counts = counts.reshape(-1, *[1] * rank.ndim)
    return score(jnp.where(rank[None] < counts, then[None], first[None]))


@dataclass(frozen=True)
class Randomization:
    """What `randomization_test` found.

    Attributes:
        correlations: Rank correlation of the absolute maps of trained and random weights, by draw;
            NaN where fewer than 3 values are there to be ranked.
        limit: Mean correlation from which an explanation fails.
    """

    correlations: tuple[float, ...]
    limit: float

    @property
    def correlation(self) -> float:
        """Their mean."""
        return float(np.mean(self.correlations))

    @property
    def passed(self) -> bool:
        """Whether the explanation depends on the weights; no, where that cannot be told."""
        return self.correlation < self.limit


def randomization_test(
    explain: Callable[[Any], Any],
    params: Any,
    *,
    key: jax.Array,
    draws: int = 3,
    limit: float = 0.5,
) -> Randomization:
    """Checks that an explanation changes when the weights of the model are random.

    Each array of floats is replaced by normal numbers of its own root mean square, and the absolute
    maps are compared by Spearman's rank correlation. One that stays the same does not explain the
    model: it shows the input. Where both maps are exactly 0 is not compared, since what a network
    never looks at is a matter of its form, not of its weights.

    Args:
        explain: `params -> map`, an array or `xarray.DataArray` of any shape.
        params: The weights, any tree of arrays, such as `nnx.state(model, nnx.Param)`.
        key: Of the random weights.
        draws: Number of random models.
        limit: Mean correlation from which the explanation fails.

    Returns:
        The correlations, and whether the explanation passed. A map without any difference, which
        has no ranks, counts as unchanged: 1.

    Raises:
        InputError: There is less than one draw.

    Examples:
        >>> x = np.linspace(-1.0, 2.0, 40)
        >>> weights = jax.random.normal(jax.random.key(1), 40)
        >>> right = randomization_test(lambda w: w * x, weights, key=jax.random.key(0), draws=8)
        >>> wrong = randomization_test(lambda w: x, weights, key=jax.random.key(0))
        >>> wrong.correlation, wrong.passed
        (1.0, False)

    References:
        Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018.
    """
    check_size("draws", draws)
    trained = np.abs(np.asarray(explain(params), np.float64)).ravel()
    correlations = []
    for draw in range(draws):
        other = explain(_randomized(params, key, draw))
        random = np.abs(np.asarray(other, np.float64)).ravel()
        marked = (trained > 0) | (random > 0)
        enough = np.count_nonzero(marked) >= _FEWEST
        pair = trained[marked], random[marked]
        correlations.append(rank_correlation(*pair) if enough else np.nan)
    return Randomization(tuple(correlations), limit)


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation of two vectors [n]; equal values share their mean rank.

    1 where one of them is constant or they are empty.

    >>> rank_correlation(np.array([1.0, 5.0, 9.0]), np.array([-1.0, 0.0, 8.0]))
    1.0
    """
    one, other = _ranks(first), _ranks(second)
    if not one.size or min(np.ptp(one), np.ptp(other)) == 0:
        return 1.0
    return float(np.round(np.corrcoef(one, other)[0, 1], 12))


def _ranks(values: np.ndarray) -> np.ndarray:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[places]


@jax.jit
def _randomized(params: Any, key: jax.Array, draw: jax.Array) -> Any:
    """Normal numbers of the same shapes and root mean squares; what is no float stays."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.fold_in(key, draw), max(len(leaves), 1))
    return tree.unflatten(map(_like, leaves, keys))


def _like(leaf: jax.Array, key: jax.Array) -> jax.Array:
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        return leaf
    size = jnp.sqrt(jnp.mean(jnp.square(leaf.astype(jnp.float32))))
    return (size * jax.random.normal(key, leaf.shape)).astype(leaf.dtype)
