"""A run whose network was built and not trained, for tests of what is done with its answers."""

import dataclasses
from typing import Any

from flax import nnx

from stpatch_jax.runs import RunConfig
from stpatch_jax.runs.trained import TrainedRun
from stpatch_jax.training import TrainConfig


def untrained(data, model, task) -> TrainedRun:
    """A run on data of a configuration, without a directory."""
    config = RunConfig(recipe="untrained", data=data, model=model, task=task, train=TrainConfig())
    loaded = data.load()
    fitted = task.create().fitted(loaded)
    first = loaded.source("train")[0]
    shapes = {name: (1, *values.shape) for name, values in first.items()}
    rngs = nnx.Rngs(0, mask=1, dropout=2)
    built = fitted.build(model, shapes, rngs=rngs)
    named = {"recipe": "untrained"}
    known: Any = {field.name: None for field in dataclasses.fields(TrainedRun)}
    known |= {"config": config, "step": 0, "task": fitted, "state": loaded.state()}
    run = TrainedRun(**known | {"shapes": shapes, "identity": named})
    view = nnx.view(built, deterministic=True, raise_if_not_found=False)
    vars(run)["model"] = view
    return run
