"""What the backbones share: their contract, the dtype policy, convolution and pooling.

Every backbone maps `(batch, time, *space, channel)` to `(batch, time', *space', features)`.
`dtype` computes and `param_dtype` stores; what adds up over many terms (recurrent memory, folds,
losses) is kept in float32.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Generic, Self, TypeVar, get_args, get_origin

import jax
import jax.numpy as jnp
from flax import nnx

from stpatch_jax.errors import check_choice, check_range, check_size, require
from stpatch_jax.nn.options import FLOAT32, LayerOptions
from stpatch_jax.nn.pooling import Pooling, pool
from stpatch_jax.nn.windows import (
    Shape,
    chosen_windows,
    cut_patches,
    embed_patches,
    known_window,
    told,
)
from stpatch_jax.patches.windows import OPEN, WindowSpec

Fields = Mapping[str, Any]
Windows = WindowSpec | Sequence[int | None] | int
Padding = tuple[tuple[int, int], ...]
Network = TypeVar("Network", bound="Backbone", covariant=True)
# Up to so many, a 2-D convolution and its gradient cost more on CPU than a 1-D one of three times
# as many channels, copies included: by 1.3 to 1.7 for 3 to 24 channels (2 cores, jax 0.10.2).
_FEW_CHANNELS = 32
# Up to so many, one input channel and at least two axes, shifted products cost less on CPU than a
# convolution: forward by 1.3 to 8, with the kernel's gradient by 1.4 to 5, and compile no longer
# (1 to 64 output channels, 1 core, jax 0.10.2). Three input channels gain nothing.
_MOST_TAPS = 27


def check_sizes(name: str, values: Sequence[int], *, least: int = 1) -> None:
    """Refuses what is not a row of positive whole numbers, at least `least` of them.

    >>> check_sizes("features", (64, 0))
    Traceback (most recent call last):
    stpatch_jax.errors.InputError: features[1] must be a whole number >= 1, got 0; use such a number
    """
    require(
        len(values) >= least,
        f"{name} must have at least {least} entries, got {values}; give for example (64,)",
    )
    for at, value in enumerate(values):
        check_size(f"{name}[{at}]", value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackboneConfig(LayerOptions, Generic[Network]):
    """Settings of a backbone: frozen, hashable, to JSON and back; `build` makes the network.

    A backbone of your own is a `Backbone` and a config that names it in its base class. From then
    on heads, tasks, runs and the tables of costs take it as they take those of this package.

    Attributes:
        dropout: Probability in [0, 1) that a feature is dropped in training. Evaluate through
            `nnx.view(model, deterministic=True)`.

    Examples:
        >>> from stpatch_jax import extract_patches
        >>> class Mixing(Backbone):
        ...     def __init__(self, config, in_features, *, shape, rngs):
        ...         super().__init__(config.spec, in_features, config.features, shape=shape)
        ...         cells = math.prod(config.spec.window)
        ...         self.mix = config.linear(cells * in_features, config.features, rngs=rngs)
        ...
        ...     def __call__(self, x):
        ...         self.check_input(x)
        ...         return jax.nn.relu(self.mix(extract_patches(x, self.spec, flat=True)))
        >>> @dataclasses.dataclass(frozen=True)
        ... class MixingConfig(BackboneConfig[Mixing]):
        ...     spec: WindowSpec
        ...     features: int = 8
        >>> model = MixingConfig(spec=(2, 4)).build(3, rngs=nnx.Rngs(0))
        >>> model(jnp.zeros((1, 6, 8, 3))).shape
        (1, 3, 2, 8)
    """

    module: ClassVar[Callable[..., Any]]
    # What `tiny`, `base` and `large` set otherwise than the defaults.
    tiny_fields: ClassVar[Fields] = {}
    base_fields: ClassVar[Fields] = {}
    large_fields: ClassVar[Fields] = {}
    # Sizes that were published, windows included, by the names they have there.
    published: ClassVar[Mapping[str, Fields]] = {}
    # Whether a cell of the feature map knows of earlier ones; if not, its window must.
    looks_along_time: ClassVar[bool] = False
    # Whether nothing in it is learnt by steps, but fitted at once by its `fit`.
    fixed: ClassVar[bool] = False
    dropout: float = 0.0

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for base in getattr(cls, "__orig_bases__", ()):
            if get_origin(base) is BackboneConfig:
                (cls.module,) = get_args(base)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self.name_of("dropout"), self.dropout, 0, 1, bounds="[)")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "spec":
                object.__setattr__(self, "spec", WindowSpec.of(value))
            elif field.name == "space_axes":
                check_choice(self.name_of("space_axes"), value, (0, 1, 2, 3))
            elif isinstance(value, list):
                object.__setattr__(self, field.name, tuple(value))

    @property
    def common(self) -> dict[str, Any]:
        """The fields that all backbones have, as keyword arguments of another's config."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(BackboneConfig)}

    def check(self, *, sizes: Sequence[str] = (), odd: Sequence[str] = ()) -> None:
        """Refuses named fields that are no positive whole number, or row of them, or not odd.

        Raises:
            InputError: Naming the field.
        """
        for field in sizes:
            value = getattr(self, field)
            check = check_sizes if isinstance(value, tuple) else check_size
            check(self.name_of(field), value)
        for field in odd:
            name, value = self.name_of(field), getattr(self, field)
            check_size(name, value)
            require(
                value % 2 == 1,
                f"{name} must be odd, got {value}; use {value + 1}, which has a centre",
            )

    @classmethod
    def for_windows(cls, spec: Windows, **fields: Any) -> Self:
        """Settings for windows, of which a network that cuts none takes the number of space axes.

        That number may stand for the windows too, as for those of one cell.
        """
        spec = WindowSpec((1,) * (spec + 1)) if isinstance(spec, int) else WindowSpec.of(spec)
        places = {"spec": spec, "space_axes": spec.rank - 1}
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: places[name] for name in places.keys() & names}, **fields)

    @classmethod
    def tiny(cls, spec: Windows) -> Self:
        """Small settings for tests and first trials; windows as in `for_windows`."""
        return cls.for_windows(spec, **cls.tiny_fields)

    @classmethod
    def base(cls, spec: Windows) -> Self:
        """Settings of common size; windows as in `for_windows`."""
        return cls.for_windows(spec, **cls.base_fields)

    @classmethod
    def large(cls, spec: Windows) -> Self:
        """Settings for an accelerator, as published where they are; windows as in `for_windows`."""
        return cls.for_windows(spec, **cls.large_fields)

    def settled(self, shape: Sequence[int], channels: int) -> tuple[Self, dict[str, str]]:
        """The settings with nothing left to the data, and how each that was left was chosen.

        Windows that are open are those of `chosen_windows`.

        Args:
            shape: `(time, *space)` of an example.
            channels: Its input channels.
        """
        if vars(self).get("spec") != OPEN:
            return self, {}
        spec = chosen_windows(shape, whole_time=not self.looks_along_time)
        return dataclasses.replace(self, spec=spec), {"model.spec.window": told(spec, shape)}

    def build(self, in_features: int, *, shape: Shape = None, rngs: nnx.Rngs) -> Network:
        """Builds the network, as `Network(config, in_features, shape=shape, rngs=rngs)`.

        Args:
            in_features: Number of input channels.
            shape: `(time, *space)` of the inputs to come. With it, inputs too short for the network
                are refused here and not at the first call; needed if a window entry is None.
            rngs: Streams `params` and `dropout` (or a default stream).

        Raises:
            InputError: If `shape` does not fit the config, or is needed and not given; or the
                network is no backbone.
        """
        name = type(self).__name__
        require(
            hasattr(type(self), "module"),
            f"{name} must name its network in its base class, got none; inherit "
            "BackboneConfig[YourBackbone]",
        )
        module = self.module(self, in_features, shape=shape, rngs=rngs)
        missing = [name for name in ("spec", "out_features") if not hasattr(module, name)]
        require(
            not missing,
            f"the network of {name} must be a Backbone, got {type(module).__name__} without "
            f"{', '.join(missing)}; inherit Backbone and call its __init__",
        )
        return module


