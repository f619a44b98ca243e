"""Problems on items with labels, whatever they are and wherever they lie."""

import contextlib
import dataclasses
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd

from stpatch_jax.data.labelled.augmenting import NO_AUGMENTATION, Augmentation
from stpatch_jax.data.labelled.clips import LabelledClips, LabelledClipsConfig
from stpatch_jax.data.labelled.fields import (
    ItemFields,
    LabelledFields,
    LabelledSplit,
    MeasuredFields,
    UnlabelledFields,
    class_splits,
    drawn_share,
)
from stpatch_jax.data.labelled.found import Found, Layout, Names, given_arrays, of_frame, read_found
from stpatch_jax.data.labelled.texts import Evidence, Words, check_pieces, evidence_fields
from stpatch_jax.data.protocols import Data, DataConfig
from stpatch_jax.data.readers.labels import numbered
from stpatch_jax.data.readers.nifti import told_spacings
from stpatch_jax.data.readers.text import words_of
from stpatch_jax.data.sampling.splits import check_shares
from stpatch_jax.errors import InputError, check_seed, check_size, listed, require, shortened

_SPLITS = ("train", "validation", "test")
_LONGEST_WINDOW, _SMOOTHING, _MOST_WORDS = 3, 0.5, 256
_FRAMES, _MOST_SIDE = 8, 64
_VALIDATED = 0.2
# A column of numbers with more different ones than this, and few items of each, is no class.
_MANY, _FEW = 50, 4
# Digits behind a zero are a code, such as 007, and no number.
_CODE = re.compile("[+-]?0[0-9]")
# So many files tell how large they are.
_SAMPLE = 32
Auto = Literal["auto"]


