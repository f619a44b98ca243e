"""SIGTERM as a wish to stop, on which all processes of a run act at the same step."""

import signal
import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


class Stop:
    """Whether any process was asked to stop.

    In one process that is a flag. Of several, each sends its flag along with every step, in a
    reduction that nobody waits for before the step itself is waited for, and all read the flag of
    the step before: so they agree.
    """

    def __init__(self, mesh: Mesh):
        self.asked = threading.Event()
        self._before: Any = None
        self._sent: jax.Array | None = None
        devices = mesh.devices.reshape(-1)
        self._every = NamedSharding(Mesh(devices, ("device",)), PartitionSpec("device"))
        self._any = jax.jit(jnp.max, out_shardings=NamedSharding(self._every.mesh, PartitionSpec()))

    def listen(self) -> None:
        """Takes SIGTERM as the wish to stop from here on; handlers live in main threads."""
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, lambda *_: self.asked.set())

    def close(self) -> None:
        """Gives SIGTERM back."""
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def agreed(self) -> bool:
        """Whether to stop after the step just dispatched; every process must ask at each step."""
        if jax.process_count() == 1:
            return self.asked.is_set()
        before, mine = self._sent, np.full(jax.local_device_count(), self.asked.is_set(), np.int32)
        self._sent = self._any(jax.make_array_from_process_local_data(self._every, mine))
        return before is not None and bool(before)
