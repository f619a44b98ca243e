"""The weights of a model alone, as an Orbax checkpoint that needs nothing of its run."""

from pathlib import Path
from typing import Any

import jax
from flax import nnx
from orbax.checkpoint import v1 as ocp

from stpatch_jax.errors import require
from stpatch_jax.training.record import Advice, load_arrays, make_record, writing

_NAME = "weights"
_ADVICE = Advice("export the weights again", "build the model as it was for the export")


def export_weights(path: str | Path, model: nnx.Module) -> None:
    """Writes what a forward pass of a model reads: parameters and batch statistics.

    PRNG keys, moments and averages stay behind; for averaged weights give `FitResult.model`. The
    folder, a new one, appears under its name when it is whole, and any Orbax reads it.

    Raises:
        InputError: If the folder exists or cannot be written.
    """
    path = Path(path).absolute()
    with writing(path):
        exists = path.exists()
        require(not exists, f"{path} must be a new folder, got one that exists; choose another")
        state = _weights(model)
        path.parent.mkdir(parents=True, exist_ok=True)
        ocp.save_checkpointables(str(path), {_NAME: state}, custom_metadata=make_record(state))


def load_weights(path: str | Path, model: nnx.Module) -> None:
    """Puts exported weights into a model of the same configuration, on the devices it lies on.

    Its parameters and batch statistics are replaced; dtypes and shapes must agree.

    Raises:
        InputError: If there is no such export, it is damaged or of another model.
    """
    path = Path(path).absolute()
    require(
        path.is_dir(),
        f"{path} must be a folder of exported weights, got none; give the path of the export",
    )
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), _weights(model)
    )
    nnx.update(model, load_arrays(path, _NAME, abstract, advice=_ADVICE))


def _weights(model: nnx.Module) -> Any:
    return nnx.state(model, nnx.Not(nnx.RngState))
