"""Problems on clips of moving digits: which frames come, what is shown, and where it is."""

import abc
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np

from stpatch_jax.data import Batch, DataConfig, InputAxes, MadeExamples, Problem, Source
from stpatch_jax.data.labelled.clips import segments, side_by_side
from stpatch_jax.data.protocols import chosen_split
from stpatch_jax.errors import check_choice, check_range, check_seed, check_size
from stpatch_jax.recipes.video.digits import Digits, read_digits
from stpatch_jax.recipes.video.given import GivenClips
from stpatch_jax.recipes.video.moving_digits import HEADINGS, SPEED, MovingDigits

_COUNTED = 1000


@dataclass(frozen=True)
class DigitClipsConfig(DataConfig):
    """What the problems on moving digits share; `path` names images as `read_digits` reads them.

    Clips are made when they are asked for, from the seed and their number, so that there may be as
    many training clips as wanted. The splits show different images of digits: 70 % of each class
    are for training, 10 for validation and 20 for test.

    Attributes:
        canvas: Side of the frames, in cells.
        digit: Side of the images of digits, in cells; other sizes are brought to it.
        train_clips: Number of training clips.
        validation_clips: Number of validation clips.
        test_clips: Number of test clips.
        seed: Decides which images are in which split, and all clips.
    """

    canvas: int = 64
    digit: int = 28
    train_clips: int = 1_000_000
    validation_clips: int = 200
    test_clips: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("canvas", "digit"):
            check_size(f"data.{name}", getattr(self, name))
        check_range("data.digit", self.digit, 2, self.canvas, bounds="[)")
        for split, clips in self.clips.items():
            check_size(f"data.{split}_clips", clips)
        check_seed("data.seed", self.seed)

    @property
    def clips(self) -> dict[str, int]:
        """Number of clips of each split."""
        return {name: getattr(self, f"{name}_clips") for name in ("train", "validation", "test")}

    @property
    def seen(self: Any) -> int:
        """Number of frames that an example of another file has, by default all of an example."""
        return self.frames

    @abc.abstractmethod
    def read(self, length: int) -> list[np.ndarray]:
        """The frames of each example of a clip of so many frames."""

    def given(self, frames: np.ndarray) -> Batch:
        """An example of another file, out of its frames."""
        return {"field": frames}

    def restore(self, path: str, state: Mapping[str, Any]) -> GivenClips:
        """Opens a video or array, or all of them in a folder, for a trained run.

        Clips are grey, or turned grey; the middle square of other sizes is resized to the canvas.

        Raises:
            InputError: None can be read, or one is no grey or coloured clip, or too short.
        """
        return GivenClips.of(self, path, state)

    def _generators(self, **options: Any) -> dict[str, MovingDigits]:
        digits = read_digits(self.path, size=self.digit)
        return {
            split: MovingDigits(own, (self.seed, number), canvas=self.canvas, **options)
            for number, (split, own) in enumerate(digits.splits(seed=self.seed).items())
        }


@dataclass(frozen=True, eq=False)
class DigitClips(Problem, abc.ABC):
    """Clips of moving digits by split, whose `generators` make them; made by a config's `load`."""

    config: Any
    generators: Mapping[str, MovingDigits]

    @abc.abstractmethod
    def example(self, split: str, number: int) -> Batch:
        """The example of a split with a number."""

    def source(self, split: str) -> Source:
        """The examples of a split, each made when it is asked for."""
        chosen_split(self.generators, split)
        return MadeExamples(partial(self.example, split), self.config.clips[split])

    @property
    def digits(self) -> Digits:
        """The training images."""
        return self.generators["train"].digits

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.digits.classes

    @property
    def report(self) -> dict[str, Any]:
        """Source of the images, shape of a clip, and what each split holds; JSON-able."""
        train = self.generators["train"]
        return {
            "source": self.digits.source,
            "shape": [train.frames, train.canvas, train.canvas, 1],
            "splits": {
                split: {"clips": self.config.clips[split], "digit_images": len(of.digits)}
                for split, of in self.generators.items()
            },
        }

    def state(self) -> dict[str, Any]:
        """Checksum of the training images, and the classes; frames, from 0 to 1, are not scaled."""
        return {"digits": self.digits.fingerprint(), "classes": list(self.classes)}

    def content(self, split: str) -> Mapping[str, Any]:
        """The images of digits, in steps that no rounding of another machine moves."""
        own = chosen_split(self.generators, split).digits
        return {"images": np.rint(255 * own.images).astype(np.uint8), "labels": own.labels}

    def input_axes(self, split: str, number: int) -> InputAxes:
        """Cells from 0, which is black, to 1."""
        return InputAxes(unit="0 to 1", zero="black")


@dataclass(frozen=True)
class NextFramesConfig(DigitClipsConfig):
    """The coming frames of bouncing digits, in the protocol of Moving MNIST.

    Attributes:
        digits: Number of digits in a clip.
        context: Number of frames seen.
        horizon: Number of frames to forecast.
    """

    digits: int = 2
    context: int = 10
    horizon: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("digits", "context", "horizon"):
            check_size(f"data.{name}", getattr(self, name))

    def load(self) -> "NextFrames":
        """Reads the digits, as `read_digits` does."""
        frames = self.context + self.horizon
        return NextFrames(self, self._generators(frames=frames, count=self.digits))

    @property
    def seen(self) -> int:
        """The frames of the context."""
        return self.context

    def read(self, length: int) -> list[np.ndarray]:
        """The context up to each frame."""
        starts = range(length - self.context + 1)
        return [np.arange(start, start + self.context) for start in starts]

    def given(self, frames: np.ndarray) -> Batch:
        """The context, and what persistence makes of it."""
        return {"context": frames, "persistence": frames[-1:]}


