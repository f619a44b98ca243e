"""Devices that a program can be compiled for where none of them is."""

import dataclasses
import functools
import glob
import importlib.util
import math
import os
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils, topologies
from jax.sharding import AxisType, Mesh

from stpatch_jax.chips.hardware import CHIPS, Chip, gpu_target
from stpatch_jax.errors import InputError, require, shortened

_FORMS = {
    "v5e": "v5e:16x16",
    "v5p": "v5p:8x16x16",
    "v6e": "v6e:16x16",
    "h100": "h100:8x32",
    "h200": "h200:8",
    "cpu": "cpu:8",
}
# Longest sides of a slice: a pod of 256 chips, or the 96 cubes of 4x4x4 that a job may have.
_LONGEST = {"v5e": (16, 16), "v6e": (16, 16), "v5p": (16, 16, 24)}
# libtpu asks the machine and its metadata server who it is, unless it is told.
_LIBTPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
# What a machine has that has one of these chips.
_HARDWARE = ("/dev/nvidia[0-9]*", "/dev/accel*", "/dev/vfio/[0-9]*", "/dev/dxg")
_INSTALL = "install them with `pip install 'stpatch_jax[chips]'`"


@dataclasses.dataclass(frozen=True, eq=False)
class Topology:
    """Chips and how they hang together.

    Attributes:
        name: As it was asked for.
        chip: What each of them is.
        devices: JAX's devices, which programs are compiled for and nothing runs on (but on a
            "cpu").
        hosts: Machines that they stand in.
        slices: Parts of it that only the network joins.
    """

    name: str
    chip: Chip
    devices: tuple[Any, ...]
    hosts: int
    slices: int


def part(device: Any) -> int:
    """The slice of a TPU, the host of any other device: what fast links join."""
    found = getattr(device, "slice_index" if device.platform == "tpu" else "process_index", None)
    return found or 0


def link(devices: Any) -> str | None:
    """The slowest link between devices, a key of `Chip.links`; None on a CPU.

    A slice of TPUs is joined by "ici" whatever its hosts, a host of GPUs by "nvlink".
    """
    fast = {"tpu": "ici", "gpu": "nvlink"}.get(devices[0].platform)
    return "network" if fast and len({part(device) for device in devices}) > 1 else fast


@functools.cache
def topology(name: str) -> Topology:
    """Describes devices without having them.

    `v5e:16x16`, `v6e:4x8` and `v5p:4x4x8` are slices of TPUs by their sides, `2*v5e:16x16` two
    slices joined by the network; `h100:8` a host of 8 GPUs and `h100:8x32` 32 of them; `cpu:8` 8
    devices of a CPU. A chip alone is its name.

    Args:
        name: The topology.

    Raises:
        InputError: It is none of these, or what describes it is not installed.

    >>> topology("cpu:8").hosts, len(topology("cpu:8").devices)
    (1, 8)
    """
    match = re.fullmatch(r"(?:(\d+)\*)?([a-z0-9]+)(?::(\d+(?:x\d+)*))?", name.lower())
    chip = CHIPS.get(match[2]) if match else None
    require(
        chip is not None,
        f"the topology must be one such as {', '.join(_FORMS.values())} or 2*v5e:16x16, got "
        f"{shortened(name)!r}; name the chip and how many",
    )
    assert match
    assert chip
    slices = int(match[1] or 1)
    sides = tuple(int(side) for side in (match[3] or "1").split("x"))
    devices = _DESCRIBE[chip.platform](name, chip, slices, sides)
    hosts = len({(getattr(x, "slice_index", 0), x.process_index) for x in devices})
    return Topology(name, chip, tuple(devices), hosts, slices)


