"""The forecast that rolling origins make of the naive rules and of linear maps of the context."""

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np

from stpatch_jax.data.fields.climatology import Phases
from stpatch_jax.data.fields.regression import Terms, known_series
from stpatch_jax.data.fields.rolling import (
    Origin,
    asked_of,
    expectations,
    own_values,
    rolling_origins,
    scaled_series,
    some_columns,
    window_products,
)
from stpatch_jax.data.fields.rules import COMBINATION
from stpatch_jax.data.sampling.batches import Batch

# Penalties of maps, as shares of the mean square of what they see; parts of a context, and seasons.
_PENALTIES, _PARTS = (1e-3, 1e-2, 1e-1, 1.0, 10.0), (1, 2, 4, 8)
# Of a mean of fewer cycles a departure holds too much of itself to be told from it.
_CYCLES = 8
# What maps are at a large penalty: with one level of all of a context, which may have moved.
_LEFT_OUT = ("running_mean", "regression")
# Below this share of the error of the best rule for which nothing is averaged, a gain may be luck;
# below the other, that of what covariates tell on what is forecast without them.
_SURE_GAIN, _AVERAGED = 0.1, ("climatology", "anomaly_persistence", *_LEFT_OUT)
_SURE_TOLD = 0.05
# Targets whose forecasts are kept, and steps that find the weights; smaller weights are dropped.
_MOST_TARGETS, _STEPS, _LEAST_WEIGHT = 2**15, 400, 0.05


class View(NamedTuple):
    """What a linear map sees of a context, and what it adds to.

    Attributes:
        name: What reports call it.
        seen: What it sees, a map of the context [context, n].
        base: What it adds to, likewise [context, horizon].
        departs: What the context and what is forecast are departures from, "climatology" or
            "regression"; empty where they are not.
    """

    name: str
    seen: np.ndarray
    base: np.ndarray
    departs: str = ""

    def fitted(self, products: np.ndarray, penalties: Sequence[float]) -> list[np.ndarray]:
        """Base and ridge regression as maps [context, horizon], see `window_products`."""
        context = len(products)
        gram, cross = products[:, :context], products[:, context:]
        own = self.seen.T @ gram @ self.seen
        if not (trace := np.trace(own)) > 0:
            return [self.base for _ in penalties]
        left = self.seen.T @ (cross - gram @ self.base)
        size = trace / len(own) * np.eye(len(own))
        return [
            self.base + self.seen @ np.linalg.solve(own + penalty * size, left)
            for penalty in penalties
        ]


