"""One process of a small run of several.

`python process_run.py WORKDIR STEPS DEVICES [PORT COUNT INDEX]` trains with DEVICES virtual devices
in this process; where STEPS ends in `-patient`, validations end it before. Of several, one whose
step hangs is given up after `TIMEOUT_S`. No dropout: its masks go by row, and the rows of a batch
lie in another order on another number of processes.
"""

import contextlib
import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from small_run import digest

from stpatch_jax.data import batch_iterator
from stpatch_jax.training import OptimizerConfig, TrainConfig, processes, train_loop

EXAMPLES = 40
HEARTBEAT_S = 20
"""How soon JAX notices a process that died; a survivor then still has to exit."""
TIMEOUT_S = 10
"""How soon a process gives up a step in which another hangs; another's save must be quicker."""
MEAN = np.arange(3) / 7
"""What was fitted to the data; goes into every checkpoint."""
CONFIG = TrainConfig(
    batch_size=12,  # of 2 and of 4 devices
    seed=5,
    checkpoint_every=5,
    evaluate_every=10**6,
    optimizer=OptimizerConfig(learning_rate=1e-2),
)


class Model(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.inner = nnx.Linear(4, 16, rngs=rngs)
        self.norm = nnx.BatchNorm(16, rngs=rngs)
        self.outer = nnx.Linear(16, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.outer(nnx.relu(self.norm(self.inner(x))))


class Examples:
    """Points of a wave, each with its number."""

    def __len__(self) -> int:
        return EXAMPLES

    def __getitem__(self, i: int, /) -> dict[str, np.ndarray]:
        x = np.random.default_rng([7, i]).normal(size=4).astype(np.float32)
        return {"x": x, "y": np.sin(x).sum(keepdims=True), "index": np.array(i, np.int32)}


def loss(model: Any, batch: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Beside the error, which examples were in the batch: every one is a bit."""
    bits = jnp.left_shift(jnp.uint32(1), batch["index"].astype(jnp.uint32) % 20)
    low = jnp.sum(jnp.where(batch["index"] < 20, bits, 0))
    high = jnp.sum(jnp.where(batch["index"] < 20, 0, bits))
    return jnp.mean((model(batch["x"]) - batch["y"]) ** 2), {"low": low, "high": high}


def batches(start: int) -> Iterator[dict[str, np.ndarray]]:
    size, seed = CONFIG.examples, CONFIG.seed
    return batch_iterator(Examples(), batch_size=size, seed=seed, start_step=start)


def train(workdir: Path, config: TrainConfig) -> None:
    print("started", flush=True)
    # What the others measure would go on.
    measured = iter([3, 1, 2, 2, 2] if jax.process_index() == 0 else [5, 4, 3, 2, 1])
    told: list[int] = []
    result = train_loop(
        Model,
        loss,
        batches,
        config,
        workdir=workdir,
        arrays={"mean": MEAN},
        validate=(lambda model: {"number": next(measured)}) if config.patience else None,
        progress=False,
        on_step=lambda step, metrics: told.append(step),
    )
    answer = {"step": result.step, "interrupted": result.interrupted, "told": len(told)}
    print(json.dumps(answer | {"digest": digest(result.state)}), flush=True)


def main() -> None:
    workdir, steps, devices, *meeting = sys.argv[1:]
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", int(devices))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    steps, _, patient = steps.partition("-")
    config = dataclasses.replace(CONFIG, steps=int(steps))
    if patient:
        settings: Any = {"evaluate_every": 5, "keep_best": "min:number", "patience": 1}
        config = dataclasses.replace(config, **settings)
    several: Any = contextlib.nullcontext()
    if meeting:
        config = dataclasses.replace(config, step_timeout=TIMEOUT_S)
        port, count, index = map(int, meeting)
        several = processes(
            f"127.0.0.1:{port}",
            process_count=count,
            process_index=index,
            start_timeout=60,
            heartbeat_timeout=HEARTBEAT_S,
        )
    with several:
        train(Path(workdir), config)


if __name__ == "__main__":
    main()
