"""What the backbones share: their contract, the dtype policy, convolution and pooling.

Every backbone maps `(batch, time, *space, channel)` to `(batch, time', *space', features)`.
`dtype` computes and `param_dtype` stores; what adds up over many terms (recurrent memory, folds,
losses) is kept in float32.
"""

import abc
import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from stpatch_jax.errors import InputError, require
from stpatch_jax.nn.sharding import UNANNOTATED, ShardConfig
from stpatch_jax.patches.extraction import extract_patches
from stpatch_jax.patches.windows import WindowSpec

DTypeName = Literal["float32", "bfloat16", "float16"]
_DTYPES = ("float32", "bfloat16", "float16")
# Up to so many, a 2-D convolution and its gradient cost more on CPU than a 1-D one of three times
# as many channels, copies included: by 1.3 to 1.7 for 3 to 24 channels (2 cores, jax 0.10.2).
_FEW_CHANNELS = 32
# Up to so many, one input channel and at least two axes, shifted products cost less on CPU than a
# convolution: forward by 1.3 to 8, with the kernel's gradient by 1.4 to 5, and compile no longer
# (1 to 64 output channels, 1 core, jax 0.10.2). Three input channels gain nothing.
_MOST_TAPS = 27


def is_size(value: object) -> bool:
    """Whether a value is a positive integer, as every width, depth and length must be."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackboneConfig(abc.ABC):
    """Fields and contract common to all backbone configs, which are frozen and JSON-able.

    Attributes:
        dropout: Probability in [0, 1) that a feature is dropped in training. Evaluate through
            `nnx.view(model, deterministic=True)`.
        dtype: Name of the dtype that computes, and of the output.
        param_dtype: Name of the dtype that stores the parameters.
        shard: How the parameters lie on a mesh; by default nothing is said of it.
    """

    dropout: float = 0.0
    dtype: DTypeName = "float32"
    param_dtype: DTypeName = "float32"
    shard: ShardConfig = UNANNOTATED

    def __post_init__(self) -> None:
        name = type(self).__name__
        require(
            0 <= self.dropout < 1,
            f"{name} needs 0 <= dropout < 1, got {self.dropout}; use 0 for no dropout",
        )
        for field in ("dtype", "param_dtype"):
            require(
                getattr(self, field) in _DTYPES,
                f"{name} needs {field} to be one of {', '.join(_DTYPES)}, "
                f"got {getattr(self, field)!r}; give the name as a string",
            )

    @property
    def dtypes(self) -> dict[str, Any]:
        """The two dtype fields, as keyword arguments of a layer."""
        return {"dtype": self.dtype, "param_dtype": self.param_dtype}

    @abc.abstractmethod
    def build(
        self, in_features: int, *, shape: Sequence[int] | None = None, rngs: nnx.Rngs
    ) -> "Backbone":
        """Builds the module.

        Args:
            in_features: Number of input channels.
            shape: `(time, *space)` of the inputs to come. With it, inputs too short for the network
                are refused here and not at the first call; needed if a window entry is None.
            rngs: Streams `params` and `dropout` (or a default stream).

        Raises:
            InputError: If `shape` does not fit the config.
        """


class Backbone(nnx.Module):
    """Base of all backbones: a field in, a feature map out.

    Attributes:
        spec: Which window of the input each cell of the feature map stands for. A dense head folds
            its output back to the grid by it.
        in_features: Number of input channels.
        out_features: Number of channels of the feature map.
    """

    def __init__(
        self,
        spec: WindowSpec,
        in_features: int,
        out_features: int,
        *,
        shape: Sequence[int] | None = None,
    ):
        require(
            is_size(in_features),
            f"{type(self).__name__} needs in_features >= 1, got {in_features!r}; "
            "give the number of input channels",
        )
        self.spec = spec
        self.in_features = in_features
        self.out_features = out_features
        if shape is not None:
            self.grid_shape(shape)

    def grid_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Returns `(time', *space')` of the feature map of an input of shape `(time, *space)`.

        Raises:
            InputError: If the input is too short for the network or has another number of axes.
        """
        try:
            return self.spec.grid_shape(tuple(shape))
        except InputError as error:
            raise InputError(f"{type(self).__name__}: {error}") from error

    def check_input(self, x: jax.Array) -> None:
        """Refuses an input whose axes or channels the module was not built for.

        Raises:
            InputError: Naming the module, what it needs and what came.
        """
        name, axes = type(self).__name__, self.spec.rank
        require(
            x.ndim == axes + 2,
            f"{name} needs an input (batch, time, {axes - 1} space axes, channel) of "
            f"{axes + 2} axes, got shape {x.shape}; reshape the input or change the window's rank",
        )
        require(
            x.shape[-1] == self.in_features,
            f"{name} needs {self.in_features} input channels, got {x.shape[-1]} in shape "
            f"{x.shape}; build it with in_features={x.shape[-1]}",
        )
        self.grid_shape(x.shape[1:-1])

    def cut(self, x: jax.Array, window: Sequence[int]) -> jax.Array:
        """Checks an input and cuts its patches.

        Args:
            x: [batch, time, *space, channel].
            window: The window that the module was built for, see `known_window`.

        Returns:
            [batch, nt, *ns, *window, channel].

        Raises:
            InputError: If the input does not fit, or an axis whose window is None has another
                length.
        """
        self.check_input(x)
        patches = extract_patches(x, self.spec)
        cells = patches.shape[x.ndim - 1 : -1]
        require(
            cells == tuple(window),
            f"{type(self).__name__} was built for windows of {tuple(window)}, got {cells} from an "
            f"input of shape {x.shape}; an axis whose window is None must be as long as in the "
            "shape given to build",
        )
        return patches


