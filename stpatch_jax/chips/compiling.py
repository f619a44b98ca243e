"""A program compiled for devices that are not here."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from stpatch_jax.chips.hardware import CUDNN
from stpatch_jax.chips.topologies import topology
from stpatch_jax.errors import InputError, shortened


def compile(function: Any, *arguments: Any, on: str | Mesh) -> Any:
    """Compiles a function for described devices; what it was given stays as it is.

    Args:
        function: The function, or one of `jax.jit`.
        *arguments: Its arguments: arrays, or shapes and dtypes in their place. Those of a sharding
            keep it; the others lie whole on every device.
        on: A topology, of which the first device is compiled for, or a mesh of `mesh`.

    Returns:
        What `jax.jit(function).lower(*arguments).compile()` gives, for `measure`.

    Raises:
        InputError: The compiler refuses, with its reason.

    >>> program = compile(lambda x: x + 1, jax.ShapeDtypeStruct((8,), "float32"), on="cpu")
    >>> program.memory_analysis().output_size_in_bytes
    32
    """
    if isinstance(on, str):
        device = topology(on).devices[0]
        whole = SingleDeviceSharding(device)
    else:
        device, whole = on.devices.flat[0], NamedSharding(on, PartitionSpec())

    def described(leaf: Any) -> Any:
        if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
            return leaf
        kept = leaf.sharding if isinstance(leaf, jax.ShapeDtypeStruct) else None
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=kept or whole)

    jitted = function if hasattr(function, "lower") else jax.jit(function)
    with libraries_of(device):
        lowered = jitted.lower(*jax.tree.map(described, arguments))
    return finish(lowered, device)


@contextlib.contextmanager
def libraries_of(device: Any) -> Iterator[None]:
    """What is lowered in here may call the libraries that come with a device, cuDNN of a GPU.

    JAX asks the process for cuDNN, and not the device that it lowers for; XLA's compiler, which
    is told the version, has no need of it.
    """
    if device.platform != "gpu":
        yield
        return
    from jax._src.cudnn import fused_attention_stablehlo as attention

    major, minor = CUDNN
    asked: Any = attention.check_cudnn_version
    attention.check_cudnn_version = lambda: 10_000 * major + 100 * minor
    try:
        yield
    finally:
        attention.check_cudnn_version = asked


def finish(lowered: Any, device: Any) -> Any:
    """Compiles what was lowered for described devices, one of which is named; see `compile`.

    Raises:
        InputError: The compiler refuses, with its reason.
    """
    try:
        try:
            return lowered.compile()
        except jax.errors.JaxRuntimeError as error:
            # Without a GPU to tune them on, XLA's own products have no tiles for some shapes.
            if "tile sizes" not in str(error):
                raise
            return lowered.compile({"xla_gpu_enable_triton_gemm": False})
    except jax.errors.JaxRuntimeError as error:
        raise InputError(
            f"the program must compile for {device.device_kind}, got "
            f"{shortened(str(error).strip(), most=240)}; change what it names, or make the program "
            "smaller"
        ) from error
