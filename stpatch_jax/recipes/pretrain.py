"""Pretraining: learn the shapes in scans from hidden patches, without a label."""

import dataclasses

from stpatch_jax.recipes.scan import scan
from stpatch_jax.running import RunConfig
from stpatch_jax.tasks import ReconstructConfig


def pretrain() -> RunConfig:
    """Reconstructs hidden patches of the volumes of `scan`, with the backbone of `scan`.

    Afterwards `stpatch train scan --start-from RUN` trains that backbone to diagnose, with the
    `--workdir` of this run as RUN. Any volumes of that many channels serve, labelled or not.
    """
    diagnosis = scan()
    return dataclasses.replace(
        diagnosis,
        recipe="pretrain",
        task=ReconstructConfig((1, 4, 4, 4), mask_ratio=0.5),
    )
