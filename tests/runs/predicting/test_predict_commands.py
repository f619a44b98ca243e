"""From a recipe to predictions of files by the commands themselves, a recipe of each kind."""

import numpy as np
import pandas as pd
import pytest

from stpatch_jax import cli
from stpatch_jax.data.readers.video import open_video
from stpatch_jax.runs import load_run

SMALL = "--data.canvas 16 --data.digit 8 --data.validation-clips 2 --data.test-clips 2 "
SHORT = "--train.steps 2 --train.checkpoint-every 2 --train.evaluate-every 2 --train.batch-size 8 "


def run(tmp_path, recipe, flags):
    directory = str(tmp_path / "run")
    words = (flags + SHORT).split()
    assert cli.main(["train", recipe, "--workdir", directory, *words]) == 0
    return directory


@pytest.mark.slow
def test_boxes_and_frames_of_a_video(tmp_path, capsys):
    flags = f"{SMALL} --model.features 4 8 --task.score-threshold 0 --task.max-detections 2 "
    directory = run(tmp_path, "video-detection", flags)
    clip = np.random.default_rng(0).random((6, 16, 16)).astype(np.float32)
    np.save(tmp_path / "clip.npy", clip)
    for name in ("boxes.csv", "boxes.mp4"):
        command = ["predict", directory, str(tmp_path / "clip.npy"), str(tmp_path / name)]
        assert cli.main(command) == 0
    table = pd.read_csv(tmp_path / "boxes.csv")
    assert list(table["frame"]) == [at for at in range(6) for _ in range(2)]
    expected = load_run(directory).answers({"field": clip[[[0, 1, 2, 3], [2, 3, 4, 5]], ..., None]})
    boxes = table[["y_min", "x_min", "y_max", "x_max"]].to_numpy()
    own = np.concatenate([expected.boxes[0], expected.boxes[1, 2:]]).reshape(-1, 4)
    np.testing.assert_allclose(boxes, own, rtol=1e-4, atol=1e-4)
    assert len(open_video(tmp_path / "boxes.mp4")) == 6
    # What it makes of a video is a video that it reads.
    again = ["predict", directory, str(tmp_path / "boxes.mp4"), str(tmp_path / "again.csv")]
    assert cli.main(again) == 0
    assert cli.main([*again[:3], str(tmp_path / "none/again.csv")]) == 2
    assert "must lie in a folder that is there, got" in capsys.readouterr().err
    made = {file.name for file in tmp_path.iterdir()}
    assert made == {"run", "clip.npy", "boxes.csv", "boxes.mp4", "again.csv"}


@pytest.mark.slow
def test_a_text_goes_on(tmp_path):
    (tmp_path / "text.txt").write_text("a line of a text\n" * 60, encoding="utf-8")
    flags = f"--data.path {tmp_path / 'text.txt'} --data.window 16 --data.context 4 "
    directory = run(tmp_path, "language", flags)
    (tmp_path / "start.txt").write_text("a line", encoding="utf-8")
    command = ["predict", directory, str(tmp_path / "start.txt"), str(tmp_path / "next.txt")]
    assert cli.main([*command, "--length", "12"]) == 0
    written = (tmp_path / "next.txt").read_bytes().decode()
    assert written.startswith("a line")
    assert len(written) == 6 + 12 + 1
