"""Models that are fitted at once, and whether one of them takes the place of a network."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import AxisType

from stpatch_jax.data import Data, Source
from stpatch_jax.data.labelled.fields import k_fold
from stpatch_jax.data.sampling.batches import batch_iterator
from stpatch_jax.flops import gradient_flops
from stpatch_jax.runs.config import RunConfig, config_of
from stpatch_jax.runs.directory import RunDirectory
from stpatch_jax.tasks import Task
from stpatch_jax.tasks.models import FixedModel, members_of
from stpatch_jax.tasks.task import Shapes
from stpatch_jax.training.step import create_state, make_train_step

CreateModel = Callable[[nnx.Rngs], nnx.Module]

_FOLDS, _ERRORS = 3, 2
# About a minute of a core for the networks of all folds; and two for features and ridge regression,
# which of short series takes most of that.
_MOST_FLOPS, _MOST_VALUES, _LEAST_TIMES = 2e12, 2**34, 256


def is_fixed(model: nnx.Module) -> bool:
    """Whether a model, or each member of it, is fitted at once."""
    return all(isinstance(member, FixedModel) for member in members_of(model))


def fitted_at_once(config: RunConfig, model: nnx.Module) -> tuple[RunConfig, dict[str, str]]:
    """The configuration with one step where a model needs none, and what is told of it."""
    if not is_fixed(model):
        return config, {}
    once: Any = {"steps": 1, "checkpoint_every": 1, "evaluate_every": 1}
    told = {"train.steps": "1: the model is fitted at once, in closed form"}
    none: Any = {"keep_best": None, "patience": None}
    return dataclasses.replace(
        config, train=dataclasses.replace(config.train, **once, **none)
    ), told


def fitted_start(create: CreateModel, source: Source, *, seed: int) -> CreateModel:
    """What creates a model that is fitted at once, fitted to the examples of a source.

    They are seen here, by each process of a run: what it makes holds the figures as constants.
    """
    model = create(nnx.Rngs(seed))
    for number, member in enumerate(members_of(model)):
        member.fit(source, seed=seed + number)
    fitted = jax.device_get(nnx.as_pure(nnx.state(model, nnx.Not(nnx.RngState))))

    def created(rngs: nnx.Rngs) -> nnx.Module:
        model = create(rngs)
        nnx.update(model, fitted)
        return model

    return created


def chosen_by_folds(
    config: RunConfig, task: Task, data: Data, shapes: Shapes
) -> tuple[RunConfig, dict[str, str]]:
    """The configuration with one of the task's `rivals` for a backbone, or without it, and why.

    Both are fitted to two thirds of the training examples and asked for the rest, three times; the
    items of a group are on one side. The network is taken where it is wrong less often, or its
    squared error is smaller, by more than twice the standard error of that. It is not trained where
    it cannot be, or would take too long, and no longer where it is behind after a fold.
    """
    rivals, decided = config.task.rivals() or ({}, None)
    layout = str(vars(config.data).get("layout"))
    if decided is None or layout not in rivals:
        return config, {}
    rival = rivals[layout]
    source, shape = data.source("train"), shapes["field"]
    rival, windows = rival.settled(shape[1:-1], shape[-1])
    alone = dataclasses.replace(config, task=decided)
    other, name = dataclasses.replace(alone, model=rival), _name(rival)
    fixed: Any = task.build(rival, shapes, rngs=nnx.Rngs(config.train.seed))
    values = len(source) * max(shape[1], _LEAST_TIMES) * fixed.backbone.out_features
    if values > _MOST_VALUES:
        return alone, {"model": f"as told: {len(source):,} {layout} are too many for {name}"}
    examples = [source[number] for number in range(len(source))]
    arrays = {of: np.stack([e[of] for e in examples]) for of in ("field", fixed.answers, "group")}
    if (folds := _folds(arrays, config.train.seed)) is None:
        return other, windows | {"model": f"{name}: too few {layout} to compare networks"}
    wrong = _fixed_errors(fixed, arrays, folds, config.train.seed)
    kind = " wrong" if wrong.dtype == bool else ""
    told = f"{_told(wrong)} training {layout}{kind} in {_FOLDS} folds"
    better, why = _compared(config, task, arrays, folds, shapes, wrong)
    if better:
        return alone, {"model": f"{why}; {name}: {told}"}
    return other, windows | {"model": f"{name}: {told}; {why}"}


def _name(backbone: Any) -> str:
    return type(backbone).__name__.removesuffix("Config")


def _compared(
    config: RunConfig,
    task: Task,
    arrays: dict[str, Any],
    folds: list[Any],
    shapes: Shapes,
    wrong: np.ndarray,
) -> tuple[bool, str]:
    """Whether the network is surely better than what is `wrong` [example], and what is told."""
    name = _name(config.model)
    if wrong.dtype == bool and wrong.sum() <= _ERRORS**2:
        return False, "no network could be surely better"
    model = nnx.eval_shape(lambda: task.build(config.model, shapes, rngs=nnx.Rngs(0)))
    example = {of: array[:1] for of, array in arrays.items()}
    flops = gradient_flops(task.loss, model, example) * config.train.examples * config.train.steps
    if _FOLDS * flops > _MOST_FLOPS:
        return False, f"{name} takes too long to be trained as often"
    own, seen = np.zeros_like(wrong), np.zeros(len(wrong), bool)
    for (_, held), errors in zip(
        folds, _network_errors(config, task, arrays, folds, shapes), strict=False
    ):
        own[held], seen[held] = errors, True
        if own.sum() > wrong[seen].sum():
            break
    gain = np.subtract(wrong, own, dtype=float)
    better = seen.all() and gain.mean() > _ERRORS * gain.std() / np.sqrt(len(gain))
    return bool(better), f"{name}: {_told(own[seen])}"


def _told(errors: np.ndarray) -> str:
    """How many of some examples are wrong, or their mean squared error [example]."""
    if errors.dtype == bool:
        return f"{errors.sum()} of {len(errors)}"
    return f"mean squared error {errors.mean():.3g} of {len(errors)}"


def _errors(said: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Whether each class is wrong, or the squared error of numbers [example]."""
    if answers.ndim == 1:
        return said.argmax(axis=-1) != answers
    return np.square(said - answers).mean(axis=-1)


