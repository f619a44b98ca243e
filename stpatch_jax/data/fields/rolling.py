"""How far a forecast may leave persistence: a weight from rolling origins of the known past."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from stpatch_jax.data.fields.choosing import some_series
from stpatch_jax.data.fields.climatology import Phases, phase_numbers
from stpatch_jax.data.fields.regression import Regression, Terms, explained, known_series
from stpatch_jax.data.fields.rules import COMBINATION, path_increment
from stpatch_jax.data.fields.slabs import SlabReader, cell_blocks
from stpatch_jax.data.times import TimeAxis
from stpatch_jax.errors import require
from stpatch_jax.metrics import resampled

_FIRST_SHARE = 0.35
_ORIGINS = 30
_RIDGE = 1e-3


class RuleWeight(NamedTuple):
    """The weight of a linear forecast against a rule, see `rolling_rules`.

    Attributes:
        weight: The weight, in [0, 1].
        error: The mean squared error of both together.
        alone: That of the rule.
        sure: Whether, of origins drawn anew, more than 97.5 % have a weight above 0.
    """

    weight: float
    error: float
    alone: float
    sure: bool


# Of too few rows to tell.
_NOTHING = {"persistence": RuleWeight(1.0, 0.0, 0.0, False)}


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


# Missing rows for which the value before them stands.
_LONGEST_GAP = 3
# Of a batch of windows, and of all arithmetic, for which fewer series are taken.
_MOST_SERIES, _MOST_NUMBERS, _MOST_PRODUCTS = 64, 2**23, 2**34


def rolling_rules(
    values: np.ndarray,
    *,
    context: int,
    horizon: int,
    seasons: Mapping[str, int],
    phases: Phases | None = None,
    known: Terms | None = None,
    there: np.ndarray | None = None,
) -> dict[str, RuleWeight]:
    """The weight of a linear forecast against each rule, and the errors of both.

    As `rolling_weight`, of `persistence`, `drift`, the `seasons`, `running_mean` and with phases
    `climatology` and `anomaly_persistence`, and with known covariates `regression`, which are
    fitted at each origin to the rows before it.

    Args:
        values: Training and validation rows alone [row, *series], scaled, NaN where missing; of
            many series the first ones are taken.
        context: Number of values that the map sees, in time steps.
        horizon: Number of predicted time steps.
        seasons: Seasons in time steps by the names of their rules.
        phases: The phase of each row.
        known: Terms of covariates that are known in advance [row, *series, term].
        there: Which values are known and not filled in [row, *series]; by default all.

    >>> wave = np.sin(np.arange(400) * np.pi / 6)[:, None]
    >>> noise = np.random.default_rng(0).normal(size=(400, 1))
    >>> found = rolling_rules(wave + 0.1 * noise, context=2, horizon=6, seasons={"season": 12})
    >>> min(found, key=lambda rule: found[rule][1])
    'season'
    """
    step = _step(len(values))
    sums: dict[str, list[np.ndarray]] = {}
    count = 0
    told: dict[str, Any] = {"context": context, "horizon": horizon, "seasons": seasons}
    for origin in rolling_origins(values, phases=phases, known=known, there=there, **told):
        if (weights := _linear_map(origin.products)) is None:
            continue
        model = origin.context @ weights
        whole = origin.whole[..., None] & origin.there
        count += int(np.count_nonzero(whole))
        for name, forecast in origin.rules.items():
            left, missed = (model - forecast)[whole], (origin.target - forecast)[whole]
            found = [np.sum(missed * left), np.sum(left * left), np.sum(missed * missed)]
            sums.setdefault(name, []).append(np.array(found))
    block = 1 + -(-horizon // step)  # Of origins whose windows share targets.
    return {name: _weighed(np.stack(of), count, block) for name, of in sums.items()} or _NOTHING


class Origin(NamedTuple):
    """What is known at a rolling origin, and the windows from there up to the next.

    Attributes:
        row: Its row.
        products: Of the windows before it, see `window_products`.
        context: What a map sees of the windows from there on [window, series, context].
        target: What comes then [window, series, horizon].
        whole: Whether nothing is missing in them, and not all that comes was filled in
            [window, series].
        there: What of the targets was not filled in, like these.
        rules: What the naive rules say [window, series, horizon or 1], by name.
        expected: What is expected of context and target by what is fitted to rows before
            [window, series, time]: by the `climatology` with phases, by the `regression` with known
            covariates.
        departures: What these rows are from either [row, series].
    """

    row: int
    products: np.ndarray
    context: np.ndarray
    target: np.ndarray
    whole: np.ndarray
    there: np.ndarray
    rules: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]
    departures: dict[str, np.ndarray]


def rolling_origins(
    values: np.ndarray,
    *,
    context: int,
    horizon: int,
    seasons: Mapping[str, int],
    phases: Phases | None = None,
    known: Terms | None = None,
    there: np.ndarray | None = None,
) -> Iterator[Origin]:
    """The some thirty origins of `rolling_rules` with a whole window behind them, in their order.

    The arguments are those of `rolling_rules`.
    """
    past, rows = max(context, *seasons.values(), 0), len(values)
    length, step = past + horizon, _step(rows)
    if rows < length:
        return
    series = some_columns(values, context=context, horizon=horizon, past=past)
    own = own_values(series, there)
    windows = np.lib.stride_tricks.sliding_window_view(series, length, axis=0)
    owned = np.isfinite(np.lib.stride_tricks.sliding_window_view(own, length, axis=0))
    products, fitted = np.zeros((context, context + horizon)), 0
    for origin in range(max(round(_FIRST_SHARE * rows), past), rows - horizon + 1, step):
        ready = max(fitted, origin - length + 1)
        products = products + _products(windows[fitted:ready, :, past - context :], context, step)
        fitted = ready
        ahead = windows[origin - past : origin - past + step]
        told = owned[origin - past : origin - past + step, :, past:]
        whole = np.asarray(np.isfinite(ahead).all(axis=-1)) & told.any(axis=-1)
        rows_of = origin + np.arange(len(ahead))[:, None] + np.arange(-context, horizon)
        if phases is not None:
            met = phases.met(origin)[rows_of[:, context:]]
            whole = whole & np.all(met, axis=1, keepdims=True)
        if not whole.any():
            continue
        before, seen, target = series[:origin], ahead[..., past - context : past], ahead[..., past:]
        rules = _rules(before, ahead, past, context, seasons)
        every, expected, departures = expectations(own[:origin], phases, known), {}, {}
        for name, rows in every.items():
            expected[name] = np.moveaxis(rows[rows_of], -1, 1)
            departures[name] = before - rows[:origin]
            rules[name] = expected[name][..., context:]
        if phases is not None:
            last = seen[..., -1:] - expected["climatology"][..., context - 1 : context]
            rules["anomaly_persistence"] = rules["climatology"] + last
        yield Origin(origin, products, seen, target, whole, told, rules, expected, departures)


def own_values(series: np.ndarray, there: np.ndarray | None) -> np.ndarray:
    """The first series [row, series] of those that are `there`, NaN where they were filled in."""
    if there is None:
        return series
    return np.where(there.reshape(len(series), -1)[:, : series.shape[1]], series, np.nan)


def expectations(
    before: np.ndarray, phases: Phases | None, known: Terms | None
) -> dict[str, np.ndarray]:
    """What rows [row, series] make the climatology and the regression of all rows expect.

    Phases and terms of known covariates are those of as many rows, or of more.
    """
    found: dict[str, np.ndarray] = {}
    if phases is not None:
        found["climatology"] = phases.means(before)[phases.numbers]
    if known is not None:
        rows = known.rows.reshape(len(known.rows), -1, known.rows.shape[-1])
        known = replace(known, rows=rows[:, : before.shape[1]])
        weights = Regression.fit(before, known[: len(before)]).weights
        found["regression"] = explained(weights, known)
    return found


def some_columns(
    values: np.ndarray, *, context: int, horizon: int, past: int, times: int = 1
) -> np.ndarray:
    """The first series [row, series] of some, so many that arithmetic stays within bounds.

    Their products are made so many times.
    """
    rows = len(values)
    few = (
        _MOST_NUMBERS // (_step(rows) * (past + horizon)),
        _MOST_PRODUCTS // (times * rows * context * (context + horizon)),
    )
    return np.asarray(values, np.float64).reshape(rows, -1)[:, : max(1, min(_MOST_SERIES, *few))]


def window_products(series: np.ndarray, *, context: int, horizon: int) -> np.ndarray:
    """Sums over all whole windows of series [row, series] of products of their values.

    They are of those of the context with all of the window, [context, context + horizon].
    """
    if len(series) < context + horizon:
        return np.zeros((context, context + horizon))
    windows = np.lib.stride_tricks.sliding_window_view(series, context + horizon, axis=0)
    return _products(windows, context, _step(len(series)))


def _products(windows: np.ndarray, context: int, step: int) -> np.ndarray:
    sums = np.zeros((context, windows.shape[-1]))
    for at in range(0, len(windows), step):
        known = _complete(windows[at : at + step])
        sums += known[:, :context].T @ known
    return sums


def _weighed(sums: np.ndarray, count: int, block: int) -> RuleWeight:
    agreed, spread, missed = map(float, sums.sum(axis=0))
    weight = float(np.clip(agreed / spread, 0, 1)) if spread else 1.0
    both = (missed - 2 * weight * agreed + weight**2 * spread) / count
    drawn = resampled(*sums.T[:2], block=block)
    sure = drawn is not None and bool(np.quantile(drawn[0], 0.025) > 0)
    return RuleWeight(weight, both, missed / count, sure)


def _rules(
    known: np.ndarray, ahead: np.ndarray, past: int, context: int, seasons: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """The rules of windows [n, series, time], each [n, series, horizon or 1]."""
    leads = np.arange(ahead.shape[-1] - past)
    last = ahead[..., past - 1 : past]
    return {
        "persistence": last,
        "drift": last + path_increment(known)[:, None] * (leads + 1),
        **{name: ahead[..., past - n + leads % n] for name, n in seasons.items()},
        "running_mean": ahead[..., past - context : past].mean(axis=-1, keepdims=True),
    }


def field_weight(data: Any) -> float:
    """The `rolling_weight` of `FieldData`, from the rows before its test span."""
    rows, channels = range(data.splits["validation"].stop), range(data.targets.shape[-1])
    edges = _edges(data, rows)
    reader = SlabReader(data.targets, cache_bytes=0)
    # A block becomes windows, in which each value stands once for each of their rows.
    size = 4 * data.block_bytes // (data.context + data.horizon)

    def blocks() -> Iterator[np.ndarray]:
        for cells in cell_blocks(reader, rows, block_bytes=size):
            part = reader.read(slice(0, rows.stop), *cells)
            part = data.target_cleaner.scaled(part, channels=channels, clip=False, cells=cells)
            yield np.insert(part, edges, np.nan, axis=0) if edges else part

    return rolling_weight(blocks, context=data.context, horizon=data.horizon)


def field_rule_weights(data: Any) -> dict[str, RuleWeight]:
    """The `rolling_rules` of some series of `FieldData`, from the rows before its test span.

    A `combination` has linear maps of the targets already, so that another one adds nothing; of
    what other channels tell it knows nothing.
    """
    rows = range(data.splits["validation"].stop)
    found = rule_weights(data, scaled_series(data, rows), known=known_series(data, rows))
    more = data.target_numbers is not None
    combined = {COMBINATION: RuleWeight(float(more), 0.0, 0.0, more)}
    combined = combined if data.config.combination else {}
    return found | combined


def scaled_series(data: Any, rows: range) -> np.ndarray:
    """Some rows of some series of `FieldData`, scaled [row, series], see `some_series`."""
    channels = range(data.targets.shape[-1])
    scaled = partial(data.target_cleaner.scaled, channels=channels, clip=False)
    return some_series(data.targets, rows, of=scaled)


def rule_weights(
    data: Any, values: np.ndarray, *, known: Terms | None = None
) -> dict[str, RuleWeight]:
    """The `rolling_rules` of rows [row, *series] of data from their first one on, scaled."""
    values, told = asked_of(data, values, known=known)
    return rolling_rules(values, **told)


def asked_of(
    data: Any, values: np.ndarray, *, known: Terms | None = None
) -> tuple[np.ndarray, dict[str, Any]]:
    """First rows of data [row, *series] with NaN at gaps, and what `rolling_rules` asks of them.

    The value before up to three missing ones stands for these, as it does in a context.
    """
    rows, phases, phase = range(len(values)), None, data.config.climatology
    edges = _edges(data, rows)
    if phase is not None:
        numbers = phase_numbers(data.times[: rows.stop], phase=phase)
        phases = Phases(phase, np.insert(numbers, edges, 0))
    there = np.insert(np.isfinite(values), edges, False, axis=0)
    values = np.concatenate([_held(part) for part in np.split(values, edges)])
    values = np.insert(values, edges, np.nan, axis=0)
    known = known and replace(known, rows=np.insert(known.rows, edges, np.nan, axis=0))
    told: dict[str, Any] = {"seasons": data.config.seasons, "phases": phases, "known": known}
    return values, told | {"there": there, "context": data.context, "horizon": data.horizon}


def _held(values: np.ndarray) -> np.ndarray:
    """Rows [row, *series] with the value before a gap for as many rows as a gap may have."""
    rows = np.arange(len(values)).reshape(-1, *[1] * (values.ndim - 1))
    last = np.maximum.accumulate(np.where(np.isfinite(values), rows, -1), axis=0)
    held = np.take_along_axis(values, np.maximum(last, 0), axis=0)
    return np.where((last >= 0) & (rows - last <= _LONGEST_GAP), held, np.nan)


def _edges(data: Any, rows: range) -> list[int]:
    """Where rows of NaN keep windows from crossing a gap."""
    return [gap.row for gap in TimeAxis.of(data.times[: rows.stop]).gaps]


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
