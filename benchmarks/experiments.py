"""The published protocols: which recipe, which metrics and seeds, and what others reached."""

from collections.abc import Mapping
from dataclasses import dataclass, field

HIGHER_IS_BETTER = ("accuracy", "auc", "csi", "map", "mcc", "ssim")
"""The metrics of which more is better."""


@dataclass(frozen=True)
class Experiment:
    """One recipe in a published protocol, or on a file.

    Attributes:
        recipe: Name of the recipe.
        dataset: Name of the data set.
        name: Its name here, where a recipe has several; without one the recipe's.
        path: The data in the place of the recipe's own.
        metrics: What is scored; none for all that its kind is scored by.
        shown: What else is scored and printed, but does not go to the file.
        horizons: Numbers of predicted time steps; None where the task has none.
        seeds: Number of runs with different seeds.
        batch: Batch size of published figures that drop the last incomplete batch.
        published: Figures of others, by horizon and metric.
        published_by: Whose.
        leads: First and last lead time that count, from 1; None for all.
        folds: Whether the runs are the folds of a cross-validation, `data.fold`, in place of seeds.
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
    leads: tuple[int, int] | None = None
    name: str = ""
    path: str | None = None
    folds: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.recipe)

    @property
    def chosen_leads(self) -> slice:
        """The lead times that count, from 0."""
        return slice(None) if self.leads is None else slice(self.leads[0] - 1, self.leads[1])


def _by_horizon(**metrics: tuple[float, ...]) -> dict[int | None, dict[str, float]]:
    """Figures by horizon out of one tuple a metric, at 96, 192, 336 and 720, both ways."""
    return {
        horizon: {
            f"{name}{drop_last}": values[at]
            for name, values in metrics.items()
            for drop_last in ("", "_drop_last")
        }
        for at, horizon in enumerate(LONG_HORIZONS)
    }


LONG_HORIZONS = (96, 192, 336, 720)
_ERRORS = ("mse", "mae", "mse_drop_last", "mae_drop_last")

_ALL = (
    Experiment(
        "etth1",
        "ETTh1",
        _ERRORS,
        horizons=LONG_HORIZONS,
        seeds=3,
        openings=2,
        batch=128,
        published=_by_horizon(mse=(0.370, 0.413, 0.422, 0.447), mae=(0.400, 0.429, 0.440, 0.468)),
        published_by="PatchTST/64 (Nie et al., ICLR 2023), last incomplete batch dropped",
    ),
    Experiment(
        "exchange",
        "exchange_rate",
        _ERRORS,
        horizons=LONG_HORIZONS,
        seeds=3,
        openings=3,
        batch=32,
        published=_by_horizon(mse=(0.081, 0.157, 0.305, 0.643), mae=(0.203, 0.293, 0.414, 0.601)),
        published_by="DLinear (Zeng et al., AAAI 2023), last incomplete batch dropped",
    ),
    Experiment(
        "stock-movement",
        "ACL18",
        ("mcc", "accuracy"),
        seeds=5,
        openings=2,
        published={None: {"mcc": 0.094, "accuracy": 0.537}},
        published_by="ALSTM (log of Feng et al., IJCAI 2019)",
    ),
    Experiment(
        "heartbeat",
        "ECG200",
        ("accuracy",),
        seeds=10,
        openings=2,
        published={None: {"accuracy": 0.923}},
        published_by="Encoder (Ismail Fawaz et al., DMKD 2019)",
    ),
    Experiment(
        "scan",
        "AdrenalMNIST3D",
        ("auc", "accuracy"),
        seeds=5,
        published={None: {"auc": 0.839}},
        published_by="ResNet-18 + ACS (Yang et al., Scientific Data 2023, second hand)",
    ),
    Experiment(
        "sentiment",
        "rt-polarity",
        ("accuracy",),
        seeds=10,
        folds=True,
        published={None: {"accuracy": 0.794}},
        published_by="NBSVM-bi (Wang and Manning, ACL 2012)",
    ),
    Experiment("language", "rt-polarity", ("bits_per_char",), openings=2),
    Experiment("customers", "CDNOW", ("rmse", "mae"), shown=("total",), horizons=(39,), seeds=3),
    Experiment(
        "stock-risk",
        "StockNet prices",
        ("coverage",),
        shown=("pinball",),
        horizons=(1, 5),
        openings=2,
    ),
    Experiment(
        "stocks", "matplotlib's stocks", ("mae", "rmse"), horizons=(6,), seeds=3, openings=2
    ),
    Experiment(
        "stocks",
        "StockNet prices",
        ("mae", "rmse"),
        name="stocks-daily",
        path="catalog:stocks",
        horizons=(6,),
        openings=2,
    ),
    Experiment(
        "traffic",
        "BikeNYC",
        ("rmse_scaled", "rmse", "brier", "csi"),
        horizons=(1,),
        seeds=3,
        published={1: {"rmse_scaled": 6.33}},
        published_by="ST-ResNet (Zhang et al., AAAI 2017), trained on 173 days, ours on 47 or less",
    ),
    Experiment(
        "weather",
        "ERA5 t2m UK",
        ("rmse", "brier", "csi"),
        horizons=(24,),
        openings=2,
        leads=(6, 24),
    ),
    Experiment(
        "video-prediction", "bouncing digits (scikit-learn)", ("mse", "mae"), shown=("ssim",)
    ),
    Experiment("video-classification", "bouncing digits (digit)", ("accuracy",)),
    Experiment(
        "video-classification-motion", "bouncing digits (motion)", ("accuracy",), openings=2
    ),
    Experiment("video-detection", "bouncing digits (scikit-learn)", ("map",)),
)
EXPERIMENTS = {experiment.name: experiment for experiment in _ALL}
"""Every experiment by its name, mostly that of its recipe."""
