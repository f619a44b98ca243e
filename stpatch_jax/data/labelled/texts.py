"""Texts as fields: what windows of words tell of the labels of their lines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stpatch_jax.data.labelled.fields import k_fold
from stpatch_jax.errors import require

_PARTS = 10
Words = Sequence[str]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What windows of words tell.

    Attributes:
        numbers: The number of each window that is known.
        ratios: Its log-count ratios [window, mark].
        longest: Number of words of the longest windows.
    """

    numbers: Mapping[tuple[str, ...], int]
    ratios: np.ndarray
    longest: int

    @classmethod
    def of_state(cls, state: Mapping[str, Any], longest: int) -> "Evidence":
        """Undoes `state`.

        Raises:
            InputError: The run is older than that.
        """
        require(
            "windows" in state,
            "the run must tell the words that it knows, got one of an older version; train it anew",
        )
        windows = np.asarray(state["windows"], np.uint8).tobytes().decode().split("\n")
        numbers = {tuple(window.split(" ")): at for at, window in enumerate(windows)}
        return cls(numbers, np.asarray(state["ratios"]).reshape(len(numbers), -1), longest)

    def state(self) -> dict[str, np.ndarray]:
        """The windows as text, one a line, and their ratios, as arrays that a run saves."""
        text = "\n".join(map(" ".join, self.numbers))
        return {"windows": np.frombuffer(text.encode(), np.uint8), "ratios": self.ratios}

    def of(self, line: Words, *, length: int) -> np.ndarray:
        """The evidence of the windows of a line's first `length` words, float32.

        Each stands at its last word and once [length, longest * mark], those of one word first.
        """
        evidence = np.zeros((length, self.longest, self.ratios.shape[-1]), np.float32)
        # Backwards, so that of a repeated window the first place stays.
        first = {window: at for at, window in reversed(windows(line[:length], self.longest))}
        for window, last in first.items():
            if window in self.numbers:
                evidence[last, len(window) - 1] = self.ratios[self.numbers[window]]
        return evidence.reshape(length, -1)

    def fields(self, lines: Sequence[Words], *, length: int) -> np.ndarray:
        """The evidence of lines [line, length, longest * mark], float32."""
        return np.stack([self.of(line, length=length) for line in lines])


class WindowCounts:
    """How many training lines hold each window of words, and how many of these bear a mark.

    Args:
        lines: The words of each training line.
        marks: Whether each line bears each mark, 0 or 1, [line] or [line, mark].
        longest: Number of words of the longest windows; all shorter ones are counted too.
    """

    def __init__(self, lines: Sequence[Words], marks: np.ndarray, longest: int):
        numbers: dict[tuple[str, ...], int] = {}
        held = [
            sorted({numbers.setdefault(w, len(numbers)) for _, w in windows(line, longest)})
            for line in lines
        ]
        self.numbers = numbers
        self.size = len(self.numbers)
        self._marks = np.asarray(marks).reshape(len(lines), -1).astype(bool)
        self.marks = self._marks.shape[1]
        self._ids = np.fromiter((number for ids in held for number in ids), np.int64)
        self._lines = np.repeat(np.arange(len(lines)), list(map(len, held)))
        lengths = np.fromiter(map(len, self.numbers), np.int64, self.size)
        self._of_length = [lengths == n for n in range(1, longest + 1)]

    def _counted(self, chosen: np.ndarray) -> np.ndarray:
        """Number of chosen lines that hold each window [window]."""
        return np.bincount(self._ids[chosen[self._lines]], minlength=self.size)

    def ratios(self, *, smoothing: float, without: Sequence[int] | np.ndarray = ()) -> np.ndarray:
        """The log-count ratio of each window, for each mark against its absence [window, mark].

        Training lines `without` are not counted; a window that no other line holds has 0.
        """
        counted = np.ones(len(self._marks), bool)
        counted[np.asarray(without, np.int64)] = False
        ratios = np.zeros((self.size, self.marks))
        for at, mark in enumerate(self._marks.T):
            counts = np.stack([self._counted(counted & ~mark), self._counted(counted & mark)])
            for of_length in self._of_length:
                seen = of_length & (counts.sum(axis=0) > 0)
                smoothed = counts[:, seen] + smoothing
                logs = np.log(smoothed / smoothed.sum(axis=1, keepdims=True))
                ratios[seen, at] = logs[1] - logs[0]
        return ratios


def evidence_fields(
    lines: Sequence[Words],
    marks: np.ndarray,
    rows: Mapping[str, np.ndarray],
    *,
    length: int,
    longest: int,
    smoothing: float,
    seed: int,
) -> tuple[dict[str, np.ndarray], Evidence]:
    """Lines as the evidence of their windows for marks [line] or [line, mark] of training lines.

    The evidence of a training line is counted without the tenth of the training lines that it
    belongs to, so a network sees in training what a new line will show it.

    Args:
        lines: The words of all lines.
        marks: Whether each line bears each mark, see `WindowCounts`.
        rows: Numbers of the lines of `train` and other splits.
        length: Number of words of an example.
        longest: Number of words of the longest windows.
        smoothing: What is added to each count.
        seed: Decides which training lines are left out together.

    Returns:
        By split fields [line, length, longest * mark], and the evidence of all training lines.

    References:
        Wang and Manning, "Baselines and bigrams: simple, good sentiment and topic classification",
        ACL 2012. Wolpert, "Stacked generalization", Neural Networks 5 (1992).
    """
    given: Any = lines
    words = [given[at] for at in rows["train"]]
    own = marks[rows["train"]]
    counts = WindowCounts(words, own, longest)
    # Of several marks each combination counts as a class of its own where it is often enough.
    kinds = np.unique(own.reshape(len(words), -1), axis=0, return_inverse=True)[1].ravel()
    stratified = bool(np.bincount(kinds).min() >= _PARTS)
    fields = {}
    train = np.zeros((len(words), length, longest * counts.marks), np.float32)
    for _, held in k_fold(kinds, min(_PARTS, len(words)), seed=seed, stratified=stratified):
        ratios = counts.ratios(smoothing=smoothing, without=held)
        others = Evidence(counts.numbers, ratios, longest)
        for at in held:
            train[at] = others.of(words[at], length=length)
    fields["train"] = train
    known = Evidence(counts.numbers, counts.ratios(smoothing=smoothing), longest)
    for name in rows.keys() - {"train"}:
        fields[name] = known.fields([given[at] for at in rows[name]], length=length)
    return fields, known


def windows(line: Words, longest: int) -> list[tuple[int, tuple[str, ...]]]:
    """All windows of 1, 2, ... words of a line, each behind the position of its last word.

    >>> windows(["not", "bad"], 2)
    [(0, ('not',)), (1, ('bad',)), (1, ('not', 'bad'))]
    """
    return [
        (last, tuple(line[last + 1 - n : last + 1]))
        for n in range(1, longest + 1)
        for last in range(n - 1, len(line))
    ]
