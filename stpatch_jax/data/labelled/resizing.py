"""A square cut out of pictures and brought to another size."""

import numpy as np


def resized(frames: np.ndarray, corner: tuple[float, float], side: float, size: int) -> np.ndarray:
    """Cuts a square out of every frame and resizes it, linearly, without aliasing.

    A pixel of the result is the mean of the pixels of the frame under a triangle around its place,
    which reaches to the next pixels of the result, or of the frame where those are wider apart.

    Args:
        frames: [time, height, width, channel], numbers of any kind.
        corner: Top and left edge of the square in pixels of the frame, which may be fractions.
        side: Its height and width in pixels.
        size: Height and width of the result.

    Returns:
        float32 [time, size, size, channel].

    >>> resized(np.arange(4.0).reshape(1, 2, 2, 1), (0, 0), 2, 1).ravel()
    array([1.5], dtype=float32)
    """
    (top, bottom, down), (left, right, across) = (
        _weights(length, start, side, size)
        for length, start in zip(frames.shape[1:3], corner, strict=True)
    )
    cut = frames[:, top:bottom, left:right].astype(np.float32)
    times, height, width, channels = cut.shape
    rows = (down @ cut.reshape(times, height, -1)).reshape(times, size, width, channels)
    return across @ rows


def _weights(length: int, start: float, side: float, size: int) -> tuple[int, int, np.ndarray]:
    """The part of an axis that counts, and the weights [size, part] of its cells."""
    step = side / size
    centers = start + (np.arange(size) + 0.5) * step
    cells = np.arange(length) + 0.5
    weights = np.maximum(0, 1 - np.abs(cells - centers[:, None]) / max(step, 1))
    first, last = np.flatnonzero(weights.any(axis=0))[[0, -1]]
    part = weights[:, first : last + 1]
    return first, last + 1, (part / part.sum(axis=1, keepdims=True)).astype(np.float32)
