import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import AxisType

from stpatch_jax.errors import InputError
from stpatch_jax.training import batch_sharding, make_mesh, shard_local_batch
from stpatch_jax.training.mesh import check_batch_size


def test_mesh_spans_all_devices_with_auto_axes() -> None:
    mesh = make_mesh()
    assert dict(mesh.shape) == {"data": 8, "fsdp": 1, "space": 1, "sequence": 1, "model": 1}
    assert mesh.axis_types == (AxisType.Auto,) * 5
    assert list(mesh.devices.flat) == jax.devices()


@pytest.mark.parametrize("fsdp", [1, 2])
def test_batch_is_split_in_order(fsdp: int) -> None:
    batch = {
        "context": np.arange(48, dtype=np.float32).reshape(16, 3),
        "mask": np.arange(16) % 3 == 0,
        "index": np.arange(16) + 2**20,
    }
    mesh = make_mesh(fsdp=fsdp)
    placed = shard_local_batch(batch, mesh)
    assert placed.keys() == batch.keys()
    for name, array in placed.items():
        np.testing.assert_array_equal(array, batch[name])
        assert array.sharding == batch_sharding(mesh)
        for number, shard in enumerate(array.addressable_shards):
            np.testing.assert_array_equal(shard.data, batch[name][2 * number : 2 * number + 2])
    assert placed["index"].dtype == np.int32


@given(size=st.integers(1, 100))
def test_batch_size_must_be_a_multiple_of_the_devices(size: int) -> None:
    if size % 8 == 0:
        check_batch_size(size, make_mesh())
        return
    with pytest.raises(InputError, match=f"got {size} on 8 devices; use ") as caught:
        check_batch_size(size, make_mesh())
    for proposed in str(caught.value).split("; use ")[1].split(" or "):
        assert int(proposed) > 0
        assert int(proposed) % 8 == 0
        assert abs(int(proposed) - size) < 8


def test_a_batch_that_does_not_split_is_an_input_error() -> None:
    with pytest.raises(InputError, match="got 12 on 8 devices; use 8 or 16"):
        shard_local_batch({"x": np.zeros((12, 2))}, make_mesh())


def test_a_field_is_split_in_space_where_it_divides() -> None:
    mesh = make_mesh(fsdp=2, space=2)
    assert dict(mesh.shape) == {"data": 2, "fsdp": 2, "space": 2, "sequence": 1, "model": 1}
    batch = {
        "field": np.arange(4 * 3 * 6 * 2.0, dtype=np.float32).reshape(4, 3, 6, 2),
        "odd": np.zeros((4, 3, 5, 2)),
        "index": np.arange(4),
    }
    placed = shard_local_batch(batch, mesh)
    shares = {name: array.addressable_shards[0].data.shape for name, array in placed.items()}
    assert shares == {"field": (1, 3, 3, 2), "odd": (1, 3, 5, 2), "index": (1,)}
    np.testing.assert_array_equal(placed["field"], batch["field"])
    check_batch_size(4, mesh)
    with pytest.raises(InputError, match="multiple of 4, got 6 on 4 devices; use 4 or 8"):
        check_batch_size(6, mesh)
