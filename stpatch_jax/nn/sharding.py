"""Sharding by value: which axes of the parameters lie split over which axes of the mesh."""

from __future__ import annotations

import dataclasses
from typing import Any

from jax.sharding import PartitionSpec

from stpatch_jax.errors import require


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardConfig:
    """How the parameters of a backbone are split; the field names spell the axes they speak of.

    A spec becomes the metadata `out_sharding` of the parameter, which the optimiser's moments
    inherit. It is a wish and moves nothing: modules are built with or without a mesh, and whoever
    places the parameters (`stpatch_jax.training`, or your own loop through
    `nnx.get_partition_spec`) reads it. Training keeps an axis whole that its share of the mesh does
    not divide.

    Attributes:
        kernel_io: Of the last two axes, (in, out), of every kernel: of convolutions, dense layers
            and recurrences. The extents of a kernel are never split. None says nothing, and leaves
            the parameter to the rule of whoever places it; `PartitionSpec()` keeps it whole.
        bias_o: Of the only axis, (out), of every bias; None as above.

    Raises:
        InputError: A spec has other axes than its parameters.

    References:
        Rajbhandari et al., "ZeRO: memory optimizations toward training trillion parameter models",
        SC 2020, whose third stage `fsdp` is.
    """

    kernel_io: PartitionSpec | None = None
    bias_o: PartitionSpec | None = None

    def __post_init__(self) -> None:
        for field, axes in (("kernel_io", 2), ("bias_o", 1)):
            spec = getattr(self, field)
            require(
                spec is None or (isinstance(spec, PartitionSpec) and len(spec) <= axes),
                f"ShardConfig.{field} must be None or a PartitionSpec of at most {axes} entries, "
                f"got {spec!r}; use for example ShardConfig.fsdp()",
            )

    @classmethod
    def fsdp(cls) -> ShardConfig:
        """Every kernel split along `out` over the mesh axis `fsdp`, biases whole."""
        return cls(kernel_io=PartitionSpec(None, "fsdp"), bias_o=PartitionSpec())

    @classmethod
    def whole(cls) -> ShardConfig:
        """Every kernel and bias whole on each device, however many share weights elsewhere."""
        return cls(kernel_io=PartitionSpec(), bias_o=PartitionSpec())

    def kernel(self, *, extents: int = 0) -> dict[str, Any]:
        """Returns the metadata of a kernel `(*extents, in, out)`, as keyword arguments of a Param.

        >>> tuple(ShardConfig.fsdp().kernel(extents=2)["out_sharding"])
        (None, None, None, 'fsdp')
        """
        if self.kernel_io is None:
            return {}
        return _metadata(PartitionSpec(*[None] * extents, *self.kernel_io))

    def bias(self) -> dict[str, Any]:
        """Returns the metadata of a bias `(out,)`, as keyword arguments of a Param."""
        return {} if self.bias_o is None else _metadata(self.bias_o)

    def linear(self) -> dict[str, Any]:
        """Returns both, as keyword arguments of an `nnx.Linear`."""
        return {"kernel_metadata": self.kernel(), "bias_metadata": self.bias()}


UNANNOTATED = ShardConfig()


def _metadata(spec: PartitionSpec) -> dict[str, Any]:
    # Eager sharding would ask for a mesh, and for axes that it divides, when the module is built.
    return {"out_sharding": spec, "eager_sharding": False}
