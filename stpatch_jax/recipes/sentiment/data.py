"""Lines of text of two classes, as evidence of their windows of words."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from stpatch_jax.data import (
    DataConfig,
    Evidence,
    LabelledFields,
    LabelledSplit,
    UnlabelledFields,
    k_fold,
    read_labelled_lines,
    read_labelled_table,
)
from stpatch_jax.data.labelled.fields import drawn_share
from stpatch_jax.data.labelled.texts import check_pieces, evidence_fields
from stpatch_jax.data.protocols import stored_encoding
from stpatch_jax.data.readers import TEXT_TABLES, read_texts, text_pair, words_of
from stpatch_jax.errors import check_range, check_seed, check_size, listed, require


@dataclass(frozen=True)
class LabelledTextConfig(DataConfig):
    """Classification of texts of two classes, in one fold of a cross-validation.

    `path` is one of the pair NAME.pos and NAME.neg, see `text_pair`, which hold one text a line, or
    a table of texts and labels, see `read_labelled_table`; for words see `words_of`. An example is
    a line
    [length, channel]: channel n - 1 at word t is the evidence of the window of n words that ends
    there, its naive Bayes log-count ratio

        log((p + s) / sum(p + s)) - log((q + s) / sum(q + s)),

    when p positive and q negative training lines hold the window. It is 0 for a window that no
    training line holds, for a repeated one, and behind the end of the line. The evidence of a
    training line is counted without the tenth of the training lines that it belongs to, so a
    network sees in training what a new line will show it.

    Attributes:
        fold: Number of the fold to test on, from 0.
        folds: Number of folds.
        validation_share: Share of the other folds to validate on, each class alike, in (0, 1).
        longest_window: Number of words of the longest windows, the number of channels.
        smoothing: What is added to each count, s.
        length: Number of words of an example; the words of longer lines behind it are left out.
        encoding: How the characters are stored, see `open_text`; known of the catalog's files.
        text: Column of the texts of a table.
        label: Column of the labels of a table.
        classes: The labels of a table that are classes, in their order; those found by default.
        seed: Decides the folds and which lines are validated on.
        pieces: Numbers of letters of the pieces of words that are evidence too, in a channel of
            their own, at their word. With some, a ridge logistic regression weighs the ratios of
            all windows and pieces of a line together; without, evidence is the ratios themselves.

    References:
        Wang and Manning, "Baselines and bigrams: simple, good sentiment and topic classification",
        ACL 2012. Wolpert, "Stacked generalization", Neural Networks 5 (1992).
    """

    fold: int = 0
    folds: int = 10
    validation_share: float = 0.1
    longest_window: int = 3
    smoothing: float = 0.5
    length: int = 64
    encoding: str | None = None
    text: str | None = None
    label: str | None = None
    classes: tuple[str, ...] = ()
    seed: int = 0
    pieces: tuple[int, ...] = dataclasses.field(default=(), metadata={"added": True})

    reading: ClassVar[tuple[str, ...]] = ("encoding", "text", "label", "classes", "most_bytes")

    def __post_init__(self) -> None:
        check_size("data.folds", self.folds, least=2)
        check_size("data.fold", self.fold, least=0)
        check_seed("data.seed", self.seed)
        check_range("data.fold", self.fold, 0, self.folds, bounds="[)")
        check_range("data.validation_share", self.validation_share, 0, 1, bounds="()")
        check_range("data.smoothing", self.smoothing, 0, math.inf, bounds="()")
        check_size("data.longest_window", self.longest_window)
        check_size("data.length", self.length, least=self.longest_window)
        object.__setattr__(self, "pieces", tuple(self.pieces))
        check_pieces(self.pieces)

    def load(self) -> LabelledFields:
        """Reads both files and counts the windows of the training lines.

        Raises:
            InputError: A file is missing or cannot be read, or has too few lines.
        """
        path = self.file()
        pair = text_pair(str(self.path))
        encoding = stored_encoding(str(self.path), self.encoding)
        if pair and self.text is None and self.label is None:
            items = read_labelled_lines(pair, encoding=encoding)
        else:
            require(
                self.text is not None or str(path).lower().endswith(TEXT_TABLES),
                f"data.path must be one file of a pair NAME.pos and NAME.neg, or a table of texts "
                f"and labels ({', '.join(TEXT_TABLES)}), got {path}; name one of these",
            )
            columns = {"text": self.text, "label": self.label, "classes": self.classes or None}
            items = read_labelled_table(path, **columns, encoding=encoding)
        require(
            len(items.classes) == 2,
            f"the texts of {path} must be of two classes, got {listed(items.classes)}; keep the "
            "lines of two of them",
        )
        lines = [words_of(line) for line in items.items]
        parts = self._parts(items.labels, items.classes)
        fields, known = evidence_fields(
            lines,
            items.labels,
            parts,
            length=self.length,
            longest=self.longest_window,
            smoothing=self.smoothing,
            seed=self.seed,
            pieces=self.pieces,
        )
        splits = {
            name: LabelledSplit(fields[name], items.labels[rows], rows)
            for name, rows in parts.items()
        }
        data = LabelledFields.of(splits, items.classes, source=str(path))
        longer = sum(len(line) > self.length for line in lines)
        data.report.update(windows=len(known.numbers), lines_cut=longer, fold=self.fold)
        read = {name: [lines[row] for row in rows] for name, rows in parts.items()}
        channels = tuple(f"{n + 1} word{'s' * (n > 0)}" for n in range(self.longest_window))
        channels += ("pieces",) * bool(self.pieces)
        return dataclasses.replace(data, words=read, channels=channels, fitted=known.state())

    def restore(self, path: str, state: Mapping[str, Any]) -> UnlabelledFields:
        """Reads texts for a trained run, see `read_texts`; labels beside them are left out.

        Raises:
            InputError: The file cannot be read, or it is not clear which column holds the texts.
        """
        numbers, texts, notes = read_texts(path, text=self.text, encoding=self.encoding)
        lines = [words_of(text) for text in texts]
        known = Evidence.of_state(state, self.longest_window)
        fields = known.fields(lines, length=self.length)
        if longer := sum(len(line) > self.length for line in lines):
            notes.append(f"{longer:,} texts were cut behind {self.length} words.")
        if unknown := int((~fields.any(axis=(1, 2))).sum()):
            notes.append(f"{unknown:,} texts hold no words that the run knows.")
        return UnlabelledFields.of(fields, {"line": numbers}, state, source=path, notes=notes)

    def _parts(self, labels: np.ndarray, classes: Sequence[str]) -> Mapping[str, np.ndarray]:
        rest, test = k_fold(labels, self.folds, seed=self.seed)[self.fold]
        random = np.random.default_rng((self.seed, self.fold))
        share = self.validation_share
        held = drawn_share(labels[rest], classes, share, random=random)
        return {"train": rest[~held], "validation": rest[held], "test": test}
