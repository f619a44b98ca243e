"""Naive forecasts of a panel of prices, in the scaled units of its representation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from stpatch_jax.data.fields.climatology import Climatology
from stpatch_jax.data.fields.rules import path_increment
from stpatch_jax.data.times import TimeAxis


@dataclass(frozen=True, eq=False)
class PanelRules:
    """What the rules of a panel go by, fitted to training rows.

    Attributes:
        seasons: Lengths of seasons in rows, by the names of their rules.
        increment: What each company gains a row [company, 1], see `path_increment`; None of a run
            of an earlier version.
        means: The climatology of the path, see `Representation.path`; None for none.
    """

    seasons: Mapping[str, int]
    increment: np.ndarray | None
    means: Climatology | None

    @classmethod
    def fit(cls, config: Any, path: np.ndarray, times: np.ndarray) -> Self:
        """Fits to training rows [time, company, 1], NaN where missing, as a `PanelConfig` says."""
        phase, means = config.climatology, None
        if phase is not None:
            means = Climatology.fit(path, times, phase=phase)
            means = Climatology(phase, np.nan_to_num(means.mean))
        return cls(config.seasons, path_increment(path), means)

    def to_dict(self) -> dict[str, Any]:
        """What was fitted."""
        means = {"means": self.means.to_dict()} if self.means else {}
        return {"increment": self.increment, **means}

    @classmethod
    def from_dict(cls, config: Any, state: Mapping[str, Any]) -> Self:
        """Undoes `to_dict`, of a `PanelConfig`."""
        means = None if config.climatology is None else state.get("means")
        means = None if means is None else Climatology.from_dict(means)
        return cls(config.seasons, state.get("increment"), means)

    def forecasts(
        self, past: np.ndarray, persistence: np.ndarray, times: np.ndarray, *, context: int
    ) -> dict[str, np.ndarray]:
        """The rules by name, float32 [1 or horizon, company, 1].

        Args:
            past: The path up to the first target, back to the last gap [row, company, 1]. A
                season whose value is not known there has persistence.
            persistence: What persistence predicts [1, company, 1]: where the path ends, or 0 of
                what is forecast as a change since then.
            times: Times of the last row of the past and of those of the horizon.
            context: Number of rows whose mean is `running_mean`.
        """
        last, leads = past[-1:], np.arange(1, len(times))
        mean = past[-context:].mean(axis=0, keepdims=True)
        found = {"running_mean": np.nan_to_num(mean - last) + persistence}
        if self.increment is not None:
            gained = leads.reshape(-1, 1, 1) * self.increment
            found["drift"] = persistence.astype(np.float32) + gained
        for name, rows in self.seasons.items():
            at = len(past) - rows + (leads - 1) % rows
            there = np.where(at[:, None, None] >= 0, past[np.maximum(at, 0)], np.nan)
            found[name] = np.nan_to_num(there - last) + persistence
        if self.means is not None:
            usual = self.means.at(times)
            found["climatology"] = np.nan_to_num(usual[1:] - last) + persistence
            found["anomaly_persistence"] = usual[1:] - usual[:1] + persistence
        return {name: of.astype(np.float32) for name, of in found.items()}


def timeline(times: np.ndarray, horizon: int) -> np.ndarray:
    """Times, and those of a horizon behind them: the last one again where no step tells them."""
    axis = TimeAxis.of(times)
    coming = axis.ahead(horizon) if axis.goes_on else np.repeat(times[-1:], horizon)
    return np.concatenate([axis.values, coming])
