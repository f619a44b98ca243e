"""Random changes of training examples that leave their class as it is."""

from dataclasses import dataclass

import numpy as np

from stpatch_jax.errors import MOST, check_range, check_size, require


@dataclass(frozen=True)
class Augmentation:
    """How a field is changed each time it is trained on, the `--data.augmentation.*` flags.

    In the order of the attributes; by default nothing is changed. All times of a field are changed
    alike, but for the noise.

    Attributes:
        turn: Whether the space axes are put into a random order, each order with the same
            probability. Together with flips along all axes, these are all symmetries of the cube.
        flip: Space axes, counted from 0, that are reversed with probability 1/2 each.
        shift: Largest number of cells by which the field is moved along each space axis, either
            way; what comes in from outside repeats the edge.
        contrast: The field is multiplied by a number drawn from `1 - contrast` to `1 + contrast`.
        brightness: A number drawn from `-brightness` to `brightness` is added to the field.
        noise: Standard deviation of the normal noise that is added to each value.

    Raises:
        InputError: A setting is out of range.
    """

    turn: bool = False
    flip: tuple[int, ...] = ()
    shift: int = 0
    contrast: float = 0.0
    brightness: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "flip", tuple(self.flip))
        require(
            all(isinstance(axis, int) and 0 <= axis <= MOST for axis in self.flip)
            and len(set(self.flip)) == len(self.flip),
            f"data.augmentation.flip must name space axes from 0, each once, got {self.flip}; "
            "give for example 0 1",
        )
        check_size("data.augmentation.shift", self.shift, least=0)
        for name in ("contrast", "brightness", "noise"):
            most = 1.0 if name == "contrast" else np.inf
            check_range(f"data.augmentation.{name}", getattr(self, name), 0, most, bounds="[)")

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuses fields of a shape `(time, *space, channel)` that cannot be changed so.

        Raises:
            InputError: An axis to flip is not there, or axes of different lengths would be turned.
        """
        space = shape[1:-1]
        require(
            max(self.flip, default=-1) < len(space),
            f"data.augmentation.flip must name axes of the {len(space)} space axes of the fields, "
            f"counted from 0, got {self.flip}; leave out the others",
        )
        require(
            not self.turn or len(set(space)) == 1,
            f"space axes must be of one length for data.augmentation.turn, got {space}; leave it "
            "out",
        )

    def __call__(self, field: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Changes one field [time, *space, channel] of about mean 0 and variance 1, float32.

        The same generator gives the same changes. What comes is a new array of the same shape and
        dtype, or the field itself where nothing is changed.

        >>> Augmentation(flip=(0,))(np.array([[[1.0], [2.0]]]), np.random.default_rng(2)).ravel()
        array([2., 1.])
        """
        return self.recoloured(self.moved(field, random), random)

    def moved(self, field: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Changes where values lie alone, for whatever [time, *space, channel]."""
        return self.moved_with(field, np.zeros((0, 2 * field.ndim - 4)), random)[0]

    def moved_with(
        self, field: np.ndarray, boxes: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `moved`, with boxes [..., 2 * space axes] of bounds `(lo..., hi...)` in its cells.

        >>> mirror = Augmentation(flip=(0,))
        >>> mirror.moved_with(np.zeros((1, 9, 1)), np.array([1, 3]), np.random.default_rng(2))[1]
        array([6, 8])
        """
        space = range(1, field.ndim - 1)
        lo, hi = (of.copy() for of in np.split(boxes, 2, axis=-1))
        if self.turn:
            order = random.permutation(space)
            field = field.transpose(0, *order, field.ndim - 1)
            lo, hi = lo[..., order - 1], hi[..., order - 1]
        if chosen := tuple(axis + 1 for axis in self.flip if random.random() < 0.5):
            field = np.flip(field, chosen)
            for axis in chosen:
                cells, at = field.shape[axis], (..., axis - 1)
                lo[at], hi[at] = cells - hi[at], cells - lo[at]
        if self.shift:
            for axis in space:
                by = int(random.integers(-self.shift, self.shift + 1))
                field = field.take(np.arange(field.shape[axis]) - by, axis=axis, mode="clip")
                lo[..., axis - 1] += by
                hi[..., axis - 1] += by
        return field, np.concatenate([lo, hi], axis=-1)

    def recoloured(self, field: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Changes the values of a field alone, after it was moved by the same generator."""
        if self.contrast:
            field = field * field.dtype.type(1 + random.uniform(-self.contrast, self.contrast))
        if self.brightness:
            field = field + field.dtype.type(random.uniform(-self.brightness, self.brightness))
        if self.noise:
            field = field + self.noise * random.standard_normal(field.shape, np.float32)
        return np.ascontiguousarray(field)


NO_AUGMENTATION = Augmentation()
"""Examples as they are."""
