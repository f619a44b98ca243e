"""Small runs of every kind, one after another: `python resume_cases.py FOLDER [STOP]`.

Each trains in a directory of its own in FOLDER; with STOP it ends by SIGTERM with that step or the
one before. Says what became of each, a JSON object a line.
"""

import functools
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from small_run import digest, sigterm_after

from stpatch_jax.data import batch_iterator
from stpatch_jax.nn import (
    BackboneConfig,
    Conv3DConfig,
    ConvRecurrentConfig,
    FlatPatchesConfig,
    InceptionConfig,
    NeighborhoodConfig,
    PatchCNNConfig,
    PatchTransformerConfig,
    RandomFiltersConfig,
    RandomKernelsConfig,
    RandomUnitsConfig,
    SCNNConfig,
    SpaceTimeRNNConfig,
    TokenEmbeddingConfig,
    UNetConfig,
)
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.training import MeshConfig, OptimizerConfig, TrainConfig, train_loop

STEPS, STOP = 9, 5
BATCH = 8
SHAPE = (4, 4, 2)
"""`(time, space, channel)` of an example."""
TOKENS = 7
WINDOW = WindowSpec((2, 2))
CNN = PatchCNNConfig(WINDOW, features=(8,), dropout=0.5)
CONFIG = TrainConfig(
    steps=STEPS,
    batch_size=BATCH,
    seed=2,
    checkpoint_every=3,
    evaluate_every=4,
    optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=2),
)


@dataclass(frozen=True)
class Case:
    """A backbone, settings, and the steps whose batch holds a NaN."""

    backbone: BackboneConfig = CNN
    settings: dict[str, Any] = field(default_factory=dict)
    nan_steps: tuple[int, ...] = ()
    tokens: bool = False


LSTM = SpaceTimeRNNConfig(1, features=8, dropout=0.5)
TRANSFORMER = PatchTransformerConfig(WINDOW, features=8, depth=1, heads=2, dropout=0.5)
SERIES = SpaceTimeRNNConfig(0, features=8)
FAMILIES = {
    "patch_cnn": Case(),
    "scnn": Case(SCNNConfig(1, features=8, depth=1, dropout=0.5)),
    "gru": Case(replace(LSTM, cell="gru", depth=2)),
    "conv_lstm": Case(replace(LSTM, spatial_kernel_size=3)),
    "conv3d": Case(Conv3DConfig(1, (8,), dropout=0.5)),
    "neighborhood": Case(
        NeighborhoodConfig(
            NeighborhoodConfig.forward(1).offsets, lags=2, features=8, hidden=(8,), dropout=0.5
        )
    ),
    "conv_recurrent": Case(
        ConvRecurrentConfig(
            WINDOW,
            patch_features=(8,),
            grid_features=8,
            grid_depth=1,
            recurrent_features=8,
            dropout=0.5,
        )
    ),
    "patch_transformer": Case(TRANSFORMER),
    "inception": Case(InceptionConfig(WINDOW, features=4, kernel_sizes=(3,), depth=1, dropout=0.5)),
    "random_units": Case(RandomUnitsConfig(WINDOW, units=64, dropout=0.5)),
    "random_filters": Case(RandomFiltersConfig(WINDOW, filters=4, biases=1, dropout=0.5)),
    "random_kernels": Case(RandomKernelsConfig(WINDOW, biases=1, dropout=0.5)),
    "flat_patches": Case(FlatPatchesConfig(WINDOW, dropout=0.5)),
    "unet": Case(UNetConfig(WINDOW, features=(8, 8), dropout=0.5)),
    "token_embedding": Case(
        TokenEmbeddingConfig(SERIES, TOKENS, features=8, dropout=0.5), tokens=True
    ),
}
COSINE = replace(CONFIG.optimizer, schedule="cosine")
SETTINGS = {
    "skip": Case(settings={"on_nonfinite": "skip", "optimizer": COSINE}, nan_steps=(2, STOP, 7)),
    "rollback": Case(settings={"on_nonfinite": "rollback"}, nan_steps=(STOP, 8)),
    "accumulate": Case(settings={"accumulate": 2}),
    "ema_remat": Case(settings={"ema": 0.9, "remat": "dots"}),
    "all_of_it": Case(
        replace(TRANSFORMER, depth=2, scan=True),
        {
            "accumulate": 2,
            "remat": "block",
            "ema": 0.9,
            "on_nonfinite": "skip",
            "keep_best": "min:loss",
            "checkpoint_every": 4,
            "mesh": MeshConfig(fsdp=2),
        },
        nan_steps=(4, 6),
    ),
}
CASES = FAMILIES | SETTINGS


class Model(nnx.Module):
    """A backbone, the mean over its grid, one number."""

    def __init__(self, case: Case, rngs: nnx.Rngs):
        channels, shape = (1, SHAPE[:1]) if case.tokens else (SHAPE[-1], SHAPE[:-1])
        self.backbone = case.backbone.build(channels, shape=shape, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.readout = nnx.Linear(self.backbone.out_features, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        y: Any = self.backbone(x)
        return self.readout(self.dropout(y.mean(tuple(range(1, y.ndim - 1)))))


@dataclass(frozen=True)
class Examples:
    """Random fields or texts, each with its number."""

    tokens: bool

    def __len__(self) -> int:
        return 3 * BATCH + 3

    def __getitem__(self, i: int, /) -> dict[str, np.ndarray]:
        rng = np.random.default_rng([11, i])
        x = rng.normal(size=SHAPE).astype(np.float32)
        if self.tokens:
            x = rng.integers(0, TOKENS, (SHAPE[0], 1)).astype(np.float32)
        return {"x": x, "y": x.mean(keepdims=True).reshape(1), "index": np.array(i, np.int32)}


def squared_error(model: Any, batch: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
    return jnp.mean((model(batch["x"]) - batch["y"]) ** 2), {}


def batches(case: Case, start: int) -> Iterator[dict[str, np.ndarray]]:
    ordered = batch_iterator(Examples(case.tokens), batch_size=BATCH, seed=2, start_step=start)
    for step, batch in enumerate(ordered, start + 1):
        spoiled = np.float32(np.nan if step in case.nan_steps else 1)
        yield batch | {"y": batch["y"] * spoiled}


def validate(case: Case, model: nnx.Module) -> dict[str, float]:
    """With dropout on, so that the counters of the model move."""
    loss, _ = nnx.jit(squared_error)(model, next(batches(case, 10**6)))
    return {"loss": float(loss)}


def train(case: Case, workdir: Path, stop: int | None) -> dict[str, Any]:
    """Runs a case to its end, or to SIGTERM; returns where it stands, and what would come next."""
    with pytest.MonkeyPatch.context() as patch:
        if stop:
            sigterm_after(stop - 2, patch)
        result = train_loop(
            lambda rngs: Model(case, rngs),
            squared_error,
            functools.partial(batches, case),
            replace(CONFIG, **case.settings),
            workdir=workdir,
            extras={},
            validate=functools.partial(validate, case) if case.settings else None,
            progress=False,
        )
    following = next(batches(case, result.step))
    return {
        "step": result.step,
        "interrupted": result.interrupted,
        "digest": digest(result.state),
        "next": following["index"].tolist(),
    }


def main() -> None:
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    folder, stop = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None
    for name, case in CASES.items():
        print(json.dumps({"case": name} | train(case, folder / name, stop)), flush=True)


if __name__ == "__main__":
    main()