class Backbone(nnx.Module):
    """Base of all backbones: a field in, a feature map out; built by `BackboneConfig.build`.

    Attributes:
        spec: Which window of the input each cell of the feature map stands for. A dense head folds
            its output back to the grid by it.
        in_features: Number of input channels.
        out_features: Number of channels of the feature map.

    Raises:
        InputError: If `in_features` is no positive whole number or the windows do not fit `shape`.
    """

    def __init__(
        self, spec: WindowSpec, in_features: int, out_features: int, *, shape: Shape = None
    ):
        check_size(f"in_features of {type(self).__name__}", in_features)
        self.spec = spec
        self.in_features = in_features
        self.out_features = out_features
        if shape is not None:
            self.grid_shape(shape)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, time, *space, channel] to [batch, *grid, out_features] in `dtype`.

        `grid` is `grid_shape((time, *space))`.
        """
        raise NotImplementedError

    def grid_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Returns `(time', *space')` of the feature map of an input of shape `(time, *space)`.

        Raises:
            InputError: If the input is too short for the network or has another number of axes.
        """
        return self.spec.grid_shape(tuple(shape))

    def check_input(self, x: jax.Array) -> None:
        """Refuses an input whose axes or channels the module was not built for.

        Raises:
            InputError: Naming the module, what it needs and what came.
        """
        name, axes = type(self).__name__, self.spec.rank
        require(
            x.ndim == axes + 2,
            f"the input of {name} must be (batch, time, {axes - 1} space axes, channel), got shape "
            f"{x.shape}; reshape it or change the window's rank",
        )
        require(
            x.shape[-1] == self.in_features,
            f"the input of {name} must have {self.in_features} channels, got {x.shape[-1]} in "
            f"shape {x.shape}; build it with in_features={x.shape[-1]}",
        )
        self.grid_shape(x.shape[1:-1])


