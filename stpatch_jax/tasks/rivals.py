"""What is fitted at once and compared with a network, by the layout of the items."""

from typing import Literal

from stpatch_jax.nn.random_kernels import RandomKernelsConfig
from stpatch_jax.nn.random_units import RandomUnitsConfig

Compared = Literal["random_features"] | None
COMPARED = ("random_features", None)
RIVALS = {
    "series": RandomKernelsConfig(),
    "rows": RandomUnitsConfig(),
    "texts": RandomUnitsConfig(),
}
