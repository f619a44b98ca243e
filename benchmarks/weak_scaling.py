"""One training step on N virtual devices of the CPU, as JSON: its time and its collectives.

    python -m benchmarks.weak_scaling DEVICES FSDP NETWORK EXAMPLES REPEATS

EXAMPLES is the batch of one device, REPEATS 0 only compiles. `benchmarks.train_step` starts one
such process for each number of devices.
"""

import functools
import json
import math
import re
import sys
from dataclasses import replace
from typing import Any

import jax
from flax import nnx

from benchmarks.networks import NETWORKS, Network
from benchmarks.timing import interleaved
from stpatch_jax.nn import PatchCNNConfig
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.training import (
    TrainConfig,
    create_state,
    make_mesh,
    make_train_step,
    shard_local_batch,
)

# Narrow: eight wide networks at once can starve the threads of a small CPU.
NARROW = Network(
    lambda _: PatchCNNConfig(WindowSpec((2, 8, 8)), features=(8, 16)),
    (8, 8, 16, 16, 3),
)
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
BYTES = {"f32": 4, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "pred": 1}


def collectives(text: str) -> dict[str, dict[str, int]]:
    """Per kind of collective in a compiled program: how many, and the bytes of their results."""
    by_kind: dict[str, dict[str, int]] = {}
    for result, kind in re.findall(rf"= (.*?) ({'|'.join(COLLECTIVES)})(?:-start)?\(", text):
        entry = by_kind.setdefault(kind, {"count": 0, "bytes": 0})
        entry["count"] += 1
        for dtype, shape in re.findall(r"(\w+)\[([\d,]*)\]", result):
            sizes = [int(size) for size in shape.split(",") if size]
            entry["bytes"] += BYTES[dtype] * math.prod(sizes)
    return by_kind


def parameters(model: nnx.Module) -> int:
    """Number of trained numbers."""
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


def measure(name: str, network: Network, fsdp: int, repeats: int) -> dict[str, Any]:
    """Compiles the step on all devices, and times it unless `repeats` is 0."""
    mesh = make_mesh(fsdp=fsdp)
    config = TrainConfig(steps=1, batch_size=network.shape[0])
    state = create_state(functools.partial(network.create, "float32"), config, mesh)
    batch = shard_local_batch(network.batch(), mesh)
    train_step: Any = make_train_step(network.task.loss, mesh)
    text = train_step.lower(state, batch).compile().as_text()
    answer = {
        "network": name,
        "devices": mesh.size,
        "fsdp": fsdp,
        "batch": network.shape[0],
        "parameters": parameters(state.model),
        "collectives": collectives(text),
    }
    if repeats:
        call = functools.partial(train_step, state, batch)
        answer["ms"] = interleaved({"step": call}, repeats=repeats)["step"]["ms"]
    return answer


def main() -> None:
    """Measures and prints."""
    devices, fsdp, name, examples, repeats = sys.argv[1:]
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", int(devices))
    network = NARROW if name == "narrow" else NETWORKS[name]
    batch = int(examples) * int(devices)
    network = replace(network, shape=(batch, *network.shape[1:]))
    print(json.dumps(measure(name, network, int(fsdp), int(repeats))))


if __name__ == "__main__":
    main()
