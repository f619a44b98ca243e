"""Random units: features of the sums of patches that are fitted to examples and not learnt."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from stpatch_jax.nn.fixed import Fixed
from stpatch_jax.nn.layers import Backbone, BackboneConfig, Dropout, Fields
from stpatch_jax.nn.windows import Shape, cut_patches, known_window
from stpatch_jax.patches.windows import OPEN, WindowSpec

# No unit is above its bias for fewer of the examples, or more, than a tenth.
_LEAST, _MOST = 0.1, 0.9
_EXAMPLES = 4096
_GOLDEN = (math.sqrt(5) + 1) / 2


class RandomUnits(Backbone):
    """Adds up each patch by channel, and gives by how much random sums of channels pass a bias.

    It is a hidden layer that nobody trains: enough units come close to any smooth function, and
    small data do not tell more. After `fit` the sums of a channel have the standard deviation 1,
    and biases are quantiles of what examples give, so that each unit tells some from others.
    Kernel, spread and biases are `Fixed`: no optimiser moves them, and checkpoints keep them.

    Maps [batch, time, *space, channel] to [batch, nt, *ns, units] in `dtype`, where
    `(nt, *ns) = spec.grid_shape((time, *space))`; it computes in float32.

    References:
        Huang, Zhu and Siew, "Extreme learning machine: theory and applications", Neurocomputing 70
        (2006). Rahimi and Recht, "Weighted sums of random kitchen sinks", NIPS 2008.
    """

    def __init__(
        self, config: RandomUnitsConfig, in_features: int, *, shape: Shape, rngs: nnx.Rngs
    ):
        self.window = known_window(config.spec, shape)
        super().__init__(config.spec, in_features, config.units, shape=shape)
        self.config = config
        kernel = jax.random.normal(rngs.params(), (in_features, config.units), jnp.float32)
        self.kernel = Fixed(kernel / jnp.linalg.norm(kernel, axis=0, keepdims=True))
        self.spread = Fixed(jnp.full(in_features, math.sqrt(math.prod(self.window)), jnp.float32))
        # Those of noise of variance 1.
        noise = jax.scipy.special.ndtri(jnp.asarray(_quantiles(config.units), jnp.float32))
        self.biases = Fixed(noise)
        self.dropout = Dropout(config.dropout, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, time, *space, channel] to [batch, nt, *ns, units]."""
        self.check_input(x)
        y = self._sums(x) @ (self.kernel[...] / self.spread[...][:, None])
        y = jax.nn.relu(y - jnp.expand_dims(self.biases[...], range(y.ndim - 1)))
        return self.dropout(y.astype(self.config.dtype))

    def fit(self, x: np.ndarray, *, seed: int) -> None:
        """Fits spread and biases to examples [example, time, *space, channel].

        Of many examples some are drawn at random.
        """
        if len(x) > _EXAMPLES:
            x = x[np.random.default_rng(seed).permutation(len(x))[:_EXAMPLES]]
        sums = np.asarray(self._sums(jnp.asarray(x))).reshape(-1, self.kernel.shape[0])
        spread = sums.std(axis=0)
        # A channel that is the same for all tells nothing.
        spread = np.where(spread > 1e-6 * np.abs(sums).max(axis=0), spread, np.inf)
        found = np.sort(sums / spread @ np.asarray(self.kernel[...]), axis=0)
        place = _quantiles(self.config.units) * (len(found) - 1)
        low, units = place.astype(int), np.arange(self.config.units)
        below, above = found[low, units], found[np.ceil(place).astype(int), units]
        self.spread[...] = jnp.asarray(spread, jnp.float32)
        self.biases[...] = jnp.asarray(below + (place - low) * (above - below), jnp.float32)

    def _sums(self, x: jax.Array) -> jax.Array:
        """The sum of each channel over each patch [batch, nt, *ns, channel]."""
        patches = cut_patches(x.astype(jnp.float32), self.spec, self.window)
        return patches.sum(axis=range(-1 - len(self.window), -1))


@dataclasses.dataclass(frozen=True)
class RandomUnitsConfig(BackboneConfig[RandomUnits]):
    """Settings of `RandomUnits`; a model on it is fitted in closed form, see `RidgeHead`.

    Attributes:
        spec: The windows that are added up; a bare tuple means non-overlapping windows.
        units: Number of features.
    """

    tiny_fields: ClassVar[Fields] = {"units": 64}
    large_fields: ClassVar[Fields] = {"units": 4096}
    fixed: ClassVar[bool] = True
    spec: WindowSpec = OPEN
    units: int = 1024

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(sizes=("units",))


def _quantiles(units: int) -> np.ndarray:
    """Levels that are spread evenly, in any order [unit]."""
    return _LEAST + (_MOST - _LEAST) * (np.arange(1, units + 1) * _GOLDEN % 1)
