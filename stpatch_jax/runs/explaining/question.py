"""What is asked of a run: one answer to one example, as a function of its input field."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from flax import nnx
from jax.tree_util import Partial

from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.recipes.risk.data import RiskData
from stpatch_jax.recipes.video.data import DigitClips

Answer = Callable[[Any, Mapping[str, jax.Array]], jax.Array]
"""`(model, inputs) -> one number each [batch]`."""

_MOST_EXAMPLES = 64
_SPACE = ((), ("cell",), ("height", "width"), ("depth", "height", "width"))


@dataclass(frozen=True, eq=False)
class Question:
    """One answer of a model to one example.

    Attributes:
        field: The input of the example (time, *space, channel), as the model takes it, with its
            coordinates; `word` are the signs or words at its times, of texts.
        score: The answer as a function of such fields, see `stpatch_jax.explain.Score`.
        told: What is explained, for people.
        unit: Unit of the answer.
        empty: What 0, which stands in place of hidden values, means.
        reads: Times of the feature map that the answer is read from, "last" or "mean" for all.
        unfit: What keeps a method from explaining the answer, by method.
        patches: Windows to hide, by default those of the backbone.
        masked: Bool (time, *space), True in cells that the model is not shown; None shows all.
        place: Bounds `((lo, hi), ...)` in cells, along time and the space axes, of what is
            answered; None where it is not a part of the input.
        quality: How good the answers to many examples are, one number each, as a function of their
            fields; None where there are fewer than 2.
        fields: Those examples (example, time, *space, channel).
        loss: What that is the negative of, with its unit.
    """

    field: xr.DataArray
    score: Partial
    told: str
    unit: str
    empty: str
    reads: Literal["mean", "last"] = "mean"
    unfit: Mapping[str, str] = dataclasses.field(default_factory=dict)
    patches: WindowSpec | None = None
    masked: np.ndarray | None = None
    place: tuple[tuple[float, float], ...] | None = None
    quality: Partial | None = None
    fields: xr.DataArray | None = None
    loss: str = ""

    def with_weights(self, state: Any) -> Partial:
        """The same function with the weights of another model."""
        model, fixed = self.score.args
        return Partial(self.score.func, Partial(model.func, state), fixed)

    @property
    def weights(self) -> Any:
        """The arrays of the model."""
        return self.score.args[0].args[0]

    @property
    def backbone(self) -> Any:
        """The backbone of the model."""
        return backbone_of(self.score)

    @property
    def shown(self) -> xr.DataArray:
        """The field, NaN in cells that the model is not shown."""
        return self.field if self.masked is None else self.field.where(~self.masked[..., None])


def backbone_of(score: Partial) -> Any:
    """The backbone of a question's model; of a pair that which sees the field as it is."""
    model = score.args[0]()
    return getattr(getattr(model, "free", model), "backbone", None)


def question(
    model: Any,
    field: xr.DataArray,
    answer: Answer,
    *,
    name: str,
    fixed: Mapping[str, np.ndarray],
    source: Any,
    quality: Answer | None = None,
    judged: Sequence[str] = (),
    **attributes: Any,
) -> Question:
    """A question to a model, and how good its answers to examples of a split are.

    Args:
        model: The model.
        field: The input of the example, with its coordinates.
        answer: The answer; gets the field as `name`, and what is fixed.
        name: Name of the field in a batch.
        fixed: Other arrays of the example, by name.
        source: The split.
        quality: How good answers are; None where that is not asked.
        judged: Names of the other arrays of a batch that it gets.
        **attributes: Other attributes of the question.
    """
    graphdef, state = nnx.split(model)
    function = Partial(functools.partial(nnx.merge, graphdef), state)

    def of_field(answer: Answer, function: Any, fixed: Any, fields: jax.Array) -> jax.Array:
        given = {
            key: jnp.broadcast_to(values, (len(fields), *values.shape[1:]))
            for key, values in fixed.items()
        }
        return answer(function(), {**given, name: fields})

    alone = {key: np.asarray(values)[None] for key, values in fixed.items()}
    score = Partial(functools.partial(of_field, answer), function, alone)
    rows = np.unique(np.linspace(0, len(source) - 1, _MOST_EXAMPLES).astype(int))
    if quality is not None and len(rows) > 1:
        examples = [source[int(row)] for row in rows]
        many = {key: np.stack([example[key] for example in examples]) for key in (name, *judged)}
        dims, coords = ("example", *field.dims), {"channel": field.channel.values}
        attributes["fields"] = xr.DataArray(many.pop(name), coords, dims)
        attributes["quality"] = Partial(functools.partial(of_field, quality), function, many)
    return Question(field=field, score=score, **attributes)


def with_coordinates(values: np.ndarray, data: Any, source: Any, example: Any) -> xr.DataArray:
    """The input of an example with what its data know of places, times and channels.

    Args:
        values: Input [time, *space, channel].
        data: The data set.
        source: The split it is of.
        example: The example.

    Returns:
        (time, *space, channel); axes of which nothing is known are counted.
    """
    times, *space, channels = values.shape
    dims: tuple[Any, ...] = _SPACE[len(space)]
    coords: dict[Any, Any] = {}
    if hasattr(data, "companies"):
        dims, coords = ("company",), {"company": list(data.companies)}
    elif isinstance(getattr(data, "field", None), xr.DataArray):
        dims = data.field.dims[1:-1]
        coords = {dim: data.field[dim].variable for dim in dims if dim in data.field.coords}
    coords = {d: c for d, c in coords.items() if len(c) == space[dims.index(d)]}
    if hasattr(data, "times") and "index" in example:
        # The context of a risk ends where its horizon begins.
        last = int(example["index"]) - (
            data.config.horizon - 1 if isinstance(data, RiskData) else 0
        )
        rows = data.times[max(0, last - times) : last]
        coords |= {"time": rows} if len(rows) == times else {}
    windows = getattr(source, "windows", source)
    known = [getattr(windows, "in_channels", None), getattr(data, "features", None)]
    known += [getattr(data, "channels", None)]
    names = next((list(n) for n in known if n is not None and len(n) == channels), None)
    coords["channel"] = [str(at) for at in range(channels)] if names is None else names
    scaled = not isinstance(data, DigitClips)
    attrs = {"units": "standard deviations of the training rows" if scaled else "0 to 1"}
    return xr.DataArray(values, coords, dims=("time", *dims, "channel"), name="input", attrs=attrs)


def with_words(field: xr.DataArray, words: Sequence[str]) -> xr.DataArray:
    """A text with the words or signs at its times as its coordinate `word`.

    Args:
        field: The text (time, channel).
        words: They; longer ones are cut, shorter ones filled up with nothing.
    """
    there = [*words, *[""] * len(field)][: len(field)]
    return field.assign_coords(word=("time", there))


def what_is_empty(data: Any) -> str:
    """What 0 means in a field of some data."""
    black = isinstance(data, DigitClips)
    return "black" if black else "the mean of the training rows"


def told_place(value: Any) -> str:
    """A coordinate for people; a date without seconds, and without a time of day at midnight.

    >>> told_place(np.datetime64("2024-05-01T00:00:00", "ns"))
    '2024-05-01'
    """
    if isinstance(value, np.floating):
        return f"{value:.6g}"
    return (
        str(value)[:16].removesuffix("T00:00") if isinstance(value, np.datetime64) else str(value)
    )
