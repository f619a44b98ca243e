"""What a compiled program moves, keeps and sends, read off its text."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jax.sharding import Mesh

from stpatch_jax.chips.compiled_text import parse
from stpatch_jax.chips.groups import axes_of, groups_of
from stpatch_jax.chips.topologies import link, part
from stpatch_jax.chips.traffic import (
    Kernel,
    Step,
    between_slices,
    collectives,
    kernels,
    operands,
    results,
    steps,
)


@dataclasses.dataclass(frozen=True)
class Collective:
    """What devices tell each other in a program.

    Attributes:
        kind: "all-reduce", "all-gather", "reduce-scatter", "all-to-all" or "collective-permute".
        axes: The axes of the mesh that it runs over; empty where they cannot be told.
        devices: How many talk to each other.
        link: The slowest link between them, a key of `Chip.links`; None on a CPU.
        bytes: What a device sends over that link each time, at best: around a ring, and of several
            hosts or slices each chip its share.
        times: How often it runs.
    """

    kind: str
    axes: tuple[str, ...]
    devices: int
    link: str | None
    bytes: int
    times: int


@dataclasses.dataclass(frozen=True)
class Program:
    """The measure of a compiled program, all of one device.

    Attributes:
        flops: Multiplications and additions of matrix products and convolutions, by `count_flops`
            of the function, recomputation not counted; None where they were not given.
        kernels: What it runs.
        collectives: What the devices tell each other.
        trips_known: Whether every loop tells its turns; one that does not counts once.
        arguments: Bytes of the arguments.
        outputs: Bytes of the results, but for those in the place of donated arguments.
        temporaries: Bytes that it keeps in between.
        peak: Bytes at the worst moment, as the compiler planned them.
    """

    flops: float | None
    kernels: tuple[Kernel, ...]
    collectives: tuple[Collective, ...]
    trips_known: bool
    arguments: int
    outputs: int
    temporaries: int
    peak: int

    @property
    def bytes_moved(self) -> int:
        """Bytes that its kernels read and write of the memory of a device."""
        return sum(kernel.bytes * kernel.times for kernel in self.kernels)

    @property
    def bytes_on_chip(self) -> int:
        """Bytes that they read and write on the chip: a TPU's compiler copies there beforehand."""
        return sum(kernel.on_chip * kernel.times for kernel in self.kernels)

    @property
    def launches(self) -> int:
        """How many kernels run."""
        return sum(kernel.times for kernel in self.kernels)

    @property
    def sent(self) -> Mapping[tuple[str, str], int]:
        """Bytes that a device sends by kind of collective and axes of the mesh, `data+fsdp`."""
        answer: dict[tuple[str, str], int] = {}
        for one in self.collectives:
            key = one.kind, "+".join(one.axes)
            answer[key] = answer.get(key, 0) + one.bytes * one.times
        return answer


def measure(compiled: Any, *, mesh: Mesh | None = None, flops: float | None = None) -> Program:
    """Measures a compiled program.

    Bytes are those of the operands and results of every kernel (a fusion, copy, gather, custom
    call, ...) as they lie in memory, with the padding of their layouts; bodies of loops count once
    a turn, what is begun and waited for once. Of an array of which a kernel only takes
    or replaces a piece the piece counts. A kernel of `pallas_call` moves what its `cost_estimate`
    says, or its operands and results. XLA's own "bytes accessed" of a TPU is the sum of
    `bytes_moved` and `bytes_on_chip`, but that it counts a copy in the background twice, the body
    of a loop once, and gathers not at all.

    Args:
        compiled: What `compile` gives, or `jax.jit(...).lower(...).compile()`.
        mesh: The mesh it was compiled for, by which collectives are told.
        flops: The arithmetic of the whole program, see `stpatch_jax.flops`.

    >>> import jax
    >>> x = jax.ShapeDtypeStruct((256,), "float32")
    >>> measure(jax.jit(lambda x: x + 1).lower(x).compile()).bytes_moved
    2048
    """
    module = parse(compiled.as_text())
    found, known = steps(module)
    plan: Any = compiled.memory_analysis()
    arguments, outputs = plan.argument_size_in_bytes, plan.output_size_in_bytes
    outputs -= plan.alias_size_in_bytes
    temporaries = plan.temp_size_in_bytes
    peak = getattr(plan, "peak_memory_in_bytes", 0) or arguments + outputs + temporaries
    parts = np.array([part(device) for device in mesh.devices.flat] if mesh else [])
    spoken = collectives(module, found) if mesh else ()
    return Program(
        flops=None if flops is None else flops / (mesh.size if mesh else 1),
        kernels=tuple(kernels(module, found)),
        collectives=tuple(_collective(step, kind, mesh, parts) for step, kind in spoken if mesh),
        trips_known=known,
        arguments=arguments,
        outputs=outputs,
        temporaries=temporaries,
        peak=peak,
    )


def _collective(step: Step, kind: str, mesh: Mesh, parts: np.ndarray) -> Collective:
    between = between_slices(step.instruction)
    # Between slices, one device of each; else as the text says, or all of them if it does not.
    first = np.unique(parts, return_index=True)[1][None]
    groups = first if between else groups_of(step.instruction.attributes, mesh.size)
    axes = () if groups is None else axes_of(groups, mesh)
    places = parts[None] if groups is None else parts[groups]
    apart = (places != places[:, :1]).any(axis=1)
    group, devices = places[int(apart.argmax())], places.shape[1]
    count = len(np.unique(group)) if apart.any() else devices
    given = sum(array.logical for array in operands(step))
    made = given * count if between else sum(array.logical for array in results(step))
    sent = given if kind == "collective-permute" else _sent(kind, given, made, count, devices)
    fast = link(mesh.devices.flat[:1])
    slowest = "network" if fast and apart.any() else fast
    return Collective(kind, axes, devices, slowest, round(sent), step.times)


def _sent(kind: str, given: float, made: float, count: int, devices: int) -> float:
    """What a device sends over the slowest link, which joins so many parts of the devices."""
    if kind in ("all-to-all", "ragged-all-to-all"):
        return given * (count - 1) / count
    rounds, size = 2 if kind == "all-reduce" else 1, made if kind == "all-gather" else given
    return rounds * size * (count - 1) / count / (devices // count)
