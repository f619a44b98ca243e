"""A run small enough to be killed many times; `python small_run.py WORKDIR STEPS` trains it."""

import hashlib
import json
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from stpatch_jax.training import FitResult, OptimizerConfig, TrainConfig, train_loop
from stpatch_jax.training.log import MetricsLog

CONFIG = TrainConfig(
    steps=12,
    batch_size=8,
    seed=3,
    checkpoint_every=2,
    evaluate_every=4,
    on_nonfinite="skip",
    optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=3, schedule="cosine"),
)
NAN_STEP = 5
# Another process may be writing the very entry of the cache that this one reads.
UNREADABLE = "ignore:Error reading persistent compilation cache entry"


class SmallModel(nnx.Module):
    def __init__(self, rngs: nnx.Rngs, width: int = 16):
        self.inner = nnx.Linear(4, width, rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.outer = nnx.Linear(width, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.outer(self.dropout(nnx.relu(self.norm(self.inner(x)))))


class PlainModel(nnx.Module):
    """Without anything that looks at the batch as a whole."""

    def __init__(self, rngs: nnx.Rngs):
        self.inner = nnx.Linear(4, 16, rngs=rngs)
        self.outer = nnx.Linear(16, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.outer(jax.nn.gelu(jnp.sin(self.inner(x))))


def squared_error(model: Any, batch: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
    error = model(batch["x"]) - batch["y"]
    return jnp.mean(error**2), {"absolute": jnp.mean(jnp.abs(error))}


def batches(start: int) -> Iterator[dict[str, np.ndarray]]:
    """Batches that depend on the step alone; the one of `NAN_STEP` is spoiled."""
    step = start
    while True:
        step += 1
        x = np.random.default_rng([7, step]).normal(size=(8, 4)).astype(np.float32)
        y = np.sin(x).sum(1, keepdims=True) * (np.nan if step == NAN_STEP else 1)
        yield {"x": x, "y": y.astype(np.float32), "index": np.arange(8) + step}


def sigterm_after(last: int, patch: pytest.MonkeyPatch) -> None:
    """Lets SIGTERM arrive once, when step `last` has been logged."""
    write = MetricsLog.write

    def interrupted(self: MetricsLog, record: Mapping[str, Any]) -> None:
        write(self, record)
        if record["step"] == last:
            patch.undo()
            signal.raise_signal(signal.SIGTERM)

    patch.setattr(MetricsLog, "write", interrupted)


def validate(model: nnx.Module) -> dict[str, float]:
    """Uses the model with dropout on, so its counters move."""
    batch = next(batches(10_000))
    return {"loss": float(squared_error(model, batch)[0])}


def arrays(tree: Any) -> list[np.ndarray]:
    """Every array of a module or state on the host, PRNG keys as their words."""
    state = nnx.state(tree) if isinstance(tree, nnx.Module) else tree
    return [
        np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
        for x in jax.tree.leaves(state)
    ]


def digest(tree: Any) -> str:
    sha = hashlib.sha256()
    for array in arrays(tree):
        sha.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    return sha.hexdigest()


def run(
    workdir: Path,
    config: TrainConfig = CONFIG,
    *,
    batches: Callable[[int], Iterator[Any]] = batches,
    create_model: Callable[[nnx.Rngs], nnx.Module] = SmallModel,
    validate: Any = validate,
    progress: bool = False,
    **callbacks: Any,
) -> FitResult:
    return train_loop(
        create_model,
        squared_error,
        batches,
        config,
        workdir=workdir,
        extras={"name": "small"},
        validate=validate,
        progress=progress,
        **callbacks,
    )


def main() -> None:
    import dataclasses

    def announced(start: int) -> Iterator[dict[str, np.ndarray]]:
        print(json.dumps({"start": start}), flush=True)
        return batches(start)

    workdir, steps = Path(sys.argv[1]), int(sys.argv[2])
    result = run(workdir, dataclasses.replace(CONFIG, steps=steps), batches=announced)
    print(json.dumps({"step": result.step, "digest": digest(result.state)}))


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    main()


def listening(port: int) -> set[str]:
    """Addresses on which a port listens, of `/proc/net/tcp` and `tcp6`."""
    found: set[str] = set()
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            address, _, at = local.partition(":")
            if state == "0A" and int(at, 16) == port:
                # Words of four bytes in the order of the machine; IPv4 is the last of IPv6.
                found.add(".".join(str(byte) for byte in reversed(bytes.fromhex(address[-8:]))))
    return found
