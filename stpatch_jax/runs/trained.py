"""A finished run as something to predict with: its task, its scaling, its model, no data."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from stpatch_jax.errors import require
from stpatch_jax.nn import BackboneConfig
from stpatch_jax.runs.directory import RunDirectory
from stpatch_jax.runs.run import RunConfig, for_these_devices
from stpatch_jax.runs.values import from_values
from stpatch_jax.tasks import TaskConfig
from stpatch_jax.training import Checkpoints, TrainConfig, make_mesh, replicate, restore_state

_BATCH = 64

Shapes = Mapping[str, Sequence[int]]


class TrainedRun:
    """The latest checkpoint of a run, without the data it was trained on.

    Args:
        workdir: The run directory.

    Attributes:
        config: The configuration, with a mesh that fits the devices here.
        step: The step of the checkpoint.
        scaler: What was fitted to the training rows: the `state` of the data.
        shapes: Shapes of the arrays of a training batch, by name.
        series: Names of the series of the data, in their order.
        task: The task.

    Raises:
        InputError: The directory is no run or has no checkpoint yet.
    """

    def __init__(self, workdir: str | Path):
        self.directory = RunDirectory(workdir)
        self.config = for_these_devices(from_values(RunConfig, self.directory.config()))
        require(
            self.directory.checkpoints.is_dir(),
            f"the run in {workdir} must have a checkpoint, but it has none yet; train it first",
        )
        with Checkpoints(self.directory.checkpoints) as checkpoints:
            step = checkpoints.latest_step
            extras = {} if step is None else checkpoints.extras(step)
        require(
            step is not None,
            f"the run in {workdir} must have a checkpoint, but none was committed yet; train it "
            "first",
        )
        require(
            {"facts", "scaler", "shapes", "series"} <= extras.keys(),
            f"the run in {workdir} must be of this version, but its checkpoint lacks what stpatch "
            "predict needs; train it anew",
        )
        self.step = step
        self.scaler: dict[str, Any] = extras["scaler"]
        self.shapes: dict[str, list[int]] = extras["shapes"]
        self.series: list[str] = extras["series"]
        self.task: Any = self.config.task.create(facts=extras["facts"])
        self._extras = extras

    @property
    def identity(self) -> dict[str, str]:
        """What tells predictions of this checkpoint from others: recipe, step and a checksum."""
        text = json.dumps(self._extras, sort_keys=True).encode()
        checksum = hashlib.sha256(text).hexdigest()[:16]
        return {"recipe": self.config.recipe, "step": str(self.step), "run": checksum}

    def function(self, predict: Callable[[Any, Any], jax.Array], shapes: Shapes) -> Any:
        """A function of inputs that holds the model's arrays, on one device.

        Args:
            predict: `(model, inputs) -> predictions`, compiled by the caller.
            shapes: Shapes of the arrays of a batch that the task builds its model for.

        Returns:
            `inputs -> predictions`, a pytree.

        Raises:
            InputError: The checkpoint is damaged, or the model of these shapes is another one.
        """
        mesh = make_mesh(**dataclasses.asdict(self.config.train.mesh))

        def create(rngs: nnx.Rngs) -> nnx.Module:
            return self.task.build(self.config.model, shapes, rngs=rngs)

        with Checkpoints(self.directory.checkpoints) as checkpoints:
            restored = restore_state(create, self.config.train, checkpoints, mesh, step=self.step)
        assert restored is not None  # the first look at the directory found a checkpoint
        model = nnx.view(restored[0].averaged(), deterministic=True, raise_if_not_found=False)
        graphdef, state = nnx.split(model)
        state = jax.device_put(state, jax.local_devices()[0])

        def function(state: Any, inputs: Any) -> jax.Array:
            return predict(nnx.merge(graphdef, state), inputs)

        return jax.tree_util.Partial(function, state)

    def predict(self, batch: Mapping[str, np.ndarray], shapes: Shapes) -> np.ndarray:
        """What the task predicts for all examples, in batches of one shape.

        Args:
            batch: The inputs by name [example, ...].
            shapes: As in `function`.

        Returns:
            Predictions [example, ...].
        """
        function = self.function(self.task.predict, shapes)
        compiled = jax.jit(lambda function, batch: function(batch))
        count = len(next(iter(batch.values())))
        size = min(count, _BATCH)
        found = []
        for start in range(0, count, size):
            # The last batch is filled up with its first example.
            rows = np.arange(start, start + size)
            rows = np.where(rows < count, rows, start)
            part = compiled(function, {name: values[rows] for name, values in batch.items()})
            found.append(np.asarray(part)[: count - start])
        return np.concatenate(found)


def pretrained_model(workdir: str | Path) -> Any:
    """The model of the latest checkpoint of a run, to give to `transfer_backbone`.

    The data of that run are not read. With `train.ema` it has the averaged weights.

    Args:
        workdir: The run directory.

    Returns:
        The model, its arrays on the host, so that any mesh can take them.

    Raises:
        InputError: The directory is no run, or has no whole checkpoint.
    """
    directory = RunDirectory(workdir)
    config = directory.config()
    require(
        directory.checkpoints.is_dir(),
        f"the run in {workdir} must have a checkpoint to start from, but it has none yet; train it "
        "first",
    )
    mesh = make_mesh()
    with Checkpoints(directory.checkpoints) as checkpoints:
        step = checkpoints.latest_step
        require(
            step is not None,
            f"the run in {workdir} must have a checkpoint to start from, but none was committed "
            "yet; train it first",
        )
        assert step is not None
        extras = checkpoints.extras(step)
        task = from_values(TaskConfig, config["task"], where="task")
        built = task.create(facts=extras["facts"])
        backbone = from_values(BackboneConfig, config["model"], where="model")

        def create(rngs: nnx.Rngs) -> nnx.Module:
            return built.build(backbone, extras["shapes"], rngs=rngs)

        train = from_values(TrainConfig, config["train"], where="train")
        restored = restore_state(create, train, checkpoints, mesh, step=step)
    assert restored is not None
    model = replicate(restored[0].averaged(), mesh)
    graphdef, keys, arrays = nnx.split(model, nnx.RngState, ...)
    return nnx.merge(graphdef, keys, jax.tree.map(np.asarray, arrays))
