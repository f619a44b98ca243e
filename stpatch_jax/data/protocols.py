"""What every data set offers to a run: examples by split, what was fitted, what was read."""

import abc
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeVar, cast

import numpy as np

from stpatch_jax.data.catalog import CATALOG, locate, made_note
from stpatch_jax.data.digests import digest_of, example_arrays
from stpatch_jax.data.sampling.batches import Source
from stpatch_jax.data.sampling.splits import SplitAt, spans_between_gaps
from stpatch_jax.data.sizes import SizeConfig, limiting
from stpatch_jax.data.times import TimeAxis
from stpatch_jax.errors import InputError, check_choice, listed, require
from stpatch_jax.files import usable

Rows = TypeVar("Rows")

CATALOG_PREFIX = "catalog:"
UNTOLD_UNIT = "units of the file"
"""What a unit is called that a file does not tell."""
EVERYTHING = "all"
"""The split of a restored data set: every example that its file has inputs for."""


@dataclass(frozen=True)
class InputAxes:
    """What is known of the axes of an example's input, for explanations.

    Attributes:
        dims: Names of the space axes; None counts them.
        coords: Coordinates by axis, `time` among them; an axis without one is counted.
        channels: Names of the channels; None counts them.
        unit: Unit of the values.
        zero: What a value of 0, which stands in place of what is hidden, means.
        words: Of texts the words at the times of the example.
        known: Bool [*space], False in cells of which nothing is ever known; None knows all.
    """

    dims: tuple[str, ...] | None = None
    coords: Mapping[str, Any] = field(default_factory=dict)
    channels: Sequence[str] | None = None
    unit: str = "standard deviations of the training rows"
    zero: str = "the mean of the training rows"
    words: Sequence[str] | None = None
    known: np.ndarray | None = None


class Data(Protocol):
    """A data set that a run trains on and is judged by; made by `DataConfig.load` or by a user.

    This is all that a run asks of any data set. `Problem` answers all but the first two as most do;
    a judge may ask for more, see `ForecastData` and the others below.
    """

    @property
    def report(self) -> Mapping[str, Any]:
        """What was read, dropped and clipped, and under `splits` where they lie; JSON-able."""
        ...

    def source(self, split: str) -> Source:
        """The examples of `train`, `validation` or `test`, in order.

        Raises:
            InputError: There is no such split.
        """
        ...

    def state(self) -> Mapping[str, Any]:
        """What was fitted to the training rows, to be saved with a model.

        A tree of dicts whose leaves are arrays, or numbers, strings and lists of these.
        """
        ...

    def digest(self, split: str) -> str:
        """A short name of a split, by which a run knows its data again.

        It tells values, coordinates, units and names of what was read, and neither paths nor times
        of files: a copy has the same. Of more than 1 GiB a split it tells a sample, whose places
        shape and chunks alone decide; between them a change of a few values may lie unseen.
        """
        ...

    def input_axes(self, split: str, number: int) -> InputAxes:
        """What is known of the axes of the input of an example, for explanations."""
        ...

    def names(self, split: str) -> Mapping[str, Sequence[Any] | np.ndarray]:
        """What tells examples apart in tables, by column [example]; {} counts them."""
        ...


class Problem:
    """Base of data sets, which need not inherit it: what most of them answer alike."""

    @property
    def target_numbers(self) -> tuple[int, ...] | None:
        """What is forecast are all channels of the context, in their order."""
        return None

    def state(self) -> Mapping[str, Any]:
        """Nothing was fitted."""
        return {}

    def content(self, split: str) -> Mapping[str, Any]:
        """What the digest of a split is of: a tree as `digest_of` takes it.

        That is what was fitted, the names of the examples, and the examples themselves, of more
        than 4096 of them, or 1 GiB, so many evenly spread ones. What was read, before it is scaled,
        serves better where it is there: it is the same on every machine.
        """
        examples = example_arrays(cast(Data, self).source(split))
        return {"state": self.state(), "names": self.names(split), "examples": examples}

    def digest(self, split: str) -> str:
        """The digest of the content."""
        return digest_of(self.content(split))

    def input_axes(self, split: str, number: int) -> InputAxes:
        """Nothing is known of places, times and channels."""
        return InputAxes()

    def names(self, split: str) -> Mapping[str, Sequence[Any] | np.ndarray]:
        """The examples are only counted."""
        return {}