def mesh(name: str, sizes: Mapping[str, int]) -> Mesh:
    """A mesh over the devices of a topology, in the order that `jax.make_mesh` gives real ones.

    The axis types are Auto, as those of `training.make_mesh`. Of several slices the first axis that
    they divide is the one over the network.

    Args:
        name: The topology, see `topology`.
        sizes: The axes with their sizes, one of which may be -1.

    Raises:
        InputError: The sizes do not multiply to the devices.

    >>> dict(mesh("cpu:8", {"data": -1, "fsdp": 2}).shape)
    {'data': 4, 'fsdp': 2}
    """
    described = topology(name)
    count, fixed = len(described.devices), math.prod(n for n in sizes.values() if n != -1)
    open_axes = list(sizes.values()).count(-1)
    require(
        all(n > 0 or n == -1 for n in sizes.values())
        and open_axes <= 1
        and (count % fixed == 0 if open_axes else count == fixed),
        f"the mesh must multiply to the {count} devices of {name}, got {dict(sizes)}; set one size "
        f"to -1 and the others to divisors of {count}",
    )
    shape = tuple(count // fixed if n == -1 else n for n in sizes.values())
    devices = _placed(described, shape)
    return Mesh(devices, tuple(sizes), axis_types=(AxisType.Auto,) * len(shape))


def _placed(described: Topology, shape: tuple[int, ...]) -> np.ndarray:
    slices, devices = described.slices, list(described.devices)
    if described.chip.platform != "tpu":
        return np.array(devices).reshape(shape)
    if slices == 1:
        return mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    axis = next((i for i, n in enumerate(shape) if n % slices == 0), None)
    require(
        axis is not None,
        f"one axis of the mesh must be a multiple of the {slices} slices of {described.name}, got "
        f"{shape}; make one a multiple",
    )
    outer = tuple(slices if i == axis else 1 for i in range(len(shape)))
    inner = tuple(n // m for n, m in zip(shape, outer, strict=True))
    return mesh_utils.create_hybrid_device_mesh(
        inner, outer, devices, allow_split_physical_axes=True
    )


def _tpus(name: str, chip: Chip, slices: int, sides: tuple[int, ...]) -> list[Any]:
    longest = _LONGEST[chip.name]
    sides = sides if len(sides) > 1 else sides + (1,) * (len(longest) - 1)
    fits = len(sides) == len(longest) and all(
        0 < side <= most for side, most in zip(sorted(sides), longest, strict=True)
    )
    require(
        fits and slices > 0,
        f"a slice of {chip.name} must have {len(longest)} sides up to "
        f"{'x'.join(map(str, longest))}, got {name!r}; write it as {_FORMS[chip.name]}",
    )
    _needs(name, "libtpu")
    for variable, value in _LIBTPU.items():
        os.environ.setdefault(variable, value)
    layout = f"{chip.name}:{'x'.join(map(str, sides))}"
    # A host has 4 chips in a square, but where the slice is a single chip.
    alone = {"chips_per_host_bounds": [1, 1, 1]} if math.prod(sides) == 1 else {}
    several = {"num_slices": slices} if slices > 1 else {}
    try:
        return topologies.get_topology_desc(layout, "tpu", **alone, **several).devices
    except Exception as error:
        raise _refused(name, error) from error


def _gpus(name: str, chip: Chip, slices: int, sides: tuple[int, ...]) -> list[Any]:
    each, hosts = (*sides, 1)[:2]
    require(
        len(sides) <= 2 and slices == 1 and 0 < each <= 8 and hosts > 0,
        f"{chip.name} must come as GPUs of a host, up to 8, times hosts, got {name!r}; write it as "
        f"{chip.name}:8 or {chip.name}:8x32",
    )
    _needs(name, "jax_plugins.xla_cuda13")
    target = gpu_target(chip)
    try:
        # Slices, hosts and GPUs of each.
        return topologies.get_topology_desc(
            "", "cuda", target_config=target, topology=f"1x{hosts}x{each}"
        ).devices
    except NotImplementedError as error:
        raise InputError(
            f"the compiler of {name} must be there when JAX starts, got a process that had started "
            "without; set JAX_PLATFORMS=cpu before it, or name the topology first"
        ) from error
    except Exception as error:
        raise _refused(name, error) from error


def _cpus(name: str, chip: Chip, slices: int, sides: tuple[int, ...]) -> list[Any]:
    require(
        len(sides) == 1 and slices == 1 and sides[0] > 0,
        f"a cpu must come as a number of devices, got {name!r}; write it as {_FORMS['cpu']}",
    )
    from jaxlib import xla_client

    # A client beside that of the process, whose number of devices is settled when JAX starts.
    return xla_client.make_cpu_client(num_devices=sides[0]).devices()


_DESCRIBE = {"tpu": _tpus, "gpu": _gpus, "cpu": _cpus}


def _needs(name: str, module: str) -> None:
    try:
        found = importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        found = False
    require(
        found,
        f"the compilers of {name} must be installed, got no {module.partition('.')[0]}; {_INSTALL}",
    )
    # Or JAX would look for the chips for seconds, and give a compiler up that finds none.
    if not jax.config.values["jax_platforms"] and not any(map(glob.glob, _HARDWARE)):
        jax.config.update("jax_platforms", "cpu")


def _refused(name: str, error: Exception) -> InputError:
    return InputError(
        f"the topology must be one that its compiler knows, got {name!r}: {shortened(error)}; "
        "use other sides"
    )
