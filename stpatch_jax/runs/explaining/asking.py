"""The answers of each kind of run that can be explained: one question for each task."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from stpatch_jax.errors import InputError, require
from stpatch_jax.losses import box_iou
from stpatch_jax.nn import TokenEmbeddingConfig
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.recipes.risk.data import RiskData
from stpatch_jax.runs.explaining.question import (
    Answer,
    Question,
    question,
    told_place,
    what_is_empty,
    with_coordinates,
    with_words,
)
from stpatch_jax.runs.predicting import TrainedRun
from stpatch_jax.runs.values import difference, to_values
from stpatch_jax.tasks import Classify, Detect, Forecast, NextToken, Reconstruct

_SHOWN = 24
_NO_SLOPE = "needs an input that can change a little, but the tokens of a text are whole numbers"
_TOKENS = dict.fromkeys(("integrated_gradients", "smooth_grad", "attention_rollout"), _NO_SLOPE)
_MASKED = {"attention_rollout": "needs a model that is shown its whole input, but parts are hidden"}


@dataclass(frozen=True, eq=False)
class _Asked:
    """What a question is made from: the run, its data and model, the example and the flags."""

    run: TrainedRun
    data: Any
    model: Any
    split: str
    source: Any
    number: int
    target: str | None
    lead: int | None

    @property
    def name(self) -> str:
        """The example for people."""
        return f"{self.split} example {self.number}"

    def chosen(self, known: Any, default: str) -> str:
        """The target that was asked for, or a default.

        Raises:
            InputError: There is no such target.
        """
        name = default if self.target is None else self.target
        if name not in known:
            shown = ", ".join(list(map(str, known))[:20])
            raise InputError(
                f"target must be one of {shown}, but it is {name!r}; choose one of them"
            )
        return name

    def chosen_lead(self, most: int, what: str) -> int | None:
        """The lead that was asked for, if any.

        Raises:
            InputError: It is out of range.
        """
        require(
            self.lead is None or 1 <= self.lead <= most,
            f"lead must be {what} from 1 to {most}, but it is {self.lead}; choose one of them",
        )
        return self.lead


def ask(
    run: TrainedRun,
    *,
    split: str,
    example: int,
    target: str | None = None,
    lead: int | None = None,
) -> Question:
    """Asks a run about one example of its data.

    Args:
        run: The run.
        split: Split of the example.
        example: Its number, from the end where negative.
        target: Name of the series, class or character; None for the first series, the class it is
            given, the surest object, or the character that comes.
        lead: Lead time of a forecast, in time steps, or number of the object's frame or of the
            character, from 1; None for the last, or the frame of the surest object.

    Raises:
        InputError: The data of the run have changed, or there is no such example, target or lead.
    """
    data = run.config.data.load()
    changed = difference(run.scaler, to_values(data.state()))
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
    return _KINDS[type(run.task)](_Asked(run, data, model, split, source, number, target, lead))


def _forecast(asked: _Asked) -> Question:
    task, data, batch = asked.run.task, asked.data, asked.source[asked.number]
    series = dict(getattr(data, "series", {})) or {"all": (...,)}
    name = asked.chosen(series, next(iter(series)))
    horizon = len(batch["target"])
    lead = asked.chosen_lead(horizon, "a lead time") or horizon
    at = lead - 1

    # What is asked of a risk is its low quantile.
    risk = isinstance(data, RiskData)
    point = (lambda quantiles: quantiles[..., 0]) if risk else task.point
    over, under = (task.config.quantiles[0], 1 - task.config.quantiles[0]) if risk else (1, 1)

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
    what = f"{task.config.quantiles[0]:g} quantile" if risk else "forecast"
    others = [key for key in task.inputs if key != "context"]
    return question(
        asked.model,
        with_coordinates(batch["context"], data, asked.source, batch),
        answer,
        name="context",
        fixed={key: batch[key] for key in others},
        source=asked.source,
        quality=quality,
        judged=(*others, "target", "target_mask"),
        told=f"{asked.name}: {what} of {name} at lead {lead}" + (when and f", {when}"),
        unit="scaled units",
        empty=what_is_empty(data),
        reads="last" if task.config.time == "last" else "mean",
        loss=f"{'pinball loss' if risk else 'mean absolute error'}, scaled units",
    )


def _class(asked: _Asked) -> Question:
    require(asked.lead is None, f"lead is not of classes, but it is {asked.lead}; leave it out")
    data, batch, classes = asked.data, asked.source[asked.number], list(asked.data.classes)
    given = {"field": batch["field"][None]}
    probabilities = np.asarray(asked.run.task.predict(asked.model, given))[0]
    name = asked.chosen(classes, classes[int(probabilities.argmax())])
    number = classes.index(name)

    def answer(model: Any, inputs: Mapping[str, jax.Array]) -> jax.Array:
        return _log_odds(model(inputs["field"]), number)

    def quality(model: Any, inputs: Mapping[str, jax.Array]) -> jax.Array:
        logs = jax.nn.log_softmax(model(inputs["field"]), axis=-1)
        return jnp.take_along_axis(logs, inputs["label"][:, None], axis=-1)[:, 0]

    field = with_coordinates(batch["field"], data, asked.source, batch)
    words = getattr(data, "words", None)
    tokens = isinstance(asked.run.config.model, TokenEmbeddingConfig)
    return question(
        asked.model,
        field if words is None else with_words(field, words[asked.split][asked.number]),
        answer,
        name="field",
        fixed={},
        source=asked.source,
        quality=quality,
        judged=("label",),
        told=f"{asked.name}: class {name}, probability {probabilities[number]:.3g}, truly "
        f"{classes[int(batch['label'])]}",
        unit="nats",
        empty="token 0" if tokens else what_is_empty(data),
        unfit=_TOKENS if tokens else {},
        loss="cross-entropy, nats",
    )


def _object(asked: _Asked) -> Question:
    """The confidence in one object, as log-odds: in its window, whatever box that gives."""
    task, data, batch = asked.run.task, asked.data, asked.source[asked.number]
    classes, frames = list(data.classes), len(batch["field"])
    found = nnx.jit(lambda model, field: model(field).flat())(asked.model, batch["field"][None])
    confidence = jax.nn.sigmoid(found.score)[..., None] * jax.nn.softmax(found.label, axis=-1)
    sure = np.asarray(confidence)[0]
    if asked.target is not None:
        sure = np.where(
            np.arange(len(classes)) == classes.index(asked.chosen(classes, "")), sure, 0
        )
    lead = asked.chosen_lead(frames, "the number of a frame")
    rows = np.arange(frames) if lead is None else np.array([lead - 1])
    at, window, label = map(int, np.unravel_index(sure[rows].argmax(), sure[rows].shape))
    frame = int(rows[at])
    box = np.asarray(found.box)[0, frame, window]

    def answer(model: Any, inputs: Mapping[str, jax.Array]) -> jax.Array:
        found = model(inputs["field"]).flat()
        there = found.score[:, frame, window]
        if len(classes) == 1:
            return there
        logs = jax.nn.log_softmax(found.label[:, frame, window], axis=-1)
        others = logs[:, label] - _log_odds(logs, label)
        # p / (1 - p) of p = P(object) P(class): where there is none, or it is of another class.
        wrong = jnp.logaddexp(jax.nn.log_sigmoid(-there), jax.nn.log_sigmoid(there) + others)
        return jax.nn.log_sigmoid(there) + logs[:, label] - wrong

    return question(
        asked.model,
        with_coordinates(batch["field"], data, asked.source, batch),
        answer,
        name="field",
        fixed={},
        source=asked.source,
        quality=_quality(task),
        judged=[key for key in batch if key != "field"],
        told=f"{asked.name}: {classes[label]} in frame {frame + 1} of {frames}, confidence "
        f"{sure[frame, window, label]:.3g}, {_truth(box, frame, batch, classes)}",
        unit="nats",
        empty=what_is_empty(data),
        place=((frame, frame + 1), *zip(*np.split(box, 2), strict=True)),
        loss="loss of detection, nats",
    )


def _truth(box: np.ndarray, frame: int, batch: Mapping[str, Any], classes: list[str]) -> str:
    """What a box really holds."""
    real = np.flatnonzero(batch["object_mask"][frame])
    overlap = np.asarray(jax.jit(box_iou)(box[None], batch["boxes"][frame, real]))
    if not overlap.any():
        return "truly nothing"
    best = int(overlap.argmax())
    return f"truly {classes[int(batch['label'][frame, real[best]])]} (IoU {overlap[best]:.2g})"


def _next_token(asked: _Asked) -> Question:
    """The log-probability of one token given those before it."""
    data, batch = asked.data, asked.source[asked.number]
    tokens = np.asarray(batch["tokens"])
    real = np.flatnonzero(batch["token_mask"][1:]) + 1
    lead = asked.chosen_lead(len(tokens) - 1, "the number of a character") or int(real[-1])
    signs = data.symbols(np.arange(len(data.token_counts)))
    given = asked.target is not None
    label = signs.index(asked.chosen(sorted(set(signs)), "")) if given else int(tokens[lead])

    def answer(model: Any, inputs: Mapping[str, jax.Array]) -> jax.Array:
        return jax.nn.log_softmax(model(inputs["tokens"])[:, lead - 1], axis=-1)[:, label]

    values = tokens[:-1, None].astype(np.float32)
    field = with_coordinates(values, data, asked.source, batch).assign_coords(channel=["token"])
    before = "".join(data.symbols(tokens[max(0, lead - _SHOWN) : lead]))
    return question(
        asked.model,
        with_words(field, data.symbols(tokens[:-1])).assign_attrs(units="number of the token"),
        answer,
        name="tokens",
        fixed={},
        source=asked.source,
        told=f"{asked.name}: log-probability of {signs[label]} after {before}, truly "
        f"{signs[tokens[lead]]}",
        unit="nats",
        empty="token 0",
        unfit=_TOKENS,
        place=((lead, lead + 1),) if lead < len(field) else None,
    )


def _hidden_patch(asked: _Asked) -> Question:
    """The mean of what is made of one hidden patch, that which varies most."""
    for flag, value in (("target", asked.target), ("lead", asked.lead)):
        require(value is None, f"{flag} is not of hidden patches, but it is {value}; leave it out")
    task, batch = asked.run.task, asked.source[asked.number]
    values = np.asarray(batch["field"])
    masked = np.asarray(task.evaluation_mask({"field": values[None]}))[0]
    spec = WindowSpec.of(task.config.window)
    window = spec.window_shape(masked.shape)
    places = [
        tuple((at * n, at * n + n) for at, n in zip(place, window, strict=True))
        for place in np.ndindex(spec.grid_shape(masked.shape))
    ]
    hidden = [place for place in places if masked[tuple(slice(*bounds) for bounds in place)].all()]
    cells = [tuple(slice(*bounds) for bounds in place) for place in hidden]
    chosen = int(np.argmax([values[at].std() for at in cells]))

    def answer(model: Any, inputs: Mapping[str, jax.Array]) -> jax.Array:
        made = model(inputs["field"], inputs["masked"])[:, *cells[chosen]]
        return jnp.mean(made, axis=range(1, made.ndim))

    field = with_coordinates(values, asked.data, asked.source, batch)
    where = ", ".join(
        f"{dim} {lo} to {hi - 1}" if hi - lo > 1 else f"{dim} {lo}"
        for dim, (lo, hi) in zip(field.dims, hidden[chosen], strict=False)
    )
    return question(
        asked.model,
        field,
        answer,
        name="field",
        fixed={"masked": masked},
        source=asked.source,
        quality=_quality(task),
        judged=[key for key in batch if key == "field_mask"],
        told=f"{asked.name}: mean of the hidden patch at {where}, truly "
        f"{values[cells[chosen]].mean():.3g}",
        unit="scaled units",
        empty=what_is_empty(asked.data),
        unfit=_MASKED,
        patches=spec,
        masked=masked,
        place=hidden[chosen],
        loss="mean squared error, scaled units squared",
    )


def _log_odds(logits: jax.Array, number: int) -> jax.Array:
    """Of one class against all others [batch], in nats; logits are [batch, classes]."""
    others = jnp.where(np.arange(logits.shape[-1])[None] == number, -jnp.inf, logits)
    return logits[:, number] - jax.nn.logsumexp(others, axis=-1)


def _quality(task: Any) -> Answer:
    """The negative loss of each example of a batch."""

    def quality(model: Any, inputs: Mapping[str, jax.Array]) -> jax.Array:
        def one(example: Mapping[str, jax.Array]) -> jax.Array:
            return -task.loss(model, {key: x[None] for key, x in example.items()})[0]

        return jax.vmap(one)(dict(inputs))

    return quality


_KINDS: dict[type, Callable[[_Asked], Question]] = {
    Forecast: _forecast,
    Classify: _class,
    Detect: _object,
    NextToken: _next_token,
    Reconstruct: _hidden_patch,
}
