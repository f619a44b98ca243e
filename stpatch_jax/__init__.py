"""Spacetime patches in JAX: exact patch operators, Flax backbones, sharded training.

This module holds floors 0 and 1 flat: window specs, patch extraction, folding, packing, and
the same on fields split over devices. It imports only jax and numpy; networks, data and
training are `stpatch_jax.nn`, `.data`, `.training` and so on.
"""

from stpatch_jax.errors import InputError as InputError
from stpatch_jax.folding import blend_weights as blend_weights
from stpatch_jax.folding import cover_count as cover_count
from stpatch_jax.folding import fold_patches as fold_patches
from stpatch_jax.halo import halo_exchange as halo_exchange
from stpatch_jax.halo import sharded_extract_patches as sharded_extract_patches
from stpatch_jax.halo import sharded_fold_patches as sharded_fold_patches
from stpatch_jax.packing import PackedClips as PackedClips
from stpatch_jax.packing import pack_clips as pack_clips
from stpatch_jax.patches import extract_patches as extract_patches
from stpatch_jax.patches import gather_patches as gather_patches
from stpatch_jax.patches import patchify as patchify
from stpatch_jax.patches import unpatchify as unpatchify
from stpatch_jax.patches import valid_fraction as valid_fraction
from stpatch_jax.windows import WindowSpec as WindowSpec

__version__ = "0.1.0"
