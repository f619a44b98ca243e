"""Standardisation and log levels of panels, and back to the units of the table."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stpatch_jax.data.tables import VOLUME


@dataclass(frozen=True, eq=False)
class StandardScaler:
    """Standardises each series by its own training mean and standard deviation.

    The rule is `z = (x - mean) / std` with the population standard deviation (divided by n) over
    the values that are there, as scikit-learn's `StandardScaler` does. The divisor is 1 for a
    series that is constant in training; a series without any training value has mean 0 and std 1.

    Attributes:
        mean: Means [...], one per series, float64, in the units of the values.
        std: Divisors [...], one per series, float64, positive, in the same units.
    """

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def fit(cls, values: np.ndarray) -> "StandardScaler":
        """Takes mean and standard deviation from training rows.

        Args:
            values: The training rows alone [row, ...], NaN where missing.

        Example:
            >>> StandardScaler.fit(np.array([[1.0], [np.nan], [3.0]])).mean
            array([2.])
        """
        return cls.fit_chunks((values,))

    @classmethod
    def fit_chunks(cls, chunks: Iterable[np.ndarray]) -> "StandardScaler":
        """As `fit`, from rows that come in parts, which need not fit into memory together.

        Args:
            chunks: Arrays [row, ...] with the same series.

        References:
            Chan, Golub, LeVeque, Updating formulae and a pairwise algorithm for computing sample
            variances (1979).
        """
        count, mean, squares = np.asarray(0), np.asarray(0.0), np.asarray(0.0)
        for values in chunks:
            known = np.isfinite(values)
            added = known.sum(axis=0)
            part = np.where(known, values, 0.0).sum(axis=0, dtype=np.float64)
            part /= np.maximum(added, 1)
            deviations = np.where(known, values - part, 0.0)
            share = added / np.maximum(count + added, 1)
            shift = part - mean
            squares = squares + (deviations**2).sum(axis=0) + shift**2 * count * share
            mean = mean + shift * share
            count = count + added
        count = np.maximum(count, 1)
        variance = squares / count
        # A constant series leaves a variance of rounding errors, which must not be divided by.
        epsilon = np.finfo(np.float64).eps
        constant = variance <= (count * mean * epsilon) ** 2
        return cls(mean, np.where(constant, 1.0, np.sqrt(variance)))

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Scales values [..., *series]; NaN stays NaN."""
        scaled = values - self.mean
        # In place: another array of that size costs more than the division.
        scaled /= self.std
        return scaled

    def inverse(self, values: np.ndarray) -> np.ndarray:
        """Undoes `transform` up to rounding."""
        return values * self.std + self.mean

    def channel(self, at: int) -> "StandardScaler":
        """The scaler of one channel [..., 1] out of a scaler with series [..., channel]."""
        return StandardScaler(self.mean[..., at : at + 1], self.std[..., at : at + 1])

    def to_dict(self) -> dict[str, Any]:
        """Mean and std as nested lists for JSON."""
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> "StandardScaler":
        """Undoes `to_dict`, bit for bit."""
        return cls(np.asarray(state["mean"], np.float64), np.asarray(state["std"], np.float64))


def log_levels(values: np.ndarray, channels: Sequence[str]) -> np.ndarray:
    """Logarithm of each value: `log(price)`, and `log(1 + volume)` as a volume may be 0.

    Args:
        values: Array [..., channel]; prices positive, volumes not negative, NaN where missing.
        channels: Names of the channels.

    Returns:
        Array of the same shape.
    """
    return np.stack(
        [
            np.log1p(values[..., at]) if channel == VOLUME else np.log(values[..., at])
            for at, channel in enumerate(channels)
        ],
        axis=-1,
    )


def from_log_levels(levels: np.ndarray, channels: Sequence[str]) -> np.ndarray:
    """Undoes `log_levels` up to rounding.

    Args:
        levels: Array [..., channel].
        channels: Names of the channels.
    """
    return np.stack(
        [
            np.expm1(levels[..., at]) if channel == VOLUME else np.exp(levels[..., at])
            for at, channel in enumerate(channels)
        ],
        axis=-1,
    )
