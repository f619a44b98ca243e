"""Training: configuration, mesh, compiled step, checkpoints and the loop that survives a kill."""

from typing import TYPE_CHECKING

from stpatch_jax.on_demand import on_demand

if TYPE_CHECKING:
    from stpatch_jax.training.callbacks import Callback
    from stpatch_jax.training.checkpoint import Checkpoints
    from stpatch_jax.training.config import MeshConfig, OptimizerConfig, TrainConfig
    from stpatch_jax.training.distributed import Disagreement, processes, to_host
    from stpatch_jax.training.export import export_weights, load_weights
    from stpatch_jax.training.fitting import fit
    from stpatch_jax.training.loop import FitResult, restore_state, train_loop
    from stpatch_jax.training.mesh import (
        batch_sharding,
        make_mesh,
        shard_global_batch,
        shard_local_batch,
        state_sharding,
    )
    from stpatch_jax.training.optimizers import learning_rate_schedule, make_optimizer
    from stpatch_jax.training.prefetch import prefetch_to_mesh
    from stpatch_jax.training.record import fingerprint
    from stpatch_jax.training.step import TrainState, create_state, make_train_step
    from stpatch_jax.training.weights import replicate

__all__ = ["Callback", "Checkpoints", "Disagreement", "FitResult", "MeshConfig", "OptimizerConfig"]
__all__ += ["TrainConfig", "TrainState"]
__all__ += ["batch_sharding", "create_state", "export_weights", "fingerprint"]
__all__ += ["fit", "learning_rate_schedule", "load_weights", "make_mesh"]
__all__ += ["make_optimizer", "make_train_step", "prefetch_to_mesh"]
__all__ += ["processes", "replicate", "restore_state"]
__all__ += ["shard_global_batch", "shard_local_batch", "state_sharding", "to_host", "train_loop"]

__getattr__, __dir__ = on_demand(__name__)
