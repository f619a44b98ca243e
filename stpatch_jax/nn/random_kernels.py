"""Random dilated kernels: features of patches that are fitted to examples and not learnt."""

from __future__ import annotations

import dataclasses
import itertools
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

# All kernels of nine weights of which three are 2 and six -1: they add up to zero.
_LENGTH = 9
_TRIPLES = np.array(list(itertools.combinations(range(_LENGTH), 3)))
_KERNELS = len(_TRIPLES)
_WEIGHTS = np.where((_TRIPLES[:, :, None] == np.arange(_LENGTH)).any(axis=1), 2.0, -1.0).T
_MOST_DILATIONS, _MOST_CHANNELS = 32, 9


class RandomKernels(Backbone):
    """Convolves patches along time with dilated kernels that nobody trains, and pools over time.

    At every dilation, from neighbouring steps to the whole window, there are the 84 kernels of nine
    weights of which three are 2 and six -1, for the values and for their differences from step to
    step. Each sees some channels, drawn at random; the cells that a window has in space are
    channels here. The features are at what share of the window's times the output of a kernel is
    above a bias, of several biases, and by how much it is so on average over all times. Every other
    kernel looks beyond the ends of the window, where it sees zeros.

    Biases are quantiles of the outputs: at first of those of noise, after `fit` of examples. They
    are `Fixed`, as the channels are: no optimiser moves them, and checkpoints keep them.

    Maps [batch, time, *space, channel] to [batch, nt, *ns, features] in `dtype`, where
    `(nt, *ns) = spec.grid_shape((time, *space))`; what is counted is computed in float32.

    References:
        Dempster et al., "MiniRocket: a very fast (almost) deterministic transform for time series
        classification", KDD 2021, the kernels and biases. Tan et al., "MultiRocket: multiple
        pooling operators and transformations for fast and effective time series classification",
        Data Mining and Knowledge Discovery 36 (2022), the differences.
    """

    def __init__(
        self, config: RandomKernelsConfig, in_features: int, *, shape: Shape, rngs: nnx.Rngs
    ):
        self.window = known_window(config.spec, shape)
        self.counts = _counts(self.window[0], config.biases)
        rows = 2 * sum(self.counts.values())
        super().__init__(config.spec, in_features, 2 * _KERNELS * rows, shape=shape)
        self.config = config
        channels = math.prod(self.window[1:]) * in_features
        self.channels = Fixed(_drawn_channels(rngs.params(), 2 * len(self.counts), channels))
        # Those of noise of variance 1; a row holds a bias of each kernel.
        spread = jnp.sqrt(np.square(_WEIGHTS[:, 0]).sum() * self.channels[...].sum(axis=1))
        of_row = np.repeat(np.arange(2 * len(self.counts)), 2 * [*self.counts.values()])
        noise = jax.scipy.special.ndtri(jnp.asarray(_quantiles(rows), jnp.float32))
        self.biases = Fixed(noise * spread[of_row])
        self.dropout = Dropout(config.dropout, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, time, *space, channel] to [batch, nt, *ns, features]."""
        self.check_input(x)
        features = []
        for dilation, rows, outputs in self._outputs(x):
            weights = _pooling(self.window[0], dilation)[None, :, None]
            above = jax.nn.relu(outputs[:, :, None] - self.biases[rows][None, None])
            share = jnp.where(above > 0, weights, 0).sum(axis=1)
            features += [share, (above * weights).sum(axis=1)]
        y = jnp.concatenate([of.reshape(len(of), -1) for of in features], axis=-1)
        grid = self.grid_shape(x.shape[1:-1])
        y = y.astype(self.config.dtype).reshape(len(x), *grid, self.out_features)
        return self.dropout(y)

    def fit(self, x: np.ndarray, *, seed: int) -> None:
        """Makes the biases those of examples [example, time, *space, channel].

        Those of a kernel at a dilation are quantiles of its output on one patch, drawn at random.
        """
        random, kernels = np.random.default_rng(seed), np.arange(_KERNELS)
        drawn = jnp.asarray(x[random.integers(0, len(x), _KERNELS)])
        patches = _KERNELS * math.prod(self.grid_shape(x.shape[1:-1]))
        which = random.integers(0, patches, (2 * len(self.counts), _KERNELS))

        found = _sorted_outputs(self, drawn, jnp.asarray(which))
        place = _quantiles(self.biases.shape[0]) * (self.window[0] - 1)
        biases = np.empty(place.shape, np.float32)
        for (_, rows), of in zip(self._rows(), jax.device_get(found), strict=True):
            low, share = np.divmod(place[rows], 1)
            below, above = (
                of[kernels, low.astype(int)],
                of[kernels, np.ceil(place[rows]).astype(int)],
            )
            biases[rows] = below + share * (above - below)
        self.biases[...] = jnp.asarray(biases)

    def _rows(self) -> Iterator[tuple[int, slice]]:
        """Each dilation with its rows of biases: those of the values, then of the differences."""
        start = 0
        for dilation, count in [*self.counts.items()] * 2:
            yield dilation, slice(start, start + count)
            start += count

    def _outputs(self, x: jax.Array) -> Iterator[tuple[int, slice, jax.Array]]:
        """What the kernels give at each dilation [patch, time, kernel], and what `_rows` says."""
        patches = cut_patches(x.astype(jnp.float32), self.spec, self.window)
        patches = patches.reshape(-1, self.window[0], self.channels.shape[1])
        steps = jnp.diff(patches, axis=1, prepend=patches[:, :1])
        for at, (dilation, rows) in enumerate(self._rows()):
            weights = jnp.asarray(_WEIGHTS[:, None], jnp.float32) * self.channels[at][None]
            spec = WindowSpec((_LENGTH,), stride=1, dilation=dilation, padding="SAME")
            yield (
                dilation,
                rows,
                embed_patches(steps if at >= len(self.counts) else patches, weights, spec),
            )


@dataclasses.dataclass(frozen=True)
class RandomKernelsConfig(BackboneConfig[RandomKernels]):
    """Settings of `RandomKernels`; a classifier on it is fitted in closed form, see `RidgeHead`.

    Attributes:
        spec: The windows that are pooled; a bare tuple means non-overlapping windows.
        biases: Number of biases of each kernel, spread over the dilations, for the values, and as
            many for their differences. There are 336 times as many features.
    """

    tiny_fields: ClassVar[Fields] = {"biases": 2}
    large_fields: ClassVar[Fields] = {"biases": 60}
    fixed: ClassVar[bool] = True
    spec: WindowSpec = OPEN
    biases: int = 30

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(sizes=("biases",))


@nnx.jit
def _sorted_outputs(model: RandomKernels, x: jax.Array, which: jax.Array) -> list[jax.Array]:
    """Of each kernel at each dilation the output on one of the patches, in order [kernel, time]."""
    found = zip(model._outputs(x), which, strict=True)
    return [jnp.sort(of[at, :, np.arange(_KERNELS)], axis=1) for (_, _, of), at in found]


def _counts(length: int, biases: int) -> dict[int, int]:
    """Number of biases of a kernel at each dilation that fits into a window, near ones first.

    >>> _counts(33, 8)
    {1: 4, 2: 2, 3: 1, 4: 1}
    """
    top = math.log2(max(length - 1, _LENGTH - 1) / (_LENGTH - 1))
    powers = np.logspace(0, top, min(_MOST_DILATIONS, biases), base=2).astype(int)
    dilations, share = np.unique(powers, return_counts=True)
    # Of a rounded sum the differences add up to all of it.
    ends = np.round(np.cumsum(share) * biases / share.sum()).astype(int)
    return dict(zip(dilations.tolist(), np.diff(ends, prepend=0).tolist(), strict=True))


def _quantiles(rows: int) -> np.ndarray:
    """Levels in (0, 1), spread evenly over the rows of each kernel [row, kernel]."""
    return spread_levels(rows * _KERNELS).reshape(_KERNELS, rows).T


def _pooling(length: int, dilation: int) -> np.ndarray:
    """The weight of each time in the mean of each kernel [time, kernel]: 0 beyond the inside."""
    margin, weights = _LENGTH // 2 * dilation, np.ones((length, _KERNELS), np.float32)
    if length > 2 * margin:
        weights[:margin, 1::2] = weights[length - margin :, 1::2] = 0
    return weights / weights.sum(axis=0)


def _drawn_channels(key: jax.Array, dilations: int, channels: int) -> jax.Array:
    """Which channels each kernel sees, 0 or 1 [dilation, channel, kernel]: few more often."""
    many, order = jax.random.split(key)
    most = math.log2(min(channels, _MOST_CHANNELS) + 1)
    count = jnp.floor(2 ** (most * jax.random.uniform(many, (dilations, 1, _KERNELS))))
    places = jax.random.uniform(order, (dilations, channels, _KERNELS)).argsort(axis=1)
    return (places.argsort(axis=1) < count).astype(jnp.float32)
