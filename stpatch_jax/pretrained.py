"""What an earlier run learnt, as the start of another one."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from stpatch_jax.configs import TYPE, from_values
from stpatch_jax.errors import require
from stpatch_jax.nn import BackboneConfig
from stpatch_jax.rundir import RunDirectory
from stpatch_jax.tasks import TaskConfig
from stpatch_jax.training import Checkpoints, TrainConfig, make_mesh, restore_state, whole_model


def pretrained_model(workdir: str | Path) -> Any:
    """The model of the latest checkpoint of a run, to give to `hand_on`.

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
        task = {TYPE: config["task"][TYPE], **extras["task"]}
        built = from_values(TaskConfig, task, where="task").create()
        backbone = from_values(BackboneConfig, config["model"], where="model")

        def create(rngs: nnx.Rngs) -> nnx.Module:
            return built.build(backbone, extras["shapes"], rngs=rngs)

        train = from_values(TrainConfig, config["train"], where="train")
        restored = restore_state(create, train, checkpoints, mesh, step=step)
    assert restored is not None
    model = whole_model(restored[0].averaged(), mesh)
    graphdef, keys, arrays = nnx.split(model, nnx.RngState, ...)
    return nnx.merge(graphdef, keys, jax.tree.map(np.asarray, arrays))
