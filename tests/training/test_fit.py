"""`fit`: a task, a backbone and examples in one call; the loop below it is tested in test_loop."""

import dataclasses
import functools
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from flax import nnx
from small_run import digest

from stpatch_jax.data import DataConfig, Problem
from stpatch_jax.errors import InputError
from stpatch_jax.nn import Backbone, PatchCNNConfig
from stpatch_jax.nn.own import as_backbone
from stpatch_jax.patches import WindowSpec
from stpatch_jax.runs import RunConfig
from stpatch_jax.runs.directory import RunDirectory
from stpatch_jax.runs.run import Run
from stpatch_jax.tasks import BackboneWithHead, Forecast, ForecastConfig, TaskBase, TaskConfig
from stpatch_jax.training import OptimizerConfig, TrainConfig, fit, make_mesh
from stpatch_jax.training.measuring import Measure

CONFIG = TrainConfig(
    steps=6,
    batch_size=8,
    seed=4,
    checkpoint_every=3,
    evaluate_every=3,
    optimizer=OptimizerConfig(learning_rate=1e-2),
)
CNN = PatchCNNConfig(WindowSpec((2, 1)), features=(4,), dropout=0.5)


class Head(nnx.Module):
    def __init__(self, features: int, rngs: nnx.Rngs):
        self.linear = nnx.Linear(features, 1, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, y: jax.Array) -> jax.Array:
        return self.dropout(self.linear(y.mean(tuple(range(1, y.ndim - 1)))))[:, 0]


