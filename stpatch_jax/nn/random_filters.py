"""Random filters: features of maps and volumes that are fitted to examples and not learnt."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from stpatch_jax.nn.fixed import Fixed, spread_levels
from stpatch_jax.nn.layers import Backbone, BackboneConfig, Dropout, Fields
from stpatch_jax.nn.windows import Shape, cut_patches, embed_patches, known_window
from stpatch_jax.patches.windows import OPEN, WindowSpec

# Outputs in so many cells tell quantiles, and fit into memory.
_CELLS = 2**20
# What rounding makes of a constant neighbourhood, as a share of the largest output.
_NOTHING = 1e-4


class RandomFilters(Backbone):
    """Convolves patches over time and space with dilated filters that nobody trains, and pools.

    A filter spans three cells along each axis of a window but those of one cell, at every dilation,
    over all channels; its weights are normal, and those of a channel add up to zero, so that a
    neighbourhood of one value gives 0. The features are by how much the output of a filter is above
    a bias, of several biases, on average over the window's cells: how much of what shape there is,
    wherever it lies. Beyond the ends of a window its outermost cells are repeated.

    Biases are quantiles of the outputs where these are not 0, as in the empty cells around a thing:
    at first of those of noise, after `fit` of examples. They are `Fixed`, as the weights are: no
    optimiser moves them, and checkpoints keep them.

    Maps [batch, time, *space, channel] to [batch, nt, *ns, features] in `dtype`, where
    `(nt, *ns) = spec.grid_shape((time, *space))`; what is pooled is computed in float32.

    References:
        Dempster, Petitjean and Webb, "ROCKET: exceptionally fast and accurate time series
        classification using random convolutional kernels", Data Mining and Knowledge Discovery 34
        (2020), along time.
    """

    def __init__(
        self, config: RandomFiltersConfig, in_features: int, *, shape: Shape, rngs: nnx.Rngs
    ):
        self.window = known_window(config.spec, shape)
        features = config.dilations * config.biases * config.filters
        super().__init__(config.spec, in_features, features, shape=shape)
        self.config = config
        self.extents = tuple(3 if cells > 1 else 1 for cells in self.window)
        drawn = (config.dilations, math.prod(self.extents), in_features, config.filters)
        weights = jax.random.normal(rngs.params(), drawn, jnp.float32)
        weights -= weights.mean(axis=1, keepdims=True)
        spread = jnp.sqrt(jnp.square(weights).sum(axis=(1, 2)))[:, None]
        self.weights = Fixed(weights.reshape(len(weights), *self.extents, *drawn[2:]))
        # Those of noise of variance 1.
        noise = jax.scipy.special.ndtri(jnp.asarray(_quantiles(config), jnp.float32))
        self.biases = Fixed(noise * spread)
        self.dropout = Dropout(config.dropout, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, time, *space, channel] to [batch, nt, *ns, features]."""
        self.check_input(x)
        y = jax.vmap(self._pooled)(self._patches(x)).astype(self.config.dtype)
        grid = self.grid_shape(x.shape[1:-1])
        return self.dropout(y.reshape(len(x), *grid, self.out_features))

    def fit(self, x: np.ndarray, *, seed: int) -> None:
        """Makes the biases those of examples [example, time, *space, channel].

        Of many examples some are drawn at random.
        """
        most = max(1, _CELLS // math.prod(x.shape[1:-1]))
        x = x[np.random.default_rng(seed).permutation(len(x))[:most]]
        biases = np.array(self.biases[...])
        for at, outputs in enumerate(_outputs(self, jnp.asarray(x))):
            found = np.asarray(outputs).reshape(-1, self.config.filters).T
            for number, of in enumerate(found):
                seen = of[np.abs(of) > _NOTHING * np.abs(of).max()]
                if len(seen):
                    levels = _quantiles(self.config)[at, :, number]
                    biases[at, :, number] = np.quantile(seen, levels)
        self.biases[...] = jnp.asarray(biases)

    def _patches(self, x: jax.Array) -> jax.Array:
        """The patches of all examples [patch, time, *space, channel], float32."""
        patches = cut_patches(x.astype(jnp.float32), self.spec, self.window)
        return patches.reshape(-1, *self.window, x.shape[-1])

    def _pooled(self, patch: jax.Array) -> jax.Array:
        """The features of a patch [time, *space, channel]."""
        above = [
            jax.nn.relu(outputs - bias[None]).mean(axis=0)
            for outputs, biases in zip(self._outputs(patch), self.biases[...], strict=True)
            for bias in biases
        ]
        return jnp.concatenate(above)

    def _outputs(self, patch: jax.Array) -> Iterator[jax.Array]:
        """What the filters give of a patch at each dilation [cell, filter]."""
        for number, weights in enumerate(self.weights[...], 1):
            dilation = tuple(number if extent > 1 else 1 for extent in self.extents)
            spec = WindowSpec(
                self.extents, stride=1, dilation=dilation, padding="SAME", padding_mode="edge"
            )
            yield embed_patches(patch[None], weights, spec).reshape(-1, self.config.filters)


@dataclasses.dataclass(frozen=True)
class RandomFiltersConfig(BackboneConfig[RandomFilters]):
    """Settings of `RandomFilters`; a classifier on it is fitted in closed form, see `RidgeHead`.

    Attributes:
        spec: The windows that are pooled; a bare tuple means non-overlapping windows.
        filters: Number of filters of each dilation.
        dilations: Number of dilations, from 1, neighbouring cells, in steps of 1.
        biases: Number of biases of each filter. There are `filters * dilations * biases` features.
    """

    tiny_fields: ClassVar[Fields] = {"filters": 8, "biases": 2}
    large_fields: ClassVar[Fields] = {"filters": 192}
    fixed: ClassVar[bool] = True
    spec: WindowSpec = OPEN
    filters: int = 48
    dilations: int = 3
    biases: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(sizes=("filters", "dilations", "biases"))


@nnx.jit
def _outputs(model: RandomFilters, x: jax.Array) -> list[jax.Array]:
    return jax.lax.map(lambda patch: [*model._outputs(patch)], model._patches(x))


def _quantiles(config: RandomFiltersConfig) -> np.ndarray:
    """Levels in (0, 1), spread evenly over the biases of each filter [dilation, bias, filter]."""
    shape = (config.dilations, config.filters, config.biases)
    return spread_levels(math.prod(shape)).reshape(shape).swapaxes(1, 2)
