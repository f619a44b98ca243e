"""What a model of prices reads and predicts: standardised log returns or standardised levels.

All that is fitted is fitted to training rows; else row `t` depends on no later row of the table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from stpatch_jax.data.prices.tables import VOLUME
from stpatch_jax.data.transforms.cleaning import forward_fill
from stpatch_jax.data.transforms.steps import Affine, Winsorizer


class Representation(Protocol):
    """How values become inputs and scaled targets, and how predictions become values again.

    Attributes:
        lost_rows: Rows at the start of a table that have no input.
    """

    lost_rows: ClassVar[int]

    @property
    def inputs(self) -> np.ndarray:
        """Scaled inputs [time, company, channel], float32, without NaN."""
        ...

    @property
    def clipped(self) -> int:
        """Number of known inputs that were clipped as outliers."""
        ...

    def targets(self, index: int, horizon: int, *, training: bool) -> tuple[np.ndarray, np.ndarray]:
        """Targets and persistence of the example whose first target row is `index`.

        Where it trains, outliers among the targets are clipped.

        Returns:
            Scaled targets [horizon, company, 1], NaN where missing, and what persistence predicts
            [1, company, 1], without NaN.
        """
        ...

    def path(self, rows: slice) -> np.ndarray:
        """What targets are of, in their scaled units, in some rows [rows, company, 1], filled."""
        ...

    def to_price(self, values: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Scaled predictions [n, horizon, company, 1] in the units of the table.

        `index` holds the first target row of each example [n].
        """
        ...

    def state(self) -> dict[str, Any]:
        """Everything fitted, as a tree of dicts of arrays."""
        ...


@dataclass(frozen=True, eq=False)
class LogReturns:
    """Standardised one-step log returns in, log returns since the last context row out.

    With `P` the value, `F` the forward-filled value and `s` the training standard deviation of
    the one-step return of the target channel, input row `t` is `log(P[t] / F[t-1])`, standardised,
    and the target at lead time `k` is `log(P[t+k] / F[t]) / s`; persistence is 0. A volume enters
    as `1 + volume`. Where a value is missing, or none precedes, the input is a return of zero and
    the target is missing. Row 0 has no return: this representation consumes one row more.

    Inputs are clipped at training quantiles of the one-step return, training targets at those of
    the return over their own lead time. Scales are fitted after clipping.
    """

    lost_rows: ClassVar[int] = 1

    inputs: np.ndarray
    clipped: int
    target_channel: str
    levels: np.ndarray
    anchors: np.ndarray
    winsorizer: Winsorizer
    target_winsorizer: Winsorizer
    scaler: Affine
    target_scale: np.ndarray

    @classmethod
    def fit(
        cls,
        values: np.ndarray,
        channels: Sequence[str],
        *,
        target: int,
        train_rows: int,
        horizon: int,
        winsorize: float,
        segments: Sequence[range] = (),
    ) -> "LogReturns":
        """Fits to the first `train_rows` rows and transforms all of them.

        Values [time, company, channel] are NaN where missing and all have a logarithm; `target` is
        the number of the channel to predict, `winsorize` the share clipped at each end, 0 for none.
        `segments` are the rows between gaps, which no return crosses; none where there are no gaps.
        """
        levels, filled, returns = _log_returns(values, channels, segments)
        winsorizer = Winsorizer.fit(returns[:train_rows], winsorize)
        scaler = Affine.standard(winsorizer.transform(returns)[:train_rows])
        levels, anchors = levels[..., target : target + 1], filled[..., target : target + 1]
        trained = [
            range(part.start, min(part.stop, train_rows)) for part in _parts(levels, segments)
        ]
        leads = [
            Winsorizer.fit(_changes(levels, anchors, trained, lead), winsorize)
            for lead in range(1, horizon + 1)
        ]
        state = {
            "scaler": scaler.to_dict(),
            "winsorizer": winsorizer.to_dict(),
            "target_winsorizer": {
                "lower": np.stack([lead.lower for lead in leads]),
                "upper": np.stack([lead.upper for lead in leads]),
            },
        }
        return cls.restore(values, channels, target=target, state=state, segments=segments)

    @classmethod
    def restore(
        cls,
        values: np.ndarray,
        channels: Sequence[str],
        *,
        target: int,
        state: Mapping[str, Any],
        segments: Sequence[range] = (),
    ) -> "LogReturns":
        """Transforms values as in `fit` by the `state` of this or another table's training rows.

        The series of the table are those that the state was fitted to.
        """
        levels, filled, returns = _log_returns(values, channels, segments)
        winsorizer = Winsorizer.from_dict(state["winsorizer"])
        scaler = Affine.from_dict(state["scaler"])
        clipped = winsorizer.transform(returns)
        return cls(
            inputs=_frozen_float32(scaler.transform(np.nan_to_num(clipped, nan=0.0))),
            clipped=int((np.isfinite(returns) & (clipped != returns)).sum()),
            target_channel=channels[target],
            levels=levels[..., target : target + 1],
            anchors=filled[..., target : target + 1],
            winsorizer=winsorizer,
            target_winsorizer=Winsorizer.from_dict(state["target_winsorizer"]),
            scaler=scaler,
            target_scale=scaler.channel(target).scale,
        )

    def targets(self, index: int, horizon: int, *, training: bool) -> tuple[np.ndarray, np.ndarray]:
        """See `Representation.targets`."""
        anchor = self.anchors[index - 1 : index]
        returns = self.levels[index : index + horizon] - anchor
        if training:
            returns = self.target_winsorizer.transform(returns)
        return returns / self.target_scale, np.zeros_like(anchor)

    def path(self, rows: slice) -> np.ndarray:
        """See `Representation.path`."""
        return self.anchors[rows] / self.target_scale

    def to_price(self, values: np.ndarray, index: np.ndarray) -> np.ndarray:
        """See `Representation.to_price`; NaN where no value precedes the targets."""
        levels = self.anchors[index - 1][:, None] + values * self.target_scale
        return from_log_levels(levels, (self.target_channel,))

    def state(self) -> dict[str, Any]:
        """See `Representation.state`."""
        return {
            "representation": "log_return",
            "scaler": self.scaler.to_dict(),
            "winsorizer": self.winsorizer.to_dict(),
            "target_winsorizer": self.target_winsorizer.to_dict(),
        }


