"""Forecast: the coming steps of a field from those before."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeVar, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from stpatch_jax import losses
from stpatch_jax.errors import check_choice, check_range, check_size, require, require_members
from stpatch_jax.nn.heads import ForecastHead, ForecastTime
from stpatch_jax.nn.heads.forecast import central_quantile
from stpatch_jax.nn.layers import Backbone, BackboneConfig
from stpatch_jax.tasks.models import BackboneWithHead, members_of
from stpatch_jax.tasks.task import Batch, Metrics, Shapes, TaskBase, TaskConfig, real_entries

if TYPE_CHECKING:
    from stpatch_jax.data import Combination, RuleWeight

ForecastLoss = Literal["mse", "mae", "huber"]
ForecastMode = Literal["direct", "rollout"]
Residual = Literal["persistence", "season", "climatology", "relative", "none"]
Normalize = Literal["none", "instance", "both"]
_CHOICES = {
    "loss": get_args(ForecastLoss),
    "mode": get_args(ForecastMode),
    "residual": get_args(Residual),
    "normalize": get_args(Normalize),
    "time": get_args(ForecastTime),
}
Step = Callable[[Any, jax.Array], jax.Array]
Prediction = TypeVar("Prediction", jax.Array, np.ndarray)
_NAIVE = ("season", "climatology", "relative")
# The rules that a batch may bring, beside those of several seasons, "season_24".
_RULES = (
    *("persistence", "drift", "season", "climatology"),
    *("anomaly_persistence", "regression", "running_mean"),
)
# What the data make of these.
_COMBINATION = "combination"
_SEASON = re.compile(r"season_\d+")
# Weights that the data tell.
_TOLD = ("auto", "validation")
# Whether each network sees its context with mean 0 and variance 1.
_ANCHORED = {"none": (False,), "instance": (True,), "both": (True, False)}


@dataclasses.dataclass(frozen=True)
class ForecastConfig(TaskConfig):
    """Settings of `Forecast`.

    Attributes:
        loss: "mse", "mae" or "huber", over the real targets in scaled units; quantiles are always
            trained on the pinball loss.
        huber_delta: Error, in scaled units, at which the Huber loss turns from squares into
            absolute values; the other losses do not use it.
        quantiles: Probabilities in (0, 1), increasing; empty for point forecasts only. The point
            forecast is then the quantile function at 0.5, linear between these levels and flat
            beyond them: the median where it is among them, of (0.1, 0.9) the middle of both, of
            (0.05,) that quantile itself.
        mode: "direct" forecasts all lead times at once; "rollout" forecasts `rollout_step` of them
            and feeds these back as context until the horizon is reached. Training differentiates
            through the whole rollout. It gives point forecasts of all channels of the context,
            whose last row is what persistence predicts.
        rollout_step: Number of time steps forecast at once in a rollout.
        residual: What the model adds to: "persistence", another naive forecast that the batch
            brings ("season", "climatology"), or "none" (0). "relative" adds the model's output,
            times the batch's `level`, to the climatology: the context then holds departures that
            were divided by it (see `FieldConfig.relative`). Under instance normalisation the
            context's mean stands for "none" and is added to "climatology" and within "relative",
            since the context then holds departures from it (see `FieldConfig.anomalies`).
        normalize: "instance" brings the targets' channels of the context of each example and cell
            to mean 0 and variance 1 over its time, and the forecast back to the context's scale
            (RevIN without its learned scale and shift); covariates stay as they are. "both" trains
            two such networks beside each other, one with and one without, each on its own loss, and
            forecasts their mean: which of them is right depends on whether a shifted level stays.
        time: "last" or "flatten", see `ForecastHead`.
        bias: Whether the head adds a constant at each lead time. Without it a linear model cannot
            learn the drift of its training span, which need not go on.
        l1: Factor of the L1 penalty on the weights (not biases) that is added to the loss.
        model_weight: Weight w in [0, 1] of the model's point forecast against a naive one p in what
            is forecast, `p + w (model - p)`; the model is trained without it. Quantiles are moved
            as far as their point forecast is, and stay as far apart. "auto": the weight that
            the data tell (see `stpatch_jax.data.rolling_weight`).
        weighed_against: Which naive forecast p is, as `Forecast.baselines` names them, or
            "combination", which the data make of these and of linear maps (see
            `FieldConfig.combination`); "auto": the combination, where there is one, else the rule
            that with its weight has the least error (see `stpatch_jax.data.rolling_rules`), which
            asks for a model_weight of "auto" or "validation".

    References:
        Kim et al., "Reversible instance normalization for accurate time-series forecasting against
        distribution shift", ICLR 2022. Bates and Granger, "The combination of forecasts",
        Operational Research Quarterly 20 (1969).
    """

    loss: ForecastLoss = "mse"
    huber_delta: float = 1.0
    quantiles: tuple[float, ...] = ()
    mode: ForecastMode = "direct"
    rollout_step: int = 1
    residual: Residual = "persistence"
    normalize: Normalize = "none"
    time: ForecastTime = "last"
    bias: bool = True
    l1: float = 0.0
    model_weight: float | Literal["auto", "validation"] = 1.0
    weighed_against: str = "persistence"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, choices in _CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        check_range("huber_delta", self.huber_delta, 0, math.inf, bounds="()")
        check_range("l1", self.l1, 0, math.inf, bounds="[)")
        check_size("rollout_step", self.rollout_step)
        require(
            _is_rule(self.weighed_against) or self.weighed_against in ("auto", _COMBINATION),
            f"weighed_against must be one of {', '.join(_RULES)}, season_24 of several seasons, "
            f"combination or auto, got {self.weighed_against!r}; name a rule",
        )
        require(
            self.weighed_against != "auto" or self.model_weight in _TOLD,
            "model_weight must be auto or validation where weighed_against is auto, got "
            f"{self.model_weight}; give one or name a rule",
        )
        if self.model_weight not in _TOLD:
            check_range("model_weight", self.model_weight, 0, 1)
        require(
            self.mode == "direct" or self.residual not in _NAIVE,
            f"residual must be persistence or none in a rollout, got {self.residual}; use mode "
            "direct",
        )
        if self.quantiles:
            central_quantile(self.quantiles)
            require(
                self.mode == "direct",
                f"mode must be direct where there are quantiles, got {self.mode}; a rollout feeds "
                "back one value",
            )

    @property
    def measured(self) -> tuple[str, ...]:
        """The weight, where validation tells it, as in `TaskConfig`."""
        return ("model_weight",) if self.model_weight == "validation" else ()

    def create(self, *, facts: Mapping[str, Any] | None = None) -> Forecast:
        """The task of these settings, as in `TaskConfig.create`."""
        return Forecast(self, **(facts or {}))


class TellsTargets(Protocol):
    """What `Forecast` asks of its data to `normalize` a context, or to map it.

    `target_numbers` are the channels of the context that are targets; None for all, in their order.
    """

    target_numbers: tuple[int, ...] | None


class WeighsModels(Protocol):
    """What `Forecast` asks of its data for `model_weight="auto"` against persistence."""

    def model_weight(self) -> float:
        """Weight of a model's forecast against a naive one, from 0 to 1."""
        ...


