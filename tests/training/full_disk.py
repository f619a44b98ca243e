"""A run whose disk cannot be written, then fills up: `python full_disk.py DISK OTHER`.

DISK is a small file system that this process may mount anew, OTHER a folder elsewhere. Says what
the run said each time, and whether it ended well once there was room again.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
from small_run import SmallModel, batches, digest, run

from stpatch_jax.errors import InputError
from stpatch_jax.training import Checkpoints

FULL_STEP = 7
"""Once this batch is made, two steps ahead, the disk is full: step 4 is saved, or about to be."""


def fill(path: Path) -> None:
    """Writes until nothing more fits."""
    with path.open("wb", buffering=0) as file:
        for size in (2**16, 2**12, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue


def main() -> None:
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 2)
    disk, other = map(Path, sys.argv[1:])
    model = partial(SmallModel, width=4096)

    def until_full(start: int) -> Iterator[dict[str, Any]]:
        for step, batch in enumerate(batches(start), start + 1):
            if step == FULL_STEP:
                fill(disk / "filler")
            yield batch

    def told() -> str | None:
        """What the run says before it ends."""
        try:
            run(disk / "run", create_model=model, batches=until_full)
        except InputError as error:
            return str(error)
        return None

    mount = ["mount", "-o"]
    subprocess.run([*mount, "remount,ro", str(disk)], check=True)
    read_only = told()
    subprocess.run([*mount, "remount,rw", str(disk)], check=True)
    full = told()
    with Checkpoints(disk / "run" / "checkpoints") as checkpoints:
        latest = checkpoints.latest_step
    (disk / "filler").unlink()
    resumed = run(disk / "run", create_model=model)
    straight = run(other / "run", create_model=model)
    alike = digest(resumed.state) == digest(straight.state)
    logs = [(folder / "run" / "metrics.jsonl").read_bytes() for folder in (disk, other)]
    alike = alike and logs[0] == logs[1]
    answer = {"read_only": read_only, "full": full, "latest": latest, "alike": alike}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
