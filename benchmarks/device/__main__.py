"""What does this device do? Exactness, operators, training steps, attention, tiles, memory.

    python -m benchmarks.device [operators vit] [--minutes 8] [--small] [--results FOLDER]

For an accelerator that is at hand for a few minutes. Every part runs in a process of its own, in
its share of the minutes that are left (what one leaves, the next ones have), after which it is
ended. The results file is written after every measurement, so nothing measured is lost; what fails
is told in its place, and the rest goes on. To add a device, run the whole of this on it, commit
`benchmarks/results/device-DEVICE.json` and run `python -m benchmarks.tables`.
"""

import argparse
import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.arguments import arguments
from benchmarks.timing import Answer, write_results

# In order of worth, with the share of the minutes each may take. The lax operator's convolutions
# are last: nobody knows how long a library takes over them.
SHARES = {
    "exactness": 0.08,
    "operators": 0.17,
    "embeddings": 0.03,
    "vit": 0.3,
    "attention": 0.12,
    "tiles": 0.08,
    "backbones": 0.17,
    "raw": 0.05,
}


def run_parts(names: list[str], minutes: float, given: argparse.Namespace, scratch: Path) -> None:
    """Runs parts one after the other, each in a process that is ended when its time is up."""
    end = time.monotonic() + 60 * minutes
    # Parts and PyTorch share the device: nobody may take all of its memory at once.
    environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", **os.environ}
    # A step that is lowered twice is compiled once.
    environment.setdefault("JAX_COMPILATION_CACHE_DIR", str(scratch.parent / "compiled"))
    for at, name in enumerate(names):
        share = SHARES[name] / sum(SHARES[later] for later in names[at:])
        seconds = (end - time.monotonic()) * share
        options = ["--seconds", seconds, "--scratch", scratch, "--note", given.note]
        options += ["--results", given.results] if given.results else []
        options += ["--small"] if given.small else []
        print(f"{name}: at most {seconds:.0f} s", flush=True)
        child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.device", name, *map(str, options)],
            cwd=Path(__file__).parents[2],
            env=environment,
            start_new_session=True,
        )
        start = time.monotonic()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(seconds)
        # Whatever compiles for it ends with it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        code = child.wait()
        told = {0: "done", -signal.SIGKILL: "ended, its time was up"}.get(code, f"failed, {code}")
        print(f"{name}: {told} after {time.monotonic() - start:.0f} s", flush=True)


def run_part(name: str, given: argparse.Namespace) -> None:
    """Measures one part in this process, and writes all that is known after every measurement."""
    start = time.monotonic()
    # The process that starts those of the parts must not hold the device.
    from benchmarks.device import networks, operators

    parts = {**operators.PARTS, **networks.PARTS}

    answer: Answer = {"parts": {}}
    if given.scratch.exists():
        answer = json.loads(given.scratch.read_text(encoding="utf-8"))
    found = answer["parts"][name] = {}

    def save() -> None:
        given.scratch.write_text(json.dumps(answer), encoding="utf-8")
        with contextlib.redirect_stdout(None):
            write_results("device", answer, folder=given.results, note=given.note)

    for title, measure in parts[name](given.small):
        # Should it be the last, the file says where the time went.
        found[title] = {"error": "its time was up"}
        save()
        if time.monotonic() - start > given.seconds:
            continue
        begun = time.monotonic()
        try:
            found[title] = measure()
        except Exception as error:  # whatever fails on a device nobody knows, the rest must not
            found[title] = {"error": told(error)}
        gc.collect()  # the next one needs the memory
        found[title]["seconds"] = round(time.monotonic() - begun, 2)
        print(f"{name}, {title}: {json.dumps(brief(found[title]))}", flush=True)
        save()


def told(error: Exception) -> str:
    """The kind of an error and the beginning of what it says."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {' '.join(lines[:3])[:300]}"


def brief(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is printed of a measurement: times without how often they were taken."""
    times = {name: timing["ms"] for name, timing in answer.get("ms", {}).items()}
    return {**answer, **({"ms": times} if times else {})}


def main() -> None:
    """Runs the parts, or in a process of its own one of them."""
    hidden = {"help": argparse.SUPPRESS}
    given = arguments(
        __doc__ or "",
        SHARES,
        minutes={"type": float, "default": 8.0, "help": "after which it must have ended"},
        seconds={"type": float, **hidden},
        scratch={"type": Path, **hidden},
    )
    if given.scratch:
        (name,) = given.names
        run_part(name, given)
        return
    if not given.minutes > 0:
        sys.exit(f"--minutes must be more than 0, got {given.minutes}; give for example 8")
    with tempfile.TemporaryDirectory() as folder:
        run_parts(list(given.cases), given.minutes, given, Path(folder, "answer.json"))


if __name__ == "__main__":
    main()