@dataclass(frozen=True, eq=False)
class NextFrames(DigitClips):
    """Clips of bouncing digits to forecast the end of from the beginning."""

    @property
    def context(self) -> int:
        """Number of frames seen."""
        return self.config.context

    @property
    def horizon(self) -> int:
        """Number of frames to forecast."""
        return self.config.horizon

    def example(self, split: str, number: int) -> Batch:
        """A clip in two: as a batch of `Forecast`, all targets real, and its number as `index`."""
        frames = self.generators[split].bouncing(number).frames
        context, target = np.split(frames, [self.context])
        return {
            "context": context,
            "target": target,
            "target_mask": np.ones(target.shape, bool),
            "persistence": context[-1:],
            "index": np.asarray(number),
        }


@dataclass(frozen=True)
class ClipClassesConfig(DigitClipsConfig):
    """Which digit a clip shows, or where it heads, behind an obstacle and in noise.

    One digit moves straight in one of eight directions, and never meets a wall. The classes of a
    split are dealt in turn, so that all are as frequent, and the other of the two is drawn.

    Attributes:
        label: What to tell: "digit" or "motion".
        frames: Number of frames, few enough for a straight way.
        occlusion: Side of the obstacle, in cells.
        noise: Standard deviation of the noise on every cell; digits are 1 on 0.
    """

    canvas: int = 32
    digit: int = 14
    label: Literal["digit", "motion"] = "digit"
    frames: int = 6
    occlusion: int = 8
    noise: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size("data.frames", self.frames)
        # Within so many frames a digit reaches no wall.
        check_range("data.frames", self.frames, 1, int(1 / SPEED) + 1)
        check_choice("data.label", self.label, ("digit", "motion"))
        check_size("data.occlusion", self.occlusion, least=0)
        check_range("data.occlusion", self.occlusion, 0, self.canvas, bounds="[)")
        check_range("data.noise", self.noise, 0, math.inf, bounds="[)")

    def load(self) -> "ClipClasses":
        """Reads the digits, as `read_digits` does."""
        options = {"frames": self.frames, "occlusion": self.occlusion, "noise": self.noise}
        return ClipClasses(self, self._generators(**options))

    def read(self, length: int) -> list[np.ndarray]:
        """Frames in the middle of equal parts of the clip."""
        return [segments(length, self.frames)]


@dataclass(frozen=True, eq=False)
class ClipClasses(DigitClips):
    """Clips of one digit to be classified, as `LabelledData`."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes: digits or directions."""
        return HEADINGS if self.config.label == "motion" else super().classes

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Number of training clips of each class."""
        clips, classes = self.config.train_clips, len(self.classes)
        return tuple(len(range(label, clips, classes)) for label in range(classes))

    def example(self, split: str, number: int) -> Batch:
        """A clip as a batch of `Classify`: `field`, `label`, and as `group` its number."""
        label = number % len(self.classes)
        shown = {"heading" if self.config.label == "motion" else "label": label}
        clip = self.generators[split].straight(number, **shown)
        return {
            "field": clip.frames,
            "label": np.asarray(label, np.int32),
            "group": np.asarray(number),
        }


@dataclass(frozen=True)
class ClipObjectsConfig(DigitClipsConfig):
    """Where bouncing digits are in each frame, and which.

    Attributes:
        digits: Number of digits in a clip.
        frames: Number of frames.
    """

    digits: int = 2
    frames: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("digits", "frames"):
            check_size(f"data.{name}", getattr(self, name))

    def load(self) -> "ClipObjects":
        """Reads the digits, as `read_digits` does."""
        return ClipObjects(self, self._generators(frames=self.frames, count=self.digits))

    def read(self, length: int) -> list[np.ndarray]:
        """Every frame, a few at a time."""
        return side_by_side(length, self.frames)


@dataclass(frozen=True, eq=False)
class ClipObjects(DigitClips):
    """Clips of bouncing digits with the box and the class of each in every frame."""

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Number of digits of each class in the first 1000 training clips."""
        return self._counted[0]

    @property
    def mean_box(self) -> tuple[float, ...]:
        """Mean bounds `(lo..., hi...)` of the boxes in the first 1000 training clips."""
        return self._counted[1]

    def shown(self, field: np.ndarray) -> np.ndarray:
        """As they are: frames are from 0 to 1."""
        return field.clip(0, 1)

    @cached_property
    def _counted(self) -> tuple[tuple[int, ...], tuple[float, ...]]:
        clips = self.source("train")
        first = [clips[number] for number in range(min(_COUNTED, len(clips)))]
        labels = np.concatenate([clip["label"][0] for clip in first])
        boxes = np.concatenate([clip["boxes"].reshape(-1, 4) for clip in first])
        counts = np.bincount(labels, minlength=len(self.classes))
        return tuple(counts.tolist()), tuple(boxes.mean(axis=0, dtype=np.float64).tolist())

    def example(self, split: str, number: int) -> Batch:
        """A clip as a batch of `Detect`; all its objects are real."""
        clip = self.generators[split].bouncing(number)
        label = np.tile(clip.labels.astype(np.int32), (len(clip.frames), 1))
        return {
            "field": clip.frames,
            "boxes": clip.boxes,
            "label": label,
            "object_mask": np.ones(label.shape, bool),
        }
