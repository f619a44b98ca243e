"""A run planned: its programs compiled for chips that are not here, and what else was tried."""

import dataclasses
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stpatch_jax import chips
from stpatch_jax.data import Data
from stpatch_jax.errors import InputError, require
from stpatch_jax.files import replaced, to_json, usable
from stpatch_jax.nn.blocks import blocks_of
from stpatch_jax.runs.config import InMemory, RunConfig, resolved
from stpatch_jax.runs.pages import write_told
from stpatch_jax.runs.planning.programs import Cost, evaluate_cost, predict_cost, train_cost
from stpatch_jax.runs.planning.telling import told
from stpatch_jax.runs.run import Run
from stpatch_jax.runs.settings import with_settings

AS_ASKED = "as asked"
# A host of TPUs or GPUs has 4 or 8: the weights are shared within it before they are beyond.
_FSDP_STEP = 8


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run will cost on a topology.

    Attributes:
        config: The configuration that is planned: the one asked for, or the best that was found.
        on: The topology.
        train: The training step.
        evaluate: What answers a batch of validation or test; None where the step does not fit.
        predict: What forecasts of the run's own field run for a region, on one device; None where
            the step does not fit, or predictions have no regions.
        tried: The training step with other settings, by these; None where a compiler refused it.
        report: All of it as Markdown.
        values: All of it, JSON-able.
    """

    config: RunConfig
    on: str
    train: Cost
    evaluate: Cost | None
    predict: Cost | None
    tried: Mapping[str, Cost | None]
    report: str
    values: Mapping[str, Any]


@usable()
def plan(
    config: RunConfig,
    *,
    on: str | None,
    fit: bool = False,
    changes: bool = True,
    data: Data | InMemory | None = None,
    workdir: str | Path | None = None,
    progress: bool = True,
) -> Plan:
    """Compiles the programs of a run for a topology, without its chips and without training.

    These are its training step, the evaluation of a batch and, where predictions of its data go by
    regions (`predict_field`), a region of forecasts from each row of its own field on. Of the data
    the shapes alone count. `stpatch_jax.plan` is this, and takes the name of a recipe
    and single settings too.

    Args:
        config: What is to be trained.
        on: The topology, such as "v5e:16x16", see `chips.topology`.
        fit: Whether to search the largest batch that fits, over the fewest devices that need share
            one copy of the weights, and what to recompute for it unless arithmetic binds already;
            batch and mesh of the configuration do not count then.
        changes: Whether to try, one by one, the settings that may help.
        data: A data set or data in memory, as in `train`.
        workdir: Where `plan.json`, `plan.md` and `plan.html` are written; without it nowhere.
        progress: Whether to tell on stderr what is compiled.

    Raises:
        InputError: There is no such topology, its compilers are not installed, mesh or batch do
            not split over it, or the compiler refuses the program.
    """
    require(
        on is not None, "on= must name a topology, got none; give one such as v5e:16x16 or h100:8"
    )
    assert on is not None
    topology = chips.topology(on)
    require(
        not fit or topology.chip.memory is not None,
        f"fit=True must come with a chip whose memory is known, got on={on!r}; name a TPU or GPU",
    )
    trials = _Trials(resolved(config), data, topology, shown=progress)
    best = _fitted(trials) if fit else {}
    label = _label(best)
    cost = trials.cost(best)
    run = trials.run
    if changes:
        for change in _changes(run, cost, topology):
            trials.attempt({**best, **change})
    if not cost.fits and changes:
        savers = _changes(run, cost, topology)
        together = {name: value for change in savers for name, value in change.items()}
        if not any(other and other.fits for other in trials.tried.values()):
            trials.attempt({**best, **together})
    tried = {name: other for name, other in trials.tried.items() if name != label}
    evaluate = evaluate_cost(run, topology) if cost.fits else None
    predict, field = (predict_cost(run, topology) if cost.fits else None) or (None, None)
    values = {
        "recipe": config.recipe,
        "on": on,
        "platform": topology.chip.platform,
        "devices": run.mesh.size,
        "hosts": topology.hosts,
        "mesh": dict(run.mesh.shape),
        "batch_size": run.config.train.examples,
        "settings": best,
        "dtype": vars(run.config.model).get("dtype"),
        "parameters": run.parameters,
        "flops_per_example": run.flops,
        "chosen": run.chosen,
        "train": cost.values(),
        "evaluate": evaluate and evaluate.values(),
        "predict": predict and predict.values(),
        "field": field,
        "tried": {name: other and other.values() for name, other in tried.items()},
    }
    report = told(values)
    if workdir is not None:
        _keep(Path(workdir), report, values)
    return Plan(run.config, on, cost, evaluate, predict, tried, report, values)


def _keep(folder: Path, report: str, values: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_told(folder / "plan.md", report)
    with replaced(folder / "plan.json") as part:
        part.write_text(to_json(values, indent=2), encoding="utf-8")


class _Trials:
    """Training steps of a configuration with other settings, each compiled once."""

    def __init__(self, config: RunConfig, data: Any, on: chips.Topology, *, shown: bool):
        self.config, self.data, self.on, self.shown = config, data, on, shown
        self.tried: dict[str, Cost | None] = {}
        self.runs: dict[str, Run] = {}

    def cost(self, settings: Mapping[str, Any]) -> Cost:
        """What the step costs with these settings; `run` is then its run."""
        label = _label(settings)
        if label not in self.runs:
            config = with_settings(self.config, settings) if settings else self.config
            mesh = chips.mesh(self.on.name, dataclasses.asdict(config.train.mesh))
            self.runs[label] = Run(config, data=self.data, mesh=mesh)
            # What was read is not read again; what it was made of is the configuration's.
            self.data = self.runs[label].data
        self.run = self.runs[label]
        if label not in self.tried:
            if self.shown:
                print(f"compiling for {self.on.name}: {label}", file=sys.stderr)
            self.tried[label] = train_cost(self.run, self.on)
        cost = self.tried[label]
        assert cost is not None
        return cost

    def attempt(self, settings: Mapping[str, Any]) -> None:
        """Tries settings that nobody asked for, which may be refused."""
        try:
            self.cost(settings)
        except InputError:
            self.tried[_label(settings)] = None


def _label(settings: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in settings.items()) or AS_ASKED


def _changes(run: Run, cost: Cost, on: chips.Topology) -> list[dict[str, Any]]:
    """Single settings that may help: to fit what does not, else to be faster."""
    config = run.config
    train, devices = config.train, len(on.devices)
    shares = devices // train.mesh.sharing
    found: list[dict[str, Any]] = []
    # It does not pay on a CPU, which has no arithmetic of its own for it.
    if vars(config.model).get("dtype") == "float32" and on.chip.platform != "cpu":
        found.append({"model.dtype": "bfloat16"})
    rematted = ("none",) if cost.fits else _savers(run)
    found += [{"train.remat": remat} for remat in rematted if remat != train.remat]
    if train.mesh.fsdp == 1 and shares > 1:
        fsdp = math.gcd(shares, _FSDP_STEP)
        found.append({"train.mesh.data": -1, "train.mesh.fsdp": fsdp})
    if cost.fits:
        found.append({"train.batch_size": train.examples * 2})
    elif train.examples % (2 * train.accumulate * shares) == 0:
        found.append({"train.accumulate": 2 * train.accumulate})
    return found


def _savers(run: Run) -> tuple[str, ...]:
    """What `train.remat` can be to save memory."""
    return ("dots", "block") if blocks_of(run.abstract) else ("dots",)


def _fitted(trials: _Trials) -> dict[str, Any]:
    """Batch, mesh and, unless arithmetic binds, `remat` of most examples a second that fit."""
    best = _fitted_with({}, trials)
    cost = trials.cost(best)
    if cost.fits and cost.binds == "arithmetic":
        return best
    savers = [name for name in _savers(trials.run) if name != trials.config.train.remat]
    found = [best, *(_fitted_with({"train.remat": name}, trials) for name in savers)]

    def speed(settings: dict[str, Any]) -> tuple[bool, float]:
        cost = trials.cost(settings)
        return cost.fits, cost.examples_per_second or 0

    return max(found, key=speed)


def _fitted_with(remat: dict[str, Any], trials: _Trials) -> dict[str, Any]:
    """The largest batch that fits, over the fewest devices that share one copy of the weights."""
    shares = len(trials.on.devices) // trials.config.train.mesh.sharing
    mesh: dict[str, Any] = {}
    for size in dict.fromkeys(math.gcd(shares, _FSDP_STEP**power) for power in range(5)):
        mesh = {**remat, "train.mesh.data": -1, "train.mesh.fsdp": size}

        def settings(each: int, mesh: dict[str, Any] = mesh) -> dict[str, Any]:
            return {**mesh, "train.batch_size": each * shares * trials.config.train.accumulate}

        one = trials.cost(settings(1))
        if not one.fits:
            continue
        most = max(len(trials.run.data.source("train")) // trials.run.config.train.examples, 1)
        each = _largest(trials, settings, one, most)
        return settings(each)
    return {**mesh, "train.batch_size": shares}


def _largest(trials: _Trials, settings: Any, one: Cost, most: int) -> int:
    """The largest power of two of examples a device that fits, up to `most`, by few programs."""
    if most < 2 or not (two := trials.cost(settings(2))).fits:
        return 1
    assert one.capacity is not None
    grows = max(two.memory["total"] - one.memory["total"], 1)
    # Memory grows about in proportion; what is told for a larger one is what counts.
    each = 2 ** int(math.log2(min(most, 1 + (one.capacity - one.memory["total"]) // grows)))
    while each > 2 and not trials.cost(settings(each)).fits:
        each //= 2
    return each
