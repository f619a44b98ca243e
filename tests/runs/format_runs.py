"""Three small runs; `python format_runs.py` writes them to `formats`, once for
every format.

What they are trained on is arithmetic of whole numbers, the same on any machine.
"""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from stpatch_jax.data import FieldConfig, LabelledSeriesConfig
from stpatch_jax.nn import PatchCNNConfig, PatchTransformerConfig
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.runs.config import RunConfig
from stpatch_jax.runs.run import train
from stpatch_jax.runs.trained import load_run
from stpatch_jax.tasks import ClassifyConfig, ForecastConfig
from stpatch_jax.training import TrainConfig

FORMATS = Path(__file__).parent / "formats"
TRAIN = TrainConfig(steps=2, batch_size=8, checkpoint_every=2, evaluate_every=2, keep_checkpoints=1)


def numbers(*shape: int) -> np.ndarray:
    """Eighths up to 12, in no order."""
    count = np.arange(int(np.prod(shape)))
    return ((count * 7919 % 101 + count % 24) / np.float32(8)).reshape(shape).astype(np.float32)


def field() -> xr.DataArray:
    time = np.datetime64("2024-01-01", "ns") + np.arange(96) * np.timedelta64(3600 * 10**9, "ns")
    coords = {"time": time, "latitude": np.arange(4.0), "longitude": np.arange(6.0)}
    return xr.DataArray(numbers(96, 4, 6), coords, [*coords], attrs={"units": "K"}, name="t2m")


def series() -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(40) % 2
    return numbers(40, 12, 1) + 2 * labels[:, None, None].astype(np.float32), labels


FORECASTS = FieldConfig(context=8, horizon=2)
KINDS: dict[str, tuple[RunConfig, Any]] = {
    "field": (
        RunConfig(
            recipe="field",
            data=FORECASTS,
            model=PatchCNNConfig(WindowSpec((4, 2, 3), stride=(4, 2, 3)), features=(4,)),
            task=ForecastConfig(),
            train=TRAIN,
        ),
        field,
    ),
    "classes": (
        RunConfig(
            recipe="classes",
            data=LabelledSeriesConfig(),
            model=PatchCNNConfig(WindowSpec((4,)), features=(4,)),
            task=ClassifyConfig(hidden=()),
            train=TRAIN,
        ),
        series,
    ),
    "transformer": (
        RunConfig(
            recipe="transformer",
            data=FORECASTS,
            model=PatchTransformerConfig(
                WindowSpec((4, 2, 3)), features=8, depth=1, heads=2, mlp_ratio=1.0
            ),
            task=ForecastConfig(),
            train=dataclasses.replace(TRAIN, ema=0.5),
        ),
        field,
    ),
}


def predicted(run: Path, values: Any) -> list[Any]:
    """What a run says of its first test example, as numbers."""
    trained = load_run(run)
    data = trained.data(values=values)
    example = data.source("test")[0]
    batch = {name: np.asarray(example[name])[None] for name in trained.task.inputs}
    answer = trained.answers(batch)
    return np.ravel(
        answer if isinstance(answer, np.ndarray) else next(iter(answer.values()))
    ).tolist()


def main() -> None:
    for name, (config, make) in KINDS.items():
        run = FORMATS / f"format-1-{name}"
        shutil.rmtree(run, ignore_errors=True)
        train(config, data=make(), workdir=run, progress=False)
        shutil.rmtree(run / "plots")
        for marker in run.glob("checkpoints/**/commit_success.txt"):
            marker.write_text("committed\n")  # Orbax writes where, which is nobody's business.
        (run / "predicted.json").write_text(json.dumps(predicted(run, make())) + "\n")


if __name__ == "__main__":
    main()