@dataclass(frozen=True, eq=False)
class Levels:
    """Standardised values in, standardised values out.

    With `z` the standardised value, input row `t` is `z[t]`, forward-filled, and the target at
    lead time `k` is `z[t+k]`; persistence is the last known `z` up to row `t`. Where nothing
    precedes, the input and persistence are 0, the training mean.

    Only training rows are clipped, in inputs, targets and persistence of training examples: levels
    drift, so that training quantiles would cut off later rows that are perfectly sound. Scales are
    fitted after clipping.
    """

    lost_rows: ClassVar[int] = 0

    inputs: np.ndarray
    clipped: int
    scaled: np.ndarray
    scaled_clipped: np.ndarray
    anchors: np.ndarray
    anchors_clipped: np.ndarray
    winsorizer: Winsorizer
    scaler: Affine
    target_scaler: Affine

    @classmethod
    def fit(
        cls,
        values: np.ndarray,
        *,
        target: int,
        train_rows: int,
        winsorize: float,
        segments: Sequence[range] = (),
    ) -> "Levels":
        """As `LogReturns.fit`; values need no logarithm."""
        winsorizer = Winsorizer.fit(values[:train_rows], winsorize)
        scaler = Affine.standard(winsorizer.transform(values[:train_rows]))
        state = {"scaler": scaler.to_dict(), "winsorizer": winsorizer.to_dict()}
        rows = {"train_rows": train_rows, "segments": segments}
        return cls.restore(values, target=target, state=state, **rows)

    @classmethod
    def restore(
        cls,
        values: np.ndarray,
        *,
        target: int,
        state: Mapping[str, Any],
        segments: Sequence[range] = (),
        train_rows: int = 0,
    ) -> "Levels":
        """As `LogReturns.restore`; the first `train_rows` rows, trained on, are clipped."""
        winsorizer = Winsorizer.from_dict(state["winsorizer"])
        scaler = Affine.from_dict(state["scaler"])
        clipped = np.concatenate([winsorizer.transform(values[:train_rows]), values[train_rows:]])
        target_scaler = scaler.channel(target)
        scaled = target_scaler.transform(values[..., target : target + 1])
        scaled_clipped = target_scaler.transform(clipped[..., target : target + 1])
        return cls(
            inputs=_frozen_float32(np.nan_to_num(_filled(scaler.transform(clipped), segments))),
            clipped=int((np.isfinite(values) & (clipped != values)).sum()),
            scaled=scaled,
            scaled_clipped=scaled_clipped,
            anchors=np.nan_to_num(_filled(scaled, segments)),
            anchors_clipped=np.nan_to_num(_filled(scaled_clipped, segments)),
            winsorizer=winsorizer,
            scaler=scaler,
            target_scaler=target_scaler,
        )

    def targets(self, index: int, horizon: int, *, training: bool) -> tuple[np.ndarray, np.ndarray]:
        """See `Representation.targets`."""
        scaled = self.scaled_clipped if training else self.scaled
        anchors = self.anchors_clipped if training else self.anchors
        return scaled[index : index + horizon], anchors[index - 1 : index]

    def path(self, rows: slice) -> np.ndarray:
        """See `Representation.path`."""
        return self.anchors[rows]

    def to_price(self, values: np.ndarray, index: np.ndarray) -> np.ndarray:
        """See `Representation.to_price`; levels do not depend on the position."""
        return self.target_scaler.inverse(values)

    def state(self) -> dict[str, Any]:
        """See `Representation.state`."""
        return {
            "representation": "level",
            "scaler": self.scaler.to_dict(),
            "winsorizer": self.winsorizer.to_dict(),
        }


