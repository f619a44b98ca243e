from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from small_run import SmallModel, arrays

from stpatch_jax.errors import InputError
from stpatch_jax.training import export_weights, load_weights, make_mesh, state_sharding


def model_on(*, seed: int = 3, width: int = 256, **axes: int) -> Any:
    model = SmallModel(nnx.Rngs(seed), width)
    state = nnx.state(model)
    nnx.update(model, jax.device_put(state, state_sharding(state, make_mesh(**axes))))
    return model


def test_weights_move_to_another_mesh_and_keys_do_not(tmp_path: Path) -> None:
    source, target = model_on(), model_on(seed=4, fsdp=4)
    source.norm.mean[...] += 1
    key, sharding = arrays(nnx.state(target, nnx.RngKey)), target.inner.kernel[...].sharding
    assert not sharding.is_fully_replicated
    export_weights(tmp_path / "new" / "weights", source)
    load_weights(tmp_path / "new" / "weights", target)
    kept = nnx.Not(nnx.RngState)
    for one, other in zip(
        arrays(nnx.state(source, kept)), arrays(nnx.state(target, kept)), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert target.inner.kernel[...].sharding == sharding
    np.testing.assert_array_equal(arrays(nnx.state(target, nnx.RngKey)), key)


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    model, path = model_on(width=8), tmp_path / "weights"
    export_weights(path, model)
    with pytest.raises(InputError, match="must be a new folder, got one that exists"):
        export_weights(path, model)
    with pytest.raises(InputError, match="must be a folder of exported weights"):
        load_weights(tmp_path / "absent", model)
    with pytest.raises(
        InputError,
        match=r"inner\.bias\.value is float32\[8\] there and float32\[16\] here; build the model",
    ):
        load_weights(path, model_on(width=16))
    largest = max((path / "weights").glob("**/d/*"), key=lambda file: file.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:50])
    with pytest.raises(InputError, match=r"must be whole, got .*; export the weights again"):
        load_weights(path, model)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="must be writable"):
        export_weights(tmp_path / "file" / "weights", model)
