"""Random specs and fields for the laws of the patch operators."""

import dataclasses

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from stpatch_jax import WindowSpec

DTYPES = (
    "float32",
    "bfloat16",
    "float16",
    "float8_e4m3fn",
    "int8",
    "int16",
    "int32",
    "uint8",
    "uint16",
    "uint32",
    "bool",
    "complex64",
)
X64_DTYPES = ("float64", "int64", "uint64", "complex128")
MODES = ("constant", "edge", "reflect", "wrap")
# Cells per axis, by rank: tiny arrays compile fastest and shrink best.
SIZES = {1: 12, 2: 7, 3: 5, 4: 3}
# The equality law of a `--many` run is cut into chunks, so that compiled programs can be dropped.
MANY = not hypothesis.settings().derandomize  # what sets the two profiles of conftest.py apart
CHUNKS = range(40 if MANY else 1)


def examples(normal, many):
    """How many random examples a law gets in the normal run and with `--many`."""
    return hypothesis.settings(max_examples=many if MANY else normal)


@dataclasses.dataclass(frozen=True)
class Case:
    """A spec, and a field that it fits."""

    spec: WindowSpec
    shape: tuple[int, ...]
    batch: tuple[int, ...]
    channels: int
    dtype: str
    seed: int

    @property
    def field_shape(self):
        return (*self.batch, *self.shape, self.channels)

    @property
    def patches_shape(self):
        grid, window = self.spec.grid_shape(self.shape), self.spec.window_shape(self.shape)
        return (*self.batch, *grid, *window, self.channels)

    def noise(self):
        """Random bytes, so NaN payloads, Inf, -0.0 and subnormals turn up (see `random_bytes`)."""
        return random_bytes(self.field_shape, self.dtype, self.seed)

    def numbers(self, shape=None, offset=0):
        """Small whole numbers, on which float32 arithmetic is exact."""
        generator = np.random.default_rng(self.seed + offset)
        return generator.integers(-8, 9, shape or self.field_shape).astype(self.dtype)

    def replace(self, **changes):
        """The case with changes to its spec; reflect, which may then not fit, becomes edge."""
        modes = tuple("edge" if m == "reflect" else m for m in self.spec.padding_mode)
        spec = self.spec.replace(**({"padding_mode": modes} | changes))
        return dataclasses.replace(self, spec=spec)


def random_bytes(shape, dtype, seed):
    generator = np.random.default_rng(seed)
    dtype = jnp.dtype(dtype)
    if dtype == jnp.bool_:
        return generator.integers(0, 2, shape).astype(bool)
    count = int(np.prod(shape))
    values = np.frombuffer(generator.bytes(count * dtype.itemsize), dtype).copy()
    special = special_values(dtype)
    chosen = generator.random(count) < 0.3
    values[chosen] = generator.choice(special, chosen.sum())
    if dtype == jnp.bfloat16:
        values = _survives_cpu_compiler(values)
    return values.reshape(shape)


def _survives_cpu_compiler(values):
    """bfloat16 without what XLA itself may lose on CPU: subnormals and the bits of a NaN.

    Some fused loops of its compiler hold bfloat16 in float32 registers; with jax 0.10 even
    `jnp.pad` loses the bits of a NaN there.
    """
    wide = values.astype(np.float32)
    subnormal = abs(wide) < float(ml_dtypes.finfo(values.dtype).smallest_normal)
    values = np.where(subnormal, np.copysign(np.float32(0), wide).astype(values.dtype), values)
    return np.where(np.isnan(wide), np.asarray(np.nan, values.dtype), values)


def special_values(dtype):
    """Zeros of both signs, NaN, infinities, the largest and the smallest of a dtype."""
    if not jnp.issubdtype(dtype, jnp.inexact):
        return np.array([0, jnp.iinfo(dtype).max, jnp.iinfo(dtype).min], dtype)
    real = jnp.finfo(dtype).dtype
    info = ml_dtypes.finfo(real)
    with np.errstate(all="ignore"):
        parts = np.array(
            [0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, info.max, info.smallest_subnormal]
        ).astype(real)
    if not jnp.issubdtype(dtype, jnp.complexfloating):
        return parts
    pairs = np.stack(np.meshgrid(parts, parts), axis=-1)
    return np.ascontiguousarray(pairs).view(dtype).ravel()


