"""How layers compute, store and split their parameters, as every backbone's settings say it."""

import dataclasses
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx

from stpatch_jax.errors import check_choice
from stpatch_jax.nn.mesh_axes import OVER_MODEL
from stpatch_jax.nn.sharding import UNANNOTATED, ShardConfig

DTypeName = Literal["float32", "bfloat16", "float16"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerOptions:
    """How layers compute, store and split their parameters; each backbone's config is one.

    Attributes:
        dtype: Name of the dtype that computes, and of the output.
        param_dtype: Name of the dtype that stores the parameters.
        shard: How the parameters lie on a mesh; by default nothing is said of it.

    Raises:
        InputError: A setting of this or of a backbone is out of range.
    """

    dtype: DTypeName = "float32"
    param_dtype: DTypeName = "float32"
    shard: ShardConfig = UNANNOTATED

    def __post_init__(self) -> None:
        for field in ("dtype", "param_dtype"):
            check_choice(self.name_of(field), getattr(self, field), get_args(DTypeName))

    def name_of(self, field: str) -> str:
        """What errors call a field."""
        return f"{type(self).__name__}.{field}"

    @property
    def dtypes(self) -> dict[str, Any]:
        """The two dtypes, as keyword arguments of a layer of Flax."""
        return {"dtype": self.dtype, "param_dtype": self.param_dtype}

    @property
    def for_head(self) -> "LayerOptions":
        """The same dtypes for the head behind a backbone."""
        # How wide a head is depends on the data: how it is split is left to whoever places it.
        return LayerOptions(**self.dtypes)

    def linear(
        self,
        in_features: int,
        out_features: int,
        *,
        over_model: int | None = None,
        rngs: nnx.Rngs,
        **more: Any,
    ) -> nnx.Linear:
        """A dense layer; `more` are further options of `nnx.Linear`.

        Of its kernel the axis `over_model`, -2 (in) or -1 (out), may lie split over the mesh axis
        `model`.
        """
        options = {**self.dtypes, **self.shard.linear(), **more}
        layer = nnx.Linear(in_features, out_features, rngs=rngs, **options)
        if over_model is not None:
            layer.kernel.set_metadata(OVER_MODEL, over_model)
        return layer

    def kernel(self, values: jax.Array) -> nnx.Param[jax.Array]:
        """The parameter of a kernel [*extents, in, out]."""
        return nnx.Param(values, **self.shard.kernel(extents=values.ndim - 2))

    def bias(self, features: int) -> nnx.Param[jax.Array]:
        """The parameter of a bias [features], zero."""
        return nnx.Param(jnp.zeros(features, self.param_dtype), **self.shard.bias())


FLOAT32 = LayerOptions()