class GivenProblem(Problem):
    """Base of the items of other files for a trained run; nothing is fitted.

    Attributes:
        trained: What the data of the run gave as `state`.
    """

    trained: Mapping[str, Any]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that the run tells apart."""
        return tuple(self.trained["classes"])

    def state(self) -> Mapping[str, Any]:
        """What the run was given."""
        return self.trained


class WindowProblem(Problem):
    """Base of data sets of windows whose configuration tells how long these are.

    Attributes:
        splits: Target rows of `train`, `validation` and `test`.
        times: Time of each row [time].
        past: Rows before the first target that an example reads.
        series: Names for reports, see `ForecastData`.
        unit: Their unit where all have one.
    """

    config: Any
    splits: Mapping[str, range]
    times: Any
    past: Any
    series: Any
    unit: Any

    @property
    def context(self) -> int:
        """Number of input time steps."""
        return self.config.context

    @property
    def horizon(self) -> int:
        """Number of predicted time steps."""
        return self.config.horizon

    @property
    def seasons(self) -> Mapping[str, int]:
        """The seasons in time steps, by the names of their naive forecasts."""
        return {}

    @property
    def series_units(self) -> Mapping[str, str]:
        """The unit of each of the `series`."""
        return {str(name): self.unit for name in self.series}

    @cached_property
    def segments(self) -> tuple[range, ...]:
        """The rows between gaps."""
        return TimeAxis.of(self.times).segments

    @cached_property
    def spans(self) -> dict[str, tuple[range, ...]]:
        """By split the parts of its target rows whose windows cross no gap."""
        size = {"past": self.past, "horizon": self.horizon}
        return {
            name: spans_between_gaps(rows, self.segments, **size)
            for name, rows in self.splits.items()
        }


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
    """What really came, in the units of the data, float64 [n, horizon, *space, channel].

    NaN where missing; `index` holds the row of the first target of each example [n].

    Raises:
        InputError: A target row lies outside the data.
    """
    index = checked_rows(index, first=0, last=len(data.times) - data.horizon)
    first = int(index.min())
    rows = data.values(slice(first, int(index.max()) + data.horizon))
    return np.asarray(rows, np.float64)[index[:, None] - first + np.arange(data.horizon)]


def checked_rows(index: np.ndarray, *, first: int, last: int) -> np.ndarray:
    """Rows [n] that name examples, as an array; all must lie in `first..last`, both included."""
    index = np.asarray(index)
    whole = index.ndim == 1 and index.size > 0 and np.issubdtype(index.dtype, np.integer)
    require(
        whole,
        f"index must be a list of rows, integers of shape (n,), got {index.dtype} of shape "
        f"{index.shape}; give the index of the batch",
    )
    require(
        bool(first <= index.min() <= index.max() <= last),
        f"index must lie in {first}..{last} for these data, got {index.min()} to {index.max()}; "
        "give rows of these data",
    )
    return index


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


class MeasuredData(Data, Protocol):
    """A data set whose examples are fields, each with numbers to tell: its targets."""

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the targets."""
        ...

    @property
    def target_medians(self) -> tuple[float, ...]:
        """Median of each target over the training examples, scaled so that their mean is 0."""
        ...

    def in_units(self, values: np.ndarray) -> np.ndarray:
        """Scaled targets [example, target] in their own units, float64."""
        ...


class ObjectData(LabelledData, Protocol):
    """A data set whose examples are fields with objects in every frame: these are counted."""

    @property
    def mean_box(self) -> tuple[float, ...]:
        """Mean bounds `(lo..., hi...)` of the training objects, in cells."""
        ...

    def shown(self, field: np.ndarray) -> np.ndarray:
        """Fields [..., channel] as people look at them, from 0 to 1."""
        ...


class TextData(Data, Protocol):
    """A data set whose examples are texts of tokens."""

    @property
    def token_counts(self) -> tuple[int, ...]:
        """How often each token of the vocabulary occurs in the training texts."""
        ...

    def decode(self, tokens: np.ndarray) -> str:
        """The text of token ids [time]."""
        ...

    def symbols(self, tokens: np.ndarray) -> list[str]:
        """The sign of each of some token ids [time], as people see it."""
        ...


def chosen_split(splits: Mapping[str, Rows], name: str) -> Rows:
    """The split of a name."""
    check_choice("split", name, tuple(splits))
    return splits[name]


