"""Panels: forecasting the prices of many companies from one table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Literal, Self, get_args

import numpy as np
import pandas as pd
import xarray as xr

from stpatch_jax.data.fields.choosing import AUTO, Auto, settled_seasons
from stpatch_jax.data.fields.climatology import ClimatologyPhase
from stpatch_jax.data.fields.contents import field_content
from stpatch_jax.data.fields.rolling import RuleWeight, rule_weights
from stpatch_jax.data.fields.rules import SeasonalConfig, check_season
from stpatch_jax.data.file_config import TableConfig
from stpatch_jax.data.identity import FieldIdentity
from stpatch_jax.data.prices.representations import Levels, LogReturns, Representation
from stpatch_jax.data.prices.rules import PanelRules, timeline
from stpatch_jax.data.prices.tables import VOLUME, PriceTable, read_price_table
from stpatch_jax.data.protocols import (
    EVERYTHING,
    DataConfig,
    InputAxes,
    WindowProblem,
    checked_rows,
    chosen_split,
)
from stpatch_jax.data.readers import read_as_told
from stpatch_jax.data.sampling.batches import Batch, MadeExamples, Source
from stpatch_jax.data.sampling.spacing import check_phase, gaps_report, warn_of_gaps
from stpatch_jax.data.sampling.splits import (
    SplitAt,
    check_shares,
    check_split_at,
    chronological_splits,
    require_windows,
    rows_through,
    spans_at,
    split_by_rows,
    splits_report,
    window_starts,
)
from stpatch_jax.data.times import TimeAxis
from stpatch_jax.data.transforms.unlike import told_unlike
from stpatch_jax.errors import (
    InputError,
    check_choice,
    check_range,
    check_size,
    require,
    spelt,
    warn,
)

_ADDED = {"added": True}  # Since earlier versions, whose runs have the defaults.
RepresentationName = Literal["log_return", "level"]
_DEFAULT_CHANNEL = "adjusted_close"


@dataclass(frozen=True)
class PanelConfig(TableConfig, SeasonalConfig, DataConfig):
    """A forecast problem on a panel of prices.

    Attributes:
        path: Price table, `.csv` or `.csv.gz` (see `read_price_table`); the monthly table that
            matplotlib ships by default.
        context: Number of input time steps (rows of the table).
        horizon: Number of predicted time steps.
        representation: What the model reads and predicts: log_return (see `LogReturns`; consumes
            one row more) or level (see `Levels`).
        target_channel: Channel to predict. A table with a single channel has only that one to
            predict, so there the default means it.
        validation_share: Share of the rows in the validation span, in (0, 1).
        test_share: Share of the rows in the test span, in (0, 1), the last ones.
        split_at: First row of the validation span, first row of the test span and the row behind
            it, in place of the shares; later rows are not used.
        minimum_share: Share of the training rows in which a company must have a target value, in
            (0, 1]; other companies are dropped.
        winsorize: Share of the training values beyond each outlier bound of a series, in
            [0, 0.5); 0 clips nothing.
        season: Length of a season in rows, several, or 0 for none, as in `FieldConfig`; "auto":
            those that the training rows tell, see `found_seasons`, which few prices have.
        climatology: Phase of the training means that become a naive forecast, None for none;
            "auto": the longest that is a season.
    """

    rolling = True

    context: int = 24
    horizon: int = 6
    representation: RepresentationName = "log_return"
    target_channel: str = _DEFAULT_CHANNEL
    validation_share: float = 0.15
    test_share: float = 0.15
    split_at: SplitAt | None = field(default=None, metadata={"added": True})
    minimum_share: float = 0.25
    winsorize: float = 0.005
    season: int | tuple[int, ...] | Auto = field(default=AUTO, metadata=_ADDED)
    climatology: ClimatologyPhase | Auto | None = field(default=AUTO, metadata=_ADDED)

    def __post_init__(self) -> None:
        for name in ("context", "horizon"):
            check_size(f"data.{name}", getattr(self, name))
        check_choice("data.representation", self.representation, get_args(RepresentationName))
        check_shares(validation_share=self.validation_share, test_share=self.test_share)
        check_split_at(self.split_at)
        check_range("data.minimum_share", self.minimum_share, 0, 1, bounds="(]")
        check_range("data.winsorize", self.winsorize, 0, 0.5, bounds="[)")
        check_season(self.season)

    def settled(self, data: "PanelData") -> tuple[Self, dict[str, str]]:
        """See `DataConfig.settled`."""
        own = replace(self, season=data.config.season, climatology=data.config.climatology)
        return own, super().settled(data)[1] | data.chosen

    def load(self) -> "PanelData":
        """Reads the table, cleans it, splits it, and fits the representation to training rows.

        Warns:
            UserWarning: If companies are dropped, which the report tells too.

        Raises:
            InputError: If the table cannot be used: see `read_price_table`; no such channel, no
                company with enough training rows, or too few rows.
        """
        return _build(self, self._table(None if self.path is None else self.file()))

    def of(self, values: Any) -> "PanelData":
        """The problem on a table of pandas, as `load` makes it of a file.

        Raises:
            InputError: It is none, or cannot be used.
        """
        return _build(self, self._table(_checked(values)))

    def rolled(self, data: Any, split_at: SplitAt) -> "PanelData":
        """See `DataConfig.rolled`."""
        return _build(replace(self, split_at=split_at), data.table)

    def _table(self, path: str | pd.DataFrame | None) -> PriceTable:
        return read_as_told(read_price_table, path, self.told(), kind="price tables")

    def restore(self, path: str, state: Mapping[str, Any]) -> "PanelData":
        """Reads another table for a model of this problem, see `DataConfig.restore`.

        It has the channels, step and at least the companies of the run, in any order, and every
        window with a context, up to the one whose targets follow the table.

        Raises:
            InputError: If the table cannot be read, lacks a channel or a company, or has another
                step.
        """
        return self._restored(self._table(path), path, state)

    def restore_values(self, values: Any, state: Mapping[str, Any]) -> "PanelData":
        """As `restore`, of a table of pandas."""
        return self._restored(self._table(_checked(values)), "the DataFrame", state)

    def _restored(self, table: PriceTable, path: str, state: Mapping[str, Any]) -> "PanelData":
        identity = FieldIdentity.of_state(state)
        field, notes = identity.match(table.field, name=path)
        table.report["notes"] = [*table.report.get("notes", ()), *notes]
        companies, channels = tuple(identity.axes[0].places or ()), identity.channels
        values = field.values
        target = channels.index(state["target_channels"][0])
        fitted: Representation
        past = {"state": state, "segments": TimeAxis.of(table.field.time.values).segments}
        if self.representation == "log_return":
            values, _ = mask_impossible(values, channels)
            fitted = LogReturns.restore(values, channels, target=target, **past)
        else:
            fitted = Levels.restore(values, target=target, **past)
            means, recent = fitted.scaler.center, values[-self.context :]
            scaled = fitted.scaler.transform(recent)
            table.report["notes"] += told_unlike(recent, scaled, means, channels, name=path)
        first = max(self.context + fitted.lost_rows, *self.seasons.values(), 0)
        require(
            first <= len(values),
            f"{path} must have the {first} rows that a forecast needs, got {len(values)}; give a "
            "longer table",
        )
        rules = PanelRules.from_dict(self, state)
        data = _data(self, table, values, companies, channels, target, fitted, rules)
        return replace(data, splits={EVERYTHING: range(first, len(values) + self.horizon)})


def _checked(values: Any) -> pd.DataFrame:
    require(
        isinstance(values, pd.DataFrame),
        f"prices in memory must be a DataFrame, got {type(values).__name__}; give one with a "
        "column for each company",
    )
    return values


@dataclass(frozen=True, eq=False)
class PanelData(WindowProblem):
    """Everything of one forecast problem on a panel; made by `PanelConfig.load`.

    Rows of the table count from 0; an example is named by the row of its first target.

    Attributes:
        times: Time of each row, datetime64 [time].
        companies: Names of the companies that stay; their order carries no meaning.
        target_channels: Name of the predicted channel, a tuple of one.
        unit: Unit of the predicted channel, for reports.
        splits: Target rows of `train`, `validation` and `test`.
        report: What was read, dropped and clipped, and the dates of the splits; JSON-able.
        identity: Companies, channels, step and calendar, by which another table is of the kind.
        prices: Target values as in the table [time, company, 1], float64, NaN where missing.
        representation: Inputs and targets, and the way back.
        field: The table as it was read [time, company, channel].
        table: All of it, with the rows and companies that are not used.
        rules: The naive forecasts.
        chosen: Of each setting that the training rows told what they told, by its name.
    """

    config: PanelConfig
    times: np.ndarray
    companies: tuple[str, ...]
    channels: tuple[str, ...]
    target_channels: tuple[str, ...]
    unit: str
    splits: Mapping[str, range]
    report: dict[str, Any]
    identity: FieldIdentity
    prices: np.ndarray
    representation: Representation
    field: xr.DataArray
    table: PriceTable
    rules: PanelRules
    chosen: dict[str, str]

    @property
    def target_numbers(self) -> tuple[int, ...] | None:
        """The number of the predicted channel, of several."""
        number = self.channels.index(self.target_channels[0])
        return (number,) if len(self.channels) > 1 else None

    @property
    def seasons(self) -> Mapping[str, int]:
        """As those of the configuration."""
        return self.config.seasons

    @property
    def series(self) -> dict[str, tuple[slice, ...]]:
        """Every company, and where it lies in an array [n, horizon, company, channel]."""
        whole = slice(None)
        return {name: (whole, whole, slice(i, i + 1)) for i, name in enumerate(self.companies)}

    def source(self, split: str) -> Source:
        """The examples of a split, one per window with stride 1, in order of time.

        Each is a dict of `context` [context, company, channel] scaled inputs without NaN, `target`
        [horizon, company, 1] scaled, 0 where missing, `target_mask` (same shape, bool) True where
        the target is real, `persistence` [1, company, 1] and the other rules, see
        `PanelRules.forecasts`, what these predict, scaled (of log returns, their sum), and `index`,
        an int64 scalar, the row of the first target. Floats are float32. Training targets are
        clipped at the outlier bounds, others never. In log_return a target is missing too where no
        earlier price exists to compare with.
        """
        spans = chosen_split(self.spans, split)
        starts = [row for rows in spans for row in window_starts(rows, horizon=self.horizon)]
        return MadeExamples(partial(self._example, starts, split == "train"), len(starts))

    def _example(self, starts: Sequence[int], training: bool, i: int) -> Batch:
        index, config = starts[i], self.config
        target, persistence = self.representation.targets(index, config.horizon, training=training)
        if coming := config.horizon - len(target):
            target = np.pad(target, [(0, coming), (0, 0), (0, 0)], constant_values=np.nan)
        mask = np.isfinite(target)
        [segment] = (rows for rows in self.segments if index - 1 in rows)
        past = self.representation.path(slice(segment.start, index))
        times = self._timeline[index - 1 : index + config.horizon]
        return {
            "context": self.representation.inputs[index - config.context : index],
            "target": np.where(mask, target, 0.0).astype(np.float32),
            "target_mask": mask,
            "persistence": persistence.astype(np.float32),
            **self.rules.forecasts(past, persistence, times, context=config.context),
            "index": np.asarray(index, np.int64),
        }

    @cached_property
    def _timeline(self) -> np.ndarray:
        return timeline(self.times, self.config.horizon)

    def rule_weights(self) -> dict[str, RuleWeight]:
        """How far a forecast may leave each rule, from the rows before the test span."""
        rows = slice(0, self.splits["validation"].stop)
        path = known_path(self.representation, self.prices[rows])
        return rule_weights(self, (path - np.nanmean(path, axis=0))[..., 0])

    def model_weight(self) -> float:
        """How far it may leave persistence."""
        return self.rule_weights()["persistence"].weight

    @property
    def past(self) -> int:
        """Rows before the first target that an example reads."""
        return self.context + self.representation.lost_rows

    def in_units(self, values: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Scaled predictions [n, horizon, company, 1] in the units of the table, float64.

        In log_return they are NaN where no earlier price exists. `index` [n] is as in a batch; the
        number of rows of the table itself stands for a forecast beyond its end.

        Raises:
            InputError: If shapes or rows do not fit this panel.
        """
        values = np.asarray(values, np.float64)
        index = checked_rows(index, first=1, last=len(self.times))
        expected = (len(index), self.config.horizon, len(self.companies), 1)
        if values.shape != expected:
            raise InputError(
                f"values must have the shape (n, horizon, company, 1) = {expected}, got "
                f"{values.shape}; give the predictions of one example for each index"
            )
        return self.representation.to_price(values, index)

    def values(self, rows: slice) -> np.ndarray:
        """The table in some rows as it stands, float64 [rows, company, 1]: not clipped, not filled.

        NaN where missing, in log_return also where a price is not positive.
        """
        return self.prices[rows]

    def state(self) -> dict[str, Any]:
        """Everything fitted to the training rows, to be saved with a model.

        Two panels with equal states scale alike, company by company.
        """
        return {
            "identity": self.identity.to_dict(),
            "target_channels": list(self.target_channels),
            **self.rules.to_dict(),
            **self.representation.state(),
        }

    def content(self, split: str) -> Mapping[str, Any]:
        """The rows up to the end of a split from the end of the one before, as they were read."""
        return field_content(self.field, rows_through(self.splits, split))

    def input_axes(self, split: str, number: int) -> InputAxes:
        """The companies, the times of the context, and the names of the channels."""
        row = int(self.source(split)[number]["index"])
        coords = {"company": list(self.companies), "time": self.times[row - self.context : row]}
        return InputAxes(("company",), coords, self.channels)


