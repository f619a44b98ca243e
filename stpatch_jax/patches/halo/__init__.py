"""Patches of fields split over devices: each device fetches the cells it lacks, none gathers all.

Left to the compiler, extraction with overlap from a field that is split along a window axis gathers
the whole field on every device. Here every shard receives a *halo* of its neighbours' cells by
`lax.ppermute` and cuts its own share of the windows.
"""

from stpatch_jax.patches.halo.exchange import halo_exchange
from stpatch_jax.patches.halo.operators import sharded_extract_patches, sharded_fold_patches

__all__ = ["halo_exchange", "sharded_extract_patches", "sharded_fold_patches"]