def known_window(name: str, spec: WindowSpec, shape: Sequence[int] | None) -> tuple[int, ...]:
    """Returns the window with each None replaced by the length of its axis.

    Raises:
        InputError: If there is a None and no `shape` `(time, *space)`; `name` is the module's.
    """
    if shape is not None:
        return spec.window_shape(shape)
    known = tuple(extent for extent in spec.window if extent is not None)
    require(
        len(known) == spec.rank,
        f"{name} needs the shape (time, *space) of its inputs to know the window {spec.window}, "
        "in which None takes the whole axis; pass shape= to build",
    )
    return known


def convolve(x: jax.Array, kernel: jax.Array, *, causal: bool = False) -> jax.Array:
    """Convolves over the axes between batch and channel, stride 1, output as long as the input.

    `y[i] = sum_k x[i + k - extent // 2] kernel[k]`, zeros outside; with `causal`, along the first
    of the axes (time) `y[i] = sum_k x[i + k - extent + 1] kernel[k]`, which sees no later input.

    Axes along which the kernel has extent 1 are merged with the batch or each other. Further axes
    become channels that hold shifted inputs until three are left; on CPU until two are, since XLA's
    3-D convolution reaches a fraction of the speed of its 2-D one there, or one, if that makes few
    channels: a convolution of few channels costs a multiple of the same sum over more. One float32
    channel over two axes or more is not convolved on CPU at all but shifted, multiplied and added,
    for up to 27 taps; derivatives are convolutions all the same. For 3x3x3 cells and 64^3 that took
    a fifth of the time by itself, but inside a compiled loop, as that of `sliding_window_apply`, a
    network of two layers, the first of this kind, took 1.3 times as long as by convolutions.

    Args:
        x: [batch, *axes, in].
        kernel: [*extents, in, out], one extent per axis, odd (any extent along a causal time).
        causal: Whether the first axis looks back only.

    Returns:
        [batch, *axes, out] in the dtype of `x`.

    >>> x = jnp.array([1.0, 2.0, 4.0]).reshape(1, 3, 1)
    >>> convolve(x, jnp.ones((2, 1, 1)), causal=True).ravel().tolist()
    [1.0, 3.0, 6.0]
    """
    extents = kernel.shape[:-2]
    padding = [(k // 2, (k - 1) // 2) for k in extents]
    if causal:
        padding[0] = (extents[0] - 1, 0)
    on_cpu = jax.default_backend() == "cpu"
    y = _convolve_merged(x, kernel.astype(x.dtype), padding, on_cpu=on_cpu)
    return y.reshape(*x.shape[:-1], kernel.shape[-1])


def _convolve_merged(
    x: jax.Array, kernel: jax.Array, padding: list[tuple[int, int]], *, on_cpu: bool
) -> jax.Array:
    """Convolves up to the shape of the result: the axes that came in may be merged in it."""
    extents, channels = kernel.shape[:-2], kernel.shape[-2:]
    lengths: list[int] = []
    kept: list[int] = []
    for axis, extent in enumerate(extents):
        if extent > 1:
            lengths.append(x.shape[axis + 1])
            kept.append(axis)
        elif kept and extents[axis - 1] == 1:
            lengths[-1] *= x.shape[axis + 1]
        elif kept:
            lengths.append(x.shape[axis + 1])
            kept.append(axis)
    x = x.reshape(-1, *lengths, channels[0])
    kernel = kernel.reshape(*(extents[axis] for axis in kept), *channels)
    padding = [padding[axis] for axis in kept]
    if not kept:
        return x @ kernel
    taps, single = math.prod(kernel.shape[:-2]), channels[0] == 1 and x.dtype == jnp.float32
    if on_cpu and single and len(kept) > 1 and taps <= _MOST_TAPS:
        return _shifted_products(x, kernel, tuple(padding))
    return _convolve_kept(x, kernel, padding, on_cpu=on_cpu)


def _convolve_kept(
    x: jax.Array, kernel: jax.Array, padding: Sequence[tuple[int, int]], *, on_cpu: bool
) -> jax.Array:
    """Convolves by the library, with fewer axes where that is faster."""
    axes = len(padding)
    few = on_cpu and axes > 1 and kernel.shape[0] * kernel.shape[-2] <= _FEW_CHANNELS
    if few or axes > (2 if on_cpu else 3):
        x, kernel = _taps_to_channels(x, kernel, padding[0])
        return _convolve_merged(x, kernel, list(padding[1:]), on_cpu=on_cpu)
    letters = "DHW"[-axes:]
    layout = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
    return jax.lax.conv_general_dilated(x, kernel, (1,) * axes, padding, dimension_numbers=layout)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _shifted_products(
    x: jax.Array, kernel: jax.Array, padding: tuple[tuple[int, int], ...]
) -> jax.Array:
    """Convolves one channel: the sum over all taps of the shifted input times its weights."""
    padded = jnp.pad(x, [(0, 0), *padding, (0, 0)])
    y = jnp.zeros((*x.shape[:-1], kernel.shape[-1]), x.dtype)
    for tap in itertools.product(*map(range, kernel.shape[:-2])):
        start = (0, *tap, 0)
        stop = [first + length for first, length in zip(start, x.shape, strict=True)]
        shifted = jax.lax.slice(padded, start, stop)
        y += shifted * kernel[tap].reshape((1,) * (x.ndim - 1) + (-1,))
    return y


@_shifted_products.defjvp
def _(padding: Any, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (x, kernel), (dx, dkernel) = primals, tangents
    # Those of the products would pass over the input once for each tap.
    tangent = _convolve_kept(dx, kernel, padding, on_cpu=True)
    tangent += _convolve_kept(x, dkernel, padding, on_cpu=True)
    y = _shifted_products(x, kernel, padding)
    return y, tangent.reshape(y.shape)


def _taps_to_channels(
    x: jax.Array, kernel: jax.Array, padding: tuple[int, int]
) -> tuple[jax.Array, jax.Array]:
    """Stacks the inputs of all taps along the first axis as channels and drops that axis."""
    length, taps = x.shape[1], kernel.shape[0]
    padded = jnp.pad(x, [(0, 0), padding] + [(0, 0)] * (x.ndim - 2))
    shifted = [jax.lax.slice_in_dim(padded, k, k + length, axis=1) for k in range(taps)]
    x = jnp.concatenate(shifted, axis=-1).reshape(-1, *x.shape[2:-1], taps * x.shape[-1])
    kernel = jnp.moveaxis(kernel, 0, -3)
    return x, kernel.reshape(*kernel.shape[:-3], -1, kernel.shape[-1])


class Convolution(nnx.Module):
    """Convolution with bias over the axes between batch and channel, by `convolve`.

    Weights start as He et al. (2015), "Delving deep into rectifiers", for the ReLU that follows.
    """

    def __init__(
        self,
        extents: Sequence[int],
        in_features: int,
        out_features: int,
        *,
        causal: bool = False,
        dtype: DTypeName = "float32",
        param_dtype: DTypeName = "float32",
        shard: ShardConfig = UNANNOTATED,
        rngs: nnx.Rngs,
    ):
        # Drawn as a matrix, which has the same fan-in: drawing more axes compiles 3 times longer.
        fan_in = math.prod(extents) * in_features
        init = nnx.initializers.he_normal()
        matrix = init(rngs.params(), (fan_in, out_features), jnp.dtype(param_dtype))
        self.causal = causal
        self.dtype = dtype
        kernel = matrix.reshape(*extents, in_features, out_features)
        self.kernel = nnx.Param(kernel, **shard.kernel(extents=len(extents)))
        self.bias = nnx.Param(jnp.zeros(out_features, jnp.dtype(param_dtype)), **shard.bias())

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, *axes, in] to [batch, *axes, out] in `dtype`."""
        y = convolve(x.astype(self.dtype), self.kernel[...], causal=self.causal)
        bias = self.bias[...].astype(self.dtype)
        return y + bias.reshape((1,) * (y.ndim - 1) + bias.shape)


def pool(x: jax.Array, axes: Sequence[int], *, reduce: Literal["max", "average"]) -> jax.Array:
    """Halves the given axes by pooling pairs of neighbours; an axis of size 1 stays as it is.

    The last cell of an odd axis is paired with itself, so no cell is dropped and size n becomes
    `ceil(n / 2)`.

    Args:
        x: Any shape.
        axes: Axes to halve, non-negative.
        reduce: "max", or "average".

    Returns:
        The pooled array, in the dtype of `x`.

    >>> pool(jnp.array([1.0, 5.0, 2.0]), (0,), reduce="average").tolist()
    [3.0, 2.0]
    """
    axes = [axis for axis in sorted(axes) if x.shape[axis] > 1]
    for axis in axes:
        if x.shape[axis] % 2:
            last = jax.lax.slice_in_dim(x, x.shape[axis] - 1, x.shape[axis], axis=axis)
            x = jnp.concatenate([x, last], axis=axis)
    # Pairs by reshape: XLA's windowed maximum has a slow gradient on CPU.
    paired = [(n // 2, 2) if axis in axes else (n,) for axis, n in enumerate(x.shape)]
    pairs = tuple(axis + position + 1 for position, axis in enumerate(axes))
    x = x.reshape([n for group in paired for n in group])
    return x.max(pairs) if reduce == "max" else x.mean(pairs)
