"""Folders of clips as mp4, one for each class; later a folder of clips that nobody has seen."""

import numpy as np
import pandas as pd
import pytest
from travelled import command, reported

pytestmark = pytest.mark.slow
av = pytest.importorskip("av")


def clip(path, shift, seed):
    """A bright bar that moves to one side, on noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    start = random.integers(0, 32)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for time in range(12):
            frame = random.integers(0, 60, (32, 32, 3), dtype=np.uint8)
            frame[:, (start + 2 * shift * time + np.arange(6)) % 32] = 230
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())


def test_clips_are_classified_and_new_ones_too(tmp_path):
    shifts = {"left": -1, "right": 1}
    for number in range(10):
        for name, shift in shifts.items():
            clip(tmp_path / "clips" / name / f"{number}.mp4", shift, number)
    command(
        *("train", "classify", "--data.path", tmp_path / "clips", "--data.size", 16),
        *("--train.steps", 60, "--train.batch-size", 8, "--workdir", tmp_path / "run"),
    )
    report = reported(tmp_path / "run")
    assert report["test"]["classes"]["left"]
    for number in range(4):
        clip(tmp_path / "new" / f"clip{number}.mp4", [-1, 1][number % 2], 100 + number)
    command("predict", tmp_path / "run", tmp_path / "new", tmp_path / "classes.csv")
    table = pd.read_csv(tmp_path / "classes.csv")
    assert list(table["file"]) == [f"clip{number}.mp4" for number in range(4)]
    assert list(table["class"]) == ["left", "right"] * 2
    shares = table[["probability_left", "probability_right"]]
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
