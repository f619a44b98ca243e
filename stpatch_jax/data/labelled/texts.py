"""Texts as fields: what windows of words tell of the labels of their lines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stpatch_jax.data.labelled.fields import k_fold
from stpatch_jax.errors import check_size, require

_PARTS = 10
# Ridge of the logistic regression; and what a piece counts beside a window, as a word has several.
_RIDGE, _OF_PIECE = 3.0, 0.4
_DIGITS = 4
Words = Sequence[str]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What windows of words, and pieces of them, tell.

    Attributes:
        numbers: The number of each window that is known, as `windows` writes it.
        ratios: Its log-count ratios [window, mark], as they are or weighed.
        longest: Number of words of the longest windows.
        pieces: Numbers of letters of the pieces.
    """

    numbers: Mapping[str, int]
    ratios: np.ndarray
    longest: int
    pieces: tuple[int, ...] = ()

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
        numbers = {window: at for at, window in enumerate(windows)}
        ratios = np.asarray(state["ratios"]).reshape(len(numbers), -1)
        return cls(numbers, ratios, longest, tuple(np.asarray(state.get("pieces", ())).tolist()))

    def state(self) -> dict[str, np.ndarray]:
        """The windows as text, one a line, and their ratios, as arrays that a run saves."""
        windows = np.frombuffer("\n".join(self.numbers).encode(), np.uint8)
        pieces = {"pieces": np.asarray(self.pieces, np.int32)} if self.pieces else {}
        return {"windows": windows, "ratios": self.ratios, **pieces}

    def of(self, line: Words, *, length: int) -> np.ndarray:
        """The evidence of the windows of a line's first `length` words, float32.

        Each stands at its last word and once [length, channel * mark]: a channel of the windows of
        one word first, one of the sums of all pieces of a word last.
        """
        channels = self.longest + bool(self.pieces)
        evidence = np.zeros((length, channels, self.ratios.shape[-1]), np.float32)
        # Backwards, so that of a repeated window the first place stays.
        found = reversed(windows(line[:length], self.longest, pieces=self.pieces))
        first = {window: (at, channel) for at, channel, window in found}
        if known := [window for window in first if window in self.numbers]:
            numbers = [self.numbers[window] for window in known]
            places = np.array([first[window] for window in known])
            np.add.at(evidence, tuple(places.T), self.ratios[numbers])
        return evidence.reshape(length, -1)

    def fields(self, lines: Sequence[Words], *, length: int) -> np.ndarray:
        """The evidence of lines [line, length, channel * mark], float32."""
        return np.stack([self.of(line, length=length) for line in lines])


class WindowCounts:
    """How many training lines hold each window of words, and how many of these bear a mark.

    Args:
        lines: The words of each training line.
        marks: Whether each line bears each mark, 0 or 1, [line] or [line, mark].
        longest: Number of words of the longest windows; all shorter ones are counted too.
        pieces: Numbers of letters of the pieces of words that are counted too.
    """

    def __init__(
        self,
        lines: Sequence[Words],
        marks: np.ndarray,
        longest: int,
        *,
        pieces: tuple[int, ...] = (),
    ):
        # SciPy takes long to import, and few data are texts.
        from scipy.sparse import csr_array

        numbers: dict[str, int] = {}
        channels, held = [], []
        for line in lines:
            own = {window: channel for _, channel, window in windows(line, longest, pieces=pieces)}
            for window, channel in own.items():
                if window not in numbers:
                    numbers[window] = len(numbers)
                    channels.append(channel)
            held.append(np.sort(np.array([numbers[window] for window in own], np.int64)))
        self.numbers = numbers
        self.size = len(self.numbers)
        self._marks = np.asarray(marks).reshape(len(lines), -1).astype(bool)
        self.marks = self._marks.shape[1]
        ids, starts = np.concatenate(held), np.cumsum([0, *map(len, held)])
        shape = len(lines), self.size
        self._held = csr_array((np.ones(len(ids), np.float32), ids, starts), shape=shape)
        self._of_channel = [np.equal(channels, channel) for channel in range(longest + 1)]

    def _but(self, without: Sequence[int] | np.ndarray) -> np.ndarray:
        """Whether each line is counted [line]."""
        counted = np.ones(len(self._marks), bool)
        counted[np.asarray(without, np.int64)] = False
        return counted

    def ratios(self, *, smoothing: float, without: Sequence[int] | np.ndarray = ()) -> np.ndarray:
        """The log-count ratio of each window, for each mark against its absence [window, mark].

        Training lines `without` are not counted; a window that no other line holds has 0.
        """
        counted = self._but(without)
        ratios = np.zeros((self.size, self.marks))
        for at, mark in enumerate(self._marks.T):
            counts = (np.stack([counted & ~mark, counted & mark]) @ self._held).astype(float)
            for of_channel in self._of_channel:
                seen = of_channel & (counts.sum(axis=0) > 0)
                smoothed = counts[:, seen] + smoothing
                logs = np.log(smoothed / smoothed.sum(axis=1, keepdims=True))
                ratios[seen, at] = logs[1] - logs[0]
        return ratios

    def weighed(self, *, smoothing: float, without: Sequence[int] | np.ndarray = ()) -> np.ndarray:
        """`ratios`, each times its weight in a logistic regression of a mark [window, mark].

        It sees of the same lines the ratios of all windows that they hold, and has a ridge, so that
        windows that tell the same share what they tell. A line's sum is then its log-odds but for a
        constant. To four digits it is the same in whatever order what is seen is added up.
        """
        ratios, counted = self.ratios(smoothing=smoothing, without=without), self._but(without)
        ratios[self._of_channel[-1]] *= _OF_PIECE
        held = self._held[counted]
        for at, mark in enumerate(self._marks.T):
            ratios[:, at] *= _logistic_weights(held, ratios[:, at], mark[counted])
        # How many threads add up changes the last digits, and a run knows its data by all of them.
        return np.round(ratios, _DIGITS)


