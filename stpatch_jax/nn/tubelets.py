"""Tubelet embedding: the windows of a field as tokens, and kernels taken over from 2-D networks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike

from stpatch_jax.errors import require
from stpatch_jax.nn.layers import DTypeName, is_size, known_window
from stpatch_jax.nn.sharding import UNANNOTATED, ShardConfig
from stpatch_jax.patches.extraction import extract_patches
from stpatch_jax.patches.windows import WindowSpec

Inflation = Literal["central_frame", "average_frame"]


def inflate_kernel(
    kernel: ArrayLike, time: int, *, method: Inflation = "central_frame"
) -> jax.Array:
    """Makes the kernel of a tubelet embedding from that of an image's patch embedding.

    "central_frame" puts the kernel at time step `time // 2` and zeros elsewhere, so that a tubelet
    starts as its middle frame; "average_frame" repeats it `time` times, divided by `time`, so that
    it starts as the mean of its frames. On a video that stands still both give the image's tokens.

    Args:
        kernel: [*space, in, out], for images [height, width, in, out].
        time: Length of the window along time, in time steps.
        method: "central_frame" or "average_frame".

    Returns:
        [time, *space, in, out] in the dtype of `kernel`, to be set as the kernel of a
        `TubeletEmbedding`.

    Raises:
        InputError: If `time` is not a positive integer or the method is not known.

    Examples:
        >>> inflate_kernel(jnp.full((1, 1, 1, 1), 6.0), 3).ravel().tolist()
        [0.0, 6.0, 0.0]
        >>> inflate_kernel(jnp.full((1, 1, 1, 1), 6.0), 3, method="average_frame").ravel().tolist()
        [2.0, 2.0, 2.0]

    References:
        Arnab et al. (2021), "ViViT: a video vision transformer", section 3.4.
    """
    kernel = jnp.asarray(kernel)
    require(is_size(time), f"inflate_kernel needs time >= 1, got {time!r}")
    require(
        method in get_args(Inflation),
        f'inflate_kernel needs method "central_frame" or "average_frame", got {method!r}',
    )
    require(
        kernel.ndim >= 3,
        f"inflate_kernel needs a kernel (*space, in, out), got shape {kernel.shape}; add the "
        "missing axes",
    )
    if method == "average_frame":
        return jnp.repeat(kernel[None] / time, time, axis=0)
    return jnp.zeros((time, *kernel.shape), kernel.dtype).at[time // 2].set(kernel)


class TubeletEmbedding(nnx.Module):
    """Embeds each window of a field as one token: `token = values @ kernel + bias`.

    Non-overlapping windows are cut by a reshape alone; overlap, dilation, padding and footprints
    go through `extract_patches`, with the same parameters. Weights start as LeCun's normal.

    Maps [batch, time, *space, channel] to [batch, nt, *ns, features] in `dtype`, where
    `(nt, *ns) = spec.grid_shape((time, *space))`.

    Args:
        spec: The windows that are cut; a bare tuple means non-overlapping windows.
        in_features: Number of input channels.
        features: Width of a token.
        shape: `(time, *space)` of the inputs to come; needed if a window entry is None.
        dtype: Name of the dtype that computes.
        param_dtype: Name of the dtype that stores.
        shard: How the parameters lie on a mesh.
        rngs: Stream `params`.

    Raises:
        InputError: If a window entry is None and `shape` is not given.

    References:
        Arnab et al. (2021), "ViViT: a video vision transformer", section 3.2.
    """

    def __init__(
        self,
        spec: WindowSpec | Sequence[int | None],
        in_features: int,
        features: int,
        *,
        shape: Sequence[int] | None = None,
        dtype: DTypeName = "float32",
        param_dtype: DTypeName = "float32",
        shard: ShardConfig = UNANNOTATED,
        rngs: nnx.Rngs,
    ):
        self.spec = WindowSpec.of(spec)
        self.window = known_window("TubeletEmbedding", self.spec, shape)
        self.dtype = dtype
        self.values = math.prod(self.window) * in_features
        init = nnx.initializers.lecun_normal()
        matrix = init(rngs.params(), (self.values, features), jnp.dtype(param_dtype))
        kernel = matrix.reshape(*self.window, in_features, features)
        self.kernel = nnx.Param(kernel, **shard.kernel(extents=len(self.window)))
        self.bias = nnx.Param(jnp.zeros(features, jnp.dtype(param_dtype)), **shard.bias())

    def patches(self, x: jax.Array) -> jax.Array:
        """Cuts [batch, time, *space, channel] to [batch, nt, *ns, prod(window) * channel].

        Raises:
            InputError: If a window does not fit, or is not the one that the kernel was made for.
        """
        patches = extract_patches(x.astype(self.dtype), self.spec)
        lead, window = patches.shape[: x.ndim - 1], patches.shape[x.ndim - 1 : -1]
        require(
            window == self.window,
            f"TubeletEmbedding was built for windows of {self.window}, got {window} from an input "
            f"of shape {x.shape}; an axis whose window is None must be as long as in the shape "
            "given to build",
        )
        return patches.reshape(*lead, self.values)

    def project(self, values: jax.Array) -> jax.Array:
        """Maps what is inside windows, [..., prod(window) * channel], to tokens [..., features]."""
        kernel = self.kernel[...].astype(self.dtype)
        y = values.astype(self.dtype) @ kernel.reshape(self.values, -1)
        bias = self.bias[...].astype(self.dtype)
        return y + bias.reshape((1,) * (y.ndim - 1) + bias.shape)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, time, *space, channel] to [batch, nt, *ns, features]."""
        return self.project(self.patches(x))
