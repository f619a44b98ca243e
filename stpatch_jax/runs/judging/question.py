"""What is asked of a run: one answer to one example, as a function of its input field."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from flax import nnx
from jax.tree_util import Partial

from stpatch_jax.data import Batch, Source
from stpatch_jax.data.protocols import InputAxes
from stpatch_jax.errors import check_choice, require
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.tasks import Task

Answer = Callable[[Any, Mapping[str, jax.Array]], jax.Array]
"""`(model, inputs) -> one number each [batch]`."""

MOST_EXAMPLES = 64
"""Most examples whose answers are judged together."""
_SPACE = ((), ("cell",), ("height", "width"), ("depth", "height", "width"))
_GRADIENTS = ("integrated_gradients", "smooth_grad", "attention_rollout")


@dataclass(frozen=True, eq=False)
class Question:
    """One answer of a model to one example.

    Attributes:
        field: The input of the example (time, *space, channel), as the model takes it, with its
            coordinates; `word` are the signs or words at its times, of texts.
        score: The answer as a function of such fields, see `stpatch_jax.explain.Score`.
        title: What is explained, for people.
        unit: Unit of the answer.
        zero: What 0, which stands in place of hidden values, means.
        reads: Times of the feature map that the answer is read from, "last" or "mean" for all.
        unfit: By method that cannot explain the answer what it must have, and what there is.
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
    title: str
    unit: str
    zero: str
    reads: Literal["mean", "last"] = "mean"
    unfit: Mapping[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
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
        """The backbone of the model; None for a model that has none."""
        return backbone_of(self.score)

    @property
    def shown(self) -> xr.DataArray:
        """The field, NaN in cells that the model is not shown."""
        return self.field if self.masked is None else self.field.where(~self.masked[..., None])


def backbone_of(score: Partial) -> Any:
    """The backbone of the model of a question's score; None for a model that has none."""
    return getattr(score.args[0](), "backbone", None)


@dataclass(frozen=True, eq=False)
class Asked:
    """The example of which something is asked, the model that answers, and the flags of the asker.

    Attributes:
        model: The model.
        task: Its task.
        data: The data of the example.
        split: Split of the example.
        number: Its number.
        target: Name of the target that is asked about, None for the default.
        lead: Number of the lead time, frame or token that is asked about, from 1, None likewise.
    """

    model: nnx.Module
    task: Task
    data: Any
    split: str
    number: int
    target: str | None = None
    lead: int | None = None

    @cached_property
    def source(self) -> Source:
        """The split."""
        return self.data.source(self.split)

    @cached_property
    def example(self) -> Batch:
        """The example."""
        return self.source[self.number]

    @cached_property
    def axes(self) -> InputAxes:
        """What the data know of the axes of the example's input."""
        return self.data.input_axes(self.split, self.number)

    @property
    def name(self) -> str:
        """The example for people."""
        return f"{self.split} example {self.number}"

    @cached_property
    def answer(self) -> Any:
        """What the task predicts for the example, a tree of arrays."""
        inputs = {name: np.asarray(self.example[name])[None] for name in self.task.inputs}
        answers = nnx.jit(lambda model, batch: self.task.predict(model, batch))(self.model, inputs)
        return jax.tree.map(lambda x: np.asarray(x)[0], answers)

    def choice(self, known: Sequence[str], default: str) -> str:
        """The target that is asked about.

        Raises:
            InputError: There is no such target.
        """
        name = default if self.target is None else self.target
        check_choice("target", name, known)
        return name

    def lead_of(self, most: int, what: str) -> int | None:
        """The lead that is asked about, if any, up to the last; messages say what it is.

        Raises:
            InputError: It is out of range.
        """
        require(
            self.lead is None or 1 <= self.lead <= most,
            f"lead must be {what} from 1 to {most}, got {self.lead}; choose one of them",
        )
        return self.lead

    def refuse(self, *flags: Literal["target", "lead"], what: str) -> None:
        """Refuses flags that say nothing of what is asked; messages say what that is.

        Raises:
            InputError: One is given.
        """
        for flag in flags:
            value = getattr(self, flag)
            require(
                value is None,
                f"{flag} must be left out of a question on {what}, got {value!r}; leave it out",
            )

    @property
    def unknown(self) -> np.ndarray | None:
        """True in cells of the input (time, *space) of which nothing is ever known, None if all."""
        if (known := self.axes.known) is None:
            return None
        return np.broadcast_to(~known, (len(self.axes.coords["time"]), *known.shape))

    def field(self, values: np.ndarray) -> xr.DataArray:
        """The input [time, *space, channel] with its coordinates."""
        return on_axes(values, self.axes)

    def question(
        self,
        field: xr.DataArray,
        answer: Answer,
        *,
        name: str,
        fixed: Mapping[str, np.ndarray] | None = None,
        quality: Answer | None = None,
        judged: Sequence[str] = (),
        unfit: Mapping[str, tuple[str, str]] | None = None,
        **attributes: Any,
    ) -> Question:
        """The question that an answer to a field is, and how good such answers are in the split.

        Args:
            field: The input of the example, with its coordinates.
            answer: The answer; gets the field as `name`, and what is fixed.
            name: Name of the field in a batch.
            fixed: Other arrays of the example, by name.
            quality: How good answers are; None where that is not asked.
            judged: Names of the other arrays of a batch that it gets.
            unfit: As in `Question`; that whole numbers have no gradients is known.
            **attributes: Other attributes of the question.
        """
        graphdef, state = nnx.split(self.model)
        model = Partial(functools.partial(nnx.merge, graphdef), state)

        def of_field(answer: Answer, model: Any, fixed: Any, fields: jax.Array) -> jax.Array:
            count = len(fields)
            others = {k: jnp.broadcast_to(x, (count, *x.shape[1:])) for k, x in fixed.items()}
            return answer(model(), {**others, name: fields})

        alone = {key: np.asarray(values)[None] for key, values in (fixed or {}).items()}
        whole = not np.issubdtype(np.asarray(self.example[name]).dtype, np.floating)
        steps = dict.fromkeys(_GRADIENTS, ("an input that can change a little", "whole numbers"))
        attributes = {
            "zero": "token 0" if whole else self.axes.zero,
            "unfit": {**(unfit or {}), **(steps if whole else {})},
            **attributes,
        }
        rows = np.unique(np.linspace(0, len(self.source) - 1, MOST_EXAMPLES).astype(int))
        if quality is not None and len(rows) > 1:
            examples = [self.source[int(row)] for row in rows]
            many = {key: np.stack([x[key] for x in examples]) for key in (name, *judged)}
            dims, coords = ("example", *field.dims), {"channel": field.channel.values}
            attributes["fields"] = xr.DataArray(many.pop(name), coords, dims)
            attributes["quality"] = Partial(functools.partial(of_field, quality), model, many)
        score = Partial(functools.partial(of_field, answer), model, alone)
        return Question(field=field, score=score, **attributes)

    def negative_loss(self, model: Any, inputs: Mapping[str, jax.Array]) -> jax.Array:
        """The negative loss of the task on each example of a batch: how good its answers are."""

        def one(example: Mapping[str, jax.Array]) -> jax.Array:
            return -self.task.loss(model, {key: x[None] for key, x in example.items()})[0]

        return jax.vmap(one)(dict(inputs))


def on_axes(values: np.ndarray, axes: InputAxes) -> xr.DataArray:
    """An input [time, *space, channel] with its coordinates; axes that have none count."""
    dims = _SPACE[values.ndim - 2] if axes.dims is None else axes.dims
    names = ("time", *dims, "channel")
    coords = {name: axes.coords[name] for name in names if name in axes.coords}
    coords["channel"] = list(axes.channels or map(str, range(values.shape[-1])))
    field = xr.DataArray(values, coords, names, name="input", attrs={"units": axes.unit})
    return field if axes.words is None else with_words(field, axes.words)


def mean_answer(asked: Asked) -> Question:
    """The mean of all that the model answers, as a function of the first of the task's inputs.

    This is what is asked of a task whose judge has no question of its own.
    """
    asked.refuse("target", "lead", what="the mean answer of a model")
    name, *others = asked.task.inputs
    values = np.asarray(asked.example[name])
    require(
        values.ndim >= 2,
        f"{name} must be a field [time, *space, channel] to be explained, got shape "
        f"{values.shape}; give the judge of the task a question of its own",
    )

    def answer(model: Any, inputs: Mapping[str, jax.Array]) -> jax.Array:
        inputs = {**inputs, name: inputs[name].astype(values.dtype)}
        leaves = jax.tree.leaves(asked.task.predict(model, inputs))
        means = [x.astype(jnp.float32).reshape(len(x), -1).mean(1) for x in leaves]
        return jnp.stack(means).mean(0)

    return asked.question(
        asked.field(values.astype(np.float32)),
        answer,
        name=name,
        fixed={key: asked.example[key] for key in others},
        quality=asked.negative_loss,
        judged=[key for key in asked.example if key != name],
        title=f"{asked.name}: mean of the answer",
        unit="units of the answer",
        loss="loss",
    )


def log_odds(logits: jax.Array, number: int) -> jax.Array:
    """Of one class against all others [batch], in nats; logits are [batch, classes]."""
    others = jnp.where(np.arange(logits.shape[-1])[None] == number, -jnp.inf, logits)
    return logits[:, number] - jax.nn.logsumexp(others, axis=-1)


def with_words(field: xr.DataArray, words: Sequence[str]) -> xr.DataArray:
    """A text (time, channel) with the words or signs at its times, cut or filled, as `word`."""
    filled = [*words, *[""] * len(field)][: len(field)]
    return field.assign_coords(word=("time", filled))
