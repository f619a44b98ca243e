"""Images of handwritten digits: those that scikit-learn ships, or any pair of files of MNIST."""

import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stpatch_jax.data.labelled.clips import resized
from stpatch_jax.data.protocols import CATALOG_PREFIX, located
from stpatch_jax.data.readers.guard import parsing
from stpatch_jax.data.sizes import check_bytes, file_content
from stpatch_jax.errors import require

BUNDLED = "digits of scikit-learn"
_SHARES = {"validation": 0.1, "test": 0.2}


@dataclass(frozen=True, eq=False)
class Digits:
    """Images [image, side, side] of one class each, float32 from 0 (background) to 1.

    Their labels [image] are integers from 0; the source is where they come from.
    """

    images: np.ndarray
    labels: np.ndarray
    source: str

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes: their numbers."""
        return tuple(str(label) for label in range(int(self.labels.max()) + 1))

    def fingerprint(self) -> int:
        """Checksum of images and labels, by which other data are told apart."""
        return zlib.crc32(self.labels.tobytes(), zlib.crc32(self.images.tobytes()))

    def splits(self, *, seed: int) -> dict[str, "Digits"]:
        """Deals the images of each class to training (70 %), validation and test (10 and 20 %).

        No image is in two of them; the seed decides which.

        Raises:
            InputError: A class has fewer than 10 images.

        >>> parts = read_digits(None, size=8).splits(seed=0)
        >>> {name: len(part) for name, part in parts.items()}
        {'train': 1259, 'validation': 179, 'test': 359}
        """
        random = np.random.default_rng(seed)
        dealt: dict[str, list[np.ndarray]] = {"train": [], "validation": [], "test": []}
        for label, name in enumerate(self.classes):
            own = random.permutation(np.flatnonzero(self.labels == label))
            require(
                len(own) >= 10,
                f"class {name} of {self.source} must have at least 10 images to be split, got "
                f"{len(own)}; use more images",
            )
            first = 0
            for split, share in _SHARES.items():
                last = first + round(share * len(own))
                dealt[split].append(own[first:last])
                first = last
            dealt["train"].append(own[first:])
        rows = {split: np.concatenate(parts) for split, parts in dealt.items()}
        return {
            split: Digits(self.images[chosen], self.labels[chosen], self.source)
            for split, chosen in rows.items()
        }


def read_digits(path: str | None, *, size: int) -> Digits:
    """Reads images and labels of digits and brings the images to one size.

    Args:
        path: File of images in the format of MNIST, `...images-idx3-ubyte`, plain or gzipped, with
            the file of labels, `...labels-idx1-ubyte`, beside it; `catalog:mnist_images`; or None
            for the 1797 digits of 8 x 8 that scikit-learn ships.
        size: Side of the images wanted, in cells, at least 2.

    References:
        LeCun, Cortes and Burges, The MNIST database of handwritten digits. Alpaydin and Kaynak,
        Optical recognition of handwritten digits, UCI 1998.

    >>> read_digits(None, size=28).images.shape
    (1797, 28, 28)
    """
    if path is None:
        from sklearn.datasets import load_digits

        images, labels = map(np.asarray, load_digits(return_X_y=True))
        return Digits(_resized(images.reshape(-1, 8, 8) / 16, size), labels, BUNDLED)
    # Of a file in the catalog only the names differ.
    other = re.sub(r"(?i)images([-.])idx3", r"labels\1idx1", path)
    if path.startswith(CATALOG_PREFIX):
        other = path.replace("images", "labels")
    require(
        other != path,
        f"data.path must be a file of images named ...images-idx3-ubyte, got {path}; name it so, "
        "with ...labels-idx1-ubyte beside it",
    )
    images, labels = read_idx(located(path), axes=3), read_idx(located(other), axes=1)
    require(
        images.shape[1] == images.shape[2] > 0,
        f"{path} must hold square images, got {images.shape[1]} x {images.shape[2]} cells; cut "
        "them square",
    )
    require(
        len(images) == len(labels) > 0,
        f"{path} must hold one image for each label of {other}, got {len(images)} and "
        f"{len(labels)}; give a pair that belongs together",
    )
    check_bytes(8 * len(images) * max(images[0].size, size**2), f"the images of {path}")
    return Digits(_resized(images / 255, size), labels.astype(np.int64), path)


def read_idx(path: str | Path, *, axes: int) -> np.ndarray:
    """Reads an array of uint8 with so many axes from a file in the IDX format, plain or gzipped."""
    with parsing(path, "file in the IDX format", advice="give another"):
        stored = file_content(path)
    start = 4 + 4 * axes
    shape = np.frombuffer(stored[4:start].ljust(start - 4, b"\0"), ">u4").astype(int)
    require(
        stored[:4] == bytes((0, 0, 8, axes)) and len(stored) == start + int(np.prod(shape)),
        f"{path} must be bytes with {axes} axes in the IDX format of MNIST, got another header or "
        "length; give the file whole",
    )
    return np.frombuffer(stored, np.uint8, offset=start).reshape(shape)


def _resized(images: np.ndarray, size: int) -> np.ndarray:
    """Square images [image, side, side] at another size, float32; unchanged at their own."""
    side = images.shape[1]
    if side == size:
        return images.astype(np.float32)
    return resized(images[..., None], (0, 0), side, size)[..., 0]


def ink_bounds(images: np.ndarray) -> np.ndarray:
    """Bounds of the cells above a quarter in each image [image, height, width] from 0 to 1.

    They are `(first row, first column, last row + 1, last column + 1)` [image, 4], integers; of an
    image without such cells, all count.

    >>> image = np.zeros((1, 4, 4))
    >>> image[0, 1, 2:] = 1.0
    >>> ink_bounds(image).tolist()
    [[1, 2, 2, 4]]
    """
    seen = np.asarray(images > 0.25)
    seen[~seen.any(axis=(1, 2))] = True
    lines = [np.asarray(seen.any(axis=axis)) for axis in (2, 1)]  # rows, then columns
    first = [line.argmax(axis=1) for line in lines]
    last = [line.shape[1] - line[:, ::-1].argmax(axis=1) for line in lines]
    return np.stack([*first, *last], axis=1)