@dataclass(frozen=True)
class DataConfig(SizeConfig, abc.ABC):
    """Base of all data configurations, the `--data.*` flags of a run.

    Attributes:
        path: The file, folder or URL, or `catalog:NAME` for a data set of the catalog (see
            `locate`).

    Raises:
        InputError: A setting is out of range, or does not fit the others.
    """

    path: str | None = None

    reading: ClassVar[tuple[str, ...]] = ("most_bytes",)
    """Names of the settings that tell how a file is read: another file may need others."""
    rolling: ClassVar[bool] = False
    """Whether the rows follow each other in time, so that `rolled` can cut them anew."""

    def __init_subclass__(cls, **options: Any) -> None:
        """What a subclass reads, whoever wrote it, is within its `most_bytes`, which is checked."""
        super().__init_subclass__(**options)
        for name in ("__post_init__", "load", "restore", "restore_ahead"):
            if name in vars(cls):
                setattr(cls, name, limiting(vars(cls)[name]))

    @abc.abstractmethod
    def load(self) -> Data:
        """Reads the data, cleans and splits them and fits their scaling to the training rows.

        Raises:
            InputError: The data cannot be used.
        """

    def of(self, values: Any) -> Data:
        """Builds the data set from an `xarray` object or arrays in memory, as the subclass says.

        Raises:
            InputError: Such data are read from files alone, or the values do not fit.
        """
        raise InputError(
            f"data must be a data set for {type(self).__name__}, which reads files alone, got "
            f"{type(values).__name__}; give what its load() would give, or name a file by data.path"
        )

    def rolled(self, data: Any, split_at: SplitAt) -> Any:
        """The problem on all rows of data that are open already, with splits at other rows.

        Its `config` holds these settings, with nothing left to the data. Only where `rolling` is.

        Raises:
            InputError: The rows do not fit.
        """
        raise NotImplementedError

    def settled(self, data: Any) -> tuple[Self, dict[str, str]]:
        """The settings with nothing left to the data, and how each that was left was chosen.

        Args:
            data: What `load` or `of` made, for which they were chosen.
        """
        name = (self.path or "").partition(CATALOG_PREFIX)[2]
        note = made_note(name) if name else ""
        return self, {"data.path": note} if note else {}

    def held_out(self) -> Self:
        """The settings for a choice by the validation split, which is not to be trained on."""
        return self

    def for_inputs(self, inputs: Sequence[str]) -> Self:
        """The settings for a task that reads the arrays `inputs`: what makes others may be left."""
        return self

    def restore(self, path: str, state: Mapping[str, Any]) -> Data:
        """Reads another file of the same kind for a trained run: nothing is fitted to it.

        With what `Data.state` gave for the training data it makes a data set whose only split is
        `EVERYTHING`.

        Raises:
            InputError: Such data cannot be read from another file, or this one does not fit.
        """
        raise InputError(
            f"the run must be on data that can be read from another file, got "
            f"{type(self).__name__}, which cannot read {path}; `stpatch evaluate` reports on it"
        )

    def restore_ahead(self, given: Any, state: Mapping[str, Any], future: Any) -> Data:
        """As `restore`, with what is known of the time behind; each is a file or in memory.

        Raises:
            InputError: Nothing is known in advance in such data.
        """
        raise InputError(
            f"future= must be left out of a run on {type(self).__name__}, of which nothing is "
            f"known in advance, got {listed([future])}; leave it out"
        )

    def restore_values(self, values: Any, state: Mapping[str, Any]) -> Data:
        """As `restore`, of data in memory, as `of` takes them, but without answers.

        Raises:
            InputError: Such data are read from files alone, or the values do not fit.
        """
        raise InputError(
            f"the run must be on data that can be given in memory, got {type(self).__name__}, "
            "which reads files alone; give the path of a file"
        )

    def file(self) -> str:
        """The file that `path` names; one of the catalog is found or fetched.

        Raises:
            InputError: There is no path, or the catalog's file cannot be had.
        """
        if self.path is None:
            raise InputError(
                "data.path must name the data, got none; give the path of a file, folder or URL"
            )
        return located(self.path)


def stored_encoding(path: str, told: str | None) -> str | None:
    """How the characters of a text are stored: known of a catalog's file, else as told."""
    entry = CATALOG.get(path.removeprefix(CATALOG_PREFIX)) if CATALOG_PREFIX in path else None
    return entry.encoding if entry else told


def located(path: str) -> str:
    """A path as it is, or where the file of `catalog:NAME` lies."""
    name = path.removeprefix(CATALOG_PREFIX)
    # What is missing the readers tell better.
    with usable(path=path), contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if name == path and "://" not in path:
            Path(path).stat()
    return path if name == path else str(locate(name))