def chosen_before(config: RunConfig, directory: RunDirectory) -> RunConfig:
    """The configuration with what a run directory says was chosen, so that it is not chosen anew.

    As it is, where nothing is left to choose or the directory is that of another task.
    """
    rivals = config.task.rivals()
    if not rivals or not directory.config_file.exists():
        return config
    before = config_of(directory)
    same = before.task == rivals[1]
    return dataclasses.replace(config, model=before.model, task=rivals[1]) if same else config


def _folds(arrays: dict[str, Any], seed: int) -> list[tuple[np.ndarray, np.ndarray]] | None:
    """Numbers of the examples to fit to and to ask, by fold; None where a class has too few."""
    _, first, of = np.unique(arrays["group"], return_index=True, return_inverse=True)
    labels = arrays["label"][first] if "label" in arrays else np.zeros(len(first), int)
    if np.unique(labels, return_counts=True)[1].min() < _FOLDS:
        return None
    groups = k_fold(labels, _FOLDS, seed=seed)
    return [(np.flatnonzero(np.isin(of, a)), np.flatnonzero(np.isin(of, b))) for a, b in groups]


def _fixed_errors(
    model: FixedModel, arrays: dict[str, Any], folds: list[Any], seed: int
) -> np.ndarray:
    """What `_errors` of a model fitted to the other folds are [example]."""
    fields, answers, found = arrays["field"], arrays[model.answers], {}
    model.backbone.fit(fields, seed=seed)
    features = model.features(fields)
    for train, held in folds:
        weights = model.weights_of(answers[train])
        model.head.fit(features[train], answers[train], weights=weights)
        said = np.asarray(model.head(jnp.asarray(features[held])))
        found |= dict(zip(held.tolist(), _errors(said, answers[held]), strict=True))
    return np.array([found[at] for at in range(len(fields))])


def _network_errors(
    config: RunConfig, task: Task, arrays: dict[str, Any], folds: list[Any], shapes: Shapes
) -> Iterator[np.ndarray]:
    """Of each fold the `_errors` of a network trained on the others [example]."""
    train = config.train
    # Each process on its own: all come to the same.
    axes, devices = ("data", "fsdp", "space"), jax.local_devices()[:1]
    mesh = jax.make_mesh((1, 1, 1), axes, devices=devices, axis_types=(AxisType.Auto,) * 3)
    step = make_train_step(task.loss, mesh, ema=train.ema)
    answer = nnx.jit(lambda model, batch: task.predict(model, batch))
    alone: Any = {"process_index": 0, "process_count": 1}
    for rows, held in folds:
        own = [{name: of[row] for name, of in arrays.items()} for row in rows]
        state = create_state(lambda rngs: task.build(config.model, shapes, rngs=rngs), train, mesh)
        batches = batch_iterator(
            own, batch_size=train.examples, seed=train.seed, start_step=0, **alone
        )
        for batch in itertools.islice(batches, train.steps):
            step(state, batch)
        model = nnx.view(state.averaged(), deterministic=True, raise_if_not_found=False)
        said = np.asarray(answer(model, {"field": arrays["field"][held]}))
        yield _errors(said, arrays["label" if "label" in arrays else "target"][held])
