"""Named transforms one after the other, fitted to training rows that need not fit into memory."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from stpatch_jax.data.transforms.steps import Affine, Log, Log1p, Transform, Winsorizer
from stpatch_jax.errors import check_choice, check_range

StepName = Literal["log", "log1p", "winsorize", "standard", "robust", "min_max"]
Chunks = Callable[[], Iterable[np.ndarray]]

_CLASSES: dict[str, type[Transform]] = {
    "log": Log,
    "log1p": Log1p,
    "winsorize": Winsorizer,
    "standard": Affine,
    "robust": Affine,
    "min_max": Affine,
}
# Values that a quantile is taken from; 32 MB of them, which leaves a median's error near 0.1 %
# of a standard deviation.
SAMPLE = 2**22


@dataclass(frozen=True, eq=False)
class Pipeline:
    """Fitted transforms in the order in which they apply.

    Their names are `log`, `log1p` (see `Log`, `Log1p`), `winsorize` (see `Winsorizer`), `standard`,
    `robust` and `min_max` (see `Affine`).
    """

    names: tuple[StepName, ...]
    steps: tuple[Transform, ...]

    @classmethod
    def fit(
        cls, values: np.ndarray, names: Sequence[StepName], *, winsorize: float = 0.005
    ) -> "Pipeline":
        """Fits each step to what the steps before it make of the training rows.

        These are floats [row, *series], NaN where missing; `winsorize` is the share of the values
        beyond each bound of the step of that name, in [0, 0.5).

        Raises:
            InputError: If a step is not known or the share is out of range.

        >>> pipeline = Pipeline.fit(np.array([[0.0], [1.0], [3.0]]), ("log1p", "min_max"))
        >>> pipeline.transform(np.array([[3.0]])).tolist()
        [[1.0]]
        """
        return cls.fit_chunks(lambda: [values], names, rows=len(values), winsorize=winsorize)

    @classmethod
    def fit_chunks(
        cls,
        chunks: Chunks,
        names: Sequence[StepName],
        *,
        rows: int,
        winsorize: float = 0.005,
        sample: int = SAMPLE,
    ) -> "Pipeline":
        """As `fit`, with one pass over the rows for each step that has something to fit.

        At every call `chunks` yields the rows in parts [row, *series] from the start. Mean,
        standard deviation and range are those of all rows. Quantiles (`winsorize`, `robust`) are
        those of at most `sample` values over all series: exact where the rows hold no more, else of
        a random row out of each of equal blocks of rows, always the same ones.

        Raises:
            InputError: If a step is not known or the share is out of range.
        """
        for name in names:
            check_choice("a step of a pipeline", name, get_args(StepName))
        check_range("winsorize", winsorize, 0, 0.5, bounds="[)")
        done = cls((), ())
        for name in names:
            before = done
            parts = (before.transform(chunk) for chunk in chunks())
            if name == "winsorize":
                step = Winsorizer.fit(sampled_rows(parts, rows=rows, sample=sample), winsorize)
            elif name == "robust":
                step = Affine.robust(sampled_rows(parts, rows=rows, sample=sample))
            elif name in ("standard", "min_max"):
                step = getattr(Affine, name)(parts)
            else:
                step = _CLASSES[name]()
            done = cls((*done.names, name), (*done.steps, step))
        return done

    def transform(self, values: np.ndarray, *, clip: bool = True) -> np.ndarray:
        """Applies the steps to values [..., *series] in the units of the field; NaN stays NaN.

        Outliers are not clipped without `clip`, as in the targets of an evaluation.
        """
        for name, step in zip(self.names, self.steps, strict=True):
            if clip or name != "winsorize":
                values = step.transform(values)
        return values

    def inverse(self, values: np.ndarray) -> np.ndarray:
        """Undoes the steps in reverse order up to rounding; what was clipped stays clipped."""
        for step in reversed(self.steps):
            values = step.inverse(values)
        return values

    def select(
        self,
        *,
        channels: Sequence[int] | slice = slice(None),
        cells: tuple[slice, ...] = (),
        dtype: np.typing.DTypeLike = np.float64,
    ) -> "Pipeline":
        """The pipeline of some channels, of a tile in space, or in another precision.

        A tile is one slice per space axis; a pipeline without space ignores it.
        """

        def pick(array: np.ndarray) -> np.ndarray:
            tile = cells if array.ndim == 1 + len(cells) else ()
            # In float32 the "no bound" of a `Winsorizer` is infinity, which bounds as little.
            with np.errstate(over="ignore"):
                return array[(*tile, ..., channels)].astype(dtype, copy=False)

        return Pipeline(self.names, tuple(step.mapped(pick) for step in self.steps))

    def to_dict(self) -> dict[str, Any]:
        """Names of the steps, and under their numbers the arrays of those that were fitted."""
        return {"names": list(self.names)} | {
            str(at): arrays for at, step in enumerate(self.steps) if (arrays := step.to_dict())
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "Pipeline":
        """Undoes `to_dict`, bit for bit."""
        names = state["names"]
        steps = [_CLASSES[name].from_dict(state.get(str(at), {})) for at, name in enumerate(names)]
        return cls(tuple(names), tuple(steps))


def sampled_rows(parts: Iterable[np.ndarray], *, rows: int, sample: int) -> np.ndarray:
    """At most about `sample` values out of rows that come in parts [row, *series], or all of them.

    Where there are more values, the rows are cut into equal blocks and one row is drawn from each:
    no period of the data can hide between the blocks, and the same rows are drawn at every call.
    """
    return np.concatenate(list(_drawn(parts, rows, sample)))


def _drawn(parts: Iterable[np.ndarray], rows: int, sample: int) -> Iterator[np.ndarray]:
    first, chosen = 0, None
    for part in parts:
        if chosen is None:
            series = int(np.prod(part.shape[1:]))
            block = max(1, -(-rows * series // sample))
            starts = np.arange(0, rows, block)
            spread = np.minimum(block, rows - starts)
            chosen = starts + np.random.default_rng(0).integers(0, spread)
        low, high = np.searchsorted(chosen, (first, first + len(part)))
        yield part[chosen[low:high] - first]
        first += len(part)
