"""A table of texts with labels, tab-separated, and later texts without."""

import numpy as np
import pandas as pd
import pytest
from travelled import command, reported

pytestmark = pytest.mark.slow
TELLS = {
    "good": ("splendid", "warm", "clever", "lovely"),
    "bad": ("dull", "cold", "clumsy", "tired"),
    "fair": ("decent", "mild", "usual", "passable"),
}


def lines(count, seed):
    """Sentences of some common words and one that tells."""
    random = np.random.default_rng(seed)
    labels = list(TELLS) * (count // 3)
    tells = [random.choice(TELLS[label]) for label in labels]
    ends = random.choice(["film", "story", "evening, really", "cast"], count)
    texts = [f"what a {tell} {end}" for tell, end in zip(tells, ends, strict=True)]
    return pd.DataFrame({"id": range(count), "opinion": texts, "verdict": labels})


def test_texts_of_a_table_are_classified(tmp_path):
    lines(180, 0).to_csv(tmp_path / "opinions.tsv", sep="\t", index=False)
    command(
        *("train", "classify", "--data.path", tmp_path / "opinions.tsv", "--data.text", "opinion"),
        *("--data.labels", "verdict", "--data.pieces", 4, 5, "--model", "flat_patches"),
        *("--train.steps", 60),
        *("--workdir", tmp_path / "run"),
    )
    assert reported(tmp_path / "run")["test"]["model"]["accuracy"] > 0.8
    new = lines(9, 1)
    # Words that no training text holds are told by their pieces.
    new["opinion"] = new["opinion"].str.replace(r"(what a \w+)", r"\1ish", regex=True)
    new.drop(columns="verdict").to_csv(tmp_path / "new.tsv", sep="\t", index=False)
    command("predict", tmp_path / "run", tmp_path / "new.tsv", tmp_path / "classes.csv")
    assert list(pd.read_csv(tmp_path / "classes.csv")["class"]) == list(new["verdict"])
