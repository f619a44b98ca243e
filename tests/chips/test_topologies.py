"""Described devices: their names, meshes over them, what is refused, what JAX still needs."""

import functools
import importlib.util
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from stpatch_jax import InputError, chips

compilers = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("libtpu", "jax_cuda13_plugin"))),
    reason="the extra chips is not installed",
)


def test_a_mesh_of_described_cpus_leaves_the_process_as_it_is():
    before = jax.devices()
    mesh = chips.mesh("cpu:16", {"data": -1, "fsdp": 2})
    assert mesh.shape == {"data": 8, "fsdp": 2}
    assert jax.devices() == before
    x = jax.ShapeDtypeStruct(
        (16, 4), "float32", sharding=NamedSharding(mesh, PartitionSpec("data"))
    )
    program = chips.compile(lambda x, y: (x * y).sum(0), x, np.ones((1, 4), "float32"), on=mesh)
    # Of a batch of 16 a device has 2 rows of 16 bytes, and the other argument whole.
    assert program.memory_analysis().argument_size_in_bytes == 2 * 16 + 16


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("tpu", "one such as v5e:16x16, v5p:"),
        ("v5e:16X", "one such as"),
        ("v5e:32x16", "2 sides up to 16x16"),
        ("v5p:4x4", "3 sides up to 16x16x24"),
        ("h100:16", "up to 8, times hosts"),
        ("2*h100:8", "up to 8, times hosts"),
        ("cpu:2x2", "a number of devices"),
    ],
)
def test_an_unknown_topology_is_told_the_known(name, told):
    with pytest.raises(InputError, match=r"must .*, got '.*; ") as error:
        chips.topology(name)
    assert told in str(error.value)


@pytest.mark.parametrize(
    "sizes",
    [{"data": 3}, {"data": -1, "fsdp": -1}, {"data": 16}, {"data": 0}, {"data": -2, "fsdp": -4}],
)
def test_a_mesh_must_multiply_to_the_devices(sizes):
    with pytest.raises(InputError, match="multiply to the 8 devices of cpu:8"):
        chips.mesh("cpu:8", sizes)


def test_what_is_missing_is_told_with_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name in ("v6e:2x4", "h100:4x2"):
        with pytest.raises(InputError, match=r"got no .*; .*stpatch_jax\[chips\]"):
            chips.topology(name)
        chips.topology.cache_clear()


@pytest.mark.slow
@pytest.mark.chips
@compilers
@pytest.mark.parametrize(
    ("name", "count", "hosts", "beyond"),
    [
        ("v5e", 1, 1, "ici"),
        ("v5e:16x16", 256, 64, "ici"),
        ("2*v6e:4x4", 32, 8, "network"),
        ("v5p:16x16x16", 4096, 1024, "ici"),
        ("h100:8", 8, 1, "nvlink"),
        ("h200:8x4", 32, 4, "network"),
    ],
)
def test_devices_hosts_and_links(name, count, hosts, beyond):
    described = chips.topology(name)
    assert (len(described.devices), described.hosts) == (count, hosts)
    assert chips.link(described.devices) == beyond
    assert described.chip.links[beyond] > 0
    mesh = chips.mesh(name, {"data": -1, "fsdp": 4 if count > 1 else 1})
    assert {*mesh.devices.flat} == {*described.devices}
    # The devices that share weights are neighbours.
    assert chips.link(mesh.devices[0]) in ("ici", "nvlink")


@pytest.mark.slow
@pytest.mark.chips
@compilers
def test_a_compiler_that_refuses_is_told_in_a_line():
    with pytest.raises(InputError, match="must be one that its compiler knows, got 'v5e:5x5'"):
        chips.topology("v5e:5x5")
    x = jax.ShapeDtypeStruct((70_000, 70_000), "float32")
    with pytest.raises(InputError, match=r"RESOURCE_EXHAUSTED.* exceeds available HBM") as error:
        chips.compile(lambda x: x + 1, x, on="v5e")
    assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.chips
@compilers
def test_a_product_that_only_a_gpu_could_tune_is_the_librarys():
    x, weights = jax.ShapeDtypeStruct((4, 8, 9), "float32"), np.ones((8, 32), "float32")
    product = chips.compile(
        lambda x, w: x.transpose(0, 2, 1).reshape(36, 8) @ w, x, weights, on="h100:1"
    )
    assert "cublas" in product.as_text()


@pytest.mark.slow
@pytest.mark.chips
@compilers
@pytest.mark.skipif(jax.__version__ != "0.10.2", reason="said of jax 0.10.2 alone")
def test_jax_still_asks_the_process_for_cudnn():
    # Once it asks the device that it lowers for, `libraries_of` may go.
    lowered = jax.jit(functools.partial(jax.nn.dot_product_attention, implementation="cudnn"))
    x = jax.ShapeDtypeStruct((2, 512, 2, 64), "bfloat16")
    device = chips.topology("h100:1").devices[0]
    x = x.update(sharding=jax.sharding.SingleDeviceSharding(device))
    with pytest.raises(RuntimeError, match="cuDNN"):
        lowered.lower(x, x, x)
    with chips.libraries_of(device):
        assert "cudnn" in lowered.lower(x, x, x).as_text()


@pytest.mark.slow
@pytest.mark.chips
@compilers
@pytest.mark.skipif(jax.__version__ != "0.10.2", reason="said of jax 0.10.2 alone")
def test_libtpu_still_asks_who_the_machine_is():
    # Once it no longer complains, the variables that `topologies` sets may go.
    code = "from jax.experimental import topologies as t; t.get_topology_desc('v5e:2x2', 'tpu')"
    untold = {name: value for name, value in os.environ.items() if not name.startswith("TPU_")}
    run = subprocess.run([sys.executable, "-c", code], env=untold, capture_output=True, text=True)
    assert "TPU_WORKER_HOSTNAMES" in run.stderr