class Slope(TaskBase):
    """One number of a field; its loss has a weight, as where cells are masked."""

    def network(self, body: Backbone, backbone: Any, shapes: Any, *, rngs: nnx.Rngs) -> nnx.Module:
        return BackboneWithHead(body, Head(body.out_features, rngs))

    def loss(self, model: Any, batch: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        error, weight = model(batch["field"]) - batch["slope"], batch["weight"]
        total = jnp.sum(weight)
        metrics = {"absolute": jnp.sum(weight * jnp.abs(error)) / total, "weight": total}
        return jnp.sum(weight * error**2) / total, metrics

    def predict(self, model: Any, batch: Any) -> jax.Array:
        return model(batch["field"])


def examples(count: int = 21) -> dict[str, np.ndarray]:
    random = np.random.default_rng(count)
    slope = random.normal(size=count).astype(np.float32)
    field = random.normal(size=(count, 4, 3, 2)).astype(np.float32)
    field += slope[:, None, None, None] * np.arange(4, dtype=np.float32)[:, None, None]
    return {"field": field, "slope": slope, "weight": random.uniform(1, 9, count).astype("f4")}


class Rows(list):
    """A list of examples is a source."""

    def __init__(self, arrays: dict[str, np.ndarray]):
        count = len(arrays["field"])
        super().__init__({name: x[i] for name, x in arrays.items()} for i in range(count))


def trained(backbone: Any = CNN, source: Any = None, config: TrainConfig = CONFIG, **more: Any):
    return fit(
        Slope(None),
        backbone,
        examples() if source is None else source,
        config,
        progress=False,
        **more,
    )


@dataclasses.dataclass(frozen=True)
class SlopeConfig(TaskConfig):
    def create(self, *, facts: Any = None) -> Slope:
        return Slope(self)


class Slopes(Problem):
    report: dict[str, Any] = {}  # noqa: RUF012

    def source(self, split: str) -> Rows:
        return Rows(examples() if split == "train" else examples(13))

    def state(self) -> dict[str, Any]:
        return {}


@dataclasses.dataclass(frozen=True)
class SlopesConfig(DataConfig):
    def load(self) -> Slopes:
        return Slopes()


def test_fit_is_a_run_bit_for_bit_without_a_directory(tmp_path: Path, monkeypatch: Any) -> None:
    config = RunConfig(SlopesConfig(), CNN, SlopeConfig(), CONFIG)
    (tmp_path / "run").mkdir()
    expected = Run(config).fit(RunDirectory(tmp_path / "run"), progress=False)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    held = examples(13)
    result = trained(source=Rows(examples()), validation=held)
    assert list((tmp_path / "temporary").iterdir()) == []
    assert digest(result.state) == digest(expected.state)
    # Weighed, of all examples, without dropout; the judge of a run measures the same.
    model = nnx.view(result.model, deterministic=True)
    error, weight = model(held["field"]) - held["slope"], held["weight"]
    measured = {"loss": np.average(error**2, weights=weight)}
    measured["absolute"] = np.average(np.abs(error), weights=weight)
    assert result.validation == pytest.approx(measured, rel=1e-5)
    assert result.validation == pytest.approx(expected.validation, rel=1e-6)


def test_a_callable_that_returns_a_module_is_a_backbone() -> None:
    class Halves(nnx.Module):
        """Makes one time step of two."""

        def __init__(self, channels: int, *, rngs: nnx.Rngs):
            self.conv = nnx.Conv(channels, 6, (2, 1), strides=(2, 1), rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.conv(x)

    own = as_backbone(Halves)
    body = nnx.eval_shape(lambda: own.build(2, shape=(4, 3), rngs=nnx.Rngs(0)))
    assert isinstance(body, Backbone)
    assert (body.spec.window, body.out_features) == ((2, 1), 6)


def test_one_example_at_a_time_is_measured_by_running_averages() -> None:
    held, norm = examples(5), nnx.BatchNorm(2, rngs=nnx.Rngs(0))
    norm.mean[...] = jnp.array([1.0, -2.0])

    def loss(model: Any, batch: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        return jnp.mean(model(batch["field"])), {}

    measure = Measure(loss, Rows(held), make_mesh(), batch_size=8)
    expected = (held["field"] - np.array([1, -2])).mean() / np.sqrt(1 + 1e-5)
    assert measure(norm)["loss"] == pytest.approx(expected, rel=1e-5)


def test_tasks_of_the_package_build_on_a_callable() -> None:
    shapes = {"context": (4, 6, 2, 1), "target": (4, 3, 2, 1), "persistence": (4, 1, 2, 1)}
    batch = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    task = Forecast(ForecastConfig())
    own = as_backbone(functools.partial(nnx.Linear, out_features=3))

    def answer(batch: Any) -> jax.Array:
        return task.predict(task.build(own, shapes, rngs=nnx.Rngs(0)), batch)

    assert nnx.eval_shape(answer, batch).shape == (4, 3, 2, 1)
    # One that is a backbone already is left as it is.
    ours = as_backbone(lambda channels, rngs: CNN.build(channels, shape=(6, 2), rngs=rngs))
    built = nnx.eval_shape(lambda: ours.build(1, shape=(6, 2), rngs=nnx.Rngs(0)))
    assert built.spec == CNN.spec


class Tuples(list):
    """As data sets of other libraries are."""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": nnx.Linear(2, 3, rngs=nnx.Rngs(0))},
         "the backbone must be a BackboneConfig or a callable that returns a module, got Linear"),
        ({"backbone": lambda channels, rngs: [channels]},
         "the backbone must return an nnx.Module, got list; return the network"),
        ({"backbone": lambda channels, rngs: nnx.Conv(channels, 3, (2, 1), padding="VALID",
          rngs=rngs)}, r"a grid that divides \(4, 3\), got \(1, 3, 3, 3\) for"),
        ({"backbone": lambda channels: channels},
         r"called as backbone\(in_features, rngs=rngs\), got one that takes \(channels\); let"),
        ({"source": pd.DataFrame({"field": [1.0]})}, "the source must give examples by their num"),
        ({"source": Tuples([(np.zeros(2), 1)])}, "an example of the source must be arrays by name"),
        ({"source": 3}, "the source must have the members of Source, got int without"),
        ({"source": Rows({"field": np.zeros((0, 4, 3, 2))})}, "the source must have examples"),
        ({"source": {"field": np.zeros((3, 4, 3, 2)), "slope": np.zeros(2)}},
         r"of equally many examples, got .*\(3, 4, 3, 2\).*\(2,\)"),
        ({"source": {"x": np.zeros((3, 4))}}, "the inputs of the task must be arrays of the exam"),
        ({"validation": {"field": np.zeros((3, 4, 3, 2))}},
         "the validation must have the arrays of the source, field, slope, weight, got field;"),
        ({"config": dataclasses.replace(CONFIG, batch_size=12)}, "use 8 or 16"),
        ({"config": dataclasses.replace(CONFIG, keep_best="min:loss")},
         "workdir= must name a directory beside train.keep_best = 'min:loss', got none; give one"),
        ({"config": dataclasses.replace(CONFIG, keep_best="min:loss", patience=1)},
         "train.keep_best must come with a validation"),
        ({"on_step": 3}, "on_step= must be a function of a step and its numbers, got int; give"),
        ({"on_evaluate": "print"}, "on_evaluate= must be a function of a step .*, got str; give"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_a_sentence(
    change: Any, message: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(InputError, match=message):
        trained(**change)
    assert list(tmp_path.iterdir()) == []


def test_a_task_without_a_loss_is_refused() -> None:
    with pytest.raises(InputError, match="the task must have the members of Learnable, got list"):
        fit([], CNN, examples(), CONFIG)  # pyright: ignore[reportArgumentType]