class WeighsRules(Protocol):
    """What `Forecast` asks of its data for weights against other rules, or by validation."""

    def rule_weights(self) -> Mapping[str, RuleWeight]:
        """How far a forecast may leave each rule."""
        ...


class CombinesRules(Protocol):
    """What `Forecast` asks of its data to weigh a network against their `combination`.

    Its `linear` maps the context, [context, horizon].
    """

    combination: Combination | None


class ForecastModel(BackboneWithHead):
    """A backbone and a `ForecastHead`, and how far they are to forecast.

    Attributes:
        horizon: Number of time steps to forecast; a rollout runs the head until it is reached.
    """

    def __init__(self, backbone: Backbone, head: ForecastHead, *, horizon: int):
        super().__init__(backbone, head)
        self.horizon = horizon


class Forecast(TaskBase):
    """Forecasts every lead time of the horizon, one value or one set of quantiles per target.

    The model learns the residual to persistence (unless told otherwise), so that before training it
    is persistence. A batch holds, all in scaled units: `context` [batch, context, *space, channel],
    `target` and bool `target_mask` [batch, horizon, *space, channel'], `persistence`
    [batch, 1, *space, channel'], and optionally bool `example_mask` [batch], False where an example
    only fills up the batch. It may bring `weights` of the targets in the loss, each axis as long as
    the target's or 1 (such as `losses.latitude_weights`), and further naive forecasts,
    see `baselines`, [batch, 1 or horizon, *space, channel'].

    Args:
        config: Settings.
        model_weight: The weight that the data tell, for `model_weight="auto"`; None until `fitted`.
        weighed_against: The rule that the data tell, in the same way.
        target_channels: Which channels of the context the targets are, for `normalize`; None if
            they are all of them, in their order.
        combination_map: What a combination adds to the batch's `combination` for each value of the
            context, [context, horizon].
    """

    config: ForecastConfig

    def __init__(
        self,
        config: ForecastConfig,
        *,
        model_weight: float | None = None,
        weighed_against: str | None = None,
        target_channels: Sequence[int] | None = None,
        combination_map: Sequence[Sequence[float]] = (),
    ):
        facts_map = tuple(map(tuple, combination_map))
        channels = None if target_channels is None else tuple(target_channels)
        facts: dict[str, Any] = {"model_weight": model_weight, "weighed_against": weighed_against}
        super().__init__(config, **facts, target_channels=channels, combination_map=facts_map)
        self.target_channels = channels
        self._map = np.array(combination_map, np.float32)
        added_to = ("climatology", "level") if config.residual == "relative" else (config.residual,)
        needed = (*added_to, weighed_against or config.weighed_against)
        given = ("persistence", "none", "auto")
        rules = dict.fromkeys(rule for rule in needed if rule not in given)
        self.inputs = ("context", "persistence", *rules)

    def fitted(self, data: Any) -> Self:
        """The task with the weight and the targets that the data tell, where it needs them.

        Raises:
            InputError: They cannot tell it.
        """
        facts: dict[str, Any] = {}
        weight, against = self.config.model_weight, self.config.weighed_against
        what = f"the data of a Forecast of model_weight {weight}"
        if weight == "auto" and against == "persistence":
            require_members(data, WeighsModels, what=what)
            facts["model_weight"] = data.model_weight()
        elif weight in _TOLD:
            require_members(data, WeighsRules, what=what)
            found, auto = data.rule_weights(), weight == "auto"
            errors = {name: of.error if auto else of.alone for name, of in found.items()}
            least = _COMBINATION if _COMBINATION in found else min(errors, key=errors.__getitem__)
            rule = least if against == "auto" else against
            check_choice("weighed_against", rule, tuple(found))
            own = found[rule].weight if auto or found[rule].sure else 0.0
            facts |= {"model_weight": own, "weighed_against": rule}
        combines = facts.get("weighed_against") == _COMBINATION
        if combines:
            require_members(data, CombinesRules, what="the data of a Forecast that combines rules")
            facts["combination_map"] = data.combination.linear.tolist()
        if self.config.normalize != "none" or combines:
            require_members(
                data, TellsTargets, what="the data of a Forecast that normalizes or combines"
            )
            facts["target_channels"] = data.target_numbers
        return type(self)(self.config, **facts) if facts else self

    @property
    def model_weight(self) -> float:
        """Weight of the model's point forecast against the naive one.

        Raises:
            InputError: It is the data's, and the task was not `fitted`.
        """
        weight = self.config.model_weight
        return self.fact("model_weight") if weight in _TOLD else weight

    @property
    def weighed_against(self) -> str:
        """The naive forecast that the model's is weighed against.

        Raises:
            InputError: It is the data's, and the task was not `fitted`.
        """
        rule = self.config.weighed_against
        return self.fact("weighed_against") if rule == "auto" else rule

    @property
    def networks(self) -> int:
        """Two with `normalize="both"`, the first of which sees its context normalised."""
        return len(_ANCHORED[self.config.normalize])

    def check_shapes(self, backbone: BackboneConfig, shapes: Shapes) -> None:
        """Refuses targets that do not lie over the context, or are no channels of it but must be.

        Raises:
            InputError: Saying what does not fit.
        """
        context, target = tuple(shapes["context"]), tuple(shapes["target"])
        require(
            len(context) == len(target) and context[2:-1] == target[2:-1],
            "context and target must be (batch, time, *space, channel) over the same space, got "
            f"{context} and {target}; cut both from the same cells",
        )
        every = tuple(range(context[-1]))
        named = every if self.target_channels is None else self.target_channels
        fits = len(named) == target[-1] and set(named) <= set(every)
        require(
            self.config.normalize == "none" or fits,
            f"target_channels must name the channels of the context that the {target[-1]} targets "
            f"are, to normalize them, got {named} of {len(every)}; give one for each target",
        )
        require(
            self.config.mode == "direct" or (fits and named == every),
            f"target must have all {len(every)} channels of the context, in their order, for a "
            f"rollout, got {target[-1]}; forecast every channel or use mode direct",
        )

    def network(
        self, body: Backbone, backbone: BackboneConfig, shapes: Shapes, *, rngs: nnx.Rngs
    ) -> ForecastModel:
        """Puts a `ForecastHead` on a backbone; it is zero before training, see `residual`."""
        context, target = shapes["context"], shapes["target"]
        head = ForecastHead(
            body.spec,
            body.out_features,
            space=context[2:-1],
            horizon=self.config.rollout_step if self.config.mode == "rollout" else target[1],
            channels=target[-1],
            quantiles=self.config.quantiles,
            time=self.config.time,
            grid_time=body.grid_shape(context[1:-1])[0],
            bias=self.config.bias,
            rngs=rngs,
            options=backbone.for_head,
        )
        return ForecastModel(body, head, horizon=target[1])

    def check_batch(self, batch: Batch) -> None:
        """Refuses a batch that does not suit the options, as in `Task.check_batch`.

        Raises:
            InputError: If the batch lacks a naive forecast that is used, or the task rolls out and
                persistence is not the context's last row.
        """
        require(
            set(self.inputs) <= set(batch),
            f"a batch must have {', '.join(self.inputs)}, got {', '.join(batch)}; give the data a "
            "season, a climatology or known covariates, or choose another rule",
        )
        if self.config.mode == "direct":
            return
        last, persistence = np.asarray(batch["context"])[:, -1:], np.asarray(batch["persistence"])
        require(
            last.shape == persistence.shape and np.allclose(last, persistence, atol=1e-5),
            "persistence must be the last row of the context for a rollout, whose forecasts follow "
            "it as context, got another; use another representation of the data or mode direct",
        )

    def predict(self, model: nnx.Module, batch: Batch) -> jax.Array:
        """Forecasts a batch; a rollout takes the context's last row for persistence.

        Returns:
            [batch, horizon, *space, channel'], float32, in scaled units; with quantiles
            [batch, horizon, *space, channel', quantile], which do not cross.
        """
        return self.weighed(self.network_forecast(model, batch), batch, self.model_weight)

    def network_forecast(self, model: nnx.Module, batch: Batch) -> jax.Array:
        """What `predict` gives with a `model_weight` of 1."""
        return _mean(self._members(model, batch))

    def weighed(self, forecast: Prediction, batch: Batch, weight: float) -> Prediction:
        """A forecast of the network drawn to the naive one, as far as a weight says."""
        if weight == 1:
            return forecast
        naive = self.naive(batch)
        if self.config.quantiles:
            return forecast + ((1 - weight) * (naive - self.point(forecast)))[..., None]
        return naive + weight * (forecast - naive)

    def naive(self, batch: Batch) -> Any:
        """What the network's forecast is drawn to, see `ForecastConfig.weighed_against`."""
        naive = batch[self.weighed_against].astype(np.float32)
        if self.weighed_against != _COMBINATION:
            return naive
        channels = slice(None) if self.target_channels is None else np.array(self.target_channels)
        context = batch["context"][..., channels].astype(np.float32)
        return naive + jnp.einsum("bt...,th->bh...", context, self._map, precision="highest")

    def _members(self, model: nnx.Module, batch: Batch) -> list[jax.Array]:
        anchored = _ANCHORED[self.config.normalize]
        return [self._member(*of, batch) for of in zip(members_of(model), anchored, strict=True)]

    def _member(self, model: Any, anchored: bool, batch: Batch) -> jax.Array:
        context, step = batch["context"], functools.partial(self._step, anchored=anchored)
        if self.config.mode == "rollout":
            return _rollout(step, model, context, horizon=model.horizon)
        if self.config.residual == "relative":
            base, level = (batch[of].astype(jnp.float32) for of in ("climatology", "level"))
            if self.config.quantiles:
                base, level = base[..., None], level[..., None]
            return base + level * step(model, context, jnp.zeros_like(batch["climatology"]))
        naive = "persistence" if self.config.residual == "none" else self.config.residual
        return step(model, context, batch[naive])

    def _step(
        self, model: Any, context: jax.Array, naive: jax.Array | None = None, *, anchored: bool
    ) -> jax.Array:
        base = (context[:, -1:] if naive is None else naive).astype(jnp.float32)
        if self.config.residual == "none":
            base = jnp.zeros_like(base)
        scale = jnp.ones_like(base)
        if anchored:
            named = self.target_channels
            channels = slice(None) if named is None else np.array(named)
            targets = context[..., channels]
            mean, scale = _instance_statistics(targets)
            targets = ((targets - mean) / scale).astype(context.dtype)
            context = targets if named is None else context.at[..., channels].set(targets)
            if self.config.residual in ("none", "climatology", "relative"):
                base += mean
        values = model(context)
        if self.config.quantiles:
            base, scale = base[..., None], scale[..., None]
        return base + scale * values

    def point(self, prediction: Prediction) -> Prediction:
        """Returns the point forecast of what `predict` gave, see `ForecastConfig.quantiles`."""
        levels = self.config.quantiles
        if not levels:
            return prediction
        share, low = math.modf(np.interp(0.5, levels, np.arange(len(levels))))
        below = prediction[..., int(low)]
        return below if not share else below + share * (prediction[..., int(low) + 1] - below)

    @property
    def point_name(self) -> str:
        """What the point forecast is, for reports."""
        levels = self.config.quantiles
        if not levels:
            return "the forecast"
        if 0.5 in levels:
            return "the median"
        below, above = [q for q in levels if q < 0.5], [q for q in levels if q > 0.5]
        if below and above:
            return f"level 0.5, linear between the quantiles {below[-1]:g} and {above[0]:g}"
        return f"the quantile {levels[central_quantile(levels)]:g}"

    def loss(self, model: nnx.Module, batch: Batch) -> tuple[jax.Array, Metrics]:
        """Computes the loss over the real targets of a batch; of a pair, the mean of both losses.

        Returns:
            The loss, a float32 scalar, and the metrics of `score`, of the model's forecast without
            a `model_weight`.
        """
        members = self._members(model, batch)
        mask = real_entries(batch["target_mask"], batch)
        options = {"mask": mask, "weights": batch.get("weights")}
        loss = _mean([self._loss(member, batch["target"], options) for member in members])
        if self.config.l1:
            loss += self.config.l1 * losses.l1_penalty(nnx.state(model, nnx.Param))
        return loss, jax.lax.stop_gradient(self.score(_mean(members), batch))

    def _loss(self, prediction: jax.Array, target: jax.Array, options: dict[str, Any]) -> jax.Array:
        if self.config.quantiles:
            return losses.pinball(prediction, target, quantiles=self.config.quantiles, **options)
        if self.config.loss == "huber":
            return losses.huber(prediction, target, delta=self.config.huber_delta, **options)
        loss = losses.mse if self.config.loss == "mse" else losses.mae
        return loss(prediction, target, **options)

    def score(self, outputs: jax.Array, batch: Batch) -> Metrics:
        """Metrics of a forecast, of quantiles or points, over all lead times.

        Returns:
            `mae` and `rmse` of the point forecast over the real targets, unweighted and in scaled
            units (0 if there is none), and `weight`, what the loss is divided by.
        """
        target, mask = batch["target"], real_entries(batch["target_mask"], batch)
        point = self.point(outputs) if outputs.ndim > target.ndim else outputs
        return {
            "mae": losses.mae(point, target, mask=mask),
            "rmse": jnp.sqrt(losses.mse(point, target, mask=mask)),
            "weight": jnp.sum(losses.entry_weights(mask, weights=batch.get("weights"))),
        }

    def baselines(self, batch: Batch) -> dict[str, jax.Array]:
        """Returns the naive forecasts by name, each [batch, horizon, *space, channel'].

        `persistence` repeats the last known value at every lead time, the others are there where
        the batch brings them: `drift`, `season` (of several, `season_24` and so on),
        `climatology`, `anomaly_persistence`, `regression` and `running_mean`.
        """
        last, target = batch["persistence"], batch["target"]
        shape = (len(last), target.shape[1], *last.shape[2:])
        return {
            name: jnp.broadcast_to(jnp.asarray(batch[name], jnp.float32), shape)
            for name in sorted(filter(_is_rule, batch), key=_place)
        }


