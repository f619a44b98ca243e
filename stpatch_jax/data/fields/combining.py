"""The forecast that rolling origins make of the naive rules and of linear maps of the context."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np

from stpatch_jax.data.fields.rolling import (
    Origin,
    asked_of,
    rolling_origins,
    scaled_series,
    some_columns,
    window_products,
)
from stpatch_jax.data.fields.rules import COMBINATION
from stpatch_jax.data.sampling.batches import Batch

# Penalties of maps, as shares of the mean square of what they see.
_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
# An origin that lies this share of the rows back counts half.
_HALF_LIFE = 0.3
# Targets whose forecasts are kept, and steps that find the weights; smaller weights are dropped.
_MOST_TARGETS, _STEPS, _LEAST_WEIGHT = 2**15, 400, 0.05


class View(NamedTuple):
    """What a linear map sees of a context, and what it adds to.

    Attributes:
        name: What reports call it.
        seen: What it sees, a map of the context [context, n].
        base: What it adds to, likewise [context, horizon].
    """

    name: str
    seen: np.ndarray
    base: np.ndarray

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


def _views(context: int, horizon: int, seasons: Sequence[int]) -> list[View]:
    every, ends = np.eye(context), np.zeros((context, horizon))
    last = ends.copy()
    last[-1] = 1.0
    views = []
    for rows in sorted({context, max(1, context // 2), max(1, context // 4)}, reverse=True):
        seen = every[:, -rows:]
        views.append(View(f"{rows} rows", seen, ends))
        if rows > 1:
            seen = seen[:, :-1] - every[:, -1:]
            views.append(View(f"{rows} rows less the last", seen, last))
    for season in seasons:
        if 2 * season <= context:
            seen = every[:, -season:] - every[:, -2 * season : context - season]
            base = every[:, context - season + np.arange(horizon) % season]
            views.append(View(f"changes over {season} rows", seen, base))
    return views


@dataclass(frozen=True, eq=False)
class Combination:
    """A linear map of the context and a weighted sum of naive rules, which are added up.

    Attributes:
        linear: The map of the context of each series, [context, horizon], float32, in scaled units.
        rules: The weights of the rules, by their names.
        told: What it is made of, for reports.
    """

    linear: np.ndarray
    rules: Mapping[str, float]
    told: str = ""

    @classmethod
    def of(
        cls,
        values: np.ndarray,
        *,
        context: int,
        horizon: int,
        seasons: Mapping[str, int],
        phases: np.ndarray | None = None,
    ) -> Self:
        """Combines rules and linear maps as they would have lost least in what is known.

        At some thirty origins the maps are fitted to the windows before each, by ridge regression
        shared by all series, and forecast the windows up to the next, as the rules do. Maps see the
        context, its latter half or quarter, as they stand or less their last value, or, of two
        seasons in it, what changed from one to the other. Each has the penalty with which it lost
        least; then maps and rules have weights, none below 0 and of sum 1, with which their sum
        has the least absolute error, where late origins count more. The maps are fitted to all
        rows in the end. Of too few rows it is persistence.

        Args:
            values: The known rows [row, *series], scaled, NaN where missing.
            context: Number of values that a map sees, in time steps.
            horizon: Number of predicted time steps.
            seasons: Seasons in time steps by the names of their rules.
            phases: Number of the phase of each row [row], see `phase_numbers`.

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
        told: dict[str, Any] = {"context": context, "horizon": horizon, "seasons": seasons}
        views = _views(context, horizon, [*seasons.values()])
        past = [*_past_forecasts(rolling_origins(values, phases=phases, **told), views)]
        if not past:
            none = np.zeros((context, horizon), np.float32)
            return cls(none, {"persistence": 1.0}, "persistence: too few rows for rolling origins")
        rows, targets, made = zip(*past, strict=True)
        ages = np.repeat(len(values) - np.array(rows), [*map(len, targets)])
        counts = 0.5 ** (ages / (_HALF_LIFE * len(values)))
        joined = {name: np.concatenate([of[name] for of in made]) for name in made[0]}
        weights = _weights(joined, np.concatenate(targets), counts)
        size = {"context": context, "horizon": horizon}
        series = some_columns(values, past=max(context, *seasons.values(), 0), **size)
        products = window_products(series, **size)
        linear, rules, parts = np.zeros((context, horizon)), {}, []
        for name, weight in sorted(weights.items(), key=lambda of: -of[1]):
            if isinstance(name, str):
                rules[name], what = weight, name
            else:
                (fitted,) = views[name[0]].fitted(products, name[1:])
                linear += weight * fitted
                what = f"a linear map of {views[name[0]].name}"
            parts.append(f"{weight:.2f} {what}")
        text = f"{', '.join(parts)}: they lost least at rolling origins before the test span"
        return cls(linear.astype(np.float32), rules, text)

    @classmethod
    def of_field(cls, data: Any, split: str) -> Self | None:
        """That of some series of `FieldData` with one, from the rows up to the end of a split."""
        if not data.config.combination:
            return None
        values, told = asked_of(data, scaled_series(data, range(data.splits[split].stop)))
        return cls.of(values, **told)

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Self:
        """Undoes `to_dict`."""
        return cls(np.asarray(state["linear"], np.float32), dict(state["rules"]))

    def to_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"linear": self.linear, "rules": dict(self.rules)}

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

    def added(self, example: Batch, context: np.ndarray) -> Batch:
        """Adds `combination` [horizon, *space, channel] of a context [context, *space, channel]."""
        total = np.zeros(example["target"].shape, np.float32)
        if self.linear.any():
            total += np.tensordot(self.linear, context, (0, 0))
        for name, weight in self.rules.items():
            total += np.float32(weight) * example[name]
        return example | {COMBINATION: total}


