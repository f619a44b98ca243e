"""What each recipe takes to train, in seconds of CPU: the times that `stpatch recipes` prints.

    python -m benchmarks.recipe_times [NAME ...] [--steps 12]

A few steps are trained and reported on; each of the others takes as long as the last of these. What
this writes is `stpatch_jax/recipes/times.json`. Recipes of your own data have no time.
"""

import argparse
import itertools
import json
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import stpatch_jax
from benchmarks.arguments import add_names
from stpatch_jax.recipes import recipe, train
from stpatch_jax.recipes.described import described

FILE = Path(stpatch_jax.__file__).parent / "recipes" / "times.json"
IMPORTS = 3
"""Seconds until JAX and what else computes is loaded."""


def seconds(name: str, *, steps: int) -> int:
    """Seconds of CPU from the command to the report, to two digits."""
    settings = {"steps": steps, "checkpoint_every": steps, "evaluate_every": steps}
    told: dict[str, Any] = {f"train.{key}": value for key, value in settings.items()}
    told["train.optimizer.warmup_steps"] = 0
    done: list[float] = []
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train(
            name,
            workdir=folder,
            progress=False,
            on_step=lambda *_: done.append(time.process_time()),
            **told,
        )
    spent = time.process_time() - start
    # The first step is compiled, and the last one waits for a checkpoint; there is no other where a
    # model is fitted at once.
    later = sorted(after - before for before, after in itertools.pairwise(done[1:-1])) or [0.0]
    others = recipe(name).train.steps - steps
    return int(float(f"{IMPORTS + spent + others * later[len(later) // 2]:.2g}"))


def main() -> None:
    """Measures the recipes that are named, or all, and writes the file anew."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    measured = [name for name, of in described().items() if not of.data.startswith("your own")]
    add_names(parser, measured)
    parser.add_argument("--steps", type=int, default=12)
    asked = parser.parse_args()
    known = json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}
    for name in asked.names or measured:
        known[name] = seconds(name, steps=asked.steps)
        print(f"{name}: {known[name]} s", flush=True)
        FILE.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
