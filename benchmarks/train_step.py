"""What does the training loop cost beside the compiled step, and what does a checkpoint cost?

    python -m benchmarks.train_step [neighborhood] [--small] [--repeats 5]

Four questions. The call: for how long the host is busy with one, by `TrainStep` and by the ways
that Flax documents, for a network of many small arrays. The loop: the same steps by
`train_loop` (batches from the host, metrics of every step to the log, no checkpoint) and by the
compiled step alone on one batch that lies on the device, in blocks of a second in turn. The
checkpoint: for how long a save holds the steps up, which go on while the arrays are written, and
when it is committed. Weak scaling: the step of a
narrow network on 1, 2, 4 and 8 virtual devices of this CPU, each with its own examples; they share
its cores, so this says what the partitioned program costs, not what a cluster does. The collectives
are those of the compiled programs.
"""

import functools
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.arguments import arguments
from benchmarks.networks import NETWORKS, Network
from benchmarks.timing import Answer, in_a_process, print_case, write_results
from benchmarks.weak_scaling import parameters
from stpatch_jax.training import (
    Checkpoints,
    TrainConfig,
    create_state,
    make_mesh,
    make_train_step,
    shard_local_batch,
    train_loop,
)

CASES = {name: NETWORKS[name] for name in ("neighborhood", "conv3d_64", "patch_transformer")}
DEVICES = (1, 2, 4, 8)
GATHERED = "patch_transformer"
SECONDS = 1.0
"""About how long a block of steps takes."""
BLOCKS = 5
"""Blocks a repeat: the machine's speed drifts, so short blocks in turn tell more than long ones."""


class Loop:
    """The steps of one network, by `train_loop` and without it."""

    def __init__(self, network: Network, steps: int | None):
        self.network = network
        self.create = functools.partial(network.create, "float32")
        self.mesh = make_mesh()
        self.config = TrainConfig(steps=1, batch_size=network.shape[0])
        self.step: Any = make_train_step(network.task.loss, self.mesh)
        self.state = create_state(self.create, self.config, self.mesh)
        self.batch = shard_local_batch(network.batch(), self.mesh)
        jax.block_until_ready(self.step(self.state, self.batch))
        one = self.bare(3)
        self.steps = steps or max(5, min(500, round(SECONDS / one)))

    @property
    def state_bytes(self) -> int:
        """Bytes of what a checkpoint holds."""
        return sum(leaf.nbytes for leaf in jax.tree.leaves(nnx.state(self.state)))

    def bare(self, steps: int) -> float:
        """Seconds per step of the compiled step alone; it is waited for once, at the end."""
        metrics, start = None, time.perf_counter()
        for _ in range(steps):
            metrics = self.step(self.state, self.batch)
        jax.block_until_ready(metrics)
        return (time.perf_counter() - start) / steps

    def in_turn(self, blocks: int) -> list[tuple[float, float]]:
        """Seconds per step without and with the loop, in turn, for each of some blocks of steps.

        It is one `train_loop`, which validates after every block; what it validates with are the
        bare steps of the next block. The first one compiles and is left out.
        """
        batch, pairs, begun = self.network.batch(), [], []

        def batches(_: int) -> Iterator[Any]:
            return itertools.repeat(batch)

        def validate(_: Any) -> dict[str, float]:
            looped = [(time.perf_counter() - start) / self.steps for start in begun[-1:]]
            pairs.extend((self.bare(self.steps), seconds) for seconds in looped)
            begun.append(time.perf_counter())
            return {}

        steps = self.steps * (blocks + 1)
        config = TrainConfig(
            steps=steps,
            batch_size=self.network.shape[0],
            checkpoint_every=steps,
            evaluate_every=self.steps,
        )
        with tempfile.TemporaryDirectory() as folder:
            train_loop(
                self.create,
                self.network.task.loss,
                batches,
                config,
                workdir=Path(folder),
                validate=validate,
                progress=False,
            )
        return pairs

    def save(self, saves: int) -> list[tuple[float, float]]:
        """Seconds that each save holds the steps up, and until it is committed beside others."""
        times = []
        with (
            tempfile.TemporaryDirectory() as folder,
            Checkpoints(folder, keep=1) as checkpoints,
        ):
            for number in range(saves):
                jax.block_until_ready(self.step(self.state, self.batch))
                start = time.perf_counter()
                checkpoints.save(number, nnx.state(self.state), {})
                blocked = time.perf_counter() - start
                self.bare(1)
                checkpoints.wait()
                times.append((blocked, time.perf_counter() - start))
        return times[1:]  # The first one compiles.


