"""What every data set offers to a run: examples by split, what was fitted, what was read."""

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from stpatch_jax.data.catalog import locate
from stpatch_jax.data.sampling.batches import Source
from stpatch_jax.errors import InputError, require

CATALOG_PREFIX = "catalog:"


class Data(Protocol):
    """A data set that a run trains on and is judged by; made by `DataConfig.load`."""

    @property
    def report(self) -> dict[str, Any]:
        """What was read, dropped and clipped, and where the splits lie; JSON-able."""
        ...

    def source(self, split: str) -> Source:
        """The examples of `train`, `validation` or `test`, in order.

        Raises:
            InputError: If there is no such split.
        """
        ...

    def scaler_state(self) -> dict[str, Any]:
        """Everything fitted to the training rows, JSON-able, to be saved with a model."""
        ...


class ForecastData(Data, Protocol):
    """A data set whose examples are windows of one table or field.

    Rows count from 0; an example is named by the row of its first target.
    """

    @property
    def context(self) -> int:
        """Number of input time steps."""
        ...

    @property
    def horizon(self) -> int:
        """Number of predicted time steps."""
        ...

    @property
    def times(self) -> np.ndarray:
        """Time of each row [time]."""
        ...

    @property
    def unit(self) -> str:
        """Unit of the targets, for reports."""
        ...

    @property
    def series(self) -> Mapping[str, tuple[Any, ...]]:
        """Names for reports, and where each lies in an array [n, horizon, *space, channel]."""
        ...

    def in_units(self, values: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Scaled predictions [n, horizon, *space, channel] in the units of the data, float64."""
        ...

    def values(self, rows: slice) -> np.ndarray:
        """Targets as they stand in the data [rows, *space, channel], NaN where missing."""
        ...


def truth(data: ForecastData, index: np.ndarray) -> np.ndarray:
    """What really came, in the units of the data.

    Args:
        data: The data set.
        index: Row of the first target of each example [n].

    Returns:
        float64 [n, horizon, *space, channel], NaN where missing.

    Raises:
        InputError: If a target row lies outside the data.
    """
    index = np.asarray(index)
    require(
        index.ndim == 1 and np.issubdtype(index.dtype, np.integer),
        f"index must be a list of rows, integers of shape (n,), but it is {index.dtype} of shape "
        f"{index.shape}; give the index of the batch",
    )
    last = len(data.times) - data.horizon
    require(
        index.size > 0 and 0 <= index.min() <= index.max() <= last,
        f"index must lie in 0..{last} for these {len(data.times)} rows, but it is {index}; give "
        "rows of these data",
    )
    first = int(index.min())
    rows = data.values(slice(first, int(index.max()) + data.horizon))
    return np.asarray(rows, np.float64)[index[:, None] - first + np.arange(data.horizon)]


class LabelledData(Data, Protocol):
    """A data set whose examples are fields, each of one class."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        ...

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Number of training examples of each class."""
        ...


class ObjectData(Data, Protocol):
    """A data set whose examples are fields with objects in every frame, each of one class."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        ...

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Number of training objects of each class."""
        ...

    @property
    def mean_box(self) -> tuple[float, ...]:
        """Mean bounds `(lo..., hi...)` of the training objects, in cells."""
        ...


@dataclass(frozen=True)
class DataConfig(abc.ABC):
    """Base of all data configurations, the `--data.*` flags of a run.

    Attributes:
        path: The file, folder or URL, or `catalog:NAME` for a data set of the catalog (see
            `locate`).
    """

    path: str | None = None

    @abc.abstractmethod
    def load(self) -> Any:
        """Reads the data, cleans and splits them and fits their scaling to the training rows.

        Returns:
            A `ForecastData`, `LabelledData` or `ObjectData`.

        Raises:
            InputError: If the data cannot be used.
        """

    def file(self) -> str:
        """The file that `path` names; one of the catalog is found or fetched.

        Raises:
            InputError: There is no path, or the catalog's file cannot be had.
        """
        if self.path is None:
            raise InputError(
                "data.path must name the data, but there is none; give --data.path FILE"
            )
        return located(self.path)


def located(path: str) -> str:
    """A path as it is, or where the file of `catalog:NAME` lies."""
    name = path.removeprefix(CATALOG_PREFIX)
    return path if name == path else str(locate(name))