def add_bias(y: jax.Array, bias: nnx.Param[jax.Array]) -> jax.Array:
    """Adds a bias [features] to [..., features], in the dtype of the latter."""
    values = bias[...].astype(y.dtype)
    # Of the same rank, since promotion of ranks may be set to raise.
    return y + values.reshape((1,) * (y.ndim - 1) + values.shape)


def convolve(x: jax.Array, kernel: jax.Array, *, causal: bool = False) -> jax.Array:
    """Convolves over the axes between batch and channel, stride 1, output as long as the input.

    `y[i] = sum_k x[i + k - extent // 2] kernel[k]`, zeros outside; with `causal`, along the first
    of the axes (time) `y[i] = sum_k x[i + k - extent + 1] kernel[k]`, which sees no later input.

    Axes along which the kernel has extent 1 are merged with the batch or each other. Further axes
    become channels until three are left; on CPU until two are, since XLA's 3-D convolution reaches
    a fraction of the speed of its 2-D one there, or one, if that makes few channels: a convolution
    of few channels costs a multiple of the same sum over more. The channels hold shifted inputs or,
    where fewer channels go out than come in, outputs that are shifted and added: half the time and
    less from 64 to 8, and what computes the input is not computed anew for every copy, which inside
    a compiled loop costs more than the convolution. One float32 channel over two axes or more is
    not convolved on CPU at all but shifted, multiplied and added, for up to 27 taps; derivatives
    are convolutions all the same.

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
    merged, kernel, padding = _merge_axes(x, kernel.astype(x.dtype), padding)
    axes, few = len(padding), math.prod(kernel.shape[:1] + kernel.shape[-2:-1]) <= _FEW_CHANNELS

    def on(merged: jax.Array, kernel: jax.Array, *, cpu: bool) -> jax.Array:
        y = _convolve_merged(merged, kernel, padding, on_cpu=cpu)
        return y.reshape(*x.shape[:-1], kernel.shape[-1])

    on_cpu, elsewhere = (functools.partial(on, cpu=cpu) for cpu in (True, False))
    if axes > 2 or (axes == 2 and few):
        return jax.lax.platform_dependent(merged, kernel, cpu=on_cpu, default=elsewhere)
    return elsewhere(merged, kernel)


def _merge_axes(
    x: jax.Array, kernel: jax.Array, padding: Sequence[tuple[int, int]]
) -> tuple[jax.Array, jax.Array, Padding]:
    """Merges axes along which the kernel has extent 1 with the batch or the one before."""
    extents, channels = kernel.shape[:-2], kernel.shape[-2:]
    # Leading axes of extent 1 join the batch, further ones the axis of extent 1 before them.
    lengths: list[int] = []
    axes: list[int] = []
    for axis, extent in enumerate(extents):
        if extent > 1 or (axes and extents[axis - 1] > 1):
            lengths.append(x.shape[axis + 1])
            axes.append(axis)
        elif axes:
            lengths[-1] *= x.shape[axis + 1]
    x = x.reshape(-1, *lengths, channels[0])
    kernel = kernel.reshape(*(extents[axis] for axis in axes), *channels)
    return x, kernel, tuple(padding[axis] for axis in axes)


def _convolve_merged(
    x: jax.Array, kernel: jax.Array, padding: Sequence[tuple[int, int]], *, on_cpu: bool
) -> jax.Array:
    """Convolves in the form of a platform, up to the shape: axes may be merged in the result."""
    x, kernel, padding = _merge_axes(x, kernel, padding)
    if not padding:
        return x @ kernel
    single = kernel.shape[-2] == 1 and x.dtype == jnp.float32 and len(padding) > 1
    if on_cpu and single and math.prod(kernel.shape[:-2]) <= _MOST_TAPS:
        return _shifted_products(x, kernel, padding)
    return _convolve_by_library(x, kernel, padding, on_cpu=on_cpu)


def _convolve_by_library(
    x: jax.Array, kernel: jax.Array, padding: Padding, *, on_cpu: bool
) -> jax.Array:
    """Convolves by the library, with fewer axes where that is faster."""
    axes, (taps, (channels, features)) = len(padding), (kernel.shape[0], kernel.shape[-2:])
    # One axis less at a time: what is merged away comes back to `_convolve_merged`.
    few = on_cpu and axes > 1 and taps * channels <= _FEW_CHANNELS
    if few or axes > (2 if on_cpu else 3):
        # Sums of shorter floats would be rounded once for each tap.
        if features >= channels or x.dtype.itemsize < 4:
            x, kernel = _taps_to_channels(x, kernel, padding[0])
            return _convolve_merged(x, kernel, padding[1:], on_cpu=on_cpu)
        taps_last = jnp.moveaxis(kernel, 0, -2).reshape(*kernel.shape[1:-1], taps * features)
        slices = x.reshape(-1, *x.shape[2:])
        y = _convolve_merged(slices, taps_last, padding[1:], on_cpu=on_cpu)
        return _added_taps(y.reshape(*x.shape[:-1], taps, features), padding[0])
    letters = "DHW"[-axes:]
    layout = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
    return jax.lax.conv_general_dilated(x, kernel, (1,) * axes, padding, dimension_numbers=layout)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _shifted_products(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """Convolves one channel: the sum over all taps of the shifted input times its weights."""
    padded = jnp.pad(x, [(0, 0), *padding, (0, 0)])
    taps = list(itertools.product(*map(range, kernel.shape[:-2])))
    # Few and plain operations: a network may be traced at every call.
    weights = kernel.reshape(len(taps), *(1,) * (x.ndim - 2), kernel.shape[-1])
    y = jnp.zeros((*x.shape[:-1], kernel.shape[-1]), x.dtype)
    for tap, weight in zip(taps, jax.lax.split(weights, (1,) * len(taps)), strict=True):
        start = (0, *tap, 0)
        stop = [first + length for first, length in zip(start, x.shape, strict=True)]
        y += jax.lax.slice(padded, start, stop) * weight
    return y


@_shifted_products.defjvp
def _(padding: Any, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (x, kernel), (dx, dkernel) = primals, tangents
    # Those of the products would pass over the input once for each tap.
    tangent = _convolve_by_library(dx, kernel, padding, on_cpu=True)
    tangent += _convolve_by_library(x, dkernel, padding, on_cpu=True)
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


def _added_taps(y: jax.Array, padding: tuple[int, int]) -> jax.Array:
    """Adds along the first axis what each cell of [batch, *axes, taps, out] gives to others."""
    length, taps = y.shape[1], y.shape[-2]
    padded = jnp.pad(y, [(0, 0), padding] + [(0, 0)] * (y.ndim - 2))
    terms = [
        jax.lax.index_in_dim(
            jax.lax.slice_in_dim(padded, k, k + length, axis=1), k, axis=-2, keepdims=False
        )
        for k in range(taps)
    ]
    return functools.reduce(jnp.add, terms)


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
        options: LayerOptions = FLOAT32,
        rngs: nnx.Rngs,
    ):
        # Drawn as a matrix, which has the same fan-in: drawing more axes compiles 3 times longer.
        shape = (math.prod(extents) * in_features, out_features)
        matrix = nnx.initializers.he_normal()(rngs.params(), shape, jnp.dtype(options.param_dtype))
        self.causal = causal
        self.dtype = options.dtype
        self.kernel = options.kernel(matrix.reshape(*extents, in_features, out_features))
        self.bias = options.bias(out_features)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, *axes, in] to [batch, *axes, out] in `dtype`."""
        return add_bias(self._products(x), self.bias)

    def pooled(self, x: jax.Array, axes: Sequence[int], *, reduce: Pooling) -> jax.Array:
        """What `pool` makes of the ReLU of the result; `axes` are those of `x`."""
        y = self._products(x)
        if reduce == "average":
            return pool(jax.nn.relu(add_bias(y, self.bias)), axes, reduce=reduce)
        # Bias and ReLU keep the order of values: of the maxima they cost less.
        return jax.nn.relu(add_bias(pool(y, axes, reduce=reduce), self.bias))

    def _products(self, x: jax.Array) -> jax.Array:
        return convolve(x.astype(self.dtype), self.kernel[...], causal=self.causal)


