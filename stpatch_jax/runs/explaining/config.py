"""What is to be explained, and how."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from stpatch_jax.errors import check_seed, check_size

Method = Literal["occlusion", "integrated_gradients", "smooth_grad", "attention_rollout"]


@dataclass(frozen=True)
class ExplainConfig:
    """Explains one answer of a run.

    That is a forecast, a class, an object (the confidence of what is detected in one window), the
    token that comes next, the mean of a hidden patch, or the mean of the answer of another task.

    Attributes:
        run: The run directory, where explanation.html, .md, .nc, .png and explanation_scores.png
            go.
        method: Which methods; all that fit the model by default.
        split: Split of the example: train, validation or test.
        example: Its number in the split, from the end where negative.
        target: Name of the series to explain the forecast of, by default the first; of the class,
            by default the one the model gives; of the object's class, by default that of the surest
            object; or the character, by default the one that comes.
        lead: Lead time of the forecast, in time steps, by default the last; the number of the
            object's frame, by default that of the surest object; or of the character, by default
            the last.
        window: Cells hidden at a time along time and each space axis; by default the window of the
            backbone or of the task, or a sixteenth of an axis where that is all of it.
        seed: Of noise, permutations and random weights.
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    method: tuple[Method, ...] = ()
    split: str = "test"
    example: int = -1
    target: str | None = None
    lead: int | None = None
    window: tuple[int, ...] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed("seed=", self.seed)
        for cells in self.window or ():
            check_size("window=", cells)
