"""Where the folds of a backtest lie: rolling origins over the rows of a data set."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, get_args

from stpatch_jax.data.protocols import DataConfig, ForecastData
from stpatch_jax.data.sampling.splits import SplitAt
from stpatch_jax.errors import check_choice, check_size, require

Over = Literal["train", "all"]
"""What is cut into folds: the training span, so that the test span stays unseen, or all rows."""


class RollingData(ForecastData, Protocol):
    """A data set whose configuration cuts it at rolling origins, see `DataConfig.rolled`.

    Attributes:
        past: Rows before the first target that an example reads.
        segments: The rows between gaps.
        spans: By split the parts of its target rows whose windows cross no gap.
        seasons: The seasons in time steps, by the names of their naive forecasts.
        series_units: The unit of each of the `series`.
    """

    config: DataConfig
    splits: Mapping[str, range]
    past: int
    segments: Sequence[range]
    spans: Mapping[str, Sequence[range]]
    seasons: Mapping[str, int]
    series_units: Mapping[str, str]


class Fold(NamedTuple):
    """One fold.

    Attributes:
        number: Its number, from 1.
        validation: Its first row of validation: training ends before it.
        origin: Its first row of test.
        stop: The row behind its last one of test.
    """

    number: int
    validation: int
    origin: int
    stop: int

    @property
    def split_at(self) -> SplitAt:
        """The splits of a data set whose model knows the rows before the origin."""
        return self.validation, self.origin, self.stop


def rolling_folds(
    rows: int, folds: int, *, horizon: int, validation_share: float, season: int = 0
) -> list[Fold]:
    """Cuts the second half of some rows into test spans of equal length, one after the other.

    What is left over stays with the first half, all of which lies before the first origin. Of the
    rows before each origin the last ones are for validation, a horizon at least. The window of what
    is known grows.

    Args:
        rows: How many there are.
        folds: How many spans they become.
        horizon: Number of predicted time steps, all of which lie in one span.
        validation_share: Share of the rows before an origin that are for validation.
        season: Of several the longest season in time steps, which training rows hold.

    Raises:
        InputError: So many do not fit, or the first has too few training rows.

    >>> rolling_folds(100, 3, horizon=4, validation_share=0.1)[0]
    Fold(number=1, validation=47, origin=52, stop=68)
    """
    check_size("folds=", folds)
    most = (rows - rows // 2) // horizon
    require(
        folds <= most,
        f"folds= must be at most {most} for horizons of {horizon} in the second half of {rows} "
        f'rows, got {folds}; use fewer, a shorter data.horizon, or over="all"',
    )
    span = (rows - rows // 2) // folds
    origins = [rows - span * number for number in range(folds, 0, -1)]
    found = []
    for number, origin in enumerate(origins, 1):
        validation = origin - max(horizon, round(origin * validation_share))
        found.append(Fold(number, validation, origin, origin + span))
    require(
        found[0].validation > season,
        f"the first fold must train on more rows than a season of {season}, got "
        f"{max(0, found[0].validation)} of the {found[0].origin} rows before its origin; use a "
        'longer table, a shorter data.season, or over="all"',
    )
    return found


def folds_of(data: Any, folds: int, over: Over) -> list[Fold]:
    """The `rolling_folds` of data whose own splits tell training span and share of validation."""
    check_choice("over=", over, get_args(Over))
    train, test = data.splits["train"].stop, data.splits["test"].start
    return rolling_folds(
        train if over == "train" else data.splits["test"].stop,
        folds,
        horizon=data.horizon,
        validation_share=1 - train / test,
        season=max(data.seasons.values(), default=0),
    )


def all_folds(folds: Sequence[Fold]) -> Fold:
    """The folds as one, whose model knows the rows before the first origin."""
    return folds[0]._replace(stop=folds[-1].stop)
