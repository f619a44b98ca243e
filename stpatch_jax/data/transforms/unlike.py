"""Values of another file that lie far from those that a run was trained on, as of other units."""

from collections.abc import Sequence

import numpy as np

from stpatch_jax.data.transforms.cleaning import nan_quantiles
from stpatch_jax.data.transforms.steps import Affine
from stpatch_jax.errors import shortened, warn

# No trend reaches it that goes on for less than the threefold of the training rows.
_FAR = 10.0
_SAMPLE = 2**22


def told_unlike(
    values: np.ndarray,
    scaled: np.ndarray,
    trained: np.ndarray,
    channels: Sequence[str],
    *,
    name: str,
) -> tuple[str, ...]:
    """A note, which is warned of too, on channels whose median is 10 deviations from training.

    Args:
        values: Values [..., channel], NaN where missing.
        scaled: The same, less their training means and by their deviations.
        trained: The training means, in the units of the values [..., channel].
        channels: What each is called.
        name: What warnings call the values.

    >>> values = np.full((3, 1), 20.0)
    >>> told_unlike(values, values / 8, np.zeros(1), ["t2m"], name="a.nc")
    ()
    """
    parts = (np.reshape(each, (-1, len(channels))) for each in (values, scaled, trained))
    here, off, there = (nan_quantiles(np.asarray(of, np.float64), (0.5,))[0] for of in parts)
    far = [
        f"{shortened(channel, most=40)} is about {here[at]:.4g}, and was about {there[at]:.4g} in "
        "training"
        for at, channel in enumerate(channels)
        if abs(off[at]) > _FAR
    ]
    if not far:
        return ()
    more = f", and {len(far) - 3} more are as far" * (len(far) > 3)
    note = f"{'; '.join(far[:3])}{more}: give the units and kind of values that the run knows."
    warn(f"{name}: {note}", stacklevel=5)
    return (note,)


def items_unlike(items: Sequence[np.ndarray], scaler: Affine, *, name: str) -> tuple[str, ...]:
    """The same of items [..., channel] by the scaling of a run, of some evenly out of many."""
    most = max(1, _SAMPLE // max(1, items[0].size))
    some = [items[at] for at in range(0, len(items), -(-len(items) // most))]
    channels = items[0].shape[-1]
    values = np.concatenate([np.reshape(item, (-1, channels)) for item in some]).astype(np.float64)
    values[np.isinf(values)] = np.nan  # They are told elsewhere.
    names = ["a value"] if channels == 1 else [f"channel {at}" for at in range(channels)]
    return told_unlike(values, scaler.transform(values), scaler.center, names, name=name)
