"""Calendar features of a time axis: what is known of the future, as forcings."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import pandas as pd

from stpatch_jax.errors import check_choice, require

CalendarFeature = Literal["hour", "weekday", "day_of_year"]


def calendar_features(times: np.ndarray, *, features: Sequence[CalendarFeature]) -> np.ndarray:
    """Sine and cosine of the hour of the day, the weekday and the day of the year.

    Each feature is an angle `2 pi * phase`: `hour` is the share of the day that has passed,
    `weekday` the share of the week (from Monday 0:00), `day_of_year` the share of the year, which
    has 365 or 366 days. All of them run on within a day. Times [time] are datetime64, in UTC or in
    the local time that the features shall follow.

    Returns:
        float32 [time, 2 * features], sine before cosine, in the order of `features`.

    Raises:
        InputError: If the times are not datetime64 or a feature is not known.

    >>> times = np.array(["2024-01-01T00", "2024-01-01T06"], "datetime64[ns]")
    >>> calendar_features(times, features=("hour",)).round(3).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    stamps = as_dates(times)
    columns = [np.zeros((len(stamps), 0))]
    for feature in features:
        check_choice("a calendar feature", feature, get_args(CalendarFeature))
        angle = 2 * np.pi * _phase(stamps, feature)
        columns.append(np.stack([np.sin(angle), np.cos(angle)], axis=1))
    return np.concatenate(columns, axis=1).astype(np.float32)


def as_dates(times: np.ndarray) -> pd.DatetimeIndex:
    """The times [time] as a pandas index.

    Raises:
        InputError: If they are no datetime64, but numbers of steps, for example.
    """
    times = np.asarray(times)
    require(
        np.issubdtype(times.dtype, np.datetime64),
        f"the times of a calendar must be of dtype datetime64, got {times.dtype}; give the field "
        "a time coordinate of dates or leave the calendar out",
    )
    return pd.DatetimeIndex(times)


def _phase(stamps: pd.DatetimeIndex, feature: CalendarFeature) -> np.ndarray:
    """The share of the feature's period that has passed, in [0, 1)."""
    day = ((stamps - stamps.normalize()) / pd.Timedelta(1, "D")).to_numpy(np.float64)
    if feature == "hour":
        return day
    if feature == "weekday":
        return (stamps.day_of_week.to_numpy() + day) / 7
    days = np.where(stamps.is_leap_year, 366, 365)
    return (stamps.day_of_year.to_numpy() - 1 + day) / days
