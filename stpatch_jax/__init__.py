"""Spacetime patches in JAX: exact patch operators, Flax backbones, sharded training.

The operators of `stpatch_jax.patches` stand here flat. They load jax and numpy only, and like the
other rooms (`nn`, `data`, `training`, ...) and eight of their functions (`train`, `plan`,
`backtest`, `forecast`, `classify` and `regress` of `recipes`, `load_run` of `runs`, `windows` of
`data`) are loaded when they are first asked for by name.
"""

import importlib
from typing import TYPE_CHECKING, Any

from stpatch_jax.errors import InputError as InputError

if TYPE_CHECKING:
    from stpatch_jax.patches import WindowSpec as WindowSpec
    from stpatch_jax.patches import blend_weights as blend_weights
    from stpatch_jax.patches import cover_count as cover_count
    from stpatch_jax.patches import extract_patches as extract_patches
    from stpatch_jax.patches import fold_patches as fold_patches
    from stpatch_jax.patches import gather_patches as gather_patches
    from stpatch_jax.patches import halo_exchange as halo_exchange
    from stpatch_jax.patches import patchify as patchify
    from stpatch_jax.patches import scatter_patches as scatter_patches
    from stpatch_jax.patches import sharded_extract_patches as sharded_extract_patches
    from stpatch_jax.patches import sharded_fold_patches as sharded_fold_patches
    from stpatch_jax.patches import unpatchify as unpatchify
    from stpatch_jax.patches import valid_share as valid_share

__version__ = "0.2.0"

__all__ = [
    "InputError", "WindowSpec", "__version__", "blend_weights", "cover_count", "extract_patches",
    "fold_patches", "gather_patches", "halo_exchange", "patchify", "scatter_patches",
    "sharded_extract_patches", "sharded_fold_patches", "unpatchify", "valid_share",
]  # fmt: skip
_ROOMS = (
    "chips",
    "data",
    "explain",
    "inference",
    "losses",
    "metrics",
    "nn",
    "patches",
    "plotting",
    "recipes",
    "runs",
    "tasks",
    "testing",
    "training",
)
_FUNCTIONS = {
    "backtest": "recipes.calls",
    "classify": "recipes.calls",
    "forecast": "recipes.calls",
    "load_run": "runs",
    "plan": "recipes.calls",
    "regress": "recipes.calls",
    "train": "recipes.calls",
    "windows": "data",
}


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"stpatch_jax.{name}")
    if name in __all__ or name in _FUNCTIONS:
        room = importlib.import_module(f"stpatch_jax.{_FUNCTIONS.get(name, 'patches')}")
        return globals().setdefault(name, getattr(room, name))
    raise AttributeError(f"module 'stpatch_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS, *_FUNCTIONS})
