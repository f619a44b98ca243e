"""A table of texts with labels, tab-separated, and later texts without."""

import numpy as np
import pandas as pd
import pytest
from travelled import command, reported

pytestmark = pytest.mark.slow
GOOD, BAD = ("splendid", "warm", "clever", "lovely"), ("dull", "cold", "clumsy", "tired")


def lines(count, seed):
    """Sentences of some common words and one that tells."""
    random = np.random.default_rng(seed)
    labels = ["good", "bad"] * (count // 2)
    tells = [random.choice(GOOD if label == "good" else BAD) for label in labels]
    ends = random.choice(["film", "story", "evening, really", "cast"], count)
    texts = [f"what a {tell} {end}" for tell, end in zip(tells, ends, strict=True)]
    return pd.DataFrame({"id": range(count), "opinion": texts, "verdict": labels})


def test_texts_of_a_table_are_classified(tmp_path):
    lines(120, 0).to_csv(tmp_path / "opinions.tsv", sep="\t", index=False)
    command(
        *("train", "classify", "--data.path", tmp_path / "opinions.tsv", "--data.text", "opinion"),
        *("--data.labels", "verdict", "--model", "flat_patches", "--train.steps", 60),
        *("--workdir", tmp_path / "run"),
    )
    assert reported(tmp_path / "run")["test"]["model"]["accuracy"] > 0.8
    new = lines(8, 1)
    new.drop(columns="verdict").to_csv(tmp_path / "new.tsv", sep="\t", index=False)
    command("predict", tmp_path / "run", tmp_path / "new.tsv", tmp_path / "classes.csv")
    assert list(pd.read_csv(tmp_path / "classes.csv")["class"]) == list(new["verdict"])