def _views(
    context: int, horizon: int, seasons: Sequence[int], *, phased: bool, explained: bool
) -> list[View]:
    """What maps may see: each goes along with a level that moved, whatever is fitted to it."""
    every, views = np.eye(context), []
    for rows in sorted({context // part for part in _PARTS} - {0, 1}, reverse=True):
        mean, last = np.zeros((2, context, horizon))
        mean[-rows:], last[-1] = 1 / rows, 1.0
        less_mean, less_last = every[:, -rows:] - mean[:, :1], every[:, -rows:-1] - every[:, -1:]
        views.append(View(f"{rows} rows less their mean", less_mean, mean))
        views.append(View(f"{rows} rows less the last", less_last, last))
        if phased:
            name = f"{rows} rows less the climatology and their mean"
            views.append(View(name, less_mean, mean, departs="climatology"))
        if explained:
            name = f"{rows} rows less what covariates tell and"
            views.append(View(f"{name} their mean", less_mean, mean, departs="regression"))
            views.append(View(f"{name} the last", less_last, last, departs="regression"))
    for season, cycles in itertools.product(seasons, _PARTS):
        if (cycles + 1) * season <= context:
            # The last seasons, and as many from the one before on.
            late, early = (
                np.mean([every[:, end - n * season :][:, :season] for n in range(1, cycles + 1)], 0)
                for end in (context, context - season)
            )
            of = f" from {cycles} seasons" if cycles > 1 else ""
            name = f"changes over {season} rows{of}"
            base = late[:, np.arange(horizon) % season]
            views.append(View(name, every[:, -season:] - early, base))
    return views


@dataclass(frozen=True, eq=False)
class Combination:
    """A linear map of the context and a weighted sum of naive rules, which are added up.

    Attributes:
        linear: The map of the context of each series, [context, horizon], float32, in scaled units.
        rules: The weights of the rules, by their names.
        departing: The parts of the map that see departures from the climatology or from the
            regression: what they make of what these expect of the context is taken off.
        told: What it is made of, for reports.
    """

    linear: np.ndarray
    rules: Mapping[str, float]
    departing: Mapping[str, np.ndarray]
    told: str = ""

    @classmethod
    def of(
        cls,
        values: np.ndarray,
        *,
        context: int,
        horizon: int,
        seasons: Mapping[str, int],
        phases: Phases | None = None,
        known: Terms | None = None,
        there: np.ndarray | None = None,
    ) -> Self:
        """Combines rules and linear maps as they would have lost least in what is known.

        At some thirty origins the maps are fitted to the windows before each, by ridge regression
        shared by all series, and forecast the windows up to the next, as the rules do. Maps see the
        context, its latter half, quarter or eighth, less its mean or its last value, which they
        forecast where they see nothing else; of eight cycles and more (three years of days) so,
        too, of departures from the climatology; or, of two seasons in it, what changed from one to
        the other, and of more from the mean of the 2, 4 or 8 before, beside the mean of as many. No
        map holds on to a level of rows before the context: one that moved late would be missed for
        long. With known covariates they see departures from the `Regression`, too, and go along
        with these.
        Each has the penalty with which it lost least; then maps and rules, but for running mean and
        regression, have weights, none below 0 and of sum 1, with which their sum has the least
        absolute error; what covariates tell has less of it where it gained little.
        A gain on the best of persistence, drift and seasons that is less than a tenth may be luck:
        a gain of a twentieth leaves that rule half of all weight. The maps are fitted to all rows
        in the end. Of too few rows it is persistence.

        Args:
            values: The known rows [row, *series], scaled, NaN where missing.
            context: Number of values that a map sees, in time steps.
            horizon: Number of predicted time steps.
            seasons: Seasons in time steps by the names of their rules.
            phases: The phase of each row.
            known: Terms of covariates that are known in advance [row, *series, term].
            there: Which values are known and not filled in [row, *series]; by default all.

        References:
            Bates and Granger, "The combination of forecasts", Operational Research Quarterly 20
            (1969). Kivinen and Warmuth, "Exponentiated gradient versus gradient descent for linear
            predictors", Information and Computation 132 (1997), by which the weights are found.

        >>> walk = np.random.default_rng(0).normal(size=(400, 4)).cumsum(axis=0)
        >>> found = Combination.of(walk, context=8, horizon=4, seasons={})
        >>> level = found.linear.sum(axis=0) + sum(found.rules.values())
        >>> bool(abs(level - 1).max() < 0.1)
        True
        """
        size = {"context": context, "horizon": horizon}
        # Products of departures are made anew at each origin.
        told = size | {"past": max(context, *seasons.values(), 0)}
        times = 1 + 9 * ((phases is not None) + (known is not None))
        series = some_columns(values, **told, times=times)
        phased = phases is not None and phases.cycles >= _CYCLES
        kinds = {"phased": phased, "explained": known is not None}
        views = _views(context, horizon, [*seasons.values()], **kinds)
        facts: dict[str, Any] = {"phases": phases, "known": known, "there": there}
        origins = rolling_origins(series, **size, seasons=seasons, **facts)
        past = [*_past_forecasts(origins, views)]
        linear = np.zeros((context, horizon), np.float32)
        if not past:
            text = "persistence: too few rows for rolling origins"
            return cls(linear, {"persistence": 1.0}, {}, text)
        targets, made = zip(*past, strict=True)
        joined = {name: np.concatenate([of[name] for of in made]) for name in made[0]}
        told = {name for name in joined if not isinstance(name, str)}
        told = {name for name in told if views[name[0]].departs == "regression"}
        weights = _surely(joined, np.concatenate(targets), told=told)
        own = own_values(series, there)
        every = expectations(own, phases if phased else None, known)
        products = {name: window_products(series - rows, **size) for name, rows in every.items()}
        products[""] = window_products(series, **size)
        rules, departing, parts = {}, {}, []
        for name, weight in sorted(weights.items(), key=lambda of: -of[1]):
            if isinstance(name, str):
                rules[name], what = rules.get(name, 0.0) + weight, name
            else:
                view = views[name[0]]
                (fitted,) = view.fitted(products[view.departs], name[1:])
                linear += np.float32(weight * fitted)
                if of := view.departs:
                    departing[of] = departing.get(of, 0) + np.float32(weight * fitted)
                    rules[of] = rules.get(of, 0.0) + weight
                what = f"a linear map of {view.name}"
            parts.append(f"{weight:.2f} {what}")
        text = f"{', '.join(parts)}: they lost least at rolling origins before the test span"
        return cls(linear, rules, departing, text)

    @classmethod
    def of_field(cls, data: Any, split: str) -> Self | None:
        """That of some series of `FieldData` with one, from the rows up to the end of a split."""
        if not data.config.combination:
            return None
        rows = range(data.splits[split].stop)
        values, told = asked_of(data, scaled_series(data, rows), known=known_series(data, rows))
        return cls.of(values, **told)

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Self:
        """Undoes `to_dict`."""
        linear = np.asarray(state["linear"], np.float32)
        departing = state.get("departing", {})
        if not isinstance(departing, Mapping):  # Of a run of before there was another kind.
            departing = {"climatology": departing}
        departing = {name: np.asarray(of, np.float32) for name, of in departing.items()}
        return cls(linear, dict(state["rules"]), departing)

    def to_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"linear": self.linear, "departing": dict(self.departing), "rules": dict(self.rules)}

    @classmethod
    def beside(cls, data: Any, split: str) -> Self | None:
        """What examples of a split bring beside the map that a model applies to their context.

        A model has the map of `FieldData.combination`. Of the splits before the test split what is
        forecast is the `early_combination`, which knows nothing of validation.
        """
        if data.combination is None:
            return None
        own = data.early_combination if split in ("train", "validation") else data.combination
        return replace(own, linear=own.linear - data.combination.linear)

    def added(
        self, example: Batch, context: np.ndarray, expected: Mapping[str, np.ndarray]
    ) -> Batch:
        """Adds `combination` [horizon, *space, channel] of a context [context, *space, channel].

        What climatology and regression expect of the context is shaped like it.
        """
        total = np.zeros(example["target"].shape, np.float32)
        if self.linear.any():
            total += np.tensordot(self.linear, context, (0, 0))
        for name, departing in self.departing.items():
            total -= np.tensordot(departing, expected[name].astype(np.float32), (0, 0))
        for name, weight in self.rules.items():
            total += np.float32(weight) * example[name]
        return example | {COMBINATION: total}


def _past_forecasts(
    origins: Iterable[Origin], views: Sequence[View]
) -> Iterator[tuple[np.ndarray, dict[Any, np.ndarray]]]:
    """Of each origin targets [window, lead] and forecasts of them.

    These are those of the rules by their names, and of a view by its number and a penalty.
    """
    for origin in origins:
        context, horizon = origin.context.shape[-1], origin.target.shape[-1]
        target, there = origin.target[origin.whole], origin.there[origin.whole]
        # Some thirty origins share the targets that are kept.
        few = slice(None, None, -(-30 * target.size // _MOST_TARGETS))
        seen = origin.context[origin.whole][few]
        forecasts: dict[Any, np.ndarray] = {
            name: np.broadcast_to(of, origin.target.shape)[origin.whole][few]
            for name, of in origin.rules.items()
            if name not in _LEFT_OUT
        }
        kinds: dict[str, Any] = {"": (origin.products, seen, 0.0)}
        for name in {view.departs for view in views} - {""}:
            rows = origin.expected[name][origin.whole][few]
            products = window_products(origin.departures[name], context=context, horizon=horizon)
            kinds[name] = products, seen - rows[:, :context], rows[:, context:]
        for at, view in enumerate(views):
            products, inputs, ahead = kinds[view.departs]
            maps = view.fitted(products, _PENALTIES)
            for penalty, of in zip(_PENALTIES, maps, strict=True):
                forecasts[at, penalty] = ahead + inputs @ of
        # Nothing is lost by any where nothing is known.
        target, there = target[few], there[few]
        yield target, {name: np.where(there, of, target) for name, of in forecasts.items()}


def _surely(
    made: Mapping[Any, np.ndarray], targets: np.ndarray, *, told: Collection[Any] = ()
) -> dict[Any, float]:
    """The `_weights`, drawn towards those of less where what they gain on it is little.

    These are of all forecasts but those that covariates `told`, and that of the best of the
    plainest rules.
    """
    weights = _weights(made, targets)
    if told:
        without = {name: of for name, of in made.items() if name not in told}
        weights = _drawn(weights, _weights(without, targets), made, targets, sure=_SURE_TOLD)
    lost = {
        name: float(np.abs(of - targets).mean())
        for name, of in made.items()
        if isinstance(name, str) and name not in _AVERAGED
    }
    best = min(lost, key=lost.__getitem__)
    return _drawn(weights, {best: 1.0}, made, targets, sure=_SURE_GAIN)


def _drawn(
    weights: Mapping[Any, float],
    less: Mapping[Any, float],
    made: Mapping[Any, np.ndarray],
    targets: np.ndarray,
    *,
    sure: float,
) -> dict[Any, float]:
    """Weights of forecasts, drawn towards other ones where they gain less on these than is sure."""
    own, other = (
        float(np.abs(sum(weight * made[name] for name, weight in of.items()) - targets).mean())
        for of in (weights, less)
    )
    share = min(1.0, max(0.0, (1 - own / other) / sure)) if other else 0.0
    names = [name for name in made if name in weights or name in less]
    drawn = {
        name: share * weights.get(name, 0.0) + (1 - share) * less.get(name, 0.0) for name in names
    }
    return {name: weight for name, weight in drawn.items() if weight}


def _weights(made: Mapping[Any, np.ndarray], targets: np.ndarray) -> dict[Any, float]:
    """Weights of sum 1 of forecasts [window, lead], of maps with one penalty each."""
    lost = {name: float(np.abs(of - targets).mean()) for name, of in made.items()}
    names: list[Any] = [name for name in made if isinstance(name, str)]
    views = dict.fromkeys(name[0] for name in made if not isinstance(name, str))
    names += [min(((view, of) for of in _PENALTIES), key=lost.__getitem__) for view in views]
    scale = min(lost[name] for name in names)
    # At the least weight others would lose as much as the best; beside it steps are too long.
    names = [name for name in names if lost[name] * _LEAST_WEIGHT <= scale]
    errors = np.stack([(made[name] - targets).ravel() for name in names])
    each = 1 / (targets.size * (scale or 1.0))
    log, total = np.zeros(len(names)), np.zeros(len(names))
    for step in range(_STEPS):
        weights = np.exp(log - log.max())
        weights /= weights.sum()
        total += weights * (2 * step >= _STEPS)
        log -= 2.0 / np.sqrt(step + 1) * each * (errors @ np.sign(weights @ errors))
    total /= total.sum()
    total = np.where(total < _LEAST_WEIGHT, 0.0, total)
    total /= total.sum()
    return {name: float(of) for name, of in zip(names, total, strict=True) if of}