class Dropout(nnx.Dropout):
    """`nnx.Dropout` to the bit, but on a CPU compiled in a tenth of the time.

    XLA unrolls the drawing of random bits along every axis: over four axes they are the largest
    kernel of a small network. Here they are drawn along one and reshaped, a copy on other chips.
    """

    rngs: nnx.RngStream

    def __call__(self, x: jax.Array) -> jax.Array:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Zeroes a share `rate` of the values and divides the others by `1 - rate`, in training."""
        if self.deterministic or not self.rate:
            return x
        kept = 1 - self.rate

        def mask(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
            return jax.random.bernoulli(key, kept, shape).reshape(x.shape)

        drawn = jax.lax.platform_dependent(
            self.rngs(),
            cpu=functools.partial(mask, shape=(x.size,)),
            default=functools.partial(mask, shape=x.shape),
        )
        return jnp.where(drawn, x / kept, jnp.zeros_like(x))


class TubeletEmbedding(nnx.Module):
    """Embeds each window of a field as one token: `token = values @ kernel + bias`.

    Non-overlapping windows are cut by a reshape alone; overlap, dilation, padding and footprints
    go through `extract_patches`, or on TPUs a convolution, with the same parameters. Weights start
    as LeCun's normal.

    Maps [batch, time, *space, channel] to [batch, nt, *ns, features] in `dtype`, where
    `(nt, *ns) = spec.grid_shape((time, *space))`.

    Args:
        spec: The windows that are cut; a bare tuple means non-overlapping windows.
        in_features: Number of input channels.
        features: Width of a token.
        shape: `(time, *space)` of the inputs to come; needed if a window entry is None.

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
        shape: Shape = None,
        options: LayerOptions = FLOAT32,
        rngs: nnx.Rngs,
    ):
        self.spec = WindowSpec.of(spec)
        self.window = known_window(self.spec, shape)
        self.dtype = options.dtype
        self.values = math.prod(self.window) * in_features
        init = nnx.initializers.lecun_normal()
        matrix = init(rngs.params(), (self.values, features), jnp.dtype(options.param_dtype))
        self.kernel = options.kernel(matrix.reshape(*self.window, in_features, features))
        self.bias = options.bias(features)

    def patches(self, x: jax.Array) -> jax.Array:
        """Cuts [batch, time, *space, channel] to [batch, nt, *ns, prod(window) * channel].

        Raises:
            InputError: If a window does not fit, or is not the one that the kernel was made for.
        """
        return cut_patches(x.astype(self.dtype), self.spec, self.window, flat=True)

    def project(self, values: jax.Array) -> jax.Array:
        """Maps what is inside windows, [..., prod(window) * channel], to tokens [..., features]."""
        kernel = self.kernel[...].astype(self.dtype)
        return add_bias(values.astype(self.dtype) @ kernel.reshape(self.values, -1), self.bias)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, time, *space, channel] to [batch, nt, *ns, features]."""
        kernel = self.kernel[...].astype(self.dtype)
        return add_bias(embed_patches(x.astype(self.dtype), kernel, self.spec), self.bias)
