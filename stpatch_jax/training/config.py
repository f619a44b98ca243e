"""What a training run is told: the optimiser, how long, how often, and with which seed."""

import dataclasses
import math
from typing import Literal

from stpatch_jax.errors import InputError


def _require(holds: bool, flag: str, rule: str, value: object) -> None:
    """Raises an `InputError` that names the flag, the rule and the value where it is broken."""
    if not holds:
        raise InputError(f"train.{flag} must be {rule}, but it is {value!r}; give another value")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """The update rule; every field is a `--train.optimizer.*` flag.

    Attributes:
        name: `adamw` (weight decay decoupled from the rule), `adam` or `sgd` (weight decay is L2:
            added to the gradient before the rule).
        learning_rate: The peak, reached at the end of the warm-up.
        momentum: Of `sgd`; 0 is plain gradient descent. `adam` and `adamw` do not read it.
        weight_decay: Strength; biases and norm scales (fewer than two axes) are never decayed.
        clip_norm: Largest global norm of the gradient, measured before weight decay is added;
            None leaves the gradient as it is.
        warmup_steps: Updates over which the rate rises in a straight line to its peak.
        schedule: After the warm-up, `constant`, or `cosine` down to zero at the last step. A cosine
            depends on `TrainConfig.steps`, so a run that is later made longer follows the longer
            curve from there on.
    """

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 1e-4
    clip_norm: float | None = 1.0
    warmup_steps: int = 0
    schedule: Literal["constant", "cosine"] = "constant"

    def __post_init__(self) -> None:
        rate, decay, clip = self.learning_rate, self.weight_decay, self.clip_norm
        _require(
            self.name in ("adamw", "adam", "sgd"), "optimizer.name", "adamw, adam or sgd", self.name
        )
        _require(0 < rate < math.inf, "optimizer.learning-rate", "positive and finite", rate)
        _require(0 <= self.momentum < 1, "optimizer.momentum", "in [0, 1)", self.momentum)
        _require(0 <= decay < math.inf, "optimizer.weight-decay", "zero or more", decay)
        _require(clip is None or clip > 0, "optimizer.clip-norm", "positive, or None", clip)
        _require(
            self.warmup_steps >= 0, "optimizer.warmup-steps", "zero or more", self.warmup_steps
        )
        _require(
            self.schedule in ("constant", "cosine"),
            "optimizer.schedule",
            "constant or cosine",
            self.schedule,
        )


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How a run is trained; every field is a `--train.*` flag.

    Attributes:
        steps: Optimiser updates in all. The one field that may grow when a run is resumed.
        batch_size: Examples of the global batch, over all devices of all processes.
        seed: Initial weights, dropout and the order of the data all derive from it.
        checkpoint_every: Steps between checkpoints; the last step is always saved.
        evaluate_every: Steps between validations; the last step is always validated.
        fsdp: Number of devices that share one copy of the weights and of the optimiser's moments
            (fully sharded data parallel); must divide the number of devices. 1 keeps a copy on
            every device. Every device works on its own examples in either case.
        keep_checkpoints: How many of the newest checkpoints stay on disk.
        on_nonfinite: When the loss or the gradient is NaN or infinite, `abort` with an error or
            `skip` the update and count it.
        optimizer: The update rule.
    """

    steps: int = 500
    batch_size: int = 32
    seed: int = 0
    checkpoint_every: int = 100
    evaluate_every: int = 100
    keep_checkpoints: int = 2
    fsdp: int = 1
    on_nonfinite: Literal["abort", "skip"] = "abort"
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        for name in (
            "steps",
            "batch_size",
            "checkpoint_every",
            "evaluate_every",
            "keep_checkpoints",
            "fsdp",
        ):
            value = getattr(self, name)
            _require(value >= 1, name.replace("_", "-"), "1 or more", value)
        _require(0 <= self.seed < 2**32, "seed", "in [0, 2**32)", self.seed)
        _require(
            self.on_nonfinite in ("abort", "skip"),
            "on-nonfinite",
            "abort or skip",
            self.on_nonfinite,
        )
