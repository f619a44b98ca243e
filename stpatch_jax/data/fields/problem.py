"""Forecast problems on fields of any kind: series, panels, maps, grids."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self, get_args

import numpy as np
import xarray as xr

from stpatch_jax.data.fields.alerts import AlertConfig, field_thresholds
from stpatch_jax.data.fields.choosing import AUTO, Auto, settled
from stpatch_jax.data.fields.cleaning import Cleaner, CleaningConfig, told_infinite, values_unlike
from stpatch_jax.data.fields.climatology import Climatology, ClimatologyPhase
from stpatch_jax.data.fields.combining import Combination
from stpatch_jax.data.fields.contents import field_content, field_report
from stpatch_jax.data.fields.covariates import with_coming
from stpatch_jax.data.fields.forcings import CalendarFeature
from stpatch_jax.data.fields.in_memory import as_field, given_field
from stpatch_jax.data.fields.regression import field_regression
from stpatch_jax.data.fields.roles import Roles, check_apart, named_as_channels, ordered
from stpatch_jax.data.fields.rolling import RuleWeight, field_rule_weights, field_weight
from stpatch_jax.data.fields.rows import require_cells, split_spans, used_rows
from stpatch_jax.data.fields.rules import (
    COMBINATION,
    RuledWindows,
    SeasonalConfig,
    check_climatology,
    check_season,
    field_increment,
)
from stpatch_jax.data.fields.series import series_names, with_known_series
from stpatch_jax.data.fields.slabs import SlabReader, time_blocks
from stpatch_jax.data.fields.windows import FieldWindows
from stpatch_jax.data.file_config import FileConfig
from stpatch_jax.data.identity import FieldIdentity
from stpatch_jax.data.protocols import (
    EVERYTHING,
    UNTOLD_UNIT,
    DataConfig,
    InputAxes,
    WindowProblem,
    chosen_split,
)
from stpatch_jax.data.readers.conventions import add_note, all_units
from stpatch_jax.data.sampling.spacing import (
    GapRule,
    can_insert,
    require_rows,
    spaced,
)
from stpatch_jax.data.sampling.splits import (
    SplitAt,
    check_shares,
    check_split_at,
    require_windows,
    rows_through,
    split_by_rows,
    splits_report,
)
from stpatch_jax.data.times import TimeAxis
from stpatch_jax.data.transforms.steps import Affine
from stpatch_jax.errors import check_choice, check_size, listed, require, warn

_ROLES = ("targets", "known", "static", "ignore")
_OF_CELLS = ("increment", "regression", "thresholds")  # What is fitted to each of these.
_ADDED = {"added": True}  # Since earlier versions, whose runs have the defaults.


@dataclass(frozen=True)
class FieldConfig(FileConfig, SeasonalConfig, DataConfig):
    """A forecast problem on any file that `open_field` reads.

    The rows are split in order of time: the first `train_share` of them to train, the last
    `test_share` to test, both rounded down, the rest in between to validate; the last two have one
    horizon at least. A context may reach back across a border, a target never does.

    What is "auto" the training rows tell, see `found_seasons` and `FieldData.chosen`.

    Attributes:
        targets: Names of the channels that are forecast; all that are not known in advance by
            default.
        known: Names of the channels that are known in advance over the horizon, such as plans or
            the forecasts of others, and are not forecast: the context tells them, too, see
            `lead_times`. What is neither target nor known is read up to the end of the context.
        static: Names of fields of space without time, such as orography, which become inputs.
        ignore: Names of variables or columns that are not read.
        context: Number of input time steps; "auto": two of the longest season that take at most a
            quarter of the training rows and 512, without a season four horizons; a twentieth of the
            training rows, or of eight series ten seasons, up to 192 and 2 ** 16 numbers an example.
        horizon: Number of predicted time steps; "auto": the shortest season, else 24, and at most a
            tenth of the training rows.
        stride: Time steps between training windows; the other splits have all their windows.
        train_share: Share of the rows in the training span.
        test_share: Share of the rows in the test span.
        split_at: First row of the validation span, first row of the test span and the row behind
            it, in place of the shares; later rows are not used.
        most_rows: Only the first so many rows of the file are used; None uses all.
        cleaning: How values are cleaned and scaled, fitted to the training span.
        calendar: Calendar features that become input channels, see `calendar_features`; "auto":
            those that are seasons.
        mask_channel: Whether the inputs tell where a value was known.
        season: Length of a season in time steps: the values one season ago become the naive
            forecast `season`; 0 for none. Of several, each is named by its length, `season_24`.
        climatology: Phase by which training means become the naive forecast `climatology`; None for
            none; "auto": the longest that is a season.
        anomalies: Whether the context holds departures from the climatology, in scaled units. A
            model then forecasts the field with `residual="climatology"`.
        relative: Whether departures are divided by how much is usual there and then, see
            `relative_levels`, as suits counts. A model then has `residual="relative"`.
        climatology_channel: Whether the climatology of one horizon later, which is known in
            advance, becomes input channels: its departure from its mean over all phases.
        space_means: Whether the mean of each input channel over space becomes one more channel.
        alert: Events whose forecasts are scored as alerts.
        combination: Whether examples have the forecast `combination`, see `Combination`. That of
            the test split is made of all rows before it, that of the others of the training rows.
    """

    rolling = True

    targets: tuple[str, ...] = field(default=(), metadata=_ADDED)
    known: tuple[str, ...] = field(default=(), metadata=_ADDED)
    static: tuple[str, ...] = field(default=(), metadata=_ADDED)
    ignore: tuple[str, ...] = field(default=(), metadata=_ADDED)
    context: int | Auto = 96
    horizon: int | Auto = 24
    stride: int = 1
    train_share: float = 0.7
    test_share: float = 0.2
    split_at: SplitAt | None = field(default=None, metadata=_ADDED)
    most_rows: int | None = None
    cleaning: CleaningConfig = field(default_factory=lambda: CleaningConfig(per="cell"))
    calendar: tuple[CalendarFeature, ...] | Auto = ()
    mask_channel: bool = False
    season: int | tuple[int, ...] | Auto = 0
    climatology: ClimatologyPhase | Auto | None = None
    anomalies: bool = False
    relative: bool = field(default=False, metadata=_ADDED)
    climatology_channel: bool = False
    space_means: bool = False
    alert: AlertConfig = field(default_factory=AlertConfig)
    combination: bool = field(default=False, metadata=_ADDED)

    def __post_init__(self) -> None:
        for name in ("context", "horizon", "stride"):
            if getattr(self, name) != AUTO:
                check_size(f"data.{name}", getattr(self, name))
        check_season(self.season)
        if self.most_rows is not None:
            check_size("data.most_rows", self.most_rows)
        check_choice("data.gaps", self.gaps, get_args(GapRule))
        check_shares(train_share=self.train_share, test_share=self.test_share)
        check_split_at(self.split_at)
        check_apart(**{name: getattr(self, name) for name in _ROLES})
        check_climatology(self)

    def settled(self, data: "FieldData") -> tuple[Self, dict[str, str]]:
        """See `DataConfig.settled`."""
        chosen = data.chosen or {}
        names = [name.removeprefix("data.") for name in chosen]
        own = replace(self, **{name: getattr(data.config, name) for name in names})
        if data.combination:
            chosen = chosen | {"data.combination": data.combination.told}
        return own, super().settled(data)[1] | chosen

    def load(self) -> "FieldData":
        """Opens the file, splits it and fits the cleaning to the training rows.

        Raises:
            InputError: If the file cannot be read or is too short; see `open_field`.
        """
        return FieldData.of(used_rows(self._read(self.file())[0], self), self)

    def of(self, values: Any) -> "FieldData":
        """The problem on a field in memory: all that `as_field` takes, or a table of pandas.

        Raises:
            InputError: If it is no field, or too short.
        """
        return FieldData.of(used_rows(self._read(values)[0], self), self)

    def rolled(self, data: Any, split_at: SplitAt) -> "FieldData":
        """See `DataConfig.rolled`."""
        return FieldData.of(data.opened, replace(self, split_at=split_at))

    def told(self) -> dict[str, Any]:
        """As in `TableConfig`; targets and known covariates are read whatever `variables` are."""
        told = super().told()
        told |= {name: getattr(self, name) for name in ("static", "ignore") if getattr(self, name)}
        if self.variables and (self.targets or self.known or self.static):
            named = {name.casefold(): name for name in (*self.targets, *self.known)}
            named |= {name.casefold(): name for name in self.variables}
            apart = {name.casefold() for name in self.static}
            told["variables"] = tuple(name for at, name in named.items() if at not in apart)
        return told

    def roles(self, field: xr.DataArray) -> Roles:
        """What the channels of a field are to a forecast."""
        return Roles.of(field, targets=self.targets, known=self.known, static=self.static)

    def for_inputs(self, inputs: Sequence[str]) -> Self:
        """As in `SeasonalConfig`; inputs may be made of the climatology."""
        config = super().for_inputs(inputs)
        used = self.anomalies or self.climatology_channel
        return replace(config, climatology=self.climatology) if used else config

    def restore(self, path: str, state: Mapping[str, Any]) -> "FieldData":
        """Opens another file for a trained run, see `DataConfig.restore`.

        It has every window with a context, up to the one whose targets follow the file. A model
        that was trained on all of space knows no other one: only where nothing was fitted cell by
        cell may the file have more cells, over which a model can be tiled.

        Raises:
            InputError: If it cannot be read, has other channels, series or cells, or too few rows
                for a context, or known covariates end before the horizon.
        """
        return self._restored(path, state)

    def restore_values(self, values: Any, state: Mapping[str, Any]) -> "FieldData":
        """As `restore`, of what `of` takes."""
        return self._restored(values, state)

    def restore_ahead(self, given: Any, state: Mapping[str, Any], future: Any) -> "FieldData":
        """As `restore`, with the known covariates of the horizon; each is a file or in memory."""
        require(
            bool(self.known),
            f"future= must go with a run that has data.known, got {listed([future])}; leave it out",
        )
        return self._restored(given, state, future)

    def _read(self, given: Any) -> tuple[xr.DataArray, str]:
        """A file or what is in memory as a field, and what messages call it."""
        file = isinstance(given, str | Path)
        field = as_field(self.open(given)) if file else given_field(given, self)
        return named_as_channels(field, self), str(given) if file else f"the {type(given).__name__}"

    def _restored(self, given: Any, state: Mapping[str, Any], future: Any = None) -> "FieldData":
        (field, path), cleaner = self._read(given), Cleaner.from_dict(state)
        identity = FieldIdentity.of_state(state)
        field = ordered(field, identity.channels) if self.targets or self.known else field
        means = None if self.climatology is None else Climatology.from_dict(state["means"])
        placed = self.cleaning.per == "cell" or self.cleaning.missing == "climatology"
        tiled = means is None and not placed
        require_cells(field.shape[1:-1], identity, dims=field.dims[1:-1], tiled=tiled, name=path)
        field, _ = identity.match(field, name=path, tiled=tiled)
        field, roles = spaced(field, self.gaps, name=path), self.roles(field)
        coming, static, horizon = None, None, int(self.horizon)
        if roles.known:
            later: dict[str, Any] = {"name": path}
            if future is not None:
                alone = replace(self, **dict.fromkeys(_ROLES, ()), variables=roles.known)
                later["future"], later["called"] = alone._read(future)
            field, coming = with_coming(field, roles, horizon, **later)
        if roles.static:
            static, field = Cleaner.from_dict(state["static"]), roles.matched(field, state, path)
        past = max(int(self.context), *self.seasons.values(), 0)
        require_rows(TimeAxis.of(field.time.values), past, name=path)
        combination = Combination.of_state(state[COMBINATION]) if self.combination else None
        fitted: dict[str, Any] = {name: state.get(name) for name in _OF_CELLS}
        if field.shape[1:-1] != identity.shape:
            # What was known where says nothing of other places.
            cleaner, fitted = replace(cleaner, known=None), {}
        fitted |= {"means": means, COMBINATION: combination}
        field = add_note(field, *values_unlike(field[-past:], coming, cleaner, name=path))
        report = field_report(path, field)
        stop = len(field) + (horizon if coming is None else len(coming))
        splits = {EVERYTHING: range(past, max(past, stop))}
        fitted = {"fitted": fitted, "coming": coming, "static_cleaner": static}
        return FieldData(self, field, cleaner, splits, report, **fitted)


@dataclass(frozen=True, eq=False)
class FieldData(WindowProblem):
    """Everything of one forecast problem on a field; made by `FieldConfig.load`.

    Attributes:
        field: The field (time, *space, channel), its channels in the order of `Roles.channels`.
        cleaner: Cleaning and scaling, fitted to the training rows.
        splits: Target rows of `train`, `validation` and `test`.
        report: What was read, and the dates of the splits; JSON-able.
        fitted: What was fitted before to another field: `means`, `increment`, `regression`,
            `combination` and, where they are quantiles, the `thresholds` of alerts.
        known_segments: The rows between gaps; None for those that the times tell.
        coming: Known covariates of the horizon behind the field (row, *space, known channel).
        static_cleaner: Scaling of the static fields, where there are any.
        block_bytes: Size of the blocks in which the training rows are read, in bytes, which bounds
            the memory that is needed.
        chosen: Of each setting that the training rows told what they told, by its name.
        opened: What all of this was made of: all rows and channels.
    """

    config: FieldConfig
    field: xr.DataArray
    cleaner: Cleaner
    splits: Mapping[str, range]
    report: dict[str, Any]
    fitted: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    known_segments: tuple[range, ...] | None = None
    coming: xr.DataArray | None = None
    static_cleaner: Cleaner | None = None
    block_bytes: int = 2**26
    chosen: dict[str, str] | None = None
    opened: xr.DataArray | None = None

    @classmethod
    def of(cls, values: xr.DataArray, config: FieldConfig) -> "FieldData":
        """Builds the problem from a field that is already open.

        Named series with fewer than a horizon of training values are dropped, with a warning.

        Raises:
            InputError: If a span is too short for one window or a channel has no training value.
        """
        opened, (values, spans) = values, split_spans(values, config)
        rows, train, roles = values.sizes["time"], spans["train"][1], config.roles(values)
        values = roles.arranged(values)
        config, chosen = settled(config, values[..., : len(roles.targets)], range(train))
        context, horizon = int(config.context), int(config.horizon)
        splits = split_by_rows(rows, spans, context=context, horizon=horizon)
        alert, why_none = config.alert.compared(all_units(values[..., : len(roles.targets)]))
        if why_none:
            warn(why_none, stacklevel=2)
            config, values = replace(config, alert=alert), add_note(values, why_none)
        # A horizon of values, of which a loss and a scale can be made.
        told: dict[str, Any] = {"least": max(2, horizon), "channels": len(roles.targets)}
        values, dropped = with_known_series(values, range(train), **told)
        cleaner = Cleaner.fit(values, range(train), config.cleaning)
        values = add_note(values, *told_infinite(cleaner.infinite, name="the training rows"))
        if (known := cleaner.select(roles.targets).known) is not None:
            note = f"{(~known).sum()} of {known.size} cells have no value in the training rows"
            values = add_note(values, f"{note}: they are not scored, and their forecasts missing.")
        report = field_report(values.attrs.get("source", config.path), values)
        report |= {"series_dropped": dropped} if dropped else {}
        if roles.told():
            report["roles"] = {name: list(names) for name, names in vars(roles).items()}
        static = roles.static_cleaner(values)
        fitted: dict[str, Any] = {"static_cleaner": static, "chosen": chosen, "opened": opened}
        data = cls(config, values, cleaner, splits, report, **fitted)
        inserted = can_insert(TimeAxis.of(data.times))
        other = "give data.gaps insert" if inserted else "a file with fewer gaps"
        advice = f"use a shorter context= or horizon=, or {other}"
        size = data.past + data.horizon
        require_windows(data.spans, data.segments, rows=size, advice=advice)
        told = {"horizon": horizon, "spans": data.spans}
        report["splits"] = splits_report(splits, values.time.values, **told)
        return data

    @cached_property
    def roles(self) -> Roles:
        """What the channels of the field are to a forecast."""
        return self.config.roles(self.field)

    @cached_property
    def targets(self) -> xr.DataArray:
        """The field of what is forecast (time, *space, target)."""
        number = len(self.roles.targets)
        return self.field if number == self.field.shape[-1] else self.field[..., :number]

    @property
    def target_numbers(self) -> tuple[int, ...] | None:
        """Numbers of the targets among the channels of the context; None where they are all."""
        inputs, targets = self.in_channels, len(self.roles.targets)
        return None if len(inputs) == targets else tuple(range(targets))

    @cached_property
    def target_cleaner(self) -> Cleaner:
        """Cleaning and scaling of the targets."""
        return self.cleaner.select(self.roles.targets)

    @cached_property
    def static(self) -> np.ndarray | None:
        """The static fields, scaled [*space, static field], float32."""
        if self.static_cleaner is None:
            return None
        values = self.roles.static_fields(self.field).values
        return self.static_cleaner.inputs(values, times=np.zeros(1))[0][0]

    @property
    def past(self) -> int:
        """Rows before the first target that an example reads."""
        return max(self.context, *self.config.seasons.values(), 0)

    @property
    def seasons(self) -> Mapping[str, int]:
        """As those of the configuration."""
        return self.config.seasons

    @cached_property
    def segments(self) -> tuple[range, ...]:
        """The rows between gaps."""
        return self.known_segments or TimeAxis.of(self.times).segments

    @property
    def times(self) -> np.ndarray:
        """Time of each row [time]."""
        return self.field.time.values

    @cached_property
    def timeline(self) -> np.ndarray:
        """Time of each row, and of one horizon behind the last where their step tells it."""
        axis = TimeAxis.of(self.times)
        coming = axis.ahead(self.horizon) if axis.goes_on else axis.values[:0]
        return np.concatenate([axis.values, coming])

    @property
    def unit(self) -> str:
        """Unit of the field where it tells one for all channels."""
        field = self.targets
        units = set(map(str, field.units.values)) if "units" in field.coords else set()
        return (units.pop() if len(units) == 1 else "") or UNTOLD_UNIT

    @property
    def series_units(self) -> dict[str, str]:
        """The unit of each of the `series`."""
        if series_names(self.field):
            return dict.fromkeys(self.series, self.unit)
        return {name: unit or UNTOLD_UNIT for name, unit in all_units(self.targets).items()}

    @property
    def series(self) -> dict[str, tuple[Any, ...]]:
        """Each named cell of a panel, else each target, in an array [n, horizon, *space, channel].

        A panel is a field with one space axis whose coordinate holds names.
        """
        if names := series_names(self.field):
            whole = slice(None)
            return {name: (whole, whole, slice(i, i + 1)) for i, name in enumerate(names)}
        return {name: (..., slice(i, i + 1)) for i, name in enumerate(self.roles.targets)}

    def source(self, split: str) -> RuledWindows:
        """The windows of a split, see `FieldWindows`, with the naive forecasts of the config."""
        training = split == "train"
        windows = FieldWindows(
            self.field,
            chosen_split(self.spans, split),
            self.cleaner,
            context=self.context,
            horizon=self.horizon,
            stride=self.config.stride if training else 1,
            target_channels=self.roles.targets,
            known_channels=self.roles.known,
            coming=self.coming,
            static=self.static,
            static_channels=self.roles.static,
            calendar=() if self.config.calendar == AUTO else self.config.calendar,
            mask_channel=self.config.mask_channel,
            training=training,
        )
        return RuledWindows(self, windows, Combination.beside(self, split))

    def in_units(self, values: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Scaled predictions [n, horizon, *space, channel] in the units of the field, float64.

        They do not depend on the rows `index` of their first targets.
        """
        return self.target_cleaner.inverse(values)

    def values(self, rows: slice) -> np.ndarray:
        """The targets in some rows, as they stand [rows, *space, channel], NaN where missing."""
        return self.targets[rows].values

    def model_weight(self) -> float:
        """How far a forecast may leave persistence, as rows before the test span tell it.

        See `rolling_weight`, which also tells the formula.
        """
        return field_weight(self)

    def rule_weights(self) -> dict[str, RuleWeight]:
        """The same of every rule, see `rolling_rules`, and of the `combination`."""
        return field_rule_weights(self)

    @cached_property
    def combination(self) -> Combination | None:
        """What `combination` is made of, of all rows before the test span."""
        return self.fitted.get(COMBINATION) or Combination.of_field(self, "validation")

    @cached_property
    def early_combination(self) -> Combination | None:
        """The same of the training rows alone."""
        return Combination.of_field(self, "train")

    def alert_thresholds(self) -> np.ndarray:
        """The threshold of each series [*space, channel], see `AlertConfig.thresholds`."""
        return self._thresholds

    def alert_levels(self) -> np.ndarray:
        """The threshold in the unit of each channel [channel], see `AlertConfig.levels`."""
        return self.config.alert.levels(all_units(self.targets))

    def event_frequency(self, times: np.ndarray) -> np.ndarray:
        """The share of events among the training rows [time, *space, channel].

        With a climatology it is the share among those of the same phase.
        """
        if self.config.climatology is not None:
            return self._frequency.at(times)
        return np.broadcast_to(self._event_share, (len(times), *self._event_share.shape))

    @cached_property
    def _identity(self) -> dict[str, Any]:
        return FieldIdentity.of(self.field).to_dict()

    @cached_property
    def _reader(self) -> SlabReader:
        return SlabReader(self.targets, cache_bytes=0)

    @cached_property
    def _thresholds(self) -> np.ndarray:
        if (thresholds := self.fitted.get("thresholds")) is not None:
            return thresholds
        rows, levels = range(self.splits["train"].stop), self.alert_levels()
        told: dict[str, Any] = {"levels": levels, "block_bytes": self.block_bytes}
        return field_thresholds(self.config.alert, self._reader, rows, **told)

    def _events(self, values: np.ndarray) -> np.ndarray:
        events = self.config.alert.happened(values, self._thresholds)
        return np.where(np.isnan(values), np.nan, events)

    @cached_property
    def _frequency(self) -> Climatology:
        return self._fitted_climatology(self._events)

    @cached_property
    def _event_share(self) -> np.ndarray:
        rows = range(self.splits["train"].stop)
        blocks = time_blocks(self._reader, rows, block_bytes=self.block_bytes)
        parts = (self._events(self._reader.read(block)) for block in blocks)
        return Affine.standard(parts).center

    def _fitted_climatology(self, of: Callable[[np.ndarray], np.ndarray]) -> Climatology:
        phase = self.config.climatology
        rows, times = range(self.splits["train"].stop), self.times
        blocks = time_blocks(self._reader, rows, block_bytes=self.block_bytes)
        parts = ((of(self._reader.read(block)), times[block]) for block in blocks)
        return Climatology.fit_chunks(parts, phase="hour" if phase in (None, AUTO) else phase)

    def state(self) -> dict[str, Any]:
        """The fitted cleaning, what tells another file of the kind, and what inputs need else."""
        state = {**self.cleaner.to_dict(), "identity": self._identity}
        if self.static_cleaner:
            state["static"] = self.static_cleaner.to_dict()
            state["static"] |= {"units": self.roles.static_units(self.field)}
        for name in ("increment", "regression"):
            state |= {} if (of := getattr(self, name)) is None else {name: of}
        if self.combination:
            state[COMBINATION] = self.combination.to_dict()
        if self.config.alert.event != "none" and self.config.alert.quantile:
            state["thresholds"] = self._thresholds
        return state | ({"means": self.means.to_dict()} if self.means else {})

    def content(self, split: str) -> Mapping[str, Any]:
        """The rows up to the end of a split from the end of the one before, as they stand."""
        return field_content(self.field, rows_through(self.splits, split))

    def input_axes(self, split: str, number: int) -> InputAxes:
        """Coordinates of space, the times of the context, and the names of its channels."""
        row = int(self.source(split).windows.starts[number])
        dims = tuple(map(str, self.field.dims[1:-1]))
        coords = {dim: self.field[dim].variable for dim in dims if dim in self.field.coords}
        times = self.timeline[row - self.context : row]
        known = self.cleaner.known
        known = None if known is None else np.asarray(known.any(axis=-1))
        return InputAxes(dims, {**coords, "time": times}, self.in_channels, known=known)

    @cached_property
    def in_channels(self) -> tuple[str, ...]:
        """Names of the channels of a context."""
        channels = self.source(next(iter(self.splits))).windows.in_channels
        if self.config.climatology_channel:
            channels += tuple(f"{name}_outlook" for name in self.roles.targets)
        if self.config.space_means:
            channels += tuple(f"{name}_space_mean" for name in channels)
        return channels

    @cached_property
    def means(self) -> Climatology | None:
        """The climatology of the training rows in scaled units, 0 where a series has none."""
        if self.config.climatology is None or self.fitted.get("means"):
            return self.fitted.get("means")
        fitted = self._fitted_climatology(lambda values: values)
        channels = range(self.targets.shape[-1])
        scaled = self.target_cleaner.scaled(fitted.mean, channels=channels, clip=False)
        return Climatology(fitted.phase, np.nan_to_num(scaled))

    @cached_property
    def increment(self) -> np.ndarray | None:
        """What each target gains a training row, scaled [*space, channel], float64, or None."""
        if "train" not in self.splits:
            return self.fitted.get("increment")
        rows = range(self.splits["train"].stop)
        return field_increment(self._reader, rows, self.target_cleaner)

    @cached_property
    def regression(self) -> np.ndarray | None:
        """Weights of what known covariates tell of each target, see `Regression`, or None."""
        return field_regression(self) if "train" in self.splits else self.fitted.get("regression")