def measure(network: Network, *, steps: int | None, repeats: int) -> Answer:
    """Times one network: the loop against the bare step in turn, then the saves."""
    loop = Loop(network, steps)
    pairs = loop.in_turn(BLOCKS * repeats)
    bare, looped = medians_in_ms(pairs)
    save, commit = medians_in_ms(loop.save(repeats + 1))
    times = {"bare": bare, "loop": looped, "save": save, "commit": commit}
    return {
        "ms": {name: {"ms": value} for name, value in times.items()},
        "steps": loop.steps,
        "overhead": round(statistics.median(looped / bare for bare, looped in pairs) - 1, 4),
        "save_in_steps": round(save / bare, 2),
        "state_bytes": loop.state_bytes,
        "parameters": parameters(loop.state.model),
    }


def medians_in_ms(seconds: list[tuple[float, float]]) -> list[float]:
    """The median of each column."""
    return [1e3 * statistics.median(column) for column in zip(*seconds, strict=True)]


class ManyArrays(nnx.Module):
    """A chain of layers so narrow that a step is hardly more than the call of it."""

    def __init__(self, rngs: nnx.Rngs, *, depth: int):
        self.layers = nnx.List([nnx.Linear(4, 4, rngs=rngs) for _ in range(depth)])

    def __call__(self, x: jax.Array) -> jax.Array:
        """Of the shape of `x`."""
        for layer in self.layers:
            x = nnx.relu(layer(x))
        return x


def dispatch(calls: int, depth: int) -> Answer:
    """Median milliseconds that a call keeps its thread busy, in turn, each on its own state."""
    create = functools.partial(ManyArrays, depth=depth)
    mesh, config = make_mesh(), TrainConfig(steps=1, batch_size=8)
    batch = shard_local_batch({"x": np.ones((8, 4), np.float32)}, mesh)

    def loss(model: Any, batch: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        return jnp.mean(model(batch["x"]) ** 2), {}

    def carried(state: Any) -> Callable[[], Any]:
        graphdef, carry = nnx.split(state)

        @functools.partial(jax.jit, donate_argnums=0)
        def pure(carry: nnx.State, batch: Any) -> tuple[nnx.State, Any]:
            state = nnx.merge(graphdef, carry)
            metrics = step.update(state, batch)
            return nnx.state(state), metrics

        def call() -> Any:
            nonlocal carry
            carry, metrics = pure(carry, batch)
            return metrics

        return call

    step: Any = make_train_step(loss, mesh)
    jitted = nnx.jit(step.update, donate_argnums=0)
    ways: dict[str, Callable[[Any], Callable[[], Any]]] = {
        "TrainStep": lambda state: functools.partial(step, state, batch),
        "nnx.jit": lambda state: functools.partial(jitted, state, batch),
        "nnx.cached_partial": lambda state: functools.partial(
            nnx.cached_partial(jitted, state), batch
        ),
        "nnx.split and jax.jit": carried,
    }
    with jax.set_mesh(mesh):
        states = {name: create_state(create, config, mesh) for name in ways}
        arrays = len(jax.tree.leaves(nnx.state(states["TrainStep"])))
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        started = {name: way(states[name]) for name, way in ways.items()}
        for name, call in [*started.items()] * (calls + 2):
            start = time.thread_time()
            metrics = call()
            seconds[name].append(time.thread_time() - start)
            jax.block_until_ready(metrics)
    medians = {name: round(1e3 * statistics.median(s[2:]), 3) for name, s in seconds.items()}
    return {"arrays": arrays, "ms": medians}


def scaling(*, small: bool, repeats: int) -> Answer:
    """The narrow network on more and more virtual devices, and the collectives of a step."""
    counts, examples = ((2,), 2) if small else (DEVICES, 8)
    weak = [in_a_process("weak_scaling", n, 1, "narrow", examples, repeats) for n in counts]
    compiled = weak
    if not small:
        compiled = [
            in_a_process("weak_scaling", counts[-1], fsdp, GATHERED, 1, 0)
            for fsdp in (1, counts[-1])
        ]
    return {"weak_scaling": weak, "collectives": compiled}


def main() -> None:
    """Measures, prints and writes."""
    small = {"neighborhood": NETWORKS["neighborhood"].small()}
    given = arguments(__doc__ or "", CASES, small=small, repeats=5)
    answer: Answer = {"networks": {}, "cases": {}}
    for name, network in given.cases.items():
        answer["cases"][name] = {"shape": network.shape}
        measured = measure(network, steps=6 if given.small else None, repeats=given.repeats)
        answer["networks"][name] = measured
        print_case(name, measured["ms"])
        print(f"{name}: the loop costs {100 * measured['overhead']:.1f} % of a step")
    answer["dispatch"] = dispatch(*((10, 3) if given.small else (300, 30)))
    print(f"one call, {answer['dispatch']['arrays']} arrays [ms]: {answer['dispatch']['ms']}")
    answer |= scaling(small=given.small, repeats=given.repeats)
    for step in answer["weak_scaling"]:
        print(f"{step['devices']} devices, batch {step['batch']}: {step['ms']:.3g} ms")
    for program in answer["collectives"]:
        print(f"fsdp {program['fsdp']} of {program['devices']}: {program['collectives']}")
    write_results("train_step", answer, folder=given.results, note=given.note)


if __name__ == "__main__":
    main()
