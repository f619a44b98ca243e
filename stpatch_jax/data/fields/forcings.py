"""Calendar features of a time axis: what is known of the future, as forcings."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from stpatch_jax.data.clocks import Clock
from stpatch_jax.errors import check_choice

CalendarFeature = Literal["hour", "weekday", "day_of_year"]


def calendar_features(times: np.ndarray, *, features: Sequence[CalendarFeature]) -> np.ndarray:
    """Sine and cosine of the hour of the day, the weekday and the day of the year.

    Each feature is an angle `2 pi * phase`: `hour` is the share of the day that has passed,
    `weekday` the share of the week (from Monday 0:00), `day_of_year` the share of the year, which
    has the days that it has in the calendar of the times. All of them run on within a day. Times
    [time] are datetime64 or dates of cftime, in UTC or in the local time that the features shall
    follow.

    Returns:
        float32 [time, 2 * features], sine before cosine, in the order of `features`.

    Raises:
        InputError: If the times are no dates or a feature is not known.

    >>> times = np.array(["2024-01-01T00", "2024-01-01T06"], "datetime64[ns]")
    >>> calendar_features(times, features=("hour",)).round(3).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    clock = Clock.of(times)
    columns = [np.zeros((len(clock.day_share), 0))]
    for feature in features:
        check_choice("a calendar feature", feature, get_args(CalendarFeature))
        angle = 2 * np.pi * _phase(clock, feature)
        columns.append(np.stack([np.sin(angle), np.cos(angle)], axis=1))
    return np.concatenate(columns, axis=1).astype(np.float32)


def _phase(clock: Clock, feature: CalendarFeature) -> np.ndarray:
    """The share of the feature's period that has passed, in [0, 1)."""
    if feature == "hour":
        return clock.day_share
    if feature == "weekday":
        return (clock.weekday + clock.day_share) / 7
    return (clock.day_of_year + clock.day_share) / clock.days_in_year
