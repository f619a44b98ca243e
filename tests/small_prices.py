"""A small long table of daily prices: calm and wild times, a company that starts late, a gap."""

import numpy as np
import pandas as pd

COMPANIES = ("AAA", "BBB", "CCC", "DDD")
ROWS = 420
LATE = 100


def price_table(*, rows: int = ROWS, change_after: int | None = None) -> pd.DataFrame:
    """Prices by date and company; after the row `change_after` all of them are others."""
    random = np.random.default_rng(0)
    sigma = 0.01 * np.exp(0.5 * np.sin(np.arange(rows) / 30))[:, None]
    steps = sigma * random.standard_t(4, (rows, len(COMPANIES)))
    if change_after is not None:
        steps[change_after + 1 :] = 3 * sigma[change_after + 1 :] + 2 * steps[change_after + 1 :]
    close = 50 * np.exp(steps.cumsum(axis=0))
    spread = np.exp(sigma * np.abs(random.normal(size=close.shape)))
    dates = np.repeat(pd.date_range("2010-01-01", periods=rows).strftime("%Y-%m-%d"), 4)
    table = pd.DataFrame(
        {
            "Date": dates,
            "ticker": np.tile(COMPANIES, rows),
            "Open": close.ravel(),
            "High": (close * spread).ravel(),
            "Low": (close / spread).ravel(),
            "Close": close.ravel(),
            "Adj Close": close.ravel() / 2,
            "Volume": 1000,
        }
    )
    row = np.repeat(np.arange(rows), len(COMPANIES))
    late = (table.ticker == "CCC") & (row < LATE)
    gap = (table.ticker == "DDD") & (row == 150)
    return table.loc[~late & ~gap]