def _build(config: PanelConfig, whole: PriceTable) -> PanelData:
    stop = None if config.split_at is None else config.split_at[-1]
    table = replace(whole, field=whole.field[:stop])
    channels = tuple(str(name) for name in table.field.channel.values)
    companies = tuple(str(name) for name in table.field.company.values)
    target = _target(config, channels)
    values, times = table.field.values, table.field.time.values
    axis = TimeAxis.of(times, name=f"the times of {table.report['source']}")
    warn_of_gaps(axis, "split", name=table.report["source"])
    returns = config.representation == "log_return"
    impossible = 0
    if returns:
        values, impossible = mask_impossible(values, channels)
    splits = _splits(config, len(whole.field))
    train_rows = splits["train"].stop
    dropped = dropped_companies(
        values[:train_rows, :, target], companies, minimum_share=config.minimum_share
    )
    _warn_dropped(dropped, companies)
    values = values[:, [name not in dropped for name in companies]]
    companies = tuple(name for name in companies if name not in dropped)
    fit: dict[str, Any] = {"target": target, "train_rows": train_rows}
    fit |= {"winsorize": config.winsorize, "segments": axis.segments}
    representation = (
        LogReturns.fit(values, channels, horizon=config.horizon, **fit)
        if returns
        else Levels.fit(values, **fit)
    )
    report = {
        **table.report,
        "companies_used": list(companies),
        "companies_dropped": dropped,
        "impossible_values": impossible,
        "missing_targets": int(np.isnan(values[..., target]).sum()),
        "clipped_inputs": representation.clipped,
    }
    config, rules, chosen = _rules(config, axis, representation, values[:train_rows, :, target])
    data = _data(config, table, values, companies, channels, target, representation, rules)
    data = replace(data, splits=splits, report=report, table=whole, chosen=chosen)
    size = data.past + config.horizon
    advice = "use a shorter context= or horizon=, or a table with fewer gaps"
    require_windows(data.spans, data.segments, rows=size, advice=advice)
    told = splits_report(splits, times, horizon=config.horizon, spans=data.spans)
    data.report.update(gaps_report(axis), splits=told)
    return data