def _is_rule(name: str) -> bool:
    return name in _RULES or _SEASON.fullmatch(name) is not None


def _place(rule: str) -> tuple[int, int]:
    """Where a rule stands in reports; of several seasons the shorter one comes first."""
    name, _, season = rule.partition("_") if _SEASON.fullmatch(rule) else (rule, "", "0")
    return _RULES.index(name), int(season)


def _rollout(step: Step, model: nnx.Module, context: jax.Array, *, horizon: int) -> jax.Array:
    """Forecasts a few steps at a time, `step(model, context)`, and feeds them back as context.

    One compiled loop, through which reverse mode differentiates, and in which dropout draws anew at
    each turn. (`inference.sliding_window_rollout` blends windows of a large field, without state.)
    """
    length = context.shape[1]
    graphdef, streams, rest = nnx.split(model, nnx.RngState, ...)

    def turn(carry: tuple[Any, jax.Array], _: None) -> tuple[tuple[Any, jax.Array], jax.Array]:
        streams, context = carry
        step_model = nnx.merge(graphdef, streams, rest, copy=True)
        ahead = step(step_model, context)
        context = jnp.concatenate([context, ahead.astype(context.dtype)], axis=1)[:, -length:]
        return (nnx.state(step_model, nnx.RngState), context), ahead.astype(jnp.float32)

    steps = nnx.eval_shape(step, model, context).shape[1]
    carry = (streams, context)
    (streams, _), ahead = jax.lax.scan(turn, carry, length=-(-horizon // steps))
    nnx.update(model, streams)
    ahead = jnp.moveaxis(ahead, 0, 1)
    return ahead.reshape(len(context), -1, *context.shape[2:])[:, :horizon]


def _instance_statistics(context: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation over the context's time, [batch, 1, *space, channel]."""
    context = context.astype(jnp.float32)
    mean = context.mean(axis=1, keepdims=True)
    variance = jnp.square(context - mean).mean(axis=1, keepdims=True)
    return mean, jnp.sqrt(variance + 1e-5)  # a constant context has a deviation above 0


def _mean(values: list[jax.Array]) -> jax.Array:
    return functools.reduce(jnp.add, values) / len(values)