@dataclass(frozen=True)
class ItemConfig(DataConfig):
    """Base of the data of items with labels, of any layout; see `LabelledConfig`.

    Attributes:
        layout: What an item is: `rows` of a table, `series` [time] or [time, channel], `images`
            [height, width] or [height, width, channel], `volumes` of one axis more, `fields`
            [time, *space, channel], `clips` in files, or `texts`. By default the data tell, see
            `laid_out`.
        inputs: Names of the arrays of a `.npz` file that hold the items: of all, of training and
            test, or of training, validation and test; or of the columns of a table that are the
            numbers of an item. Found by default.
        labels: Names of the arrays, or of the columns, of their labels. Found by default.
        text: Column of the texts of a table, in place of `inputs`.
        group: Array or column that names the group of each item, such as a person: the items of one
            are in one split.
        frames: Number of frames of a clip that are seen, see `LabelledClipsConfig`.
        size: Height and width of clips and images in files, in pixels; they are resized.
        length: Number of words of a text that are seen.
        augmentation: How training items are changed each time they are trained on.
        validation_share: Share of the items to validate on, in [0, 1), where they have no splits;
            0 trains on all that are not tested on, and validates on the same. "auto" is 0, but a
            fifth for files of clips or pictures, and where validation is to choose, see `held_out`.
        test_share: Share of the items to test on, in (0, 1), where they have no splits.
        encoding: How the characters of a text are stored, UTF-8 by default.
        seed: Decides which items are validated and tested on.
        pieces: Of texts numbers of letters of the pieces of words that are evidence beside windows
            of words; with some, all are weighed together, see `LabelledTextConfig`.
    """

    layout: Layout = "auto"
    inputs: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    text: str | None = None
    group: str | None = None
    frames: int | Auto = "auto"
    size: int | Auto = "auto"
    length: int | Auto = "auto"
    augmentation: Augmentation = NO_AUGMENTATION
    validation_share: float | Auto = 0.2
    test_share: float = 0.2
    encoding: str | None = None
    seed: int = 0
    pieces: tuple[int, ...] = dataclasses.field(default=(), metadata={"added": True})

    reading: ClassVar[tuple[str, ...]] = ("inputs", "text", "encoding", "most_bytes")
    called: ClassVar[str] = "inputs"
    """What messages call the setting of `inputs`."""

    def __post_init__(self) -> None:
        for name in ("inputs", "labels", "pieces"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("frames", "size", "length"):
            if (value := getattr(self, name)) != "auto":
                check_size(f"data.{name}", value)
        shares = {"test_share": self.test_share}
        if self.validation_share not in ("auto", 0):
            shares = {"validation_share": self.validation_share, **shares}
        check_shares(**shares)
        check_seed("data.seed", self.seed)
        check_pieces(self.pieces)

    @property
    def _names(self) -> Names:
        return Names(*(getattr(self, field.name) for field in dataclasses.fields(Names)))

    def load(self) -> Any:
        """Reads what lies at the path, and splits its items.

        Raises:
            InputError: It cannot be read, it is not clear what is where in it, or there are too few
                items.
        """
        return self.load_as()

    def load_as(self, *, validation_share: float | None = None, train_share: float = 1.0) -> Any:
        """As `load`, in the protocol of an archive.

        Args:
            validation_share: Share of the training items to validate on, in [0, 1), of a source
                with a test split of its own; 0 validates on what is trained on.
            train_share: Share of the training items of each class that are trained on, in (0, 1].
        """
        self.file()
        found = read_found(str(self.path), self._names)
        official = validation_share is not None and "test" in found.splits
        return self._problem(found, validation_share if official else None, train_share)

    def of(self, values: Any) -> Any:
        """The problem on `(items, labels)` in memory, or `(items, labels, groups)`, or on a table.

        Items are an array of any layout, texts, or a `DataFrame` whose rows they are; labels names
        or numbers [item]. A `DataFrame` alone is read as a table with a header is.

        Raises:
            InputError: They do not fit each other, or there are too few.
        """
        if isinstance(values, pd.DataFrame):
            return self._problem(of_frame(values, self._names))
        require(
            isinstance(values, tuple) and len(values) in (2, 3),
            f"data must be items and their labels, (x, y), got {type(values).__name__}; give both",
        )
        inputs, labels, *groups = values
        given = groups[0] if groups else None
        return self._problem(given_arrays(inputs, labels, given, **self._given))

    @property
    def _given(self) -> dict[str, Any]:
        return {"layout": self.layout, "source": "memory", "targets": self.labels}

    def restore(self, path: str, state: Mapping[str, Any]) -> Data:
        """Reads the items of another file or folder for a trained run; labels are left out.

        Raises:
            InputError: It cannot be read, or it is not clear where its items are.
        """
        found = read_found(path, self._names_of(state), labelled=False)
        return self._unlabelled(found, state)

    def restore_values(self, values: Any, state: Mapping[str, Any]) -> Data:
        """Items in memory for a trained run, as in `of`, without labels.

        Raises:
            InputError: They are none.
        """
        if isinstance(values, pd.DataFrame):
            found = of_frame(values, self._names_of(state), labelled=False)
        else:
            found = given_arrays(values, None, None, **self._given)
        return self._unlabelled(found, state)

    def _names_of(self, state: Mapping[str, Any]) -> Names:
        """What is where in a table of other items: the columns of the run have their names."""
        if self.inputs or "channels" not in state:
            return self._names
        return dataclasses.replace(self._names, inputs=tuple(state["channels"]))

    def settled(self, data: Any) -> tuple[Self, dict[str, str]]:
        """The settings with the layout and the sizes that were found, see `DataConfig.settled`."""
        told = {
            name: of
            for name, of in data.report.get("found", {}).items()
            if getattr(self, name) == "auto"
        }
        config = dataclasses.replace(self, **{name: value for name, (value, _) in told.items()})
        return config, {f"data.{name}": f"{value}: {why}" for name, (value, why) in told.items()}

    @abstractmethod
    def _answers(self, found: Found, train: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        """Labels as numbers and the names of what they mean, by those of `train`, bool [item]."""

    @abstractmethod
    def _kinds(self, answers: np.ndarray) -> np.ndarray:
        """The number of a class of each item, of which each is split by the same shares [item]."""

    @abstractmethod
    def _marks(self, answers: np.ndarray, train: np.ndarray) -> np.ndarray:
        """What the words of a text are evidence for, bool [item, mark]."""

    @abstractmethod
    def _fields(self, splits: Mapping[str, LabelledSplit], names: Sequence[str], **own: Any) -> Any:
        """The problem on fields."""

    def _problem(
        self, found: Found, validation_share: float | None = None, train_share: float = 1.0
    ) -> Data:
        if found.files:
            return self._clips(found)
        found = found.labelled()
        chosen: dict[str, Any] = {"layout": (found.layout, "by what was read")}
        if validation_share is None:
            validation_share, chosen["validation_share"] = self._share()
        splits = np.asarray(found.splits or ["train"] * len(found))
        answers, names = self._answers(found, splits == "train")
        kinds = self._kinds(answers)
        rows, notes = self._split(found, kinds, names, validation_share)
        if train_share < 1:
            random, own = np.random.default_rng(self.seed), kinds[rows["train"]]
            rows["train"] = rows["train"][drawn_share(own, names, train_share, random=random)]
        notes = [*found.notes, *notes]
        # Items of a file of one split have the same numbers whatever lies beside it.
        groups = np.zeros(len(found), np.int64)
        for split in set(splits):
            groups[splits == split] = np.arange(np.count_nonzero(splits == split))
        if found.groups is not None:
            groups = np.unique(found.groups.astype(str), return_inverse=True)[1].ravel()
        apart, told = told_spacings(found.spacings)
        notes += told
        more: dict[str, Any] = {"fitted": {"spacing": apart}} if apart else {}
        if found.channels is not None:
            more = {"channels": found.channels, "fitted": {"channels": list(found.channels)}}
        if found.layout == "texts":
            lines = [words_of(text) for text in found.values]
            if empty := sum(not line for line in lines):
                notes.append(f"{empty:,} texts hold no word.")
            length, why = self._length([lines[at] for at in rows["train"]])
            chosen["length"] = length, why
            options: Any = {"longest": _LONGEST_WINDOW, "smoothing": _SMOOTHING}
            options |= {"seed": self.seed, "pieces": self.pieces}
            marks = self._marks(answers, np.isin(np.arange(len(found)), rows["train"]))
            fields, known = evidence_fields(lines, marks, rows, length=length, **options)
            more = {
                "words": {name: [lines[at] for at in of] for name, of in rows.items()},
                "fitted": known.state(),
            }
        else:
            cut = {id(of): found.values[of] for of in rows.values()}
            fields = {name: cut[id(of)] for name, of in rows.items()}
        parts = {
            name: LabelledSplit(fields[name], answers[rows[name]], groups[rows[name]])
            for name in _SPLITS
        }
        augmentation = None if self.augmentation == NO_AUGMENTATION else self.augmentation
        own = {"source": found.source, "augmentation": augmentation, "notes": notes}
        data: ItemFields = self._fields(parts, names, **own)
        data.report["found"] = {name: list(of) for name, of in chosen.items()}
        return dataclasses.replace(data, **more)

    def _split(
        self, found: Found, kinds: np.ndarray, names: Sequence[str], validation: float
    ) -> tuple[dict[str, np.ndarray], list[str]]:
        """Numbers of the items of each split, and what is told of it."""
        shares: Any = {"validation": validation, "test": self.test_share}
        classes = [str(name) for name in names] if kinds.any() else ["all"]
        drawn = [name for name, share in shares.items() if share and name not in found.splits]
        told = f"Of the items, those of {' and '.join(drawn)} are drawn at random"
        if found.groups is not None and not found.splits:
            groups, of = np.unique(found.groups.astype(str), return_inverse=True)
            alike = np.zeros(len(groups), np.int32)
            parts = class_splits(alike, ["all groups"], **shares, seed=self.seed)
            rows = {name: np.flatnonzero(np.isin(of.ravel(), part)) for name, part in parts.items()}
            return rows, [f"{told}, {len(groups):,} groups as a whole."]
        rows = class_splits(kinds, classes, **shares, seed=self.seed, told=found.splits)
        by_class = ", the same share of each class" if len(classes) > 1 else ""
        return rows, [f"{told}{by_class}."] if drawn else []

    def held_out(self) -> Self:
        """The settings with a fifth to validate on, where that is open."""
        share = _VALIDATED if self.validation_share == "auto" else self.validation_share
        return dataclasses.replace(self, validation_share=share)

    def _share(self) -> tuple[float, tuple[float, str]]:
        """The share to validate on, and how it was chosen."""
        if self.validation_share != "auto":
            return self.validation_share, (self.validation_share, "as told")
        why = "all that are not tested on are trained on, and validated on again"
        return 0.0, (0.0, why)

    def _length(self, lines: Sequence[Words]) -> tuple[int, str]:
        if self.length != "auto":
            return self.length, "as told"
        counts = [len(line) for line in lines]
        length = int(np.clip(np.quantile(counts, 0.95), _LONGEST_WINDOW, _MOST_WORDS))
        return length, f"19 of 20 texts have as many words or fewer, or more than {_MOST_WORDS}"

    @abstractmethod
    def _clips(self, found: Found) -> Data:
        """The problem on files of clips or pictures in folders of classes."""

    def _of_files(self, found: Found) -> dict[str, tuple[Any, str]]:
        """Layout, frames and size of files, and how they were chosen."""
        still = found.layout == "images"
        frames = (1, "pictures do not move") if still else (_FRAMES, "evenly spread over a clip")
        chosen = {"layout": (found.layout, "by the kind of files"), "frames": frames}
        if self.validation_share == "auto":
            chosen["validation_share"] = _VALIDATED, "a fifth"
        if self.size == "auto":
            sides = []
            for at in range(min(len(found.files), _SAMPLE)):
                with contextlib.suppress(InputError):  # What cannot be read is told later.
                    sides.append(min(found.values.items.open(at).shape[1:3]))
            side = int(np.clip(np.median(sides or [_MOST_SIDE]), 1, _MOST_SIDE))
            chosen["size"] = side, f"the usual shorter side, or {_MOST_SIDE}"
        return chosen

    def _of_clips(self, found: Found) -> LabelledClipsConfig:
        told = {name: value for name, (value, _) in self._of_files(found).items()}
        frames = told["frames"] if self.frames == "auto" else self.frames
        return LabelledClipsConfig(
            path=found.source,
            frames=frames,
            size=told.get("size", self.size),
            zoom=1.0,
            augmentation=self.augmentation,
            validation_share=vars(self.held_out())["validation_share"],
            test_share=self.test_share,
            seed=self.seed,
        )

    def _unlabelled(self, found: Found, state: Mapping[str, Any]) -> Data:
        if found.files:
            return self._of_clips(found).restore(found.source, state)
        values, notes = found.values, [*found.notes]
        if apart := state.get("spacing"):
            notes += told_spacings(found.spacings, trained=apart)[1]
        if found.layout == "texts":
            lines = [words_of(text) for text in values]
            length = self._length(lines)[0]
            values = Evidence.of_state(state, _LONGEST_WINDOW).fields(lines, length=length)
            if unknown := int((~values.any(axis=(1, 2))).sum()):
                notes.append(f"{unknown:,} texts hold no words that the run knows.")
        return UnlabelledFields.of(values, found.items, state, source=found.source, notes=notes)


@dataclass(frozen=True)
class LabelledConfig(ItemConfig):
    """Classification of items of any layout: what lies at `path` tells how it is read.

    | path | items and labels |
    |---|---|
    | a folder of folders, one for each class | their files: clips, pictures or arrays |
    | `.npz` | arrays, see `find_pairs`, or those named by `inputs` and `labels` |
    | a text file of numbers | series, the label first, as the UCR archive stores them |
    | a table with a header | a text, or numbers, and a label in each row |

    Folders, files and arrays called train, validation and test are the splits. What has none is
    split at random, each class by the same shares.

    Attributes:
        classes: The labels that are classes, in their order; those of the training items by
            default.
    """

    classes: tuple[str, ...] = ()

    def _answers(self, found: Found, train: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        labels = np.asarray(found.labels)
        name = f"the labels of {found.source}"
        if labels.ndim == 2 and labels.dtype.kind in "OUT":
            raise InputError(
                f"{name} must be one column for classes, got {listed(found.targets)}; name one"
            )
        if self.classes or labels.ndim == 2:
            return numbered(labels, self.classes or None, name)
        words = np.asarray([_word(label) for label in labels.tolist()], object)
        counts = Counter(words[train].tolist())
        numbers = _as_numbers(list(counts))
        fractions = numbers is not None and bool((numbers % 1).any())
        if fractions or (numbers is not None and len(counts) > max(_MANY, len(words) / _FEW)):
            raise InputError(
                f"{name} must be classes, got {len(counts):,} different numbers, such as "
                f"{shortened(next(iter(counts)))}; train regress on numbers, or name another "
                "column with labels="
            )
        by = np.argsort(numbers) if numbers is not None else np.argsort(list(counts))
        classes = tuple(list(counts)[at] for at in by)
        if unknown := sorted({*words} - {*classes}):
            at = int(np.isin(words, unknown).argmax())
            raise InputError(
                f"every class of {found.source} must have training items, got none of "
                f"{listed(unknown)}, the label of item {at}; add some, or leave these items out"
            )
        place = {word: at for at, word in enumerate(classes)}
        return np.asarray([place[word] for word in words], np.int32), classes

    def _kinds(self, answers: np.ndarray) -> np.ndarray:
        return answers

    def _marks(self, answers: np.ndarray, train: np.ndarray) -> np.ndarray:
        classes = range(1, 2) if answers.max() == 1 else range(answers.max() + 1)
        return np.stack([answers == number for number in classes], axis=1)

    def _fields(self, splits: Mapping[str, LabelledSplit], names: Sequence[str], **own: Any) -> Any:
        return LabelledFields.of(splits, names, **own)

    def _clips(self, found: Found) -> LabelledClips:
        data = self._of_clips(found).load()
        data.report["found"] = {name: list(of) for name, of in self._of_files(found).items()}
        if found.layout == "images":
            size = data.config.size
            note = f"Pictures were cut to their middle square and resized to {size} x {size}."
            data.report["notes"].append(note)
        return data


@dataclass(frozen=True)
class MeasuredConfig(ItemConfig):
    """Regression on items of any layout: numbers for each, read as in `LabelledConfig`.

    Labels are one column or array of numbers, or several: of each the number is told.
    """

    def _answers(self, found: Found, train: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        labels = np.asarray(found.labels).reshape(len(found), -1)
        columns = []
        for name, column in zip(found.targets, labels.T, strict=True):
            numbers = _as_numbers([_word(label) for label in column.tolist()])
            if numbers is None:
                words = [w for w in map(_word, column.tolist()) if _as_numbers([w]) is None]
                raise InputError(
                    f"the labels {name} of {found.source} must be numbers, got "
                    f"{shortened(words[0])!r}; train classify on names, or name another column "
                    "with labels="
                )
            columns.append(numbers)
        return np.stack(columns, axis=1), found.targets

    def _kinds(self, answers: np.ndarray) -> np.ndarray:
        return np.zeros(len(answers), np.int32)

    def _marks(self, answers: np.ndarray, train: np.ndarray) -> np.ndarray:
        return answers > np.median(answers[train], axis=0)

    def _fields(self, splits: Mapping[str, LabelledSplit], names: Sequence[str], **own: Any) -> Any:
        return MeasuredFields.of(splits, names, **own)

    def _clips(self, found: Found) -> Data:
        raise InputError(
            f"the items of {found.source} must have numbers as labels, got a folder of classes; "
            "train classify on it, or give an .npz file or a table"
        )


def _word(label: Any) -> str:
    """A label as text: whole numbers are told as such, whatever their type, codes as they stand."""
    text = str(label).strip()
    numbers = None if _CODE.match(text) else _as_numbers([text])
    return f"{numbers[0]:.0f}" if numbers is not None and numbers[0] % 1 == 0 else text


def _as_numbers(words: Sequence[str]) -> np.ndarray | None:
    """Words as finite numbers [word], None where one is none."""
    try:
        numbers = np.asarray([float(word) for word in words])
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None
