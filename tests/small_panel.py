"""A small wide price table, and the flags of a run on it that trains in seconds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

COMPANIES = ("AAA", "BBB", "CCC")


def write_table(path: Path, *, rows: int = 80) -> Path:
    """Writes geometric random walks of three companies with a few gaps."""
    rng = np.random.default_rng(0)
    prices = 50 * np.exp(np.cumsum(0.01 + 0.05 * rng.normal(size=(rows, len(COMPANIES))), axis=0))
    prices[rng.random(prices.shape) < 0.03] = np.nan
    table = pd.DataFrame(prices, columns=COMPANIES).round(4)
    table.insert(
        0, "Date", pd.date_range("2000-01-01", periods=rows, freq="MS").strftime("%Y-%m-%d")
    )
    table.to_csv(path, index=False)
    return path


# With dropout, whose keys a resume has to find again.
FLAT = ("--model", "flat_patches", "--model.spec.window", "8", "1", "--model.dropout", "0.2")


def flags(
    table: Path, workdir: Path, *, steps: int = 6, network: Sequence[str] = FLAT
) -> list[str]:
    """`train stocks` on the table, with a network that compiles fast."""
    return [
        *("train", "stocks", "--workdir", str(workdir), "--data.path", str(table)),
        *("--data.context", "8", "--data.horizon", "2", *network),
        *("--train.steps", str(steps), "--train.batch-size", "8"),
        *("--train.checkpoint-every", "2", "--train.evaluate-every", "3"),
    ]
