"""What is asked of a run: one answer to one example, as a function of its input field."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from flax import nnx
from jax.tree_util import Partial

from stpatch_jax.configs import difference, to_values
from stpatch_jax.data import RiskData
from stpatch_jax.errors import InputError, require
from stpatch_jax.predicting import TrainedRun
from stpatch_jax.tasks import Classify, Forecast

_MOST_EXAMPLES = 64
_SPACE = ((), ("cell",), ("height", "width"), ("depth", "height", "width"))


@dataclass(frozen=True, eq=False)
class Question:
    """One answer of a model to one example.

    Attributes:
        field: The input of the example (time, *space, channel), scaled, with its coordinates.
        score: The answer as a function of such fields, see `stpatch_jax.explain.Score`.
        told: What is explained, for people.
        unit: Unit of the answer.
        reads: Times of the feature map that the answer is read from, "last" or "mean" for all.
        quality: How good the answers to many examples are, one number each, as a function of their
            fields; None where there are fewer than 2.
        fields: Those examples (example, time, *space, channel).
        loss: What that is the negative of, with its unit.
    """

    field: xr.DataArray
    score: Partial
    told: str
    unit: str
    reads: Literal["mean", "last"]
    quality: Partial | None
    fields: xr.DataArray
    loss: str = "cross-entropy, nats"

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


def backbone_of(score: Partial) -> Any:
    """The backbone of a question's model; of a pair that which sees the field as it is."""
    model = score.args[0]()
    return getattr(getattr(model, "free", model), "backbone", None)


def ask(
    run: TrainedRun, *, split: str, example: int, target: str | None, lead: int | None
) -> Question:
    """Asks a run about one example of its data.

    Args:
        run: The run, a forecast or a classification.
        split: Split of the example.
        example: Its number, from the end where negative.
        target: Name of the series or class; None for the first series, or the class it is given.
        lead: Lead time of a forecast, in time steps; None for the last.

    Raises:
        InputError: The run is of another task, its data have changed, or there is no such example,
            series, class or lead time.
    """
    kind = type(run.task)
    require(
        kind in (Forecast, Classify),
        f"stpatch explain needs a run that forecasts or classifies, but {run.directory.path} is "
        f"{type(run.config.task).__name__}; `stpatch evaluate` reports on it",
    )
    data = run.config.data.load()
    changed = difference(run.scaler, to_values(data.scaler_state()))
    require(
        not changed,
        f"the data of the run in {run.directory.path} must be what it was trained on, but they "
        "changed since; restore the data",
    )
    source = data.source(split)
    require(
        -len(source) <= example < len(source),
        f"example must be one of the {len(source)} of the {split} split, from "
        f"{-len(source)} to {len(source) - 1}, but it is {example}; choose one of them",
    )
    number = example % len(source)
    model: Any = run.function(lambda model, _: model, run.shapes)(None)
    make = _forecast if kind is Forecast else _class
    return make(run, data, source, number, split, model, target, lead)


