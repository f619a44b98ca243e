"""What every test shares: eight virtual devices, strict ranks, a compilation cache, real data."""

import gc
import os
from pathlib import Path

import hypothesis
import jax
import pytest

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Compilation is what the suite costs; a second run on the same machine finds its programs here, and
# so does a process that a test starts.
CACHE = os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".jax_cache")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
jax.config.update("jax_compilation_cache_dir", CACHE)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
# What is imported stays, and so does what tests are made of: looking for what goes among it takes
# a seventh of the time by the usual threshold.
gc.set_threshold(10_000, 10, 10)
COMPILED: list[str] = []  # an event for each program
jax.monitoring.register_event_duration_secs_listener(
    lambda event, *_, **__: COMPILED.append(event) if "backend_compile" in event else None
)

# Compiling makes examples slow and uneven. The normal run always draws the same few; a `--many`
# run draws new ones and prints how to repeat a failure.
for profile, count in {"normal": 12, "many": 200}.items():
    hypothesis.settings.register_profile(
        profile,
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=profile == "normal",
        print_blob=True,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )


EMITTERS = "--xla_cpu_use_fusion_emitters=false"
OLD_JAX = jax.__version_info__ < (0, 11)
EXPLAINING = ("explain", "runs/explaining")
"""Rooms whose slow tests compile hastily too: many small programs, of which values are asked."""


def pytest_addoption(parser):
    parser.addoption("--many", action="store_true", help="check the laws on many random examples")


def pytest_configure(config):
    many = config.getoption("--many")
    hypothesis.settings.load_profile("many" if many else "normal")
    # The quick tests ask little of the compiler, which is what they cost: they are about values.
    # Slow ones, but for some rooms, and `--many` compile as users do. Processes that tests start
    # do as the suite. With a later JAX, which gives NaN for some gradients so, whole runs and such
    # processes compile as for users.
    config.hasty = config.option.markexpr == "not slow" and not many
    config.hasty_rooms = () if many else EXPLAINING
    flags = os.environ.get("XLA_FLAGS", "")
    if config.hasty and OLD_JAX:
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "true"
        if EMITTERS not in flags:
            os.environ["XLA_FLAGS"] = f"{flags} {EMITTERS}".strip()


def pytest_report_header(config):
    minutes = {"not slow": 6, "slow": 25}.get(config.option.markexpr)
    everything = config.args_source is config.ArgsSource.TESTPATHS
    return f"about {minutes} minutes on two idle cores" if minutes and everything else []


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    path = item.path.relative_to(Path(__file__).parent)
    room = path.parts[0]
    hasty = item.config.hasty or path.as_posix().startswith(item.config.hasty_rooms)
    hasty = hasty and not item.get_closest_marker("optimised")
    hasty = hasty and (OLD_JAX or room not in ("runs", "recipes"))
    jax.config.update("jax_disable_most_optimizations", hasty)


@pytest.fixture(autouse=True)
def _bounded_memory():
    """Drops compiled programs, of which every example of a law may leave some, when many."""
    yield
    if len(COMPILED) > 1_000:
        COMPILED.clear()
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
