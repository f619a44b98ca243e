"""What a field knows beyond its own cell and hour: its climatology, and its mean over space."""

import numpy as np

from stpatch_jax.data.missing import Climatology
from stpatch_jax.data.sampling import Batch


def with_climatology(
    example: Batch, means: Climatology, times: np.ndarray, *, anomalies: bool, outlook: bool
) -> Batch:
    """Adds the climatology to one example.

    Args:
        example: What `FieldWindows` gives: `context` [context, *space, channels], whose first
            channels are those of the climatology, and what else there is.
        means: The climatology in the units of the example.
        times: Times of the rows of context and horizon [context + horizon], datetime64.
        anomalies: Whether these channels of the context become departures from it.
        outlook: Whether the climatology of one horizon later, less its mean over all phases,
            becomes channels behind the others: what stands there at the last row of the context
            belongs to the last target.

    Returns:
        The example with the naive forecast `climatology` [horizon, *space, channel], float32.

    >>> means = Climatology("hour", np.arange(24.0)[:, None])
    >>> times = np.datetime64("2024-01-01T05", "ns") + np.arange(3) * np.timedelta64(1, "h")
    >>> example = {"context": np.full((2, 1), 7.0, np.float32)}
    >>> found = with_climatology(example, means, times, anomalies=True, outlook=True)
    >>> found["context"].tolist(), found["climatology"].tolist()
    ([[2.0, -5.5], [1.0, -4.5]], [[7.0]])
    """
    inputs = example["context"]
    context, channels = len(inputs), means.mean.shape[-1]
    past, coming = times[:context], times[context:]
    parts = [inputs]
    if anomalies:
        parts = [inputs[..., :channels] - means.at(past), inputs[..., channels:]]
    if outlook:
        parts.append(means.at(times[-context:]) - means.mean.mean(axis=0))
    joined = np.concatenate(parts, axis=-1, dtype=np.float32)
    return example | {"context": joined, "climatology": means.at(coming).astype(np.float32)}


def with_space_means(example: Batch) -> Batch:
    """Adds the mean of every channel of the context over space, in all cells, behind them.

    >>> context = np.array([[[1.0], [3.0]]], np.float32)  # one row, two cells
    >>> with_space_means({"context": context})["context"].tolist()
    [[[1.0, 2.0], [3.0, 2.0]]]
    """
    context = example["context"]
    means = context.mean(axis=tuple(range(1, context.ndim - 1)), keepdims=True)
    joined = np.concatenate([context, np.broadcast_to(means, context.shape)], axis=-1)
    return example | {"context": joined}
