"""Clips of handwritten digits that move over a canvas, made from a seed and the clip's number."""

from dataclasses import dataclass

import numpy as np

from stpatch_jax.recipes.video.digits import Digits, ink_bounds

SPEED = 0.1
"""Cells that a digit moves per frame, as a share of those it can move over: as in Moving MNIST."""
HEADINGS = ("right", "down right", "down", "down left", "left", "up left", "up", "up right")
"""The eight directions of a straight motion, every 45 degrees."""
_BLOCK = 0.5


@dataclass(frozen=True, eq=False)
class Clip:
    """One clip and what is in it.

    Attributes:
        frames: [time, height, width, 1] float32 from 0 to 1.
        labels: Class of each digit [digit].
        boxes: Bounds `(lo..., hi...)` of each digit's ink [time, digit, 4] in cells, float32.
        heading: Number of the direction in `HEADINGS`; -1 where digits bounce.
    """

    frames: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    heading: int = -1


@dataclass(frozen=True, eq=False)
class MovingDigits:
    """A generator of clips: the same number always gives the same clip, in whatever order.

    Digits move at constant speed and overlap by the brighter cell. Bouncing ones begin anywhere,
    in any direction, and are thrown back by the walls; straight ones head for one of eight
    directions and begin where no wall comes in their way.

    Attributes:
        digits: The images to draw from.
        key: Integers that tell this generator from others: seed and split.
        canvas: Side of the frames, in cells.
        frames: Number of frames.
        count: Number of digits in a clip.
        occlusion: Side of a grey square at a random place, in cells, that hides what is behind it;
            0 for none.
        noise: Standard deviation of normal noise on every cell, whose values then are clipped to
            0..1.

    References:
        Srivastava, Mansimov and Salakhutdinov, "Unsupervised learning of video representations
        using LSTMs", ICML 2015, whose Moving MNIST this is but for the walls: here a digit
        is reflected where it meets them, there it stops for the rest of the frame.

    >>> from stpatch_jax.recipes.video.digits import read_digits
    >>> clips = MovingDigits(read_digits(None, size=28), (0,), canvas=64, frames=20, count=2)
    >>> clips.bouncing(7).frames.shape
    (20, 64, 64, 1)
    """

    digits: Digits
    key: tuple[int, ...]
    canvas: int
    frames: int
    count: int = 1
    occlusion: int = 0
    noise: float = 0.0

    @property
    def room(self) -> int:
        """Number of cells that a digit can move over, along each axis."""
        return self.canvas - self.digits.images.shape[-1]

    def bouncing(self, number: int) -> Clip:
        """The clip of a number, digits bouncing."""
        random = np.random.default_rng((*self.key, number))
        chosen = random.integers(len(self.digits), size=self.count)
        start = random.uniform(0, self.room, size=(self.count, 2))
        angle = random.uniform(0, 2 * np.pi, size=self.count)
        velocity = SPEED * self.room * np.stack([np.sin(angle), np.cos(angle)], axis=-1)
        return self._clip(random, chosen, bounce(start, velocity, self.frames, room=self.room))

    def straight(
        self, number: int, *, label: int | None = None, heading: int | None = None
    ) -> Clip:
        """The clip of a number, its digits heading for one direction of `HEADINGS`.

        Label and heading are drawn where they are None.
        """
        random = np.random.default_rng((*self.key, number))
        heading = int(random.integers(len(HEADINGS))) if heading is None else heading
        label = int(random.integers(len(self.digits.classes))) if label is None else label
        chosen = random.choice(np.flatnonzero(self.digits.labels == label), size=self.count)
        angle = 2 * np.pi * heading / len(HEADINGS)
        velocity = SPEED * self.room * np.array([np.sin(angle), np.cos(angle)])
        way = velocity * (self.frames - 1)
        start = random.uniform(np.maximum(0, -way), self.room - np.maximum(0, way), (self.count, 2))
        places = start + velocity * np.arange(self.frames)[:, None, None]
        return self._clip(random, chosen, places, heading=heading)

    def _clip(
        self,
        random: np.random.Generator,
        chosen: np.ndarray,
        places: np.ndarray,
        *,
        heading: int = -1,
    ) -> Clip:
        """Draws digits at places [time, digit, 2] of their upper left corners."""
        images, corners = self.digits.images[chosen], np.rint(places).astype(int)
        frames = np.zeros((self.frames, self.canvas, self.canvas), np.float32)
        side = images.shape[-1]
        for frame, at in zip(frames, corners, strict=True):
            for image, (top, left) in zip(images, at, strict=True):
                seen = frame[top : top + side, left : left + side]
                np.maximum(seen, image, out=seen)
        if self.occlusion:
            top, left = random.integers(self.canvas - self.occlusion + 1, size=2)
            frames[:, top : top + self.occlusion, left : left + self.occlusion] = _BLOCK
        if self.noise:
            frames += self.noise * random.standard_normal(frames.shape, np.float32)
            frames.clip(0, 1, out=frames)
        boxes = np.tile(corners, 2) + ink_bounds(images)
        return Clip(
            frames[..., None], self.digits.labels[chosen], boxes.astype(np.float32), heading
        )


def bounce(start: np.ndarray, velocity: np.ndarray, frames: int, *, room: float) -> np.ndarray:
    """Places of points between two walls that throw them back, `|x|` of which never changes speed.

    `x_t = room - |room - ((x_0 + v t) mod 2 room)|`, along every axis, for starts [..., axis] in
    0..room, the distance of the walls in cells, and velocities in cells per frame.

    Returns:
        [frames, ..., axis] in 0..room; the start is the first.

    >>> bounce(np.array([1.0]), np.array([2.0]), 4, room=4.0).ravel().tolist()
    [1.0, 3.0, 3.0, 1.0]
    """
    time = np.arange(frames).reshape(-1, *(1,) * start.ndim)
    return room - np.abs(room - np.mod(start + velocity * time, 2 * room))
