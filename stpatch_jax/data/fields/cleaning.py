"""How the values of a field become inputs and targets of a model, and its outputs values again."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr

from stpatch_jax.data.fields.climatology import Climatology, ClimatologyPhase, interpolate
from stpatch_jax.data.fields.slabs import SlabReader, cell_blocks, known_counts, time_blocks
from stpatch_jax.data.transforms.cleaning import forward_fill, nan_quantiles
from stpatch_jax.data.transforms.pipeline import Pipeline, StepName
from stpatch_jax.data.transforms.steps import Affine
from stpatch_jax.data.transforms.unlike import told_unlike
from stpatch_jax.errors import check_choice, check_range, check_size, listed, require, warn

MissingRule = Literal["forward_fill", "interpolate", "climatology", "leave"]


@dataclass(frozen=True)
class CleaningConfig:
    """How a field is cleaned and scaled.

    Attributes:
        missing: What stands for a missing input: forward_fill (the last known value of the
            context), interpolate (linearly between known values of the context, then the last
            known one), climatology (the training mean at that phase) or leave (0 in scaled units).
            Where a rule finds nothing, 0 in scaled units. Targets are never filled.
        phase: Phase of the climatology; see `Climatology`.
        hampel_window: Length of the window of `hampel_filter` on inputs, in time steps; 0 is off.
        hampel_threshold: Its threshold, in scaled median absolute deviations.
        steps: The transforms, in order; see `Pipeline`.
        winsorize: Share of the training values beyond each bound of the step `winsorize`.
        per: Whether transforms are fitted per `channel`, over all cells, or per `cell` and channel.

    Raises:
        InputError: A setting is out of range, or a step is not known.
    """

    missing: MissingRule = "forward_fill"
    phase: ClimatologyPhase = "hour"
    hampel_window: int = 0
    hampel_threshold: float = 3.0
    steps: tuple[StepName, ...] = ("standard",)
    winsorize: float = 0.005
    per: Literal["channel", "cell"] = "channel"

    def __post_init__(self) -> None:
        check_choice("missing", self.missing, get_args(MissingRule))
        check_choice("phase", self.phase, get_args(ClimatologyPhase))
        check_choice("per", self.per, ("channel", "cell"))
        for at, step in enumerate(self.steps):
            check_choice(f"steps[{at}]", step, get_args(StepName))
        if self.hampel_window:
            check_size("hampel_window, unless 0 turns it off,", self.hampel_window, least=3)
        check_range("hampel_threshold", self.hampel_threshold, 0, math.inf, bounds="(]")
        check_range("winsorize", self.winsorize, 0, 0.5, bounds="[)")


@dataclass(frozen=True, eq=False)
class Cleaner:
    """Cleaning and scaling of one field, fitted to its training rows.

    Attributes:
        channels: Names of the channels, in order.
        pipeline: The fitted transforms.
        climatology: Training means by phase, in the units of the field, where the rule needs them.
        infinite: Number of infinite training values, which count as missing; of a fit alone.
        known: Where a series had a training value [*space, channel], bool; None where all had. The
            others are missing whatever comes later: nothing was fitted to them.
    """

    config: CleaningConfig
    channels: tuple[str, ...]
    pipeline: Pipeline
    climatology: Climatology | None = field(default=None)
    known: np.ndarray | None = field(default=None)
    infinite: int = 0

    @classmethod
    def fit(
        cls, values: xr.DataArray, rows: range, config: CleaningConfig, *, block_bytes: int = 2**26
    ) -> "Cleaner":
        """Fits to some rows of a field (time, *space, channel): its training rows.

        It reads a block of rows at a time, of about `block_bytes`, which bounds the memory needed.

        Raises:
            InputError: If the field is no such field, the rows are not its own, or a channel has
                no value in them.
        """
        check_field(values)
        require(
            rows.step == 1 and 0 <= rows.start < rows.stop <= values.sizes["time"],
            f"the training rows must lie in 0..{values.sizes['time'] - 1} in steps of 1, got "
            f"{rows}; give rows of this field",
        )
        channels = tuple(str(name) for name in values.channel.values)
        reader = SlabReader(values, cache_bytes=0)
        flat = config.per == "channel"
        known = _ever_known(reader, rows, channels, block_bytes)
        infinite: dict[int, int] = {}

        def chunks() -> Iterator[np.ndarray]:
            for block in time_blocks(reader, rows, block_bytes=block_bytes):
                part = as_floats(reader.read(block))
                infinite[block.start] = int(np.count_nonzero(np.isinf(part)))
                yield part.reshape(-1, len(channels)) if flat else part

        cells = int(np.prod(values.shape[1:-1])) if flat else 1
        pipeline = Pipeline.fit_chunks(
            chunks, config.steps, rows=len(rows) * cells, winsorize=config.winsorize
        )
        known = None if known.all() else known
        if config.missing != "climatology":
            return cls(config, channels, pipeline, None, known, sum(infinite.values()))
        times = values.time.values
        blocks = time_blocks(reader, rows, block_bytes=block_bytes)
        parts = ((as_floats(reader.read(block)), times[block]) for block in blocks)
        means = Climatology.fit_chunks(parts, phase=config.phase)
        return cls(config, channels, pipeline, means, known, sum(infinite.values()))

    def select(self, channels: Sequence[str]) -> "Cleaner":
        """The cleaning of some channels, in this order.

        Raises:
            InputError: There is no such channel.
        """
        if tuple(channels) == self.channels:
            return self
        numbers = list(channel_numbers(self.channels, channels))
        means = self.climatology and replace(
            self.climatology, mean=self.climatology.mean[..., numbers]
        )
        known = None if self.known is None else self.known[..., numbers]
        known = None if known is None or known.all() else known
        pipeline = self.pipeline.select(channels=numbers)
        return Cleaner(self.config, tuple(channels), pipeline, means, known)

    def inputs(
        self, values: np.ndarray, *, times: np.ndarray, cells: tuple[slice, ...] = ()
    ) -> tuple[np.ndarray, np.ndarray]:
        """One context, cleaned and scaled; it depends on nothing but its own rows and the fit.

        Args:
            values: Rows of the field [time, *space, channel], NaN where missing.
            times: Their times [time].
            cells: The tile that they are, one slice per space axis; the whole space by default.

        Returns:
            Scaled inputs without NaN, float32, and where values were known, bool, both
            [time, *space, channel].
        """
        values = as_floats(values)
        logs = "log" in self.config.steps or "log1p" in self.config.steps
        pipeline = self._selected(cells, None, values.dtype)
        # What has no logarithm is as good as missing.
        known = np.isfinite(pipeline.transform(values) if logs else values)
        known &= self.known_at(cells=cells)
        complete = bool(known.all())
        if not complete:
            values = np.where(known, values, np.nan)
        if self.config.hampel_window:
            values = hampel_filter(
                values, window=self.config.hampel_window, threshold=self.config.hampel_threshold
            )
        if not complete:
            values = self._filled(values, times, cells)
        scaled = pipeline.transform(values)
        if not complete:
            scaled = np.nan_to_num(scaled, copy=False, nan=0.0)
        # Without steps it is the field's own memory, which an example must not lay open.
        return scaled.astype(np.float32, copy=scaled is values), known

    def scaled(
        self,
        values: np.ndarray,
        *,
        channels: Sequence[int],
        clip: bool,
        cells: tuple[slice, ...] = (),
    ) -> np.ndarray:
        """Values [time, *space, channel] as they are in scaled units: nothing is filled.

        Args:
            values: Rows of the field, of all of space or of the tile `cells`.
            channels: Numbers of the channels to return.
            clip: Whether outliers are clipped.
            cells: The tile that the values are.

        Returns:
            [time, *space, chosen channel], float32 or float64, NaN where missing.
        """
        if tuple(channels) != tuple(range(values.shape[-1])):
            values = values[..., channels]
        values = as_floats(values)
        finite = np.isfinite(values) & self.known_at(cells=cells, channels=channels)
        if not finite.all():
            values = np.where(finite, values, np.nan)
        pipeline = self._selected(cells, tuple(channels), values.dtype)
        scaled = pipeline.transform(values, clip=clip)
        return values.copy() if scaled is values else scaled

    def inverse(
        self,
        values: np.ndarray,
        *,
        channels: Sequence[str] | None = None,
        cells: tuple[slice, ...] = (),
    ) -> np.ndarray:
        """Scaled predictions [..., *space, channel] in the units of the field, float64.

        Their channels are all of the field by default; `cells` as in `inputs`. A series that never
        had a training value is NaN, whatever was predicted.

        Raises:
            InputError: If the field has no such channel.
        """
        numbers = channel_numbers(self.channels, channels)
        pipeline = self.pipeline.select(channels=numbers, cells=cells)
        values = pipeline.inverse(np.asarray(values, np.float64))
        known = self.known_at(cells=cells, channels=numbers)
        return values if known.all() else np.where(known, values, np.nan)

    def known_at(
        self, *, cells: tuple[slice, ...] = (), channels: Sequence[int] | None = None
    ) -> np.ndarray:
        """Where a series had a training value [*space, channel], or [1] if all had, bool.

        Of all channels by default, and of the tile `cells` as in `inputs`.
        """
        if self.known is None:
            return np.ones(1, bool)
        return self.known[(*cells, ..., slice(None) if channels is None else list(channels))]

    def to_dict(self) -> dict[str, Any]:
        """Settings and everything fitted: a tree of dicts of arrays, numbers and words."""
        state = {
            "config": asdict(self.config) | {"steps": list(self.config.steps)},
            "channels": list(self.channels),
            "pipeline": self.pipeline.to_dict(),
        }
        state |= {} if self.known is None else {"known": self.known}
        return state | ({"climatology": self.climatology.to_dict()} if self.climatology else {})

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "Cleaner":
        """Undoes `to_dict`, bit for bit."""
        config = CleaningConfig(**state["config"] | {"steps": tuple(state["config"]["steps"])})
        climatology, known = state.get("climatology"), state.get("known")
        return cls(
            config,
            tuple(state["channels"]),
            Pipeline.from_dict(state["pipeline"]),
            Climatology.from_dict(climatology) if climatology else None,
            None if known is None else np.asarray(known, bool),
        )

    @cached_property
    def _chosen(self) -> dict[Any, Pipeline]:
        return {}

    def _selected(
        self, cells: tuple[slice, ...], channels: tuple[int, ...] | None, dtype: np.dtype
    ) -> Pipeline:
        if self.config.per == "channel":
            cells = ()
        key = (tuple((cell.start, cell.stop) for cell in cells), channels, dtype)
        if key not in self._chosen:
            picked = slice(None) if channels is None else channels
            if cells:
                return self.pipeline.select(channels=picked, cells=cells, dtype=dtype)
            self._chosen[key] = self.pipeline.select(channels=picked, dtype=dtype)
        return self._chosen[key]

    def _filled(
        self, values: np.ndarray, times: np.ndarray, cells: tuple[slice, ...]
    ) -> np.ndarray:
        rule = self.config.missing
        if rule == "forward_fill":
            return forward_fill(values)
        if rule == "interpolate":
            return interpolate(values, times=times)
        if rule == "climatology" and self.climatology:
            means = self.climatology.at(times)[(slice(None), *cells)]
            return np.where(np.isnan(values), means, values).astype(values.dtype)
        return values


def told_infinite(count: int, *, name: str) -> tuple[str, ...]:
    """A note, warned of as well, on values that are infinite, if any are."""
    if not count:
        return ()
    note = f"Infinite values, {count:,} of them, are read as missing."
    warn(f"{name}: {note}", stacklevel=4)
    return (note,)


def values_unlike(
    field: xr.DataArray, coming: xr.DataArray | None, cleaner: Cleaner, *, name: str
) -> tuple[str, ...]:
    """What is far from training in rows of another field and what comes, see `told_unlike`.

    Of more than 16 MiB a tile in the middle of space counts.
    """
    if not any(isinstance(step, Affine) for step in cleaner.pipeline.steps):
        return ()  # Nothing tells what was usual.
    notes: list[str] = []
    for part, called in ((field, name), (coming, f"what comes behind {name}")):
        if part is None or not part.size:
            continue
        own, reader = cleaner.select(list(map(str, part.channel.values))), SlabReader(part)
        tiles = list(cell_blocks(reader, range(len(part)), block_bytes=2**24))
        cells = tiles[len(tiles) // 2]
        values = as_floats(reader.read(slice(0, len(part)), *cells))
        notes += told_infinite(int(np.count_nonzero(np.isinf(values))), name=called)
        scaled = own.scaled(values, channels=range(values.shape[-1]), clip=False, cells=cells)
        trained = own.inverse(np.zeros(values.shape[1:]), cells=cells)
        values = np.where(np.isfinite(scaled), values, np.nan)
        notes += told_unlike(values, scaled, trained, own.channels, name=called)
    return tuple(notes)


def as_floats(values: np.ndarray) -> np.ndarray:
    """Float32 where that holds every value of the dtype, else float64, in the order of bytes here.

    >>> [as_floats(np.ones(1, dtype)).dtype.name for dtype in (">f8", "f2", "i2", "i4")]
    ['float64', 'float32', 'float32', 'float64']
    """
    whole = np.can_cast(values.dtype, np.float32)
    return values.astype(np.float32 if whole else np.float64, copy=False)


def check_field(values: xr.DataArray) -> None:
    """Checks that an array has the dims (time, *space, channel) and names its channels."""
    dims = tuple(str(dim) for dim in values.dims)
    require(
        len(dims) >= 2 and dims[0] == "time" and dims[-1] == "channel",
        f"a field must have the dims (time, *space, channel), got ({', '.join(dims)}); rename or "
        "transpose them",
    )
    require(
        {"time", "channel"} <= set(values.coords),
        "a field must have the coordinates time and channel, got "
        f"{', '.join(map(str, values.coords)) or 'none'}; add the others with assign_coords",
    )


def channel_numbers(channels: Sequence[str], names: Sequence[str] | None) -> tuple[int, ...]:
    """Numbers of the named channels, or of all."""
    for name in names or ():
        check_choice("a channel of the field", name, channels)
    return tuple(channels.index(name) for name in (channels if names is None else names))


def _ever_known(
    reader: SlabReader, rows: range, channels: Sequence[str], block_bytes: int
) -> np.ndarray:
    """Where a series has a value in some rows [*space, channel], bool."""
    known = np.asarray(known_counts(reader, rows, block_bytes=block_bytes) > 0)
    missing = [name for at, name in enumerate(channels) if not known[..., at].any()]
    require(
        not missing,
        f"every channel must have a value among the {len(rows)} training rows, got none for "
        f"{listed(missing)}; leave it out by data.variables, or give a file with more rows",
    )
    return known


# Makes the median absolute deviation of normal numbers their standard deviation.
_MAD_TO_STD = 1.4826


def hampel_filter(values: np.ndarray, *, window: int, threshold: float = 3.0) -> np.ndarray:
    """Replaces outliers [time, ...] by the median of the steps that lead up to them.

    With `m` the median and `d` the median absolute deviation of the known values among the last
    `window` time steps (at least 3), the present one included, `x` is an outlier where
    `|x - m| > threshold * 1.4826 d`, and becomes `m`. Where `d` is 0 (most of the values are equal)
    nothing is an outlier, nor at an infinite threshold. Row `t` of the result depends on no later
    row. NaN stays NaN. Memory is `window` times that of `values`.

    Raises:
        InputError: If window or threshold is out of range.

    >>> hampel_filter(np.array([1.0, 2.0, 1.0, 50.0, 2.0]), window=4).tolist()
    [1.0, 2.0, 1.0, 1.5, 2.0]

    References:
        Hampel, The influence curve and its role in robust estimation, JASA 69 (1974).
    """
    check_size("window", window, least=3)
    check_range("threshold", threshold, 0, math.inf, bounds="(]")
    front = np.full((window - 1, *values.shape[1:]), np.nan, values.dtype)
    padded = np.concatenate([front, values])
    windows = np.stack([padded[lag : lag + len(values)] for lag in range(window)])
    median = nan_quantiles(windows, (0.5,))[0]
    deviation = nan_quantiles(np.abs(windows - median), (0.5,))[0]
    bound = threshold * _MAD_TO_STD * deviation
    outlier = (deviation > 0) & (np.abs(values - median) > bound)
    return np.where(outlier, median, values).astype(values.dtype)
