"""Pretraining: learn the shapes in scans from hidden patches, without a label."""

import dataclasses

from stpatch_jax.recipes.scan import scan
from stpatch_jax.running import RunConfig
from stpatch_jax.tasks import ReconstructConfig


def pretrain() -> RunConfig:
    """Reconstructs hidden patches of the volumes of `scan`, with the backbone of `scan`.

    Afterwards `stpatch train scan --start-from RUN` trains that backbone to diagnose, with the
    `--workdir` of this run as RUN. Volumes of any kind with as many channels serve; their labels
    are not looked at. Whether it pays is a matter of the data: on validation, a tenth of the labels
    of the adrenal scans served random weights at least as well.
    """
    diagnosis = scan()
    return dataclasses.replace(
        diagnosis,
        recipe="pretrain",
        task=ReconstructConfig((1, 4, 4, 4), mask_ratio=0.5),
    )
