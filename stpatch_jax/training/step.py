"""The state of a training run, and the compiled step that updates it in place."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from stpatch_jax.errors import require
from stpatch_jax.flops import compiled_bytes, count_flops
from stpatch_jax.nn.blocks import Remat, blocks_of, kept_by_products
from stpatch_jax.nn.mesh_axes import MODEL, SEQUENCE
from stpatch_jax.training.accumulation import SCALES, accumulated
from stpatch_jax.training.config import TrainConfig
from stpatch_jax.training.mesh import Batch, state_sharding
from stpatch_jax.training.optimizers import decays, make_optimizer
from stpatch_jax.training.weights import whole_weights

CreateModel = Callable[[nnx.Rngs], nnx.Module]
LossFunction = Callable[[Any, Batch], tuple[jax.Array, dict[str, jax.Array]]]
Metrics = dict[str, jax.Array]


class Average(nnx.Variable):
    """The moving average of one parameter, float32."""


class TrainState(nnx.Module):
    """All that a step changes, and so all that a checkpoint must hold.

    Attributes:
        model: The network, with the PRNG keys and counters of its dropout.
        optimizer: The optimiser's moments and update count.
        average: The moving average of the parameters, None where none is kept.
        skipped: How many batches were skipped so far because of what is not finite; int32 scalar.
        rollbacks: How often the run went back to a checkpoint because of it; int32 scalar.
    """

    def __init__(self, model: nnx.Module, optimizer: nnx.Optimizer, *, averaged: bool = False):
        self.model = model
        self.optimizer = optimizer
        self.average = nnx.data(_average_of(model) if averaged else None)
        self.skipped = nnx.Variable(jnp.zeros((), jnp.int32))
        self.rollbacks = nnx.Variable(jnp.zeros((), jnp.int32))

    def averaged(self) -> Any:
        """Returns the model to judge and to use: one of its own, with the averaged weights.

        Where no average is kept it has the weights themselves. Arrays are shared, and whatever is
        no parameter (batch statistics, PRNG keys) is the model's.
        """
        model = nnx.merge(*nnx.split(self.model), copy=True)
        if self.average is not None:
            weights, average = nnx.state(model, nnx.Param), nnx.as_pure(self.average)
            cast = jax.tree.map(lambda w, a: a.astype(w.dtype), nnx.as_pure(weights), average)
            nnx.update(model, cast)
        return model


def require_updated(state: TrainState, run: Path) -> None:
    """Refuses to take for a model what no step has changed, as all of them were skipped."""
    require(
        int(state.optimizer.step[...]) > 0,
        f"the run in {run} must have made a step, got {int(state.skipped[...])} of which loss or "
        "gradient were not finite and nothing else; lower "
        "train.optimizer.learning_rate or look at the data, and train in another workdir=",
    )


def _average_of(model: nnx.Module) -> nnx.State:
    """The parameters in float32, each with the metadata (and so the sharding) of its own."""
    return jax.tree.map(
        lambda param: Average.from_metadata(param[...].astype(jnp.float32), param.get_metadata()),
        nnx.state(model, nnx.Param),
        is_leaf=lambda leaf: isinstance(leaf, nnx.Variable),
    )


def _move_average(state: TrainState, ema: float) -> None:
    """Moves the average towards the weights as `TrainConfig.ema` says, faster at first."""
    n = state.optimizer.step[...].astype(jnp.float32)
    share = 1 - jnp.minimum(ema, (1 + n) / (10 + n))
    moved = jax.tree.map(
        lambda average, weight: average + share * (weight.astype(jnp.float32) - average),
        nnx.as_pure(state.average),
        nnx.as_pure(nnx.state(state.model, nnx.Param)),
    )
    nnx.update(state.average, moved)


def _new_state(create_model: CreateModel, config: TrainConfig, mesh: Mesh) -> TrainState:
    params_key, dropout_key = jax.random.split(jax.random.key(config.seed))
    model = create_model(nnx.Rngs(params_key, dropout=dropout_key))
    decayed = decays(nnx.state(model, nnx.Param))
    tx = make_optimizer(config.optimizer, config.steps, decayed=decayed)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    state = TrainState(model, optimizer, averaged=config.ema is not None)
    _pin(state, mesh)
    return state


def _pin(state: TrainState, mesh: Mesh) -> None:
    """Keeps the compiler from choosing another layout for the state: it must match on re-entry."""
    values = nnx.state(state)
    nnx.update(state, jax.lax.with_sharding_constraint(values, state_sharding(values, mesh)))


def create_state(create_model: CreateModel, config: TrainConfig, mesh: Mesh) -> TrainState:
    """Creates model and optimiser on the mesh, from `config.seed`.

    Everything is made inside one compiled function, so that no device ever holds more than its
    share. `create_model` gets the streams `default` and `dropout`, two keys split from the seed.
    """
    graphdefs: list[nnx.GraphDef[TrainState]] = []

    def values() -> nnx.State:
        graphdef, state = nnx.split(_new_state(create_model, config, mesh))
        graphdefs.append(graphdef)
        return state

    # It runs once, so that a faster program is not worth a longer compilation.
    hasty = {"xla_backend_optimization_level": 1}
    with jax.set_mesh(mesh):
        state = jax.jit(values, compiler_options=hasty)()
    return nnx.merge(graphdefs[0], state)


def abstract_state(
    create_model: CreateModel, config: TrainConfig, mesh: Mesh
) -> tuple[nnx.GraphDef[TrainState], nnx.State]:
    """Returns the structure and sharded shapes of `create_state`, to restore checkpoints into."""
    with jax.set_mesh(mesh):
        shapes = nnx.eval_shape(lambda: _new_state(create_model, config, mesh))
    graphdef, state = nnx.split(shapes)
    # Traced shapes carry an abstract mesh; Orbax needs the real devices.
    return graphdef, jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        state,
        state_sharding(state, mesh),
    )


class TrainStep:
    """A compiled update of a `TrainState` in place: `step(state, batch) -> metrics`.

    It does what `nnx.jit` with donation does, which walks the modules in Python at every call and
    so keeps the host busy almost five times as long as this at 185 arrays; `nnx.cached_partial`
    twice as long ("dispatch" in `benchmarks/results/train_step-*.json`). `nnx.split` and `jax.jit`
    cost little more than this, but leave the modules behind the state that is carried on, and who
    validates, saves or rolls back would have to bring them up to date. Here the state is walked at
    the first call with it, the compiled function is handed a flat list of its arrays, and the new
    ones are put in their places. So a state must not change in structure once it was stepped; its
    values may. What is traced, `(state, batch) -> metrics`, mutates the state.
    """

    def __init__(self, update: Callable[[TrainState, Batch], Metrics]):
        self.update = update
        self._state: TrainState | None = None
        self._graphdef: Any = None

    def __call__(self, state: TrainState, batch: Batch) -> Metrics:
        """Updates the state, whose buffers are donated, and returns what was measured."""
        values = self._values(state)
        values, metrics = self._compiled(values, batch)
        for variable, value in zip(self._variables, values, strict=True):
            variable.set_raw_value(value)
        return metrics

    def lower(self, state: TrainState, batch: Batch) -> jax.stages.Lowered:
        """Lowers the update for arguments like these, as `jax.jit(...).lower` does."""
        values = self._values(state)
        return self._compiled.lower(values, batch)

    def flops(self, state: TrainState, batch: Batch) -> int:
        """The arithmetic of the update, what it computes again included; see `count_flops`."""
        values = self._values(state)
        return count_flops(self._compiled, values, batch)

    def memory(self, state: TrainState, batch: Batch) -> int | None:
        """Bytes of the update on one device, see `compiled_bytes`; compiles only what is new."""
        return compiled_bytes(self.lower(state, batch).compile())

    def _values(self, state: TrainState) -> list[Any]:
        if state is not self._state:
            graphdef, values = nnx.split(state)
            self._variables = jax.tree.leaves(
                values, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable)
            )
            if graphdef != self._graphdef:
                self._compiled = self._compile(graphdef, jax.tree.structure(values))
            self._graphdef, self._state = graphdef, state
        return [variable.get_raw_value() for variable in self._variables]

    def _compile(self, graphdef: Any, tree: Any) -> Any:
        def pure(values: list[jax.Array], batch: Batch) -> tuple[list[jax.Array], Metrics]:
            state = nnx.merge(graphdef, jax.tree.unflatten(tree, values))
            metrics = self.update(state, batch)
            return jax.tree.leaves(nnx.state(state)), metrics

        return jax.jit(pure, donate_argnums=0)


def _checked(answer: Any) -> tuple[jax.Array, Metrics]:
    """What a loss gave, refused where it is no pair of a loss and metrics that are scalars."""
    require(
        isinstance(answer, tuple) and len(answer) == 2,
        f"a loss must give the pair (loss, metrics), got {type(answer).__name__}; return "
        "loss, {} where nothing else is measured",
    )
    for name, value in {"loss": answer[0], **answer[1]}.items():
        require(
            jnp.size(value) == 1,
            f"loss and metrics must be scalars, got {name} of shape {jnp.shape(value)}; take "
            "its mean over the batch",
        )
    return answer


def _check_blocks(model: nnx.Module, mesh: Mesh, remat: Remat) -> None:
    """Refuses settings that ask of a network what only some blocks can do."""
    blocks = blocks_of(model)
    require(
        bool(blocks) or remat in ("none", "dots"),
        f"train.remat must be none or dots for {type(model).__name__}, which stacks no blocks, "
        f"got {remat}; use dots",
    )
    for axis in (SEQUENCE, MODEL):
        shared = any(axis in block.shared_over for _, block in blocks)
        require(
            shared or mesh.shape.get(axis, 1) == 1,
            f"train.mesh.{axis} must be 1 for a network without transformer blocks, got "
            f"{mesh.shape.get(axis)}; use train.mesh.fsdp, or space for large fields",
        )


def make_train_step(
    loss_fn: LossFunction,
    mesh: Mesh,
    *,
    accumulate: int = 1,
    remat: Remat = "none",
    ema: float | None = None,
) -> TrainStep:
    """Compiles one optimiser update: loss, gradient, clip, rule, in place.

    An update whose loss or gradient norm is not finite is masked: weights, optimiser and any other
    state stay as they were, `state.skipped` counts one more, and only the PRNG counters go on. What
    follows from it (abort, go on or roll back) is the caller's to decide. The learning rate counts
    the updates made, so it does not move in a skipped step.

    Args:
        loss_fn: `(model, batch) -> (loss, metrics)`, the loss a mean over the global batch,
            metrics a dict of scalars; `weight` and `divisor` among them are only read by
            `accumulate`.
        mesh: The mesh that state and batch lie on.
        accumulate: Parts that the batch is taken in, see `stpatch_jax.training.accumulation`.
        remat: What the backward pass recomputes, see `TrainConfig`.
        ema: Decay of the average of the weights, for a state that has one.

    Returns:
        The step, a `TrainStep`. It donates the buffers of `state` and leaves the new ones there.
        Metrics are those of `loss_fn` and `loss`, `grad_norm` (before the clip),
        `finite` (bool), `skipped` and `rollbacks` (so far): device scalars that nobody has waited
        for.

    Raises:
        InputError: When the step runs: the loss is no pair of a loss and metrics, or they are no
            scalars.
    """

    def pair(model: nnx.Module, batch: Batch) -> tuple[jax.Array, Metrics]:
        return _checked(loss_fn(model, batch))

    def gradient(model: nnx.Module, batch: Batch) -> tuple[Any, nnx.State]:
        _check_blocks(model, mesh, remat)
        whole = remat == "dots" and not blocks_of(model)
        loss = nnx.remat(pair, policy=kept_by_products) if whole else pair
        return nnx.value_and_grad(loss, has_aux=True)(model, batch)

    in_parts = accumulated(gradient, accumulate, mesh) if accumulate > 1 else gradient

    def update(state: TrainState, batch: Batch) -> Metrics:
        stays = nnx.Not(nnx.RngState)
        before = nnx.as_pure(nnx.state(state, stays))
        # Without recomputation a backward pass keeps what is gathered.
        with whole_weights(state.model, mesh, remat=remat, by_block=remat != "none"):
            (loss, metrics), grads = in_parts(state.model, batch)
        # Each gradient is reduced once, onto the shares.
        grads = jax.lax.with_sharding_constraint(grads, state_sharding(grads, mesh))
        grad_norm = optax.tree.norm(grads)
        finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
        state.optimizer.update(state.model, grads)
        if ema is not None:
            _move_average(state, ema)
        after = nnx.as_pure(nnx.state(state, stays))
        nnx.update(state, jax.tree.map(functools.partial(jnp.where, finite), after, before))
        state.skipped[...] += jnp.where(finite, 0, 1)
        _pin(state, mesh)
        metrics = {name: value for name, value in metrics.items() if name not in SCALES}
        metrics |= {"loss": loss, "grad_norm": grad_norm, "finite": finite}
        return metrics | {"skipped": state.skipped[...], "rollbacks": state.rollbacks[...]}

    def on_mesh(state: TrainState, batch: Batch) -> Metrics:
        # Kernels that no compiler splits must know the mesh, whoever traces the step.
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return update(state, batch)

    return TrainStep(on_mesh)
