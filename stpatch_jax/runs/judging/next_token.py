"""How well the characters of a whole split are predicted, and lines that the model writes."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from stpatch_jax.data import Characters
from stpatch_jax.runs.judging.judge import Evaluator, Kept
from stpatch_jax.tasks import NextToken
from stpatch_jax.training import replicate

SAMPLES = {0.5: 3, 0.8: 3}
"""How many lines a report shows of each temperature."""

_LONGEST_LINE = 160


@dataclasses.dataclass(frozen=True, eq=False)
class SplitTokens:
    """The information of the characters of every example of one split.

    Attributes:
        nats: By name (`model` and the naive rules), the sum over the scored characters of each
            example [example], `-log p`.
        count: Number of scored characters of each example [example].
        lines: Lines that the model wrote, by temperature; of the test split only.
    """

    nats: dict[str, np.ndarray]
    count: np.ndarray
    lines: Mapping[float, list[str]]

    def bits_per_char(self, name: str) -> float:
        """Mean information of a character in bits."""
        return float(self.nats[name].sum() / self.count.sum() / math.log(2))


class TextModeller(Evaluator):
    """Judges predictions of the next character; see `Evaluator`."""

    def __init__(self, task: NextToken, data: Characters, mesh: Mesh, *, batch_size: int):
        def nats(model: Any, batch: Mapping[str, Any]) -> dict[str, jax.Array]:
            rules = {"model": task.predict(model, batch), **task.baselines(batch)}
            return {name: _information(found, batch) for name, found in rules.items()}

        super().__init__(nats, ("tokens", "token_mask"), data, mesh, batch_size=batch_size)
        self.task = task
        self.data: Characters = data

    def __call__(self, model: nnx.Module, split: str) -> SplitTokens:
        """Predicts every scored character of a split, without dropout."""
        kept = Kept()
        for batch, found in self.predicted(model, split):
            count = batch["token_mask"][:, 1:].sum(axis=1)
            kept.add({**found, "/count": count}, batch["example_mask"])
        arrays = {name: values.astype(np.float64) for name, values in kept.arrays().items()}
        lines = self._lines(model) if split == "test" else {}
        return SplitTokens(count=arrays.pop("/count"), nats=arrays, lines=lines)

    def summary(self, model: nnx.Module, split: str) -> dict[str, float]:
        """Bits per character."""
        return {"bits_per_char": self(model, split).bits_per_char("model")}

    def report(self, predictions: SplitTokens) -> dict[str, Any]:
        """The figures of one split: bits per character and perplexity, and the model's lines."""
        bits = {name: predictions.bits_per_char(name) for name in predictions.nats}
        return {
            "characters": int(predictions.count.sum()),
            **{name: {"bits_per_char": n, "perplexity": 2.0**n} for name, n in bits.items()},
            "lines": {f"{heat:g}": found for heat, found in predictions.lines.items()},
        }

    def _lines(self, model: nnx.Module) -> dict[float, list[str]]:
        """Lines begun anew and written to their end, the same at every call."""
        whole, key = replicate(model, self.mesh), jax.random.key(0)
        lines = {}
        for temperature, count in SAMPLES.items():
            # The end of a line is what a line begins after.
            prompt = np.full((count, 1), ord("\n"))
            with jax.set_mesh(self.mesh):
                tokens = self.task.sample(
                    whole, prompt, length=_LONGEST_LINE, temperature=temperature, key=key
                )
            lines[temperature] = [self.data.decode(row) for row in np.asarray(tokens)[:, 1:]]
        return lines


def _information(log_probability: jax.Array, batch: Mapping[str, Any]) -> jax.Array:
    """Sum of `-log p` over the scored tokens of each example [batch]."""
    label, mask = batch["tokens"][:, 1:], batch["token_mask"][:, 1:]
    own = jnp.take_along_axis(log_probability, label[..., None], axis=-1)[..., 0]
    return -jnp.sum(jnp.where(mask, own, 0.0), axis=1)
