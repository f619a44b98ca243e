"""How well the characters of texts are predicted, and lines that the model writes."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from stpatch_jax.data import Batch, TextData
from stpatch_jax.runs.judging.judge import Judge, Judged, Tree, judges
from stpatch_jax.runs.judging.question import Asked, Question, with_words
from stpatch_jax.runs.judging.tables import metric_table
from stpatch_jax.runs.judging.verdict import Losses
from stpatch_jax.tasks import NextToken
from stpatch_jax.training import replicate

SAMPLES = {0.5: 3, 0.8: 3}
"""How many lines a report shows of each temperature."""

_LONGEST_LINE = 160
_SHOWN = 24


@judges(NextToken, object)
class TextJudge(Judge):
    """Judges predictions of the next character.

    Its rows, by text: `count`, how many characters are scored, and under `nats` by rule the sum of
    their information, `-log p`.
    """

    needs = TextData
    task: NextToken
    data: TextData

    def __call__(self, model: nnx.Module, split: str, *, past: Judged | None = None) -> Judged:
        """As in `Judge`; of the test split with lines that the model wrote."""
        judged = super().__call__(model, split, past=past)
        written = {"lines": self._written(model)} if split == "test" else {}
        return dataclasses.replace(judged, shown=written)

    @property
    def inputs(self) -> Sequence[str]:
        """What is predicted and what of it is scored."""
        return ("tokens", "token_mask")

    def outputs(self, model: Any, batch: Mapping[str, Any]) -> Tree:
        """The information of each text by rule [batch], which a vocabulary's logits are not."""
        rules = {"model": self.task.predict(model, batch), **self.task.baselines(batch)}
        return {name: _information(found, batch) for name, found in rules.items()}

    def rows(self, batch: Batch, answers: Tree) -> Tree:
        """The information and the number of the scored characters of each text."""
        nats = {name: values.astype(np.float64) for name, values in answers.items()}
        return {"nats": nats, "count": batch["token_mask"][:, 1:].sum(axis=1, dtype=np.float64)}

    def validation(self, judged: Judged) -> dict[str, float]:
        """Bits per character."""
        return {"bits_per_char": bits_per_char(judged.rows, "model")}

    def losses(self, judged: Judged) -> Losses | None:
        """The information of the characters of each text."""
        return Losses("bits per character", judged.rows["nats"], judged.rows["count"])

    def report(self, judged: Judged) -> dict[str, Any]:
        """Bits per character and perplexity by rule, and the model's lines."""
        bits = {name: bits_per_char(judged.rows, name) for name in judged.rows["nats"]}
        with np.errstate(over="ignore"):
            perplexity = {name: float(np.exp2(n)) for name, n in bits.items()}
        return {
            "characters": int(judged.rows["count"].sum()),
            **{k: {"bits_per_char": bits[k], "perplexity": perplexity[k]} for k in bits},
            "lines": {f"{heat:g}": lines for heat, lines in judged.shown.get("lines", {}).items()},
        }

    def markdown(self, report: Mapping[str, Any]) -> list[str]:
        """The model beside the naive rules, then what it wrote."""
        test = report["test"]
        rules = {name: of for name, of in test.items() if name not in ("characters", "lines")}
        metrics = {"bits_per_char": "bits per character", "perplexity": "perplexity"}
        return [
            f"Test: {test['characters']:,} characters; of bits per character less is better.",
            "",
            *metric_table("", metrics, rules),
            "Lines that the model wrote:",
            "",
            *(f"- temperature {heat}: {line}" for heat, of in test["lines"].items() for line in of),
            "",
        ]

    def question(self, asked: Asked) -> Question:
        """The log-probability of one token given those before it, by default of the last."""
        tokens = np.asarray(asked.example["tokens"])
        real = np.flatnonzero(asked.example["token_mask"][1:]) + 1
        lead = asked.lead_of(len(tokens) - 1, "the number of a character") or int(real[-1])
        signs = self.data.symbols(np.arange(len(self.data.token_counts)))
        label = int(tokens[lead])
        if asked.target is not None:
            label = signs.index(asked.choice(sorted(set(signs)), ""))

        def answer(model: Any, inputs: Mapping[str, jax.Array]) -> jax.Array:
            return jax.nn.log_softmax(model(inputs["tokens"])[:, lead - 1], axis=-1)[:, label]

        field = asked.field(tokens[:-1, None].astype(np.float32))
        field = field.assign_coords(channel=["token"]).assign_attrs(units="number of the token")
        before = "".join(self.data.symbols(tokens[max(0, lead - _SHOWN) : lead]))
        return asked.question(
            with_words(field, self.data.symbols(tokens[:-1])),
            answer,
            name="tokens",
            title=f"{asked.name}: log-probability of {signs[label]} after {before}, truly "
            f"{signs[tokens[lead]]}",
            unit="nats",
            place=((lead, lead + 1),) if lead < len(field) else None,
        )

    def _written(self, model: nnx.Module) -> dict[float, list[str]]:
        """Lines begun anew and written to their end, the same at every call."""
        whole, key = replicate(model, self.mesh), jax.random.key(0)
        lines = {}
        for temperature, count in SAMPLES.items():
            # The end of a line is what a line begins after.
            prompt = np.full((count, 1), ord("\n"))
            how: Any = {"length": _LONGEST_LINE, "temperature": temperature, "key": key}
            with jax.set_mesh(self.mesh):
                tokens = self.task.sample(whole, prompt, **how)
            lines[temperature] = [self.data.decode(row) for row in np.asarray(tokens)[:, 1:]]
        return lines


def bits_per_char(rows: Tree, name: str) -> float:
    """Mean information of a character in bits, under a rule."""
    return float(rows["nats"][name].sum() / rows["count"].sum() / math.log(2))


def _information(log_probability: jax.Array, batch: Mapping[str, Any]) -> jax.Array:
    """Sum of `-log p` over the scored tokens of each text [batch]."""
    label, mask = batch["tokens"][:, 1:], batch["token_mask"][:, 1:]
    own = jnp.take_along_axis(log_probability, label[..., None], axis=-1)[..., 0]
    return -jnp.sum(jnp.where(mask, own, 0.0), axis=1)
