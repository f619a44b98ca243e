"""Volumes of balls and tubes in noise, with the class of each cell: made of a seed."""

import numpy as np

_CLASSES = ("background", "ball", "tube")


def made_shapes(
    *, seed: int, items: int = 40, size: int = 32, noise: float = 0.3
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Makes volumes with balls and tubes of random places, sizes and brightnesses in noise.

    Both are as bright: only their shape tells them apart.

    Args:
        seed: Decides all of them; item `i` of a seed does not depend on how many there are.
        items: Number of volumes.
        size: Cells along each of the three axes.
        noise: Standard deviation of the normal noise, of shapes from 0.5 to 1 on 0.

    Returns:
        Volumes [item, z, y, x], float32, the class of each cell [item, z, y, x], uint8, and the
        names of the classes 0, 1 and 2.

    References:
        Made as MONAI's tests make theirs, `create_test_image_3d`, but for the tubes.

    >>> volumes, masks, classes = made_shapes(seed=0, items=1, size=16)
    >>> volumes.shape, sorted(set(masks.ravel().tolist())), classes
    ((1, 16, 16, 16), [0, 1, 2], ('background', 'ball', 'tube'))
    """
    volumes = np.empty((items, size, size, size), np.float32)
    masks = np.zeros((items, size, size, size), np.uint8)
    places = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), axis=-1).astype("f4")
    for at in range(items):
        random = np.random.default_rng([seed, at])
        volumes[at] = noise * random.standard_normal((size,) * 3)
        for shape in random.permutation(np.repeat([1, 2], random.integers(2, 6, 2))):
            centre, radius = random.uniform(0, size, 3), random.uniform(0.1, 0.2) * size
            away = places - centre.astype("f4")
            if shape == 2:
                along = random.standard_normal(3)
                along = (along / np.linalg.norm(along)).astype("f4")
                away -= (away @ along)[..., None] * along
                radius /= 2
            inside = (away**2).sum(axis=-1) < radius**2
            volumes[at][inside & (masks[at] == 0)] += random.uniform(0.5, 1)
            masks[at][inside] = shape
    return volumes, masks, _CLASSES
