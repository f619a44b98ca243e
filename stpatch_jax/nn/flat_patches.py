"""Patches as they are: a backbone without weights, under whose head a model is linear."""

from __future__ import annotations

import dataclasses
import math

import jax
from flax import nnx

from stpatch_jax.nn.layers import Backbone, BackboneConfig, Dropout
from stpatch_jax.nn.windows import Shape, cut_patches, known_window
from stpatch_jax.patches.windows import OPEN, WindowSpec


class FlatPatches(Backbone):
    """Gives each patch as one feature vector: all its cells and channels, in their order.

    With a dense head the model is a linear map of patches. With a window over the whole context of
    a series it is the linear forecaster that every deeper network should be compared with.

    Maps [batch, time, *space, channel] to [batch, nt, *ns, cells * channel] in `dtype`, where
    `(nt, *ns) = spec.grid_shape((time, *space))` and `cells` is the size of a window.

    References:
        Zeng et al., "Are transformers effective for time series forecasting?", AAAI 2023.
    """

    def __init__(
        self, config: FlatPatchesConfig, in_features: int, *, shape: Shape, rngs: nnx.Rngs
    ):
        self.window = known_window(config.spec, shape)
        features = math.prod(self.window) * in_features
        super().__init__(config.spec, in_features, features, shape=shape)
        self.config = config
        self.dropout = Dropout(config.dropout, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, time, *space, channel] to [batch, nt, *ns, cells * channel]."""
        self.check_input(x)
        x = x.astype(self.config.dtype)
        return self.dropout(cut_patches(x, self.spec, self.window, flat=True))


@dataclasses.dataclass(frozen=True)
class FlatPatchesConfig(BackboneConfig[FlatPatches]):
    """Settings of `FlatPatches`, which has no weights of its own: they are its head's.

    Attributes:
        spec: The windows; a bare tuple means non-overlapping windows.
    """

    spec: WindowSpec = OPEN
