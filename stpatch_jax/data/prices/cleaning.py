"""What of a price table cannot be used: impossible values, companies with too few."""

from collections.abc import Sequence

import numpy as np

from stpatch_jax.data.prices.tables import VOLUME


def mask_impossible(values: np.ndarray, channels: Sequence[str]) -> tuple[np.ndarray, int]:
    """Makes values that have no logarithm missing: prices <= 0 and volumes < 0.

    Args:
        values: Array [time, company, channel], NaN where missing.
        channels: Names of the channels; `volume` may be 0, all other ones are prices.

    Returns:
        A new array with NaN in place of these values, and their number.
    """
    is_volume = np.array([channel == VOLUME for channel in channels])
    impossible = np.where(is_volume, values < 0, values <= 0)
    return np.where(impossible, np.nan, values), int(impossible.sum())


def dropped_companies(
    values: np.ndarray, companies: Sequence[str], *, minimum_share: float
) -> dict[str, str]:
    """Names the companies that have values in too few training rows.

    Args:
        values: The training rows of the target channel [time, company], NaN where missing.
        companies: Names of the companies.
        minimum_share: Share of the rows in which a company must have a value, in (0, 1].

    Returns:
        The reason for each company to drop, by its name, in the order of `companies`.
    """
    rows = len(values)
    counts = np.isfinite(values).sum(axis=0)
    return {
        company: f"has values in {count} of the {rows} training rows, fewer than "
        f"minimum_share {minimum_share:g} of them"
        for company, count in zip(companies, counts.tolist(), strict=True)
        if count < minimum_share * rows
    }
