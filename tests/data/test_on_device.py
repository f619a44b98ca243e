"""Sampling on the device: the examples of the host, drawn from seed and step alone."""

from itertools import islice
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from small_fields import small_field

from stpatch_jax.data.fields.cleaning import Cleaner, CleaningConfig
from stpatch_jax.data.fields.on_device import DeviceWindows
from stpatch_jax.data.fields.windows import FieldWindows
from stpatch_jax.errors import InputError


def source_of(shape=(40, 6, 5), *, missing=0.3, config=None, **options):
    field = small_field(shape, missing=missing)
    cleaner = Cleaner.fit(field, range(24), config or CleaningConfig())
    chosen: dict[str, Any] = {"context": 6, "horizon": 3} | options
    return FieldWindows(field, range(24, 40), cleaner, **chosen)


def mesh_sharding():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    return NamedSharding(mesh, PartitionSpec("data"))


def check_batch(source, batch):
    """Every example of a batch is the source's, bit for bit."""
    number = {
        (int(e["index"]), *e["tile"].tolist()): e for e in (source[i] for i in range(len(source)))
    }
    batch = {name: np.asarray(value) for name, value in batch.items()}
    for at in range(len(batch["index"])):
        example = number[(int(batch["index"][at]), *batch["tile"][at].tolist())]
        assert set(example) == set(batch)
        for name, value in example.items():
            # The compiler may multiply by the reciprocal of the number of values.
            tolerance = 1e-6 if name == "valid_share" else 0
            np.testing.assert_allclose(batch[name][at], value, rtol=tolerance, err_msg=name)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        (
            (40, 6, 5),
            {
                "tile": (4, 2),
                "tile_stride": (2, 3),
                "calendar": ("hour",),
                "mask_channel": True,
                "target_channels": ("wind",),
            },
        ),
        ((40,), {"config": CleaningConfig(missing="leave", steps=("log1p", "robust"))}),
    ],
)
def test_a_batch_holds_examples_of_the_host_bit_for_bit(shape, options):
    source = source_of(shape, **options)
    check_batch(source, DeviceWindows.of(source).sample(3, seed=1, batch_size=16))


def test_batches_depend_on_seed_and_step_alone_and_run_inside_jit():
    windows = DeviceWindows.of(source_of((40,)))
    whole = [
        np.asarray(b["index"])
        for b in islice(windows.batches(batch_size=8, seed=5, start_step=0), 6)
    ]
    tail = [
        np.asarray(b["index"])
        for b in islice(windows.batches(batch_size=8, seed=5, start_step=4), 2)
    ]
    np.testing.assert_array_equal(whole[4:], tail)
    assert len({index.tobytes() for index in whole}) == 6
    other = windows.sample(0, seed=6, batch_size=8)["index"]
    assert (np.asarray(other) != whole[0]).any()
    step = jax.jit(lambda step: windows.sample(step, seed=5, batch_size=8)["index"])
    np.testing.assert_array_equal(step(np.uint32(4)), tail[0])
    draws = windows.sample(0, seed=0, batch_size=4096)["index"]
    assert set(np.asarray(draws).tolist()) == set(range(24, 38))


def test_batches_lie_on_the_mesh_and_are_those_of_one_device():
    source = source_of((40, 6), missing=0.1)
    sharding = mesh_sharding()
    batch = DeviceWindows.of(source, sharding=sharding).sample(2, seed=0, batch_size=16)
    assert all(array.sharding.is_equivalent_to(sharding, array.ndim) for array in batch.values())
    alone = DeviceWindows.of(source).sample(2, seed=0, batch_size=16)
    for name, array in alone.items():
        np.testing.assert_array_equal(batch[name], array)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (CleaningConfig(missing="interpolate"), "but they are interpolate and a window of 0"),
        (CleaningConfig(hampel_window=3), "but they are forward_fill and a window of 3"),
        (CleaningConfig(steps=("winsorize",)), "clips inputs only"),
    ],
)
def test_cleaning_that_needs_the_host_is_refused(config, message):
    with pytest.raises(InputError, match=message):
        DeviceWindows.of(source_of(config=config))


def test_training_examples_are_clipped_alike():
    config = CleaningConfig(steps=("winsorize", "standard"), winsorize=0.2)
    source = source_of((40,), config=config, training=True)
    check_batch(source, DeviceWindows.of(source).sample(0, seed=0, batch_size=16))
