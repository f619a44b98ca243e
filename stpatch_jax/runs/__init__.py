"""A run directory: configuration, training, judging, predicting, explaining, searching."""

from stpatch_jax.runs.config import RunConfig
from stpatch_jax.runs.directory import RunDirectory
from stpatch_jax.runs.judging import Judge, Judged, Registry, Shows, judges
from stpatch_jax.runs.run import Run, evaluate, train
from stpatch_jax.runs.trained import TrainedRun, load_run

__all__ = [
    "Judge",
    "Judged",
    "Registry",
    "Run",
    "RunConfig",
    "RunDirectory",
    "Shows",
    "TrainedRun",
    "evaluate",
    "judges",
    "load_run",
    "train",
]
