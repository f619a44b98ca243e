"""One process of several that judge a field: `python judge_process.py STORE [PORT COUNT INDEX]`.

Prints the report of the test split, and by how many bytes judging it raised the peak of the memory
of this process.
"""

import contextlib
import json
import resource
import sys
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from stpatch_jax.data import CleaningConfig, FieldConfig
from stpatch_jax.nn import FlatPatchesConfig
from stpatch_jax.patches import WindowSpec
from stpatch_jax.runs import judges
from stpatch_jax.tasks import ForecastConfig
from stpatch_jax.training import make_mesh, processes

CONTEXT, HORIZON, BATCH = 1, 4, 2
ROWS = {"train": 16, "validation": 8, "test": 96}


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def judge_field(store: str) -> None:
    rows = sum(ROWS.values())
    config = FieldConfig(
        path=store,
        context=CONTEXT,
        horizon=HORIZON,
        train_share=ROWS["train"] / rows,
        test_share=ROWS["test"] / rows,
        cleaning=CleaningConfig(per="channel"),
    )
    data, task = config.load(), ForecastConfig().create()
    shapes = {name: (1, *x.shape) for name, x in data.source("train")[0].items()}
    backbone = FlatPatchesConfig(WindowSpec((CONTEXT, 1, 1)))
    mesh = make_mesh()

    def create() -> Any:
        model: Any = task.build(backbone, shapes, rngs=nnx.Rngs(0))
        # Else the head is zero, and the forecast that of persistence.
        nnx.update(model, jax.tree.map(lambda x: x + 0.1, nnx.state(model, nnx.Param)))
        return nnx.state(model)

    graphdef = nnx.graphdef(nnx.eval_shape(lambda: task.build(backbone, shapes, rngs=nnx.Rngs(0))))
    # The same arrays on all devices of all processes.
    state = jax.jit(create, out_shardings=NamedSharding(mesh, PartitionSpec()))()
    model = nnx.merge(graphdef, state)
    judge = judges.of(task, data)(task, data, mesh, batch_size=BATCH)
    # What the first batch costs, compilation above all, is not what a split costs.
    judge(model, "validation")
    before = peak_bytes()
    judged = judge(model, "test")
    windows = {name: np.asarray(values) for name, values in judged.rows["errors"]["model"].items()}
    answer = {
        "report": judge.report(judged),
        "windows": {name: values.tolist() for name, values in windows.items()},
        "grown": peak_bytes() - before,
    }
    print(json.dumps(answer), flush=True)


def main() -> None:
    store, *meeting = sys.argv[1:]
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 1)
    several: Any = contextlib.nullcontext()
    if meeting:
        port, count, index = map(int, meeting)
        several = processes(f"127.0.0.1:{port}", process_count=count, process_index=index)
    with several:
        judge_field(store)


if __name__ == "__main__":
    main()
