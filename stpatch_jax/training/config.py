"""The settings of a training run: the optimiser, how long, how often, and with which seed."""

import dataclasses
import math
from typing import Literal, Self, get_args

from stpatch_jax.errors import (
    InputError,
    check_choice,
    check_range,
    check_seed,
    check_size,
    require,
)
from stpatch_jax.nn.blocks import Remat

BATCH_BYTES = 2**28
"""What the arrays of a batch may hold whose size is left to the data, in bytes."""


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
        moment_dtype: `bfloat16` halves the mean of past gradients, None keeps it as the weights
            are. So stays the mean of their squares: a thousandth of it is less than bfloat16 adds.

    Raises:
        InputError: A setting is out of range.
    """

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 1e-4
    clip_norm: float | None = 1.0
    warmup_steps: int = 0
    schedule: Literal["constant", "cosine"] = "constant"
    moment_dtype: Literal["bfloat16"] | None = dataclasses.field(
        default=None, metadata={"added": True}
    )

    def __post_init__(self) -> None:
        flag = "train.optimizer."
        check_choice(flag + "name", self.name, ("adamw", "adam", "sgd"))
        check_range(flag + "learning_rate", self.learning_rate, 0, math.inf, bounds="()")
        check_range(flag + "momentum", self.momentum, 0, 1, bounds="[)")
        check_range(flag + "weight_decay", self.weight_decay, 0, math.inf, bounds="[)")
        if self.clip_norm is not None:
            check_range(flag + "clip_norm", self.clip_norm, 0, math.inf, bounds="(]")
        check_size(flag + "warmup_steps", self.warmup_steps, least=0)
        check_choice(flag + "schedule", self.schedule, ("constant", "cosine"))
        check_choice(flag + "moment_dtype", self.moment_dtype, ("bfloat16", None))


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """How the devices are laid out; every field is a `--train.mesh.*` flag.

    Exactly one axis may be -1: it takes the devices that the others leave. It says where arrays
    lie, not what they hold, so a run may go on with another.

    Attributes:
        data: Copies of the weights; each works on its own examples.
        fsdp: Devices that share one copy of the weights and of the optimiser's moments (fully
            sharded data parallel); each works on its own examples all the same.
        space: Devices that share one example: its first space axis is split over them.
        sequence: Devices that share the tokens of a transformer, the first axis of which is split
            over them; each attends for some of the heads.
        model: Devices that share the heads and hidden layers of a transformer, weights included.

    Raises:
        InputError: A setting is out of range.
    """

    data: int = -1
    fsdp: int = 1
    space: int = 1
    sequence: int = dataclasses.field(default=1, metadata={"added": True})
    model: int = dataclasses.field(default=1, metadata={"added": True})

    def __post_init__(self) -> None:
        sizes = dataclasses.asdict(self)
        for name, size in sizes.items():
            if size != -1:
                check_size(f"train.mesh.{name}", size)
        require(
            list(sizes.values()).count(-1) <= 1,
            f"train.mesh must have one axis of -1 at most, got {sizes}; give the others a size",
        )

    @property
    def sharing(self) -> int:
        """How many devices share each example."""
        return self.space * self.sequence * self.model

    def fitted(self, devices: int) -> "MeshConfig":
        """Returns the nearest mesh that so many devices can form, by shrinking the axes.

        >>> MeshConfig(fsdp=4, space=2).fitted(6)
        MeshConfig(data=-1, fsdp=2, space=1, sequence=1, model=1)
        """
        sizes = dataclasses.asdict(self)
        for name in ("fsdp", "space", "sequence", "model", "data"):
            if sizes[name] != -1:
                sizes[name] = math.gcd(sizes[name], devices)
                devices //= sizes[name]
        if -1 not in sizes.values():
            sizes["data"] = -1
        return MeshConfig(**sizes)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How a run is trained; every field is a `--train.*` flag.

    Mixed precision is the model's: its `dtype` computes, its `param_dtype` (float32) stores, and
    gradients, moments and averages have the dtype of the weights or float32.

    Attributes:
        steps: Optimiser updates in all. The one field that may grow when a run is resumed.
        batch_size: Examples of the global batch, over all devices of all processes; "auto" leaves
            it to the data, see `settled`.
        accumulate: Parts of the batch that a step takes one after another, for less memory; their
            gradients are summed in float32. Batch statistics are those of a part.
        remat: What the backward pass recomputes instead of keeping it, for less memory and more
            time: `none`, `dots` what lies between matrix products and convolutions, `block` all but
            the inputs of the blocks of a stack, such as those of a transformer; with `offload`
            these wait in the memory of the host.
        seed: Initial weights, dropout and the order of the data all derive from it.
        checkpoint_every: Steps between checkpoints; the last step is always saved. A kill costs at
            most so many steps and a quarter more, within which a save must be committed.
        evaluate_every: Steps between validations; the last step is always validated.
        mesh: How the devices are laid out.
        keep_checkpoints: How many of the newest checkpoints stay on disk.
        keep_best: `min:NAME` or `max:NAME`: the checkpoint with the smallest or largest validation
            metric NAME stays on disk too, e.g. `min:mae`.
        patience: Training ends after so many validations in a row that are no better by `keep_best`
            than the best before; each is then saved. The weights are then those of the best, which
            the last checkpoint holds as well. None trains to `steps`.
        ema: Decay in (0, 1) of an exponential moving average of the weights, which validation and
            the finished model then use: `average += (1 - d) * (weights - average)` after each
            update, where `d = min(ema, (1 + n) / (10 + n))` at update n. None keeps none.
        on_nonfinite: When the loss or the gradient is NaN or infinite, `abort` with an error,
            `skip` the update and count it, or `rollback`: go back to the state of the last due
            checkpoint, skip all batches since, and abort at the fourth time.
        step_timeout: Seconds after which a step counts as hung: the process dumps all stacks and
            ends with code 70. The first step, a validation or a save may take ten times as long.
            None waits for ever.
        profile: Whether to write a profile of steps 3 to 5 of the process to `WORKDIR/profile`.
        optimizer: The update rule.

    Raises:
        InputError: A setting is out of range, or needs another one.
    """

    steps: int = 500
    batch_size: int | Literal["auto"] = 32
    accumulate: int = 1
    remat: Remat = "none"
    seed: int = 0
    checkpoint_every: int = 100
    evaluate_every: int = 100
    mesh: MeshConfig = MeshConfig()
    keep_checkpoints: int = 2
    keep_best: str | None = None
    patience: int | None = dataclasses.field(default=None, metadata={"added": True})
    ema: float | None = None
    on_nonfinite: Literal["abort", "skip", "rollback"] = "abort"
    step_timeout: float | None = None
    profile: bool = False
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        counts = "steps accumulate checkpoint_every evaluate_every keep_checkpoints"
        for name in counts.split():
            check_size(f"train.{name}", getattr(self, name))
        if self.batch_size != "auto":
            check_size("train.batch_size", self.batch_size)
        require(
            self.batch_size == "auto" or self.batch_size % self.accumulate == 0,
            f"train.accumulate must be a divisor of the batch size {self.batch_size}, got "
            f"{self.accumulate!r}; use such a number",
        )
        check_seed("train.seed", self.seed)
        if self.ema is not None:
            check_range("train.ema", self.ema, 0, 1, bounds="()")
        if self.step_timeout is not None:
            check_range("train.step_timeout", self.step_timeout, 0, 1e8, bounds="(]")
        check_choice("train.remat", self.remat, get_args(Remat))
        check_choice("train.on_nonfinite", self.on_nonfinite, ("abort", "skip", "rollback"))
        if self.keep_best is not None:
            order, _, name = self.keep_best.partition(":")
            require(
                order in ("min", "max") and bool(name),
                f"train.keep_best must be min:NAME or max:NAME, got {self.keep_best!r}; use such "
                "a metric of the validation",
            )
            require(
                self.checkpoint_every % self.evaluate_every == 0,
                f"train.checkpoint_every must be a multiple of train.evaluate_every "
                f"({self.evaluate_every}) beside train.keep_best, got {self.checkpoint_every!r}; "
                "use such a number",
            )

        if self.patience is not None:
            check_size("train.patience", self.patience)
            require(
                self.keep_best is not None,
                "train.keep_best must name the metric that train.patience goes by, got none; give "
                "min:NAME or max:NAME of the validation, such as min:mae",
            )

    @property
    def examples(self) -> int:
        """The batch size.

        Raises:
            InputError: It is still left to the data.
        """
        if self.batch_size == "auto":
            raise InputError(
                "train.batch_size must be a number here, got auto, which a run chooses by its data;"
                " give one"
            )
        return self.batch_size

    def settled(self, *, examples: int, example_bytes: int) -> tuple[Self, dict[str, str]]:
        """The settings with nothing left to the data, and how each that was left was chosen.

        A batch is the largest power of two up to 32 that holds at most a quarter of the `examples`
        of training and `BATCH_BYTES`, then the next multiple of `accumulate`.

        >>> config, chosen = TrainConfig(batch_size="auto").settled(examples=100, example_bytes=400)
        >>> config.examples, chosen
        (16, {'train.batch_size': '16: of 100 examples to train on, 400 bytes each'})
        """
        if self.batch_size != "auto":
            return self, {}
        most = min(32, max(examples // 4, 1), max(BATCH_BYTES // max(example_bytes, 1), 1))
        size = -(-(2 ** int(math.log2(most))) // self.accumulate) * self.accumulate
        told = f"{size}: of {examples:,} examples to train on, {example_bytes:,} bytes each"
        return dataclasses.replace(self, batch_size=size), {"train.batch_size": told}

    @classmethod
    def cosine(
        cls,
        steps: int,
        learning_rate: float,
        *,
        checkpoint_every: int,
        evaluate_every: int | None = None,
        batch_size: int | Literal["auto"] = 32,
        ema: float | None = None,
        optimizer: Literal["adamw", "adam"] = "adamw",
        weight_decay: float = 1e-4,
        clip_norm: float | None = 1.0,
        warmup_steps: int = 0,
    ) -> Self:
        """Adam down a cosine to zero, as most recipes train.

        The arguments are the fields of their name, here and in `OptimizerConfig`; without
        `evaluate_every` each checkpoint is validated.

        >>> config = TrainConfig.cosine(600, 3e-3, checkpoint_every=200, warmup_steps=20)
        >>> config.evaluate_every, config.optimizer.name, config.optimizer.schedule
        (200, 'adamw', 'cosine')
        """
        return cls(
            steps,
            batch_size,
            checkpoint_every=checkpoint_every,
            evaluate_every=evaluate_every or checkpoint_every,
            ema=ema,
            optimizer=OptimizerConfig(
                optimizer,
                learning_rate,
                weight_decay=weight_decay,
                clip_norm=clip_norm,
                warmup_steps=warmup_steps,
                schedule="cosine",
            ),
        )
