"""Programs compiled for TPUs and GPUs that are not here, and what they will cost there.

`mesh("v5e:16x16", {"data": 256})` is a mesh over described devices; `compile` makes a program for
them with the compilers of the extra `chips`, which need no hardware; `measure` reads off it what it
moves, keeps and sends.
"""

from typing import TYPE_CHECKING

from stpatch_jax.on_demand import on_demand

if TYPE_CHECKING:
    from stpatch_jax.chips.compiling import compile, finish, libraries_of
    from stpatch_jax.chips.hardware import CHIPS, Chip
    from stpatch_jax.chips.measuring import Collective, Program, measure
    from stpatch_jax.chips.topologies import Topology, link, mesh, topology
    from stpatch_jax.chips.traffic import Kernel

__all__ = [
    "CHIPS", "Chip", "Collective", "Kernel", "Program", "Topology", "compile", "finish",
    "libraries_of", "link", "measure", "mesh", "topology",
]  # fmt: skip

__getattr__, __dir__ = on_demand(__name__)
