"""An n-gram model of bytes with interpolated back-off: what a text network should beat."""

from collections.abc import Sequence

import numpy as np

SYMBOLS = 256


class NGram:
    """Interpolated Kneser-Ney over bytes, the absolute discount of each order from its counts.

    With the history h, its latest symbols h', and the counts c of the longest order (of shorter
    ones: the number of different symbols seen before the n-gram),

        p(w | h) = (max(c(h w) - D, 0) + D * N(h) * p(w | h')) / c(h)

    where N(h) is the number of different symbols seen after h and `D = n1 / (n1 + 2 n2)` comes from
    how many n-grams were counted once and twice. An unseen history leaves `p(w | h')`; below single
    symbols all 256 are equally likely.

    Args:
        texts: Training texts, uint8 each [symbol]; no n-gram reaches from one to the next.
        order: Length of the n-grams, 1 to 7.

    References:
        Chen and Goodman, "An empirical study of smoothing techniques for language modeling",
        Computer Speech and Language 13 (1999).
    """

    def __init__(self, texts: Sequence[np.ndarray], order: int = 5):
        self.order = order
        self.tables = [_Table(texts, length, order) for length in range(1, order + 1)]

    def probability(self, history: np.ndarray, symbol: np.ndarray) -> np.ndarray:
        """The probability of symbols, each after a history.

        Args:
            history: uint8 [n, order - 1], the latest symbol last.
            symbol: uint8 [n].

        Returns:
            float64 [n].
        """
        found = np.full(len(symbol), 1 / SYMBOLS)
        keys = symbol.astype(np.uint64)
        past = np.zeros(len(symbol), np.uint64)
        for at, table in enumerate(self.tables):
            if at:
                place = history[:, -at].astype(np.uint64) << np.uint64(8 * at)
                keys, past = keys | place, past | place
            found = table.interpolated(keys, past, found)
        return found

    def bits(self, text: np.ndarray) -> np.ndarray:
        """Information of every symbol of a text but the first `order - 1`, in bits."""
        windows = np.lib.stride_tricks.sliding_window_view(text, self.order)
        return -np.log2(self.probability(windows[:, :-1], windows[:, -1]))


class _Table:
    """The counts of one order: n-grams as numbers, the latest symbol in the lowest byte."""

    def __init__(self, texts: Sequence[np.ndarray], length: int, order: int):
        # A shorter n-gram counts once for each symbol it was seen after (continuation counts).
        seen = [_keys(text, length if length == order else length + 1) for text in texts]
        grams, counts = np.unique(np.concatenate(seen), return_counts=True)
        if length < order:
            mask = np.uint64((1 << 8 * length) - 1)
            grams, counts = np.unique(grams & mask, return_counts=True)
        once, twice = (counts == 1).sum(), (counts == 2).sum()
        self.discount = float(once / (once + 2 * twice)) if once else 0.5
        self.grams, self.counts = grams, counts
        past = grams & ~np.uint64(SYMBOLS - 1)
        self.pasts, starts, self.followers = np.unique(past, return_index=True, return_counts=True)
        self.totals = np.add.reduceat(counts, starts)

    def interpolated(self, keys: np.ndarray, past: np.ndarray, lower: np.ndarray) -> np.ndarray:
        total = _looked_up(self.pasts, self.totals, past)
        count = _looked_up(self.grams, self.counts, keys)
        followers = _looked_up(self.pasts, self.followers, past)
        own = np.maximum(count - self.discount, 0) + self.discount * followers * lower
        return np.where(total > 0, own / np.maximum(total, 1), lower)


def _keys(text: np.ndarray, length: int) -> np.ndarray:
    """All n-grams of a text as numbers, in order."""
    count = max(len(text) - length + 1, 0)
    keys = np.zeros(count, np.uint64)
    for at in range(length):
        keys = keys << np.uint64(8) | text[at : at + count].astype(np.uint64)
    return keys


def _looked_up(names: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The values of some names, sorted; 0 of a name that is not there."""
    at = np.minimum(np.searchsorted(names, wanted), len(names) - 1)
    return np.where(names[at] == wanted, values[at], 0)