def fill_values(dtype):
    if dtype == "bool":
        return st.booleans()
    if jnp.issubdtype(jnp.dtype(dtype), jnp.integer):
        return st.sampled_from((0, 7, int(jnp.iinfo(dtype).max), int(jnp.iinfo(dtype).min)))
    values = [0, 0.0, -0.0, 1.5, -2, float("nan")]
    if dtype != "float8_e4m3fn":
        values += [0.1, float("inf"), float("-inf")]
    if jnp.issubdtype(jnp.dtype(dtype), jnp.complexfloating):
        values += [1 - 2j, 0.1 + 0.2j, complex("nan-infj")]
    return st.sampled_from(values)


def _too_wide(padding, size, window, stride, dilation):
    """Whether reflect padding would need cells that the axis does not have."""
    effective = (window - 1) * dilation + 1
    widths = {
        "VALID": 0,
        "FLUSH": 0,
        "CAUSAL": effective - 1,
        "SAME": stride + effective,
        "COVER": stride + effective,
    }
    width = max(padding) if isinstance(padding, tuple) else widths[padding]
    return width > size - 1


@st.composite
def axis_options(draw, rank, *, long, modes, paddings):
    """One axis: its cells, and the options of its windows."""
    size = draw(st.integers(17, 60) if long else st.integers(1, SIZES[rank]))
    padding = draw(st.sampled_from(("VALID", "SAME", "CAUSAL", "COVER", "FLUSH", "pair")))
    if paddings is not None:
        padding = draw(st.sampled_from(paddings))
    if padding == "pair":
        padding = (draw(st.integers(0, 3)), draw(st.integers(0, 3)))
    dilation = draw(st.integers(1, 5 if long else 3))
    room = size + sum(padding) if isinstance(padding, tuple) else size
    fits = padding in ("VALID", "FLUSH") or isinstance(padding, tuple)
    longest = (room - 1) // dilation + 1 if fits else 5
    window = draw(st.integers(1, longest if long else min(longest, 5)))
    whole = draw(st.integers(0, 9)) == 0
    if whole:
        window, dilation = size, 1
    stride = draw(st.none() | st.integers(1, 7 if long else 5))
    mode = draw(st.sampled_from(modes))
    if mode == "reflect" and _too_wide(padding, size, window, stride or window, dilation):
        mode = "edge"
    return size, None if whole else window, stride, dilation, padding, mode


@st.composite
def cases(
    draw, *, dtypes=DTYPES, modes=MODES, paddings=None, footprints=True, ranks=(1, 2, 3, 1, 2, 3, 4)
):
    """Random specs on fields that they fit: every padding, mode, footprint, fill and dtype."""
    rank = draw(st.sampled_from(ranks))
    long = draw(st.integers(0, 2)) == 0 and rank <= 2
    axes = [
        draw(axis_options(rank, long=long and position == 0, modes=modes, paddings=paddings))
        for position in range(rank)
    ]
    shape, window, stride, dilation, padding, mode = zip(*axes, strict=True)
    dtype = draw(st.sampled_from(dtypes))
    seed = draw(st.integers(0, 2**32 - 1))
    kind = draw(st.sampled_from((None, None, "ball", "cylinder", "array"))) if footprints else None
    if kind == "array":
        extent = [cells or size for cells, size in zip(window, shape, strict=True)]
        kind = np.random.default_rng(seed).random(extent) < 0.6
        kind.flat[0] |= not kind.any()
    spec = WindowSpec(
        window,
        stride=stride,
        dilation=dilation,
        padding=padding,
        padding_mode=mode,
        fill_value=draw(fill_values(dtype)),
        footprint=kind,
    )
    batch = draw(st.sampled_from(((), (2,), (2, 3), (1,))))
    return Case(spec, shape, batch, draw(st.integers(1, 3)), dtype, seed)


def assert_same_bytes(actual, expected):
    """Equal shape, dtype and bytes: NaN payloads, signs of zero and subnormals included."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    assert actual.tobytes() == expected.tobytes(), (actual, expected)


def shape_of(function, case):
    """The shape that a function of the case's field would return; nothing is compiled."""
    field = jax.ShapeDtypeStruct(case.field_shape, jnp.dtype(case.dtype))
    return jax.eval_shape(function, field).shape