def _forecast(
    run: TrainedRun,
    data: Any,
    source: Any,
    number: int,
    split: str,
    model: Any,
    target: str | None,
    lead: int | None,
) -> Question:
    task, batch = run.task, source[number]
    series = dict(getattr(data, "series", {})) or {"all": (...,)}
    name = next(iter(series)) if target is None else target
    _require_one_of("target", name, series)
    horizon = len(batch["target"])
    lead = horizon if lead is None else lead
    require(
        1 <= lead <= horizon,
        f"lead must be a lead time from 1 to {horizon}, in time steps, but it is {lead}; choose "
        "one of them",
    )
    at = lead - 1

    # What is asked of a risk is its low quantile.
    risk = isinstance(data, RiskData)
    point = (lambda quantiles: quantiles[..., 0]) if risk else task.point

    def answer(model: Any, inputs: Mapping[str, jax.Array]) -> jax.Array:
        values = point(task.predict(model, inputs))[series[name]][:, at]
        # Of a series with many cells, the one in their middle.
        return values[(slice(None), *(size // 2 for size in values.shape[1:]))]

    def quality(model: Any, inputs: Mapping[str, jax.Array]) -> jax.Array:
        axes = tuple(range(1, inputs["target"].ndim))
        error = inputs["target"] - point(task.predict(model, inputs))
        # The pinball loss of a quantile, the absolute error of a forecast.
        error = jnp.maximum(over * error, -under * error)
        real = inputs["target_mask"].astype(jnp.float32)
        return -jnp.sum(error * real, axes) / jnp.maximum(jnp.sum(real, axes), 1)

    when = told_place(data.times[int(batch["index"]) + at]) if hasattr(data, "times") else ""
    over, under = (task.config.quantiles[0], 1 - task.config.quantiles[0]) if risk else (1, 1)
    what = f"{task.config.quantiles[0]:g} quantile" if risk else "forecast"
    told = f"{split} example {number}: {what} of {name} at lead {lead}" + (when and f", {when}")
    unit = "scaled units"
    names = {"context": task.inputs, "": (*task.inputs, "target", "target_mask")}
    question = _question("context", names, source, number, data, model, answer, quality, told, unit)
    reads = "last" if task.config.time == "last" else "mean"
    loss = f"{'pinball loss' if risk else 'mean absolute error'}, {unit}"
    return dataclasses.replace(question, reads=reads, loss=loss)


def _class(
    run: TrainedRun,
    data: Any,
    source: Any,
    number: int,
    split: str,
    model: Any,
    target: str | None,
    lead: int | None,
) -> Question:
    require(lead is None, f"lead is of forecasts only, but it is {lead}; leave it out")
    batch, classes = source[number], list(data.classes)
    probabilities = np.asarray(run.task.predict(model, {"field": batch["field"][None]}))[0]
    name = classes[int(probabilities.argmax())] if target is None else target
    _require_one_of("target", name, classes)
    chosen = np.arange(len(classes)) == classes.index(name)

    def answer(model: Any, inputs: Mapping[str, jax.Array]) -> jax.Array:
        logits = model(inputs["field"])
        others = jax.nn.logsumexp(jnp.where(chosen[None], -jnp.inf, logits), axis=-1)
        return logits[:, int(chosen.argmax())] - others

    def quality(model: Any, inputs: Mapping[str, jax.Array]) -> jax.Array:
        logs = jax.nn.log_softmax(model(inputs["field"]), axis=-1)
        return jnp.take_along_axis(logs, inputs["label"][:, None], axis=-1)[:, 0]

    told = (
        f"{split} example {number}: class {name}, probability "
        f"{probabilities[classes.index(name)]:.3g}, truly {classes[int(batch['label'])]}"
    )
    names = {"field": ("field",), "": ("field", "label")}
    return _question("field", names, source, number, data, model, answer, quality, told, "nats")


def _question(
    name: str,
    names: Mapping[str, tuple[str, ...]],
    source: Any,
    number: int,
    data: Any,
    model: Any,
    answer: Callable[..., jax.Array],
    quality: Callable[..., jax.Array],
    told: str,
    unit: str,
) -> Question:
    graphdef, state = nnx.split(model)
    batch = source[number]

    def of_field(predict: Any, function: Any, fixed: Any, fields: jax.Array) -> jax.Array:
        given = {
            key: jnp.broadcast_to(values, (len(fields), *values.shape[1:]))
            for key, values in fixed.items()
        }
        return predict(function(), {**given, name: fields})

    function = Partial(functools.partial(nnx.merge, graphdef), state)
    fixed = {key: np.asarray(batch[key])[None] for key in names[name] if key != name}
    rows = np.unique(np.linspace(0, len(source) - 1, _MOST_EXAMPLES).astype(int))
    examples = [source[int(row)] for row in rows]
    many = {key: np.stack([example[key] for example in examples]) for key in names[""]}
    fields = many.pop(name)
    field = with_coordinates(batch[name], data, source, batch)
    return Question(
        field=field,
        score=Partial(functools.partial(of_field, answer), function, fixed),
        told=told,
        unit=unit,
        reads="mean",
        quality=Partial(functools.partial(of_field, quality), function, many)
        if len(fields) > 1
        else None,
        fields=xr.DataArray(
            fields, dims=("example", *field.dims), coords={"channel": field.channel.values}
        ),
    )


def _require_one_of(option: str, name: str, known: Any) -> None:
    if name not in known:
        shown = ", ".join(list(map(str, known))[:20])
        raise InputError(f"{option} must be one of {shown}, but it is {name!r}; choose one of them")


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
    attrs = {"units": "standard deviations of the training rows"}
    return xr.DataArray(values, coords, dims=("time", *dims, "channel"), name="input", attrs=attrs)


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
