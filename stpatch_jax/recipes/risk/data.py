"""Value at risk: how far prices may fall over the next rows, for many companies at once."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stpatch_jax.data import (
    EVERYTHING,
    Batch,
    DataConfig,
    FieldIdentity,
    InputAxes,
    MadeExamples,
    PriceTable,
    Problem,
    Source,
    TableConfig,
    TimeAxis,
    chronological_splits,
    read_price_table,
)
from stpatch_jax.data.fields.contents import field_content
from stpatch_jax.data.protocols import chosen_split
from stpatch_jax.data.readers import read_as_told
from stpatch_jax.data.sampling.spacing import gaps_report, spaced
from stpatch_jax.data.sampling.splits import rows_through, splits_report
from stpatch_jax.errors import check_range, check_size, listed, require
from stpatch_jax.recipes.risk.features import LEAST_RULE_ROWS, RULE_ROWS, WARM_UP, RiskFeatures

SINCE_VALIDATION = "since_validation"
"""Name of the source of all examples from the first of validation to the last of test."""

_MOST_SCALED = 5.0


@dataclass(frozen=True)
class RiskConfig(TableConfig, DataConfig):
    """A quantile of the return over the next rows, for every company of a table of prices.

    The model reads features of the last row alone: how the variances of several estimators relate
    to `sigma**2`, the exponentially weighted one, and the latest returns over `sigma`. Its target
    is the log return over the whole horizon divided by `sigma * sqrt(horizon)`. The rows are split
    in order of time; no return reaches across a border.

    Attributes:
        path: Price table, see `read_price_table`. A long table gives `adjusted_close`, `high` and
            `low`; of a wide one, which has no highs and lows, the features that need them are left
            out.
        horizon: Number of rows that a return spans.
        level: Level of the quantile, in (0, 0.5); the task must forecast it.
        validation_share: Share of the rows in the validation span, in (0, 1).
        test_share: Share of the rows in the test span, in (0, 1), the last ones.
    """

    path: str | None = "catalog:stocks"
    horizon: int = 1
    level: float = 0.05
    validation_share: float = 0.15
    test_share: float = 0.15

    def __post_init__(self) -> None:
        check_size("data.horizon", self.horizon)
        check_range("data.level", self.level, 0, 0.5, bounds="()")
        check_range("data.validation_share", self.validation_share, 0, 1, bounds="()")
        left = 1 - self.validation_share
        check_range("data.test_share", self.test_share, 0, left, bounds="()")

    def load(self) -> "RiskData":
        """Reads the table, makes features, and scales them by the training rows.

        Raises:
            InputError: The table cannot be used or is too short; see `read_price_table`.
        """
        return _build(self, _read(None if self.path is None else self.file(), self))

    def restore(self, path: str | Path, state: Mapping[str, Any]) -> "RiskData":
        """Reads another table, of any companies, for a trained run; see `DataConfig.restore`.

        It has an example for each row of the table as origin; those whose return ends behind the
        table have no target.

        Raises:
            InputError: The table cannot be read, or has no highs and lows where the model needs
                them (or has them where it does not), or has another step.
        """
        table = RiskFeatures.of(_read(path, self), horizon=self.horizon, level=self.level)
        identity = FieldIdentity.of_state(state)
        require(
            table.features == identity.channels,
            f"{path} must give the features {listed(identity.channels)} that the run was trained "
            f"on, got {listed(table.features)}; give a table with the same columns",
        )
        notes = identity.match_times(table.times, name=str(path))
        table.report["notes"] = [*table.report.get("notes", ()), *notes]
        scaling = {name: np.asarray(state[name]) for name in ("mean", "deviation")}
        rows = range(self.horizon, len(table.times) + self.horizon)
        return RiskData.scaled(self, table, {EVERYTHING: rows}, scaling)


@dataclass(frozen=True, eq=False, kw_only=True)
class RiskData(RiskFeatures, Problem):
    """Everything of one value-at-risk problem; made by `RiskConfig.load`.

    Rows count from 0. An example is named by the row in which its return ends, `horizon` rows
    after its origin, the last row that a forecast knows. There is one lead time: the return over
    the whole horizon. The order of the companies carries no meaning.

    Attributes (beside those of `RiskFeatures`):
        splits: Target rows of `train`, `validation` and `test`, or of `EVERYTHING`.
        scaling: Mean and standard deviation of each feature over the training rows.
        inputs: Scaled features by origin [time, company, channel], float32, 0 where missing.
    """

    config: RiskConfig
    splits: Mapping[str, range]
    scaling: Mapping[str, np.ndarray]
    inputs: np.ndarray

    @classmethod
    def scaled(
        cls,
        config: RiskConfig,
        table: RiskFeatures,
        splits: Mapping[str, range],
        scaling: Mapping[str, np.ndarray],
    ) -> "RiskData":
        """The features of a table, scaled."""
        scaled = (table.unscaled - scaling["mean"]) / scaling["deviation"]
        inputs = np.where(table.known[..., None], scaled.clip(-_MOST_SCALED, _MOST_SCALED), 0.0)
        inherited = {field.name: getattr(table, field.name) for field in fields(table)}
        own = {"config": config, "splits": splits, "scaling": scaling}
        return cls(**inherited, **own, inputs=inputs.astype(np.float32))

    @property
    def context(self) -> int:
        """Number of input time steps: the features of one row."""
        return 1

    @property
    def horizon(self) -> int:
        """Number of predicted values: one return, over `config.horizon` rows."""
        return 1

    @property
    def unit(self) -> str:
        """Unit of the targets, for reports."""
        rows = self.config.horizon
        return f"log return over {rows} row{'s' if rows > 1 else ''}"

    @property
    def series(self) -> dict[str, tuple[slice, ...]]:
        """Every company, and where it lies in an array [n, 1, company, 1]."""
        whole = slice(None)
        return {name: (whole, whole, slice(i, i + 1)) for i, name in enumerate(self.companies)}

    def source(self, split: str) -> Source:
        """The examples of a split, one a row, in order of time.

        Each is a dict of `context` [1, company, channel] scaled features, 0 where missing, `target`
        [1, company, 1] scaled, 0 where missing, `target_mask` (same shape, bool) True where the
        target is real, `persistence` [1, company, 1] zeros, and `index`, an int64 scalar, the row
        in which the return ends. Floats are float32. The split `SINCE_VALIDATION` is validation,
        test and the rows between them, for what is learned online.
        """
        if split == SINCE_VALIDATION:
            rows = range(self.splits["validation"].start, self.splits["test"].stop)
        else:
            rows = chosen_split(self.splits, split)
        return MadeExamples(partial(self._example, rows), len(rows))

    def _example(self, rows: range, i: int) -> Batch:
        row, origin = rows[i], rows[i] - self.config.horizon
        real = self.returns[row] if row < len(self.returns) else np.nan
        target = real / self.scale[origin]
        mask = np.isfinite(target) & self.known[origin]
        column = (None, slice(None), None)
        return {
            "context": self.inputs[origin][None],
            "target": np.where(mask, target, 0.0).astype(np.float32)[column],
            "target_mask": mask[column],
            "persistence": np.zeros((1, len(mask), 1), np.float32),
            "index": np.asarray(row, np.int64),
        }

    def input_axes(self, split: str, number: int) -> InputAxes:
        """The companies, the features and the time of an example's origin."""
        origin = chosen_split(self.splits, split)[number] - self.config.horizon
        coords = {"time": self.times[[origin]], "company": list(self.companies)}
        return InputAxes(dims=("company",), coords=coords, channels=self.features)

    def in_units(self, values: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Scaled predictions [n, 1, company, 1] as log returns, float64; NaN where not known.

        `index` holds the row in which each return ends [n].
        """
        return np.asarray(values, np.float64) * self._at_origins(self.scale, index)

    def values(self, rows: slice) -> np.ndarray:
        """The log returns that end in some rows [rows, company, 1], NaN where missing."""
        return self.returns[rows][..., None]

    def naive_quantiles(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """What two rules without a model say of the quantile, as log returns [n, 1, company, 1].

        `historical_simulation` is the quantile of the returns over the same horizon that ended in
        the last 250 rows; `ewma_normal` that of a normal law with mean 0 and the deviation
        `sigma * sqrt(horizon)`. NaN where a company is too young. `index` is as in `in_units`.
        """
        return {name: self._at_origins(values, index) for name, values in self.rules.items()}

    def state(self) -> dict[str, Any]:
        """Mean and deviation of each feature over the training rows, and what the table is."""
        identity = FieldIdentity.of_rows(self.features, self.times).to_dict()
        return {"companies": list(self.companies), "identity": identity, **self.scaling}

    def content(self, split: str) -> Mapping[str, Any]:
        """The rows up to the end of a split from the end of the one before, as they were read."""
        return field_content(self.field, rows_through(self.splits, split))

    def _at_origins(self, values: np.ndarray, index: np.ndarray) -> np.ndarray:
        return values[np.asarray(index) - self.config.horizon][:, None, :, None]


def _read(path: str | Path | None, config: RiskConfig) -> PriceTable:
    """A table of prices; rows that it leaves out are put in, so that no return spans more rows."""
    table = read_as_told(read_price_table, path, config.told(), kind="price tables")
    gaps = gaps_report(TimeAxis.of(table.field.time.values))
    field = spaced(table.field, "insert", name=table.report["source"])
    return PriceTable(field, {**table.report, **gaps, "times": len(field)})


def _build(config: RiskConfig, prices: PriceTable) -> RiskData:
    splits = _splits(len(prices.field), config)
    table = RiskFeatures.of(prices, horizon=config.horizon, level=config.level)
    train = slice(splits["train"].start - config.horizon, splits["train"].stop - config.horizon)
    real = np.isfinite(table.returns[splits["train"]])
    rows = table.unscaled[train][table.known[train] & real]
    require(
        len(rows) > 0,
        f"the price table must have a company with {WARM_UP + config.horizon + 2} prices in its "
        f"{train.stop} training rows, got none; use a longer table or a smaller "
        "data.validation_share and data.test_share",
    )
    scaling = {"mean": rows.mean(axis=0), "deviation": rows.std(axis=0) + 1e-9}
    _check_judged(splits, table, config.horizon)
    report = splits_report(splits, table.times, horizon=1)
    table.report.update(training_targets=len(rows), splits=report)
    return RiskData.scaled(config, table, splits, scaling)


def _splits(rows: int, config: RiskConfig) -> dict[str, range]:
    """Target rows whose origin lies in the same span."""
    spans = chronological_splits(
        rows,
        context=WARM_UP,
        horizon=config.horizon + 1,
        validation_share=config.validation_share,
        test_share=config.test_share,
    )
    least = RULE_ROWS + config.horizon
    trained = spans["train"].stop
    require(
        trained >= least,
        f"the training split must hold at least {least} rows ({RULE_ROWS} returns of historical "
        f"simulation), got {trained} of the table's {rows}; use a longer table or a "
        "smaller data.validation_share and data.test_share",
    )
    return {name: range(span.start + config.horizon, span.stop) for name, span in spans.items()}


def _check_judged(splits: Mapping[str, range], table: RiskFeatures, horizon: int) -> None:
    """Refuses tables with so many gaps that there is nothing to be judged by."""
    for name in ("validation", "test"):
        origins = np.array(splits[name]) - horizon
        both = table.known[origins] & np.isfinite(table.rules["historical_simulation"][origins])
        require(
            bool((both & np.isfinite(table.returns[splits[name]])).any()),
            f"the price table must have a company with {LEAST_RULE_ROWS} returns in {RULE_ROWS} "
            f"rows for its {name} split, got none; use a longer table or one with fewer gaps",
        )
