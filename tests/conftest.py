"""What every test shares: eight virtual devices, strict ranks, a compilation cache, real data."""

import os
from pathlib import Path

import hypothesis
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

# Compiling makes examples slow and uneven. The normal run always draws the same ones; a `--many`
# run draws new ones and prints how to repeat a failure.
for profile, fixed in {"normal": True, "many": False}.items():
    hypothesis.settings.register_profile(
        profile,
        deadline=None,
        database=None,
        derandomize=fixed,
        print_blob=True,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )


def pytest_addoption(parser):
    parser.addoption("--many", action="store_true", help="check the laws on many random examples")


def pytest_configure(config):
    hypothesis.settings.load_profile("many" if config.getoption("--many") else "normal")


@pytest.fixture(autouse=True)
def _bounded_memory(request):
    """Drops compiled programs after a law: every example of one may compile its own."""
    yield
    if getattr(request.function, "is_hypothesis_test", False):
        jax.clear_caches()


@pytest.fixture(scope="module")
def strict_dtypes():
    """Refuses implicit dtype promotion, for the operators that must never promote."""
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data files, or a skip that says why."""
    folder = os.environ.get("STPATCH_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("STPATCH_DATA names no folder of real data files")
    return Path(folder)
