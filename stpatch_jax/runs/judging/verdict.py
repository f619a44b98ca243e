"""The first line of a report: which rule the model beat, by how much, and how sure that is."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from stpatch_jax.metrics import resampled


class Losses(NamedTuple):
    """What a model and the rules lost on each example of a split, in order of time.

    Attributes:
        name: What the losses over their weights are called, such as MAE.
        of: By rule, and of the `model`, the loss [example].
        weight: What it is divided by [example], such as the number of targets.
        block: Examples that are drawn together, as neighbours share targets.
    """

    name: str
    of: Mapping[str, np.ndarray]
    weight: np.ndarray
    block: int = 1


def losses_of(
    name: str, of: Mapping[str, np.ndarray], *, group: np.ndarray | None = None
) -> Losses:
    """Losses of examples, of which those of one `group` [example] are not independent, if any."""
    count = len(next(iter(of.values())))
    _, at = np.unique(np.arange(count) if group is None else group, return_inverse=True)
    return Losses(name, {rule: np.bincount(at, x) for rule, x in of.items()}, np.bincount(at))


def verdict(past: Losses, test: Losses) -> dict[str, Any] | None:
    """Compares the model on the test split with the rule that lost least on the validation split.

    `gain` is `1 - loss of the model / loss of the rule`, `interval` its 95 % percentile interval
    when blocks of neighbouring windows are drawn anew, see `stpatch_jax.metrics.resampled`; None
    where there are fewer than two blocks, or where the rule loses nothing, as then the gain is.
    None where a loss is not finite or nothing is to lose.

    >>> ones = np.ones(40)
    >>> losses = Losses("MAE", {"model": 0.5 * ones, "drift": ones}, ones, block=4)
    >>> verdict(losses, losses)["text"]
    'Beats drift by 50 % (50 to 50 %) in MAE.'
    """
    rules = [name for name in test.of if name != "model" and name in past.of]
    if not rules or not past.weight.sum() or not test.weight.sum():
        return None
    best = min(rules, key=lambda name: float(past.of[name].sum()))
    own, other = test.of["model"], test.of[best]
    total = float(other.sum())
    if not np.isfinite([total, own.sum()]).all():
        return None
    found: dict[str, Any] = {"rule": best, "of": len(rules), "metric": test.name}
    if not total > 0:
        word = "Worse" if own.sum() > 0 else "No better"
        text = f"{word} than {best}, of which {test.name} is 0."
        return {"text": text, **found, "gain": None, "interval": None}
    found["gain"] = gain = 1 - float(own.sum()) / total
    interval = _interval(own, other, test.block)
    return {"text": gain_text(best, gain, interval, test.name), **found, "interval": interval}


def _interval(own: np.ndarray, other: np.ndarray, block: int) -> list[float] | None:
    if (sums := resampled(own, other, block=block)) is None:
        return None
    gains = 1 - sums[0] / np.where(sums[1] > 0, sums[1], np.nan)
    return np.nanquantile(gains, (0.025, 0.975)).tolist()


def gain_text(rule: str, gain: float, interval: list[float] | None, metric: str) -> str:
    """A verdict in a sentence, of a gain and its interval, of which there may be none.

    >>> gain_text("drift", -0.04, [-0.07, 0.01], "MAE")
    'No better than drift: MAE is 4 % higher (-1 to 7 %, which holds 0).'
    """

    def percent(share: float) -> str:
        return f"{100 * share:.0f}" if abs(share) >= 0.1 else f"{100 * share:.2g}"

    size = percent(abs(gain))
    if not gain and interval in (None, [0.0, 0.0]):
        return f"No better than {rule}: {metric} is the same for both."
    if interval is None:
        few = "over too few examples for an interval"
        return f"{'Beats' if gain > 0 else 'Worse than'} {rule} by {size} % in {metric}, {few}."
    low, high = interval
    if low > 0:
        return f"Beats {rule} by {size} % ({percent(low)} to {percent(high)} %) in {metric}."
    if high < 0:
        span = f"{percent(-high)} to {percent(-low)}"
        return f"Worse than {rule} by {size} % ({span} %) in {metric}."
    side = "lower" if gain > 0 else "higher"
    low, high = (low, high) if gain > 0 else (-high, -low)
    span = f"{percent(low)} to {percent(high)} %, which holds 0"
    return f"No better than {rule}: {metric} is {size} % {side} ({span})."


def verdict_lines(report: Mapping[str, Any]) -> list[str]:
    """The verdict of a report, and how the rule was chosen; none where there is none."""
    if not (found := report.get("verdict")):
        return []
    many = found["of"] > 1
    chosen = f" Of {found['of']} rules {found['rule']} lost least on the validation split."
    return [f"**{found['text']}**{chosen * many}", ""]
