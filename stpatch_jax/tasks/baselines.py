"""Naive forecasts, which every model has to beat: persistence, the last season, climatology."""

import jax
import jax.numpy as jnp
import numpy as np

from stpatch_jax.errors import require
from stpatch_jax.nn.layers import is_size


def persistence(last: jax.Array, *, horizon: int) -> jax.Array:
    """Repeats the last known value at every lead time.

    Args:
        last: [batch, 1, *space, channel].
        horizon: Number of time steps to forecast.

    Returns:
        [batch, horizon, *space, channel].

    >>> persistence(jnp.array([[[5.0]]]), horizon=2).ravel().tolist()
    [5.0, 5.0]
    """
    require(
        last.ndim >= 3 and last.shape[1] == 1 and is_size(horizon),
        "persistence needs the last values (batch, 1, *space, channel) and a horizon >= 1, "
        f"got shape {last.shape} and {horizon!r}",
    )
    return jnp.broadcast_to(last, (len(last), horizon, *last.shape[2:]))


def seasonal_persistence(context: jax.Array, *, horizon: int, season: int) -> jax.Array:
    """Repeats the last season: the value one season before, or as many as reach the context.

    At lead time k it is the context's value `season * ceil(k / season)` time steps before.

    Args:
        context: [batch, context, *space, channel].
        horizon: Number of time steps to forecast.
        season: Length of a season in time steps, for example 24 for hours of a day.

    Returns:
        [batch, horizon, *space, channel].

    Raises:
        InputError: If the context is shorter than a season.

    >>> context = jnp.array([9.0, 1.0, 2.0]).reshape(1, 3, 1)
    >>> seasonal_persistence(context, horizon=3, season=2).ravel().tolist()
    [1.0, 2.0, 1.0]
    """
    require(
        is_size(horizon) and is_size(season),
        "seasonal_persistence needs a horizon and a season of at least one time step, "
        f"got {horizon!r} and {season!r}",
    )
    length = context.shape[1]
    require(
        season <= length,
        f"seasonal_persistence needs a context of at least one season of {season} time steps, "
        f"got {length}; use a longer context or a shorter season",
    )
    return context[:, length - season + np.arange(horizon) % season]


def climatology(field: np.ndarray, phase: np.ndarray, *, phases: int) -> np.ndarray:
    """Means of each cell by phase of the season, fitted on training rows.

    The forecast for a time step is the row of its phase: `climatology(...)[phase_of_target]`.

    Args:
        field: [time, *space, channel], training rows only; NaN where missing.
        phase: [time] integers from 0 to phases - 1, for example the month or the hour of each row.
        phases: Number of phases.

    Returns:
        [phases, *space, channel] float64; NaN where a phase has no value.

    Raises:
        InputError: If the phases do not fit the rows.

    >>> climatology(np.array([[1.0], [10.0], [3.0]]), np.array([0, 1, 0]), phases=2).tolist()
    [[2.0], [10.0]]
    """
    field, phase = np.asarray(field, np.float64), np.asarray(phase)
    require(
        is_size(phases)
        and phase.shape == field.shape[:1]
        and np.issubdtype(phase.dtype, np.integer)
        and bool(((phase >= 0) & (phase < phases)).all()),
        f"climatology needs a phase from 0 to {phases} - 1 for each of {len(field)} rows, got "
        f"{phase.dtype} of shape {phase.shape}",
    )
    real = ~np.isnan(field)
    total, count = np.zeros((2, phases, *field.shape[1:]))
    np.add.at(total, phase, np.where(real, field, 0.0))
    np.add.at(count, phase, real)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
