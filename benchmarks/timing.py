"""Timing of several functions side by side, and the results files it goes to."""

import contextlib
import importlib.metadata
import json
import math
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from stpatch_jax.files import replaced

RESULTS = Path(__file__).parent / "results"
PEERS = ("dm_pix", "keras", "kornia", "torch")
Call = Callable[[], Any]
Answer = dict[str, Any]

# A first run longer than this is not repeated: it is far from every other time anyway.
SLOW_S = 1.0
# Short calls are timed in groups of about this length, long against the clock and the scheduler.
GROUP_S = 0.002


def compiled(function: Callable[..., Any], *arrays: Any) -> tuple[Call, float]:
    """Compiles a JAX function for its arrays: a call without arguments, and the seconds it took."""
    start = time.perf_counter()
    program = jax.jit(function).lower(*arrays).compile()
    return lambda: program(*arrays), time.perf_counter() - start


def interleaved(
    calls: Mapping[str, Call],
    *,
    repeats: int,
    check: Callable[[str, Any], None] | None = None,
    slow_s: float = SLOW_S,
) -> dict[str, dict[str, float]]:
    """Times functions in turn, round by round, so that what else the machine does hits all alike.

    `check` sees the name and the result of every first run. Returns per name `ms` (median over the
    rounds), `ms_fastest` and `repeats`; a function whose first run takes longer than `slow_s` has
    that one run.
    """
    samples: dict[str, list[float]] = {name: [] for name in calls}
    sizes: dict[str, int] = {}
    for name, call in calls.items():
        start = time.perf_counter()
        result = jax.block_until_ready(call())
        first = time.perf_counter() - start
        if check:
            check(name, result)
        if first > slow_s:
            samples[name] = [first]
        else:
            sizes[name] = max(1, min(50, round(GROUP_S / _seconds(call, 1))))
    order = list(sizes)
    shuffle = random.Random(0).shuffle
    for _ in range(repeats):
        # Always in another order: a function may leave caches and memory to the next one's cost.
        shuffle(order)
        for name in order:
            jax.block_until_ready(calls[name]())
            samples[name].append(_seconds(calls[name], sizes[name]) / sizes[name])
    return {
        name: {
            "ms": round(1e3 * statistics.median(times), 4),
            "ms_fastest": round(1e3 * min(times), 4),
            "repeats": len(times),
        }
        for name, times in samples.items()
    }


def _seconds(call: Call, count: int) -> float:
    """Time of `count` calls; an accelerator's queue is waited for once, at the end.

    On the CPU every call is waited for: two in flight would share the cores that one can use.
    """
    wait_each = jax.default_backend() == "cpu"
    start = time.perf_counter()
    result = None
    for _ in range(count):
        result = call()
        if wait_each:
            jax.block_until_ready(result)
    jax.block_until_ready(result)
    return time.perf_counter() - start


def ratios(cases: Mapping[str, Mapping[str, Any]], ours: str) -> dict[str, dict[str, Any]]:
    """How many times slower every other function is than ours: mean over the cases, and worst.

    `cases` is `{case: {"ms": {function: timing}}}`; a function counts where it was measured.
    """
    by_name: dict[str, dict[str, float]] = {}
    for case, answer in cases.items():
        base = answer["ms"][ours]["ms"]
        for name, timing in answer["ms"].items():
            if name != ours:
                by_name.setdefault(name, {})[case] = timing["ms"] / base
    return {name: _summary(by_case) for name, by_case in by_name.items()}


def _summary(by_case: Mapping[str, float]) -> dict[str, Any]:
    worst = min(by_case, key=lambda case: by_case[case])
    mean = math.exp(statistics.fmean(math.log(ratio) for ratio in by_case.values()))
    return {
        "geometric_mean": round(mean, 3),
        "worst": round(by_case[worst], 3),
        "worst_case": worst,
        "cases": len(by_case),
    }


def print_summary(summary: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """The ratios, one line per function."""
    for what, peers in summary.items():
        for name, ratio in peers.items():
            print(
                f"{what}: {name} / ours = {ratio['geometric_mean']:.3g} in the geometric mean of "
                f"{ratio['cases']} cases, at worst {ratio['worst']:.3g} ({ratio['worst_case']})"
            )


def print_case(title: str, timings: Mapping[str, Mapping[str, float]]) -> None:
    """One line per timed case, as it comes in."""
    times = "  ".join(f"{name} {timing['ms']:.3g}" for name, timing in timings.items())
    print(f"{title} [ms]: {times}", flush=True)


def device() -> dict[str, Any]:
    """What the numbers were measured on."""
    first = jax.devices()[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"platform": first.platform, "kind": _kind(first), "cores": cores}


def _kind(first: Any) -> str:
    if first.platform != "cpu":
        return first.device_kind
    with contextlib.suppress(OSError):
        match = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
        if match:
            return match[1].strip()
    return platform.processor() or platform.machine()


def device_slug(described: Mapping[str, Any]) -> str:
    """The part of a results file's name that says the device: `cpu-2-cores`, `nvidia-h100`."""
    if described["platform"] == "cpu":
        return f"cpu-{described['cores']}-cores"
    return re.sub(r"[^a-z0-9]+", "-", str(described["kind"]).lower()).strip("-")


def versions() -> dict[str, str]:
    """Versions of Python, of JAX, its compilers and NumPy, and of the peers that are installed."""
    installed = {"python": platform.python_version()}
    for name in ("jax", "jaxlib", "libtpu", "jax-cuda13-pjrt", "numpy", *PEERS):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed[name] = importlib.metadata.version(name)
    return installed


def in_a_process(module: str, *options: object) -> Answer:
    """What a script prints last, as JSON, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *map(str, options)],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def write_results(
    question: str, answer: Mapping[str, Any], *, folder: Path | None, note: str
) -> None:
    """Writes `{question}-{device}.json` with device and versions, and prints its name."""
    if folder is None:
        return
    described = device()
    content = {"device": described, "versions": versions(), "note": note, **answer}
    path = folder / f"{question}-{device_slug(described)}.json"
    folder.mkdir(parents=True, exist_ok=True)
    with replaced(path) as part:
        part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(path)
