"""Volumes in an npz file whose arrays have names of their own."""

import numpy as np
import pandas as pd
import pytest
from travelled import command, reported

pytestmark = pytest.mark.slow


def scans(path, count, seed, *, labels=True):
    """Volumes of 8 x 8 x 8 cells, with a bright ball where something was found."""
    random = np.random.default_rng(seed)
    found = np.arange(count) % 2
    cells = np.indices((8, 8, 8)).transpose(1, 2, 3, 0)
    ball = (((cells - 3.5) ** 2).sum(-1) < 6).astype("f4")
    volumes = random.normal(size=(count, 8, 8, 8)) + 3 * found[:, None, None, None] * ball
    arrays = {"scans": volumes.astype("f4")}
    if labels:
        arrays["finding"] = np.where(found, "lesion", "none")
    np.savez(path, **arrays)
    return arrays


def test_volumes_with_keys_of_their_own_are_classified(tmp_path):
    scans(tmp_path / "clinic.npz", 60, seed=0)
    command(
        *("train", "classify", "--data.path", tmp_path / "clinic.npz", "--data.inputs", "scans"),
        *("--data.labels", "finding", "--model", "flat_patches", "--train.steps", 40),
        *("--workdir", tmp_path / "run"),
    )
    assert reported(tmp_path / "run")["test"]["model"]["accuracy"] > 0.8
    scans(tmp_path / "new.npz", 6, seed=1, labels=False)
    command("predict", tmp_path / "run", tmp_path / "new.npz", tmp_path / "findings.csv")
    table = pd.read_csv(tmp_path / "findings.csv", keep_default_na=False)
    assert list(table["class"]) == ["none", "lesion"] * 3