def _log_returns(
    values: np.ndarray, channels: Sequence[str], segments: Sequence[range]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log levels, the same filled forward, and the returns since the last known value."""
    levels = log_levels(values, channels)
    filled = _filled(levels, segments)
    returns = np.full_like(levels, np.nan)
    returns[1:] = levels[1:] - filled[:-1]
    returns[[part.start for part in segments]] = np.nan
    return levels, filled, returns


def _filled(values: np.ndarray, segments: Sequence[range]) -> np.ndarray:
    """Values [time, ...] filled forward, but not over a gap."""
    parts = _parts(values, segments)
    return np.concatenate([forward_fill(values[part.start : part.stop]) for part in parts])


def _parts(values: np.ndarray, segments: Sequence[range]) -> Sequence[range]:
    return segments or (range(len(values)),)


def _changes(
    levels: np.ndarray, anchors: np.ndarray, parts: Sequence[range], lead: int
) -> np.ndarray:
    """What each level [time, ...] is above the anchor `lead` rows before it, within segments."""
    return np.concatenate(
        [
            levels[part.start + lead : part.stop]
            - anchors[part.start : max(part.stop - lead, part.start)]
            for part in parts
        ]
    )


def _frozen_float32(values: np.ndarray) -> np.ndarray:
    """Examples are views of this array, so writing into one must fail."""
    result = values.astype(np.float32)
    result.setflags(write=False)
    return result


def log_levels(values: np.ndarray, channels: Sequence[str]) -> np.ndarray:
    """Logarithm of each value: `log(price)`, and `log(1 + volume)` as a volume may be 0.

    Prices [..., channel] are positive, volumes not negative; NaN where missing.
    """
    logs = [np.log1p if channel == VOLUME else np.log for channel in channels]
    return np.stack([log(values[..., at]) for at, log in enumerate(logs)], axis=-1)


def from_log_levels(levels: np.ndarray, channels: Sequence[str]) -> np.ndarray:
    """Undoes `log_levels` up to rounding."""
    powers = [np.expm1 if channel == VOLUME else np.exp for channel in channels]
    return np.stack([power(levels[..., at]) for at, power in enumerate(powers)], axis=-1)