def _rules(
    config: PanelConfig, axis: TimeAxis, representation: Representation, prices: np.ndarray
) -> tuple[PanelConfig, PanelRules, dict[str, str]]:
    """The settings with nothing left open, the rules of training rows [time, company], and why."""
    path, times = known_path(representation, prices[..., None]), axis.values[: len(prices)]
    dims = ("time", "company", "channel")
    field = xr.DataArray(path, {"time": times}, dims)
    config, chosen, _ = settled_seasons(config, field, range(len(prices)))
    check_phase(axis, config.climatology, name="data.climatology")
    longest = max(config.seasons.values(), default=0)
    require(
        longest < len(prices),
        f"data.season must be shorter than the {len(prices)} training rows, got {longest}; give a "
        "shorter one or a longer table",
    )
    return config, PanelRules.fit(config, path, times), chosen


def known_path(representation: Representation, prices: np.ndarray) -> np.ndarray:
    """The first rows of a path, see `Representation.path`, NaN where prices are missing."""
    return np.where(np.isfinite(prices), representation.path(slice(0, len(prices))), np.nan)


def _splits(config: PanelConfig, rows: int) -> dict[str, range]:
    first = LogReturns if config.representation == "log_return" else Levels
    lengths: dict[str, Any] = {"context": config.context, "horizon": config.horizon}
    lengths["first"] = first.lost_rows
    if config.split_at is not None:
        return split_by_rows(rows, spans_at(config.split_at, rows), **lengths)
    shares: dict[str, Any] = {"validation_share": config.validation_share}
    shares["test_share"] = config.test_share
    return chronological_splits(rows, **lengths, **shares)


