"""What every test shares: eight virtual devices, strict ranks, a compilation cache, real data."""

import os
from pathlib import Path

import jax
import pytest

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Compilation is what the suite costs; a second run on the same machine finds its programs here.
jax.config.update(
    "jax_compilation_cache_dir",
    os.environ.get("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".jax_cache")),
)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data files, or a skip that says why."""
    folder = os.environ.get("STPATCH_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("STPATCH_DATA names no folder of real data files")
    return Path(folder)
