"""What the channels of fields are worth to a function of them, and lags and neighbours to f."""

from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.tree_util import Partial

from stpatch_jax.errors import check_size, require
from stpatch_jax.explain.score import FieldLike, Score, as_field, scores, values_of


def permutation_importance(
    fn: Score, fields: FieldLike, *, key: jax.Array, repeats: int = 5, unit: str = "score"
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
    values = np.asarray(fields, np.float32)
    require(
        values.ndim >= 3 and len(values) >= 2,
        f"fields must be at least 2 (example, time, *space, channel), got shape {values.shape}; "
        "give more examples",
    )
    check_size("repeats", repeats)
    score = fn if isinstance(fn, Partial) else Partial(fn)
    whole = scores(score, values)
    require(
        whole.shape == (len(values),),
        f"what is explained must give one number per field, ({len(values)},), got {whole.shape}; "
        "sum or choose one of its outputs",
    )
    channels = values.shape[-1]
    falls = np.empty((repeats, channels))
    for repeat in range(repeats):
        for channel in range(channels):
            shuffled = _shuffled(score, values, key, repeat, np.arange(channels) == channel)
            falls[repeat, channel] = np.mean(whole) - np.mean(shuffled)
    named = isinstance(fields, xr.DataArray) and "channel" in fields.coords
    coords = {"channel": fields["channel"]} if named else {}
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


@runtime_checkable
class NeighborModel(Protocol):
    """A model `combine(neighbors(x))` of lags and neighbours, as `nn.NeighborhoodOperator` is.

    Attributes:
        config: Its settings: `offsets`, the displacements of the neighbours along the space axes,
            `lags`, the number of past steps, and `dtype`, in which it computes.
        in_features: Number of input channels.
    """

    config: Any
    in_features: int

    def neighbors(self, x: jax.Array) -> jax.Array:
        """What f sees of fields [batch, time, *space, channel]: lags * offsets * channels last."""
        ...

    def combine(self, neighbors: jax.Array) -> jax.Array:
        """Applies f to what it sees [..., lags * offsets * channels]: [..., features]."""
        ...


def neighborhood_weights(operator: NeighborModel, field: FieldLike) -> xr.DataArray:
    """Which lags and neighbours a model uses, as a share of all.

    Of output k the mean of `|df_k / dv|` over all cells and times of a field, v being one channel
    of one neighbour at one lag; summed over k and divided by the sum over all v. Of a linear f it
    is the share of the absolute weights.

    Args:
        operator: The model, see `NeighborModel`.
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
    field, config = as_field(field), operator.config

    def used(x: jax.Array) -> jax.Array:
        inputs = operator.neighbors(x.astype(config.dtype))
        values = inputs.reshape(-1, inputs.shape[-1])
        slopes = jax.vmap(jax.jacrev(lambda v: operator.combine(v[None])[0]))(values)
        return jnp.abs(slopes).astype(jnp.float32).mean(0).sum(0)

    slopes = np.asarray(jax.jit(used)(values_of(field)[None]), np.float64)
    shares = slopes / max(slopes.sum(), np.finfo(float).tiny)
    names = [",".join(f"{o:+d}" if o else "0" for o in offset) or "0" for offset in config.offsets]
    lags = ("lag", np.arange(1, config.lags + 1), {"units": "time steps"})
    coords: dict[str, Any] = {"lag": lags, "neighbor": names}
    if "channel" in field.coords:
        coords["channel"] = field.channel.values
    shape = config.lags, len(config.offsets), operator.in_features
    attrs = {"units": "share", "long_name": "use of lags and neighbours"}
    dims, name = ("lag", "neighbor", "channel"), "neighborhood_weights"
    return xr.DataArray(shares.reshape(shape), coords, dims=dims, name=name, attrs=attrs)
