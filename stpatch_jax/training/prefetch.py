"""Batches on the devices before the step that needs them."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import jax
from jax.sharding import Mesh

from stpatch_jax.errors import check_size
from stpatch_jax.training.mesh import Batch, shard_local_batch


def prefetch_to_mesh(
    batches: Iterable[Batch], mesh: Mesh, *, depth: int = 2
) -> Generator[dict[str, jax.Array], None, None]:
    """Iterates over batches as `shard_local_batch` places them, ahead of their use, in a thread.

    The order is that of `batches`. An error of theirs is raised where its batch would have come.
    Closing the iterator, or dropping it, waits for the batch in the making and ends the thread.

    Args:
        batches: This process's part of each global batch; read from the thread alone.
        mesh: The mesh of `make_mesh`.
        depth: Most batches that wait on the devices beside the one in use.

    Raises:
        InputError: If `depth` is below 1, or, at its turn, a batch does not split over the devices.

    >>> import numpy as np
    >>> from stpatch_jax.training.mesh import make_mesh
    >>> mesh = make_mesh()
    >>> placed = prefetch_to_mesh([{"x": np.arange(mesh.size)}], mesh)
    >>> [batch["x"].shape == (mesh.size,) for batch in placed]
    [True]
    """
    check_size("depth", depth)
    return _placed(iter(batches), mesh, depth)


def _placed(
    batches: Iterator[Batch], mesh: Mesh, depth: int
) -> Generator[dict[str, jax.Array], None, None]:
    def place() -> dict[str, jax.Array] | None:
        batch = next(batches, None)
        return None if batch is None else shard_local_batch(batch, mesh)

    worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")
    try:
        ahead = deque(worker.submit(place) for _ in range(depth))
        while (batch := ahead.popleft().result()) is not None:
            ahead.append(worker.submit(place))
            yield batch
    finally:
        worker.shutdown(wait=True, cancel_futures=True)
