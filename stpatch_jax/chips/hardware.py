"""The chips that can be described: what a data sheet says of each, with its source."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

_GIB = 1024**3


@dataclasses.dataclass(frozen=True)
class Chip:
    """What the data sheet of a chip says; of a CPU, which has none, nothing is known.

    Attributes:
        name: Its name in a topology, such as "v5e".
        platform: What JAX calls its kind of device.
        flops: Peak FLOP/s of matrix products by the dtype of their operands, at JAX's default
            precision: float32 is multiplied as bfloat16 on a TPU and as TF32 on a GPU.
        memory: Bytes of memory.
        bandwidth: Bytes a second between memory and chip.
        links: Bytes a second that a chip sends, in one direction and over all its ports: "ici"
            within a slice of TPUs and "nvlink" within a host of GPUs, "network" beyond.
    """

    name: str
    platform: Literal["tpu", "gpu", "cpu"]
    flops: Mapping[str, float]
    memory: int | None
    bandwidth: float | None
    links: Mapping[str, float]


def _chip(
    name: str,
    platform: Literal["tpu", "gpu"],
    *,
    tera: Mapping[str, float],
    memory: int,
    bandwidth: float,
    **links: float,
) -> Chip:
    flops = {dtype: value * 1e12 for dtype, value in tera.items()}
    giga = {link: value * 1e9 for link, value in links.items()}
    return Chip(name, platform, flops, memory * _GIB, bandwidth * 1e9, giga)


def _mxu(tera: float) -> dict[str, float]:
    return dict.fromkeys(("bfloat16", "float16", "float32"), tera)


_HOPPER = {"bfloat16": 989.4, "float16": 989.4, "float32": 494.7}
# A TPU's "bidirectional ICI bandwidth" counts both directions; half of it is sent. The network of a
# v5e and v6e is that of their pod of 256 chips (6.4 and 25.6 Tbit/s); v5p's is told a chip.
CHIPS: Mapping[str, Chip] = {
    chip.name: chip
    for chip in (
        # https://docs.cloud.google.com/tpu/docs/v5e
        _chip("v5e", "tpu", tera=_mxu(197), memory=16, bandwidth=819, ici=200, network=3.125),
        # https://docs.cloud.google.com/tpu/docs/v5p
        _chip("v5p", "tpu", tera=_mxu(459), memory=95, bandwidth=2765, ici=600, network=6.25),
        # https://docs.cloud.google.com/tpu/docs/v6e
        _chip("v6e", "tpu", tera=_mxu(918), memory=32, bandwidth=1638, ici=400, network=12.5),
        # https://resources.nvidia.com/en-us-hopper-architecture/nvidia-h100-tensor-c (SXM, without
        # sparsity); a DGX H100 has a port of 400 Gbit/s for each GPU:
        # https://docs.nvidia.com/dgx/dgxh100-user-guide/introduction-to-dgxh100.html
        _chip("h100", "gpu", tera=_HOPPER, memory=79, bandwidth=3352, nvlink=450, network=50),
        # https://www.nvidia.com/en-us/data-center/h200/
        _chip("h200", "gpu", tera=_HOPPER, memory=139, bandwidth=4800, nvlink=450, network=50),
        Chip("cpu", "cpu", flops={}, memory=None, bandwidth=None, links={}),
    )
}


CUDNN = 9, 7
"""The version of cuDNN that programs for GPUs are compiled for."""


def gpu_target(chip: Chip) -> str:
    """What XLA's compiler for GPUs must know of a chip, XLA's target configuration as text.

    The values of an H100 SXM are those of
    https://github.com/openxla/xla/blob/main/xla/tools/hlo_opt/gpu_specs/h100_sxm.txtpb, with CUDA
    13 and `CUDNN`; an H200 is the same chip with another memory.
    """
    return f"""
    gpu_device_info {{
      cuda_compute_capability {{ major: 9 }}
      threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
      shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448
      shared_memory_per_core: 233472
      registers_per_core_limit: 65536 registers_per_block_limit: 65536
      core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98 l2_cache_size: 52428800
      block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
      memory_bandwidth: {int(chip.bandwidth or 0)} device_memory_size: {chip.memory}
    }}
    platform_name: "CUDA" device_description_str: "NVIDIA {chip.name.upper()}"
    dnn_version_info {{ major: {CUDNN[0]} minor: {CUDNN[1]} }} runtime_version {{ major: 13 }}
    """