def _data(
    config: PanelConfig,
    table: PriceTable,
    values: np.ndarray,
    companies: tuple[str, ...],
    channels: tuple[str, ...],
    target: int,
    representation: Representation,
    rules: PanelRules,
) -> PanelData:
    """A problem without splits."""
    of_panel = table.field.sel(company=list(companies), channel=list(channels))
    return PanelData(
        config=config,
        identity=FieldIdentity.of(of_panel),
        times=table.field.time.values,
        companies=companies,
        channels=channels,
        target_channels=(channels[target],),
        unit="shares" if channels[target] == VOLUME else "price units",
        splits={},
        report=table.report,
        prices=values[..., target : target + 1],
        representation=representation,
        rules=rules,
        chosen={},
        field=of_panel,
        table=table,
    )


def _target(config: PanelConfig, channels: Sequence[str]) -> int:
    if len(channels) == 1 and config.target_channel == _DEFAULT_CHANNEL:
        return 0
    (target,) = spelt([config.target_channel], channels)
    check_choice("data.target_channel", target, channels)
    return channels.index(target)


def _warn_dropped(dropped: Mapping[str, str], companies: Sequence[str]) -> None:
    if len(dropped) == len(companies):
        name, reason = next(iter(dropped.items()))
        raise InputError(
            f"at least one company must have enough data, got none of {len(companies)}: {name}, "
            f"for one, {reason}; use a longer table or a smaller data.minimum_share"
        )
    if dropped:
        reasons = "; ".join(f"{name} {reason}" for name, reason in dropped.items())
        warn(f"{len(dropped)} of {len(companies)} companies dropped: {reasons}", stacklevel=4)


def mask_impossible(values: np.ndarray, channels: Sequence[str]) -> tuple[np.ndarray, int]:
    """Makes values that have no logarithm missing: prices <= 0 and volumes < 0.

    The channel `volume` holds volumes, all other ones are prices [time, company, channel].

    Returns:
        A new array with NaN in place of these values, and their number.
    """
    is_volume = np.array([channel == VOLUME for channel in channels])
    impossible = np.where(is_volume, values < 0, values <= 0)
    return np.where(impossible, np.nan, values), int(impossible.sum())


def dropped_companies(
    values: np.ndarray, companies: Sequence[str], *, minimum_share: float
) -> dict[str, str]:
    """Why companies have values in too few training rows [time, company], by name and in order.

    They need one in the share `minimum_share`, in (0, 1], of the rows; NaN is none.
    """
    rows = len(values)
    counts = np.isfinite(values).sum(axis=0)
    return {
        company: f"has values in {count} of the {rows} training rows, fewer than "
        f"minimum_share {minimum_share:g} of them"
        for company, count in zip(companies, counts.tolist(), strict=True)
        if count < minimum_share * rows
    }