def _past_forecasts(
    origins: Iterable[Origin], views: Sequence[View]
) -> Iterator[tuple[int, np.ndarray, dict[Any, np.ndarray]]]:
    """Of each origin its row, targets [window, lead] and forecasts of them.

    These are those of the rules by their names, and of a view by its number and a penalty.
    """
    for origin in origins:
        target = origin.target[origin.whole]
        # Some thirty origins share the targets that are kept.
        few = slice(None, None, -(-30 * target.size // _MOST_TARGETS))
        seen = origin.context[origin.whole][few]
        forecasts: dict[Any, np.ndarray] = {
            name: np.broadcast_to(of, origin.target.shape)[origin.whole][few]
            for name, of in origin.rules.items()
        }
        for at, view in enumerate(views):
            maps = view.fitted(origin.products, _PENALTIES)
            for penalty, of in zip(_PENALTIES, maps, strict=True):
                forecasts[at, penalty] = seen @ of
        yield origin.row, target[few], forecasts


def _weights(
    made: Mapping[Any, np.ndarray], targets: np.ndarray, counts: np.ndarray
) -> dict[Any, float]:
    """Weights of sum 1 of forecasts [window, lead], of maps with one penalty each."""
    lost = {
        name: float(np.average(np.abs(of - targets).mean(axis=1), weights=counts))
        for name, of in made.items()
    }
    names: list[Any] = [name for name in made if isinstance(name, str)]
    views = dict.fromkeys(name[0] for name in made if not isinstance(name, str))
    names += [min(((view, of) for of in _PENALTIES), key=lost.__getitem__) for view in views]
    scale = min(lost[name] for name in names) or 1.0
    each = np.repeat(counts / counts.sum() / targets.shape[1] / scale, targets.shape[1])
    errors = np.stack([(made[name] - targets).ravel() for name in names])
    log, total = np.zeros(len(names)), np.zeros(len(names))
    for step in range(_STEPS):
        weights = np.exp(log - log.max())
        weights /= weights.sum()
        total += weights * (2 * step >= _STEPS)
        log -= 2.0 / np.sqrt(step + 1) * (errors @ (each * np.sign(weights @ errors)))
    total /= total.sum()
    total = np.where(total < _LEAST_WEIGHT, 0.0, total)
    total /= total.sum()
    return {name: float(of) for name, of in zip(names, total, strict=True) if of}
