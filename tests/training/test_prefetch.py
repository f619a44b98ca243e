"""Prefetching: the same batches in the same order, placed before they are asked for."""

import itertools
import threading
from typing import Any

import numpy as np
import pytest

from stpatch_jax.errors import InputError
from stpatch_jax.training.mesh import batch_sharding, make_mesh
from stpatch_jax.training.prefetch import prefetch_to_mesh

PATIENCE = 60.0


def made(number):
    return {"x": np.arange(16.0, dtype=np.float32).reshape(8, 2) + number, "index": np.arange(8)}


def workers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


@pytest.mark.parametrize("fsdp", [1, 4])
@pytest.mark.parametrize("depth", [1, 3])
def test_batches_keep_their_order_and_are_split_over_all_devices(fsdp, depth):
    mesh = make_mesh(fsdp=fsdp)
    assert mesh.size == 8
    placed = list(prefetch_to_mesh([made(number) for number in range(5)], mesh, depth=depth))
    assert len(placed) == 5
    for number, batch in enumerate(placed):
        assert {name: array.dtype for name, array in batch.items()} == {
            "x": "float32",
            "index": "int32",
        }
        for name, values in made(number).items():
            np.testing.assert_array_equal(batch[name], values)
            assert batch[name].sharding == batch_sharding(mesh)
            assert {shard.data.shape[0] for shard in batch[name].addressable_shards} == {1}
    assert not workers()


def test_no_more_than_depth_batches_are_made_ahead():
    made_so_far, enough, count = [], threading.Event(), 3

    def batches():
        for number in itertools.count():
            made_so_far.append(number)
            if len(made_so_far) == 1 + count:
                enough.set()
            yield made(number)

    placed: Any = prefetch_to_mesh(batches(), make_mesh(), depth=count)
    assert not made_so_far
    next(placed)
    assert enough.wait(PATIENCE)
    # Closing waits for the thread, so nothing can be made after it.
    placed.close()
    assert len(made_so_far) == 1 + count
    assert not workers()


def test_dropping_the_iterator_ends_its_thread():
    placed = prefetch_to_mesh(map(made, itertools.count()), make_mesh())
    next(placed)
    assert len(workers()) == 1
    del placed
    assert not workers()


def test_an_error_comes_where_its_batch_would_have_come():
    def batches():
        yield from map(made, range(3))
        raise OSError("the disk is gone")

    placed = prefetch_to_mesh(batches(), make_mesh(), depth=2)
    for number in range(3):
        np.testing.assert_array_equal(next(placed)["x"], made(number)["x"])
    with pytest.raises(OSError, match="the disk is gone"):
        next(placed)
    assert not workers()
    assert list(placed) == []


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="depth must be a whole number >= 1, got 0"):
        prefetch_to_mesh([], make_mesh(), depth=0)
    with pytest.raises(InputError, match=r"multiple of .*, got 3 on 8 devices"):
        next(prefetch_to_mesh([{"x": np.zeros(3)}], make_mesh()))
