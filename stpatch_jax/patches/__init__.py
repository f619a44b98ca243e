"""Spacetime patches: windows, extraction, folding, and the same on fields split over devices."""

from typing import TYPE_CHECKING

from stpatch_jax.on_demand import on_demand

if TYPE_CHECKING:
    from stpatch_jax.patches.canonical import PaddingMode, PaddingName
    from stpatch_jax.patches.extraction import (
        extract_patches,
        gather_patches,
        patchify,
        unpatchify,
        valid_share,
    )
    from stpatch_jax.patches.folding import blend_weights, cover_count, fold_patches
    from stpatch_jax.patches.halo import (
        halo_exchange,
        sharded_extract_patches,
        sharded_fold_patches,
    )
    from stpatch_jax.patches.scattering import scatter_patches
    from stpatch_jax.patches.windows import WindowSpec

__all__ = [
    "PaddingMode", "PaddingName", "WindowSpec", "blend_weights", "cover_count",
    "extract_patches", "fold_patches", "gather_patches", "halo_exchange", "patchify",
    "scatter_patches", "sharded_extract_patches", "sharded_fold_patches", "unpatchify",
    "valid_share",
]  # fmt: skip

__getattr__, __dir__ = on_demand(__name__)
