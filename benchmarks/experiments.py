"""The published protocols: which recipe, which metrics and seeds, and what others reached."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Experiment:
    """One recipe in a published protocol.

    Attributes:
        recipe: Name of the recipe.
        dataset: Name of the data set.
        metrics: What is scored.
        shown: What else is scored and printed, but does not go to the file.
        horizons: Numbers of predicted time steps; None where the task has none.
        seeds: Number of runs with different seeds.
        batch: Batch size of published figures that drop the last incomplete batch.
        published: Figures of others, by horizon and metric.
        published_by: Whose.
        openings: How often the test split had been looked at when the first row was written, that
            time and earlier forms of the configuration included.
    """

    recipe: str
    dataset: str
    metrics: tuple[str, ...]
    horizons: tuple[int | None, ...] = (None,)
    seeds: int = 1
    batch: int = 1
    published: Mapping[int | None, Mapping[str, float]] = field(default_factory=dict)
    published_by: str | None = None
    openings: int = 1
    shown: tuple[str, ...] = ()


def _by_horizon(**metrics: tuple[float, ...]) -> dict[int | None, dict[str, float]]:
    """Figures by horizon out of one tuple a metric, at 96, 192, 336 and 720."""
    return {
        horizon: {name: values[at] for name, values in metrics.items()}
        for at, horizon in enumerate(LONG_HORIZONS)
    }


LONG_HORIZONS = (96, 192, 336, 720)
_ERRORS = ("mse", "mae", "mse_drop_last", "mae_drop_last")

EXPERIMENTS = {
    "etth1": Experiment(
        recipe="etth1",
        dataset="ETTh1",
        metrics=_ERRORS,
        horizons=LONG_HORIZONS,
        seeds=3,
        openings=2,
        batch=128,
        published=_by_horizon(
            mse=(0.370, 0.413, 0.422, 0.447),
            mse_drop_last=(0.370, 0.413, 0.422, 0.447),
            mae=(0.400, 0.429, 0.440, 0.468),
            mae_drop_last=(0.400, 0.429, 0.440, 0.468),
        ),
        published_by="PatchTST/64 (Nie et al., ICLR 2023), last incomplete batch dropped",
    ),
    "exchange": Experiment(
        recipe="exchange",
        dataset="exchange_rate",
        metrics=_ERRORS,
        horizons=LONG_HORIZONS,
        seeds=3,
        openings=3,
        batch=32,
        published=_by_horizon(
            mse=(0.081, 0.157, 0.305, 0.643),
            mse_drop_last=(0.081, 0.157, 0.305, 0.643),
            mae=(0.203, 0.293, 0.414, 0.601),
            mae_drop_last=(0.203, 0.293, 0.414, 0.601),
        ),
        published_by="DLinear (Zeng et al., AAAI 2023), last incomplete batch dropped",
    ),
    "stock_movement": Experiment(
        recipe="stock_movement",
        dataset="ACL18",
        metrics=("mcc", "accuracy"),
        seeds=5,
        openings=2,
        published={None: {"mcc": 0.094, "accuracy": 0.537}},
        published_by="ALSTM (log of Feng et al., IJCAI 2019)",
    ),
    "heartbeat": Experiment(
        recipe="heartbeat",
        dataset="ECG200",
        metrics=("accuracy",),
        seeds=10,
        openings=2,
        published={None: {"accuracy": 0.923}},
        published_by="Encoder (Ismail Fawaz et al., DMKD 2019)",
    ),
    "stock_risk": Experiment(
        recipe="stock_risk",
        dataset="StockNet prices",
        metrics=("coverage",),
        shown=("pinball",),
        horizons=(1, 5),
        openings=2,
    ),
}
"""Every experiment by the name of its recipe."""
