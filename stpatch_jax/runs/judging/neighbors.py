"""The nearest neighbour among the training examples: the rule that needs no training."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stpatch_jax.data import Data

# So many training examples, numbers of these, and products are what the rule may cost.
_MOST_KEPT, _MOST_VALUES, _MOST_PRODUCTS = 1024, 2**24, 2**36
_BLOCK = 128


@dataclass(frozen=True, eq=False)
class Neighbors:
    """What the nearest training example of each example of a split has for an answer.

    Attributes:
        answers: The answers [example, ...].
        kept: How many training examples were looked at, evenly spread over all.
        count: How many there are.
    """

    answers: np.ndarray
    kept: int
    count: int

    @property
    def told(self) -> dict[str, int]:
        """Both numbers, for a report."""
        return {"kept": self.kept, "of": self.count}


def nearest_neighbors(data: Data, split: str, answer: str) -> Neighbors | None:
    """The `answer` of the training example nearest to each example of a split.

    Nearest is what has the least Euclidean distance between fields as the network sees them, the
    first of several. None where fields are no floats, as those of tokens.
    """
    train, tested = data.source("train"), data.source(split)
    first = train[0]["field"]
    if first.dtype.kind != "f":
        return None
    limits = _MOST_VALUES // first.size, _MOST_PRODUCTS // (first.size * max(len(tested), 1))
    kept = max(1, min(len(train), _MOST_KEPT, *limits))
    chosen = [train[int(at)] for at in np.linspace(0, len(train) - 1, kept).round()]
    answers = np.stack([example[answer] for example in chosen])
    fields = np.stack([example["field"].ravel() for example in chosen])
    squares = np.einsum("kv,kv->k", fields, fields) / 2
    found: list[Any] = []
    for start in range(0, len(tested), _BLOCK):
        rows = range(start, min(start + _BLOCK, len(tested)))
        block = np.stack([tested[row]["field"].ravel() for row in rows])
        # The distance less what is the same for all neighbours.
        found.append(answers[(squares - block @ fields.T).argmin(axis=1)])
    return Neighbors(np.concatenate(found), kept, len(train))


def neighbors_line(test: Mapping[str, Any]) -> list[str]:
    """A line on the training examples that the nearest neighbour was looked for among, if fewer."""
    told = test.get("neighbors")
    if not told or told["kept"] == told["of"]:
        return []
    return [
        f"The nearest neighbour was looked for among {told['kept']:,} of {told['of']:,} training "
        "examples.",
        "",
    ]