def _logistic_weights(held: Any, ratios: np.ndarray, mark: np.ndarray) -> np.ndarray:
    """The weight of each window for a mark [line], of lines that hold windows [line, window]."""
    from scipy.optimize import minimize

    signs, back = np.where(mark, 1.0, -1.0), held.T.tocsr()

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        own = weights[:-1]
        margins = signs * (held @ (ratios * own) + weights[-1])
        slopes = -signs * np.exp(-np.logaddexp(0, margins))
        gradient = np.append(ratios * (back @ slopes) + _RIDGE * own, slopes.sum())
        return np.logaddexp(0, -margins).sum() + _RIDGE / 2 * own @ own, gradient

    options: Any = {"maxiter": 100, "ftol": 1e-6, "maxcor": 5}
    start = np.zeros(len(ratios) + 1)
    return minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x[:-1]


def evidence_fields(
    lines: Sequence[Words],
    marks: np.ndarray,
    rows: Mapping[str, np.ndarray],
    *,
    length: int,
    longest: int,
    smoothing: float,
    seed: int,
    pieces: tuple[int, ...] = (),
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
        pieces: Numbers of letters of the pieces of words that are evidence too. With some, the
            evidence is weighed, see `WindowCounts`; without, it is log-count ratios.

    Returns:
        By split fields [line, length, channel * mark], and the evidence of all training lines.

    References:
        Wang and Manning, "Baselines and bigrams: simple, good sentiment and topic classification",
        ACL 2012. Wolpert, "Stacked generalization", Neural Networks 5 (1992). Bojanowski et al.,
        "Enriching word vectors with subword information", TACL 2017, the pieces.
    """
    given: Any = lines
    words = [given[at] for at in rows["train"]]
    own = marks[rows["train"]]
    counts = WindowCounts(words, own, longest, pieces=pieces)
    told = counts.weighed if pieces else counts.ratios
    # Of several marks each combination counts as a class of its own where it is often enough.
    kinds = np.unique(own.reshape(len(words), -1), axis=0, return_inverse=True)[1].ravel()
    stratified = bool(np.bincount(kinds).min() >= _PARTS)
    fields = {}
    channels = longest + bool(pieces)
    train = np.zeros((len(words), length, channels * counts.marks), np.float32)
    for _, held in k_fold(kinds, min(_PARTS, len(words)), seed=seed, stratified=stratified):
        ratios = told(smoothing=smoothing, without=held)
        others = Evidence(counts.numbers, ratios, longest, pieces)
        for at in held:
            train[at] = others.of(words[at], length=length)
    fields["train"] = train
    known = Evidence(counts.numbers, told(smoothing=smoothing), longest, pieces)
    for name in rows.keys() - {"train"}:
        # What is validated on again has told the evidence, which would know it by heart.
        again = np.array_equal(rows[name], rows["train"])
        own = train if again else known.fields([given[at] for at in rows[name]], length=length)
        fields[name] = own
    return fields, known


def windows(
    line: Words, longest: int, *, pieces: tuple[int, ...] = ()
) -> list[tuple[int, int, str]]:
    """All windows of 1, 2, ... words of a line, each behind the place of its last word and channel.

    Pieces of words follow: of a word between < and > all that have one of these lengths. They begin
    with white space, as no window does.

    >>> windows(["not", "bad"], 2)
    [(0, 0, 'not'), (1, 0, 'bad'), (1, 1, 'not bad')]
    >>> windows(["bad"], 1, pieces=(4,))
    [(0, 0, 'bad'), (0, 1, ' <bad'), (0, 1, ' bad>')]
    """
    of_words = [
        (last, n - 1, " ".join(line[last + 1 - n : last + 1]))
        for n in range(1, longest + 1)
        for last in range(n - 1, len(line))
    ]
    return of_words + [
        (at, longest, f" {word[start : start + n]}")
        for at, word in enumerate(f"<{word}>" for word in line)
        for n in pieces
        for start in range(len(word) - n + 1)
    ]


def check_pieces(pieces: tuple[int, ...]) -> None:
    """Refuses lengths of pieces that are none."""
    for length in pieces:
        check_size("data.pieces", length)
