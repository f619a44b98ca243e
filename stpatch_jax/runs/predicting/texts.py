"""Texts that a model continues."""

from pathlib import Path

import jax
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from stpatch_jax.data.characters import GivenTexts
from stpatch_jax.errors import require
from stpatch_jax.files import has_suffix, replaced
from stpatch_jax.runs.predicting.predictor import Predictor, predictors
from stpatch_jax.tasks import NextToken

_LENGTH, _TEMPERATURE = 200, 0.8


@predictors(NextToken, GivenTexts)
class TextPredictor(Predictor):
    """Continues texts, character by character, drawn from the probabilities of the model.

    They are drawn at a temperature of 0.8 and from a fixed seed: the same command writes the same.
    A `.txt` is a text and what follows on it, a `.csv` has one row a text: `file`, `text` and
    `continuation`. As many characters are looked back at as in training.
    """

    suffixes = (".txt", *Predictor.suffixes)
    takes = ("length",)
    task: NextToken
    data: GivenTexts

    def table(self) -> pd.DataFrame:
        """As the class says."""
        window = self.run.shapes["tokens"][1] - 1
        how = {"length": self.request.length or _LENGTH, "temperature": _TEMPERATURE}
        written = []
        for text in tqdm(self.data.texts, desc="predicting", disable=not self.request.progress):
            prompt = text[None, -window:]
            tokens = self.task.sample(self.run.model, prompt, key=jax.random.key(0), **how)
            written.append(self.data.decode(np.asarray(tokens)[0, prompt.shape[1] :]))
        # The end of a line is what a text begins after.
        own = [self.data.decode(text[1:]) for text in self.data.texts]
        return pd.DataFrame({**self.names(), "text": own, "continuation": written})

    def write(self, target: Path) -> str:
        """As in `Predictor`."""
        if not has_suffix(target, ".txt"):
            return super().write(target)
        texts = len(self.data.texts)
        require(texts == 1, f"a .txt must be of one text, got {texts} for {target}; choose a .csv")
        (told,) = self.table().to_dict("records")
        with replaced(target) as part:
            part.write_text(f"{told['text']}{told['continuation']}\n", encoding="utf-8")
        return f"{len(told['continuation'])} characters: {target}"
