"""What the channels of fields are worth to a function of them, and lags and neighbours to f."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.tree_util import Partial

from stpatch_jax.errors import require
from stpatch_jax.explain.score import Score, scores, values_of
from stpatch_jax.nn import NeighborhoodOperator


def permutation_importance(
    fn: Score, fields: xr.DataArray, *, key: jax.Array, repeats: int = 5, unit: str = "score"
) -> xr.DataArray:
    """Shuffles one channel among the examples and tells how much the mean score falls.

    `mean fn(x) - mean fn(x with channel c of other examples)`: 0 for a channel that does not
    matter. Give a score of how good the output is, such as minus its error, for which `fn` may hold
    the truth of the examples in their order.

    Args:
        fn: What is explained, see `Score`; it gets all examples at once.
        fields: Fields (example, time, *space, channel), without NaN; at least 2.
        key: Of the permutations.
        repeats: Permutations of each channel.
        unit: Unit of the score.

    Returns:
        (repeat, channel) in units of the score.

    Raises:
        InputError: There are fewer than 2 examples, or `fn` does not give one number each.

    Examples:
        >>> fields = xr.DataArray(np.arange(12.0).reshape(3, 2, 2),
        ...                       dims=("example", "time", "channel"))
        >>> truth = fields.values[:, -1, 0]
        >>> worth = permutation_importance(lambda x: -abs(x[:, -1, 0] - truth), fields,
        ...                                key=jax.random.key(0))
        >>> (worth.mean("repeat") > 0).values.tolist()
        [True, False]

    References:
        Breiman, "Random forests", Machine Learning 45 (2001); Fisher, Rudin and Dominici, "All
        models are wrong, but many are useful", JMLR 20 (2019).
    """
    require(
        fields.ndim >= 3 and len(fields) >= 2,
        f"permutation importance needs at least 2 fields (example, time, *space, channel), got "
        f"shape {fields.shape}; give more examples",
    )
    require(repeats >= 1, f"repeats must be at least 1, got {repeats}; use 5")
    score = fn if isinstance(fn, Partial) else Partial(fn)
    values = values_of(fields)
    found = scores(score, values)
    require(
        found.shape == (len(fields),),
        f"what is explained must give one number per field, ({len(fields)},), but it gives "
        f"{found.shape}; sum or choose one of its outputs",
    )
    channels = fields.shape[-1]
    falls = np.empty((repeats, channels))
    for repeat in range(repeats):
        for channel in range(channels):
            shuffled = _shuffled(score, values, key, repeat, np.arange(channels) == channel)
            falls[repeat, channel] = np.mean(found) - np.mean(shuffled)
    coords = {"channel": fields.channel} if "channel" in fields.coords else {}
    attrs = {"units": unit, "long_name": "fall of the score without the channel"}
    name = "permutation_importance"
    return xr.DataArray(falls, coords, dims=("repeat", "channel"), name=name, attrs=attrs)


@jax.jit
def _shuffled(
    score: Partial, fields: jax.Array, key: jax.Array, repeat: jax.Array, chosen: jax.Array
) -> jax.Array:
    """The scores with the chosen channels of other examples; in each repeat another order."""
    order = jax.random.permutation(jax.random.fold_in(key, repeat), len(fields))
    chosen = chosen.reshape(*[1] * (fields.ndim - 1), -1)
    return score(jnp.where(chosen, fields[order], fields))


def neighborhood_weights(operator: NeighborhoodOperator, field: xr.DataArray) -> xr.DataArray:
    """Which lags and neighbours a `NeighborhoodOperator` uses, as a share of all.

    Of output k the mean of `|df_k / dv|` over all cells and times of a field, v being one channel
    of one neighbour at one lag; summed over k and divided by the sum over all v. Of a linear f it
    is the share of the absolute weights.

    Args:
        operator: The operator.
        field: One field (time, *space, channel) as it takes it; a linear f does not depend on it.

    Returns:
        (lag, neighbor, channel), shares of 1. Lags are time steps back from the output; neighbors
        are named by their displacement along the space axes.

    Raises:
        InputError: The field does not fit the operator.

    Examples:
        >>> from flax import nnx
        >>> from stpatch_jax.nn import NeighborhoodConfig
        >>> operator = NeighborhoodConfig.tiny(1).build(1, rngs=nnx.Rngs(0))
        >>> field = xr.DataArray(np.zeros((4, 3, 1)), dims=("time", "cell", "channel"))
        >>> weights = neighborhood_weights(operator, field)
        >>> weights.dims, weights.neighbor.values.tolist(), round(float(weights.sum()), 3)
        (('lag', 'neighbor', 'channel'), ['0', '+1'], 1.0)
    """
    config = operator.config

    def used(x: jax.Array) -> jax.Array:
        inputs = operator.neighbors(x.astype(config.dtype))
        values = inputs.reshape(-1, inputs.shape[-1])
        slopes = jax.vmap(jax.jacrev(lambda v: operator.combine(v[None])[0]))(values)
        return jnp.abs(slopes).astype(jnp.float32).mean(0).sum(0)

    found = np.asarray(jax.jit(used)(values_of(field)[None]), np.float64)
    shares = found / max(found.sum(), np.finfo(float).tiny)
    names = [",".join(f"{o:+d}" if o else "0" for o in offset) or "0" for offset in config.offsets]
    lags = ("lag", np.arange(1, config.lags + 1), {"units": "time steps"})
    coords: dict[str, Any] = {"lag": lags, "neighbor": names}
    if "channel" in field.coords:
        coords["channel"] = field.channel.values
    shape = config.lags, len(config.offsets), operator.in_features
    attrs = {"units": "share", "long_name": "use of lags and neighbours"}
    return xr.DataArray(
        shares.reshape(shape),
        coords,
        dims=("lag", "neighbor", "channel"),
        name="neighborhood_weights",
        attrs=attrs,
    )
