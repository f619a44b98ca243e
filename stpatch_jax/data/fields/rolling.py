"""How far a forecast may leave persistence: a weight from rolling origins of the known past."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from stpatch_jax.data.fields.cleaning import Cleaner
from stpatch_jax.data.fields.slabs import SlabReader, cell_blocks
from stpatch_jax.data.times import Gap
from stpatch_jax.errors import require

_FIRST_SHARE = 0.35
_ORIGINS = 30
_RIDGE = 1e-3


def rolling_weight(
    values: np.ndarray | Callable[[], Iterable[np.ndarray]], *, context: int, horizon: int
) -> float:
    """The weight of a linear forecast against persistence that least squares gives out of sample.

    A linear map of the last `context` values, shared by all series, is fitted at some thirty
    origins on the rows before each (ridge regression), and forecasts the windows up to the next
    origin. Over all of them the weight w of `p + w (model - p)` with the least squared error is
    `sum((y - p)(m - p)) / sum((m - p)^2)`, clipped to [0, 1], for targets y, forecasts m and
    persistence p; it is 1 where no origin has a window on both sides. Near 0 the past says that no
    level comes back; one block of validation, which drifts one way only, cannot tell that.

    Args:
        values: Training and validation rows alone [row, *series], scaled, NaN where missing; or
            what yields them in blocks of series, the same at every call, so that they need not fit
            into memory together.
        context: Number of values that the map sees, in time steps.
        horizon: Number of predicted time steps.

    Raises:
        InputError: There are too few rows for one window.

    References:
        Tashman, "Out-of-sample tests of forecasting accuracy", International Journal of Forecasting
        16 (2000). Bates and Granger, "The combination of forecasts", Operational Research Quarterly
        20 (1969).

    >>> walk = np.random.default_rng(0).normal(size=(900, 4)).cumsum(axis=0)
    >>> bool(rolling_weight(walk, context=4, horizon=8) < 0.6)
    True
    """

    def blocks() -> Iterator[np.ndarray]:
        for block in [values] if isinstance(values, np.ndarray) else values():
            require(
                len(block) >= length,
                f"a rolling weight must have the rows of one window of {length}, got {len(block)}; "
                "use more rows or a shorter context= or horizon=",
            )
            series = np.asarray(block, np.float64).reshape(len(block), -1)
            yield np.lib.stride_tricks.sliding_window_view(series, length, axis=0)

    length = context + horizon
    known: dict[int, np.ndarray] = {}
    for windows in blocks():
        fitted, rows = 0, len(windows) + length - 1
        for origin in range(round(_FIRST_SHARE * rows), rows - horizon + 1, _step(rows)):
            # Windows whose last target lies before the origin may be fitted to.
            ready = max(fitted, origin - length + 1)
            past = _complete(windows[fitted:ready])
            known[origin] = known.get(origin, 0.0) + past[:, :context].T @ past
            fitted = ready
    maps = dict(zip(known, map(_linear_map, itertools.accumulate(known.values())), strict=True))
    agreed, spread = 0.0, 0.0
    for windows in blocks():
        step = _step(len(windows) + length - 1)
        for origin, weights in maps.items():
            ahead = _complete(windows[origin - context : origin - context + step])
            if weights is None or not len(ahead):
                continue
            last = ahead[:, context - 1 : context]
            left = ahead[:, :context] @ weights - last
            agreed += float(np.sum((ahead[:, context:] - last) * left))
            spread += float(np.sum(left * left))
    return float(np.clip(agreed / spread, 0, 1)) if spread else 1.0


def series_blocks(
    reader: SlabReader, rows: range, cleaner: Cleaner, gaps: Sequence[Gap], block_bytes: int
) -> Iterator[np.ndarray]:
    """All series of a field up to the end of some rows [row, *series], scaled, in blocks of them.

    Rows of NaN keep windows from crossing a gap.
    """
    edges = [gap.row for gap in gaps]
    for cells in cell_blocks(reader, rows, block_bytes=block_bytes):
        part = reader.read(slice(0, rows.stop), *cells)
        channels = range(part.shape[-1])
        part = cleaner.scaled(part, channels=channels, clip=False, cells=cells)
        yield np.insert(part, edges, np.nan, axis=0) if edges else part


def _step(rows: int) -> int:
    """Rows between origins."""
    return max(1, rows // _ORIGINS)


def _linear_map(products: np.ndarray) -> np.ndarray | None:
    """The ridge regression [context, horizon] that sums of products tell; None without windows."""
    context = len(products)
    gram = products[:, :context]
    if not (trace := np.trace(gram)):
        return None
    return np.linalg.solve(gram + _RIDGE * trace / context * np.eye(context), products[:, context:])


def _complete(windows: np.ndarray) -> np.ndarray:
    """Windows [window, series, time] without a missing value, as rows [n, time]."""
    rows = windows.reshape(-1, windows.shape[-1])
    return rows[np.isfinite(rows).all(axis=1)]
