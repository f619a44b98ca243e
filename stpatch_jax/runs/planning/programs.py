"""The programs of a run, compiled for a described topology, and what each asks of a device."""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, SingleDeviceSharding

from stpatch_jax import chips
from stpatch_jax.errors import InputError
from stpatch_jax.flops import count_flops
from stpatch_jax.inference.memory import share_of
from stpatch_jax.inference.program import run as run_program
from stpatch_jax.runs.directory import RunDirectory
from stpatch_jax.runs.predicting import Request, predictors
from stpatch_jax.runs.predicting.fields import FieldPredictor
from stpatch_jax.runs.run import Run
from stpatch_jax.runs.trained import TrainedRun
from stpatch_jax.training import batch_sharding, make_train_step
from stpatch_jax.training.mesh import check_batch_size, state_sharding
from stpatch_jax.training.step import abstract_state

# What the compilers of TPUs say of a program too large for the chip.
_TOO_LARGE = re.compile(
    r"([\d.]+)([KMGT]?)\)? (?:of|exceeds available HBM) \(?([\d.]+)([KMGT]?)(?:\)| hbm)"
)
_UNIT = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a program asks of each device, and how long it takes there at least.

    Attributes:
        memory: Bytes by what they hold: "weights", "optimizer", "inputs" and "temporaries", which
            are activations too; "total", by the compiler. Of a program that its compiler refused
            for its size, "total" alone.
        capacity: Bytes of memory of the chip; None where it is not known.
        flops: Of matrix products and convolutions, by formula, each counted once. See
            `stpatch_jax.flops`.
        computed: The same with what is computed again for want of memory.
        moved: Bytes between memory and chip, see `chips.measure`.
        sent: Bytes of each kind of collective and the axes of the mesh that it is over.
        seconds: By "arithmetic", "memory" and "network", each alone at its peak: a bound, as all
            may overlap. Empty on a CPU, and of what does not fit.
        examples: Of a global batch, or forecasts of a region.
    """

    memory: Mapping[str, int]
    capacity: int | None
    flops: float
    computed: float
    moved: int | None
    sent: Mapping[str, int]
    seconds: Mapping[str, float]
    examples: int

    @property
    def fits(self) -> bool:
        """Whether the program fits into the memory of the chip."""
        return self.capacity is None or self.memory["total"] <= self.capacity

    @property
    def binds(self) -> str | None:
        """What takes longest."""
        return max(self.seconds, key=lambda name: self.seconds[name], default=None)

    @property
    def step(self) -> float | None:
        """Seconds that the program takes at least."""
        return max(self.seconds.values(), default=None)

    @property
    def utilization(self) -> float | None:
        """The share of the peak of arithmetic that it reaches at most (MFU).

        What is computed again does not count.
        """
        if not self.step:
            return None
        return self.seconds["arithmetic"] * self.flops / max(self.computed, 1) / self.step

    @property
    def examples_per_second(self) -> float | None:
        """Examples a second of all devices together, at most."""
        return self.examples / self.step if self.step else None

    def values(self) -> dict[str, Any]:
        """All of it, JSON-able."""
        told = ("fits", "binds", "step", "utilization", "examples_per_second")
        return {**dataclasses.asdict(self), **{name: getattr(self, name) for name in told}}


def train_cost(run: Run, on: chips.Topology) -> Cost:
    """Compiles the training step of a run for the devices of its mesh.

    Raises:
        InputError: The batch does not split over them, or the compiler refuses the program.
    """
    train, mesh = run.config.train, run.mesh
    check_batch_size(train.examples, mesh, accumulate=train.accumulate)
    graphdef, values = abstract_state(run.create_model, train, mesh)
    state, batch = nnx.merge(graphdef, values), _batch(run)
    step = make_train_step(
        run.task.loss, mesh, accumulate=train.accumulate, remat=train.remat, ema=train.ema
    )
    with jax.set_mesh(mesh), chips.libraries_of(on.devices[0]):
        lowered = step.lower(state, batch)
        computed = step.flops(state, batch)
    model = _bytes(nnx.state(state.model))
    held = {"weights": model, "optimizer": _bytes(values) - model, "inputs": _bytes(batch)}
    flops = run.flops * train.examples
    spread = {"mesh": mesh, "examples": train.examples}
    return _cost(run, on, lowered, held, flops=flops, computed=computed, **spread)


def evaluate_cost(run: Run, on: chips.Topology) -> Cost:
    """Compiles what answers a batch in validation, test and prediction of a whole split."""
    judge = run.judge
    batch = _batch(run)
    rows = batch_sharding(run.mesh)
    mask = jax.ShapeDtypeStruct((run.config.train.examples,), bool, sharding=rows)
    known = {**batch, "example_mask": mask}
    batch = known if judge.inputs is None else {name: batch[name] for name in judge.inputs}
    graphdef, values = nnx.split(_answering(run))
    values = _placed(values, state_sharding(values, run.mesh))

    def outputs(values: Any, batch: Any) -> Any:
        return judge.placed_outputs(nnx.merge(graphdef, values), batch)

    with jax.set_mesh(run.mesh), chips.libraries_of(on.devices[0]):
        flops = count_flops(outputs, values, batch)
        lowered = jax.jit(outputs).lower(values, batch)
    held = {"weights": _bytes(values), "optimizer": 0, "inputs": _bytes(batch)}
    spread = {"mesh": run.mesh, "examples": run.config.train.examples}
    return _cost(run, on, lowered, held, flops=flops, computed=flops, **spread)


def predict_cost(run: Run, on: chips.Topology) -> tuple[Cost, dict[str, Any]] | None:
    """Compiles what forecasts of the run's own field, from each of its rows on, run for a region.

    As in a prediction, each region is one device's, and a call of the network has as many windows
    as fit the memory. What does not fit with a single one is told with that.

    Returns:
        The cost of a region; how many there are, with how many forecasts each, the windows of a
        call and the shape of what is given for a region. None where predictions have no regions.
    """
    kind = predictors.of(run.task, run.data)
    if not issubclass(kind, FieldPredictor):
        return None
    data: Any = run.data
    state, config = data.state(), data.config.for_inputs(run.task.inputs)
    # Its network is given apart; no checkpoint is there.
    own = RunDirectory("."), run.config, 0, run.task, state, run.shapes, {}, ""
    opened: Any = config.restore_values(data.opened, state)
    device, chip = on.devices[0], on.chip
    graphdef, values = nnx.split(_answering(run))
    values = _placed(values, jax.tree.map(lambda _: SingleDeviceSharding(device), values))
    predictor = kind(TrainedRun(*own), opened, Request("the field of the run", every=1))
    mesh = Mesh(np.array([device]), ("data",))
    finish = functools.partial(chips.finish, device=device)
    with chips.libraries_of(device):
        job, slab, regions = predictor.program(nnx.merge(graphdef, values), device)
        weights = _bytes(job.arrays)
        budget = chip.memory and share_of(chip.memory - weights)
        try:
            job = job.sized(slab, "auto", budget, finish=finish)
        except InputError:
            job = job.batched(1)
        lowered = job.lowered(slab)
        flops = count_flops(functools.partial(run_program, job.program), *job.arguments(slab))
    forecasts = slab.shape[0]
    held = {"weights": weights, "optimizer": 0, "inputs": _bytes(slab)}
    spread = {"mesh": mesh, "examples": forecasts}
    told = {"regions": regions, "forecasts": forecasts, "windows": job.program.batch_size}
    told["slab"] = list(slab.shape)
    return _cost(run, on, lowered, held, flops=flops, computed=flops, **spread), told


def _answering(run: Run) -> Any:
    """The network without dropout, of shapes and dtypes."""
    return nnx.view(run.abstract, deterministic=True, raise_if_not_found=False)


def _placed(values: Any, shardings: Any) -> Any:
    def placed(x: Any, lies: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=lies)

    return jax.tree.map(placed, values, shardings)


def _batch(run: Run) -> dict[str, jax.ShapeDtypeStruct]:
    def of(example: np.ndarray) -> jax.ShapeDtypeStruct:
        shape = (run.config.train.examples, *example.shape[1:])
        dtype = jax.dtypes.canonicalize_dtype(example.dtype)
        return jax.ShapeDtypeStruct(shape, dtype, sharding=batch_sharding(run.mesh, shape=shape))

    return {name: of(values) for name, values in run.example.items()}


def _bytes(tree: Any) -> int:
    """Bytes on one device of arrays that lie as their shardings say."""
    leaves = jax.tree.leaves(tree)
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in leaves)


def _cost(
    run: Run,
    on: chips.Topology,
    lowered: jax.stages.Lowered,
    held: dict[str, int],
    *,
    flops: int,
    computed: int,
    mesh: Mesh,
    examples: int,
) -> Cost:
    chip = on.chip
    each = flops / mesh.size, computed / mesh.size
    try:
        compiled = chips.finish(lowered, mesh.devices.flat[0])
    except InputError as error:
        match = _TOO_LARGE.search(f"{error.__cause__}")
        if match is None:
            raise
        used, unit, most, of = match.groups()
        total, capacity = float(used) * _UNIT[unit], float(most) * _UNIT[of]
        return Cost({"total": int(total)}, int(capacity), *each, None, {}, {}, examples)
    program = chips.measure(compiled, mesh=mesh, flops=flops)
    # What a CPU's compiler calls its peak leaves temporaries out; a TPU's holds the program too.
    total = max(program.peak, program.arguments + program.outputs + program.temporaries)
    memory = {**held, "temporaries": total - sum(held.values()), "total": total}
    sent = {f"{kind} over {axes or '?'}": size for (kind, axes), size in program.sent.items()}
    seconds = {}
    if chip.bandwidth:
        # A backbone of one's own may have no dtype.
        dtype = vars(run.config.model).get("dtype", "float32")
        network = (
            one.bytes * one.times / chip.links[one.link or ""] for one in program.collectives
        )
        seconds = {
            "arithmetic": each[1] / chip.flops[dtype],
            "memory": program.bytes_moved / chip.bandwidth,
            "network": sum(network),
        }
    return Cost(memory, chip.memory, *each, program.bytes_moved, sent, seconds, examples)
