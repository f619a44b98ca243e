"""Clips of other files: read as the run's own, and what is predicted of them, in their pixels."""

from typing import Any

import av
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib import image
from untrained import untrained

from stpatch_jax.data import EVERYTHING
from stpatch_jax.data.readers.video import open_video
from stpatch_jax.errors import InputError
from stpatch_jax.nn import Conv3DConfig, FlatPatchesConfig, PatchCNNConfig
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.recipes.video import ClipClassesConfig, ClipObjectsConfig, NextFramesConfig
from stpatch_jax.runs.predicting import predict, with_boxes, write_video
from stpatch_jax.tasks import ClassifyConfig, DetectConfig, ForecastConfig, ReconstructConfig

SMALL: Any = {"canvas": 16, "digit": 8, "train_clips": 10, "validation_clips": 2, "test_clips": 2}
CLASSES = ClipClassesConfig(**SMALL, occlusion=4, label="motion")


def read(config, path, state):
    return config.restore(str(path), state).source(EVERYTHING)


@pytest.fixture(scope="module")
def own():
    """Clips as the run itself makes them, and what it knows of its data."""
    data = CLASSES.load()
    return data.source("test"), data.state()


def test_clips_are_read_as_those_that_the_run_makes(own, tmp_path):
    source, state = own
    clips = np.stack([source[at]["field"] for at in range(2)])
    pixels = np.rint(255 * clips).astype(np.uint8)
    arrays = {"one.npy": clips[0], "many.npy": clips, "grey.npy": clips[..., 0], "u8.npy": pixels}
    for name, array in arrays.items():
        np.save(tmp_path / name, array)
        found = read(CLASSES, tmp_path / name, state)
        assert len(found) == (1 if name == "one.npy" else 2)
        for at, field in enumerate(example["field"] for example in found):
            assert field.dtype == np.float32
            np.testing.assert_allclose(field, clips[at], atol=0 if name[0] != "u" else 1 / 500)
    write_video(tmp_path / "a.mp4", np.repeat(pixels[0], 3, axis=-1), per_second=8)
    (video,) = read(CLASSES, tmp_path / "a.mp4", state)
    np.testing.assert_allclose(video["field"], clips[0], atol=0.15)


def test_larger_clips_are_resized_and_long_ones_spread(own, tmp_path):
    source, state = own
    clip = source[0]["field"]
    large = clip.repeat(2, axis=0).repeat(3, axis=1).repeat(3, axis=2)
    np.save(tmp_path / "a.npy", np.pad(large, [(0, 0), (0, 0), (5, 5), (0, 0)]))
    data = CLASSES.restore(str(tmp_path / "a.npy"), state)
    (note,) = data.report["notes"]
    assert "48 x 58 pixels" in note
    field = data.source(EVERYTHING)[0]["field"]
    assert np.corrcoef(field.ravel(), clip.ravel())[0, 1] > 0.95
    assert list(data.names(EVERYTHING)) == ["file"]


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.zeros((5, 16, 16)), "must have the 6 frames that an example of the run sees, got 5"),
        (np.full((6, 16, 16), 7, np.int16), "as uint8, or numbers from 0 to 1, got 7 to 7"),
        (np.full((6, 16, 16), np.nan), "numbers from 0 to 1, got nan"),
        (np.zeros((6, 16)), "must be a clip .* got shape \\(6, 16\\)"),
    ],
)
def test_what_is_no_such_clip_is_refused(own, tmp_path, array, told):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InputError, match=told):
        read(CLASSES, tmp_path / "a.npy", own[1])[0]


def test_the_class_of_a_clip_is_the_most_probable_one(own, tmp_path):
    run = untrained(CLASSES, Conv3DConfig(2, features=(4,), window=(1, 4, 4)), ClassifyConfig())
    np.save(tmp_path / "a.npy", clips := np.stack([own[0][at]["field"] for at in range(2)]))
    said = predict(run, str(tmp_path / "a.npy"), tmp_path / "a.csv", progress=False)
    assert said == f"2 rows: {tmp_path / 'a.csv'}"
    table = pd.read_csv(tmp_path / "a.csv")
    assert list(table.columns[:3]) == ["file", "item", "class"]
    expected = run.answers({"field": clips})
    np.testing.assert_allclose(table.iloc[:, 3:], expected, rtol=1e-5)
    classes = [name.removeprefix("probability_") for name in table.columns[3:]]
    assert list(table["class"]) == [classes[at] for at in expected.argmax(-1)]


def test_boxes_are_in_pixels_of_the_clip_and_every_frame_is_looked_at_once(tmp_path):
    config = ClipObjectsConfig(**SMALL, frames=2, digits=1)
    task = DetectConfig(score_threshold=0.0, iou_threshold=1.0)
    run = untrained(config, PatchCNNConfig(WindowSpec((1, 4, 4)), features=(4,)), task)
    # Even frames, which are the same in any size.
    frames = np.repeat(np.arange(5, dtype=np.float32) / 5, 256).reshape(5, 16, 16, 1)
    np.save(tmp_path / "small.npy", frames)
    large = frames.repeat(2, axis=1).repeat(2, axis=2)
    np.save(tmp_path / "large.npy", np.pad(large, [(0, 0), (0, 0), (8, 8), (0, 0)]))
    expected = run.answers({"field": frames[[0, 1, 2, 3, 3, 4]].reshape(3, 2, 16, 16, 1)})
    own = expected.boxes.reshape(6, 16, 4)[[0, 1, 2, 3, 5]]
    bounds = ["y_min", "x_min", "y_max", "x_max"]
    for name, scale, left in (("small", 1, 0), ("large", 2, 8)):
        target = tmp_path / f"{name}.csv"
        predict(run, str(tmp_path / f"{name}.npy"), target, progress=False)
        table = pd.read_csv(target)
        assert list(table) == ["file", "frame", "class", "score", *bounds]
        assert list(table["frame"]) == [at for at in range(5) for _ in range(16)]
        boxes = table[bounds].to_numpy().reshape(5, 16, 4)
        placed = own * scale + [0, left, 0, left]
        # Windows of even frames have the same score, in any order.
        found, expected = (sorted(map(tuple, of[3].round(2))) for of in (boxes, placed))
        np.testing.assert_allclose(found, expected, atol=0.03)
    for name in ("a.mp4", "a.png"):
        predict(run, str(tmp_path / "small.npy"), tmp_path / name, progress=False)
    assert open_video(tmp_path / "a.mp4").shape == (5, 256, 256, 3)
    assert image.imread(tmp_path / "a.png").shape[:2] == (258, 5 * 258)
    (tmp_path / "two").mkdir()
    np.save(tmp_path / "two/a.npy", frames)
    np.save(tmp_path / "two/b.npy", np.pad(large, [(0, 0), (0, 0), (8, 8), (0, 0)]))
    with pytest.raises(InputError, match=r"the folder of 2 pictures must be new, got .*two, which"):
        predict(run, str(tmp_path / "two"), tmp_path / "two.mp4", progress=False)
    said = predict(run, str(tmp_path / "two"), tmp_path / "each.png", progress=False)
    assert said.startswith(f"boxes of 2 clips: {tmp_path / 'each'}. Of frames of 32 x 48 pixels")
    assert sorted(path.name for path in (tmp_path / "each").iterdir()) == ["a.png", "b.png"]
    assert (tmp_path / "each/a.png").read_bytes() == (tmp_path / "a.png").read_bytes()


def test_a_box_is_drawn_around_what_it_bounds():
    frame = np.zeros((256, 256, 3), np.uint8)
    drawn = with_boxes(frame, np.array([[64.0, 32.0, 128.0, 96.0]]), [0], ["a"])
    there = np.argwhere(drawn.any(axis=-1))
    assert there.min(axis=0).tolist() == [64, 32]
    assert there.max(axis=0).tolist() == [127, 95]
    assert not drawn[100:120, 50:80].any()


def test_coming_frames_are_those_of_the_model_in_every_kind_of_file(tmp_path):
    config = NextFramesConfig(**SMALL, context=3, horizon=2, digits=1)
    task = ForecastConfig(residual="persistence")
    run = untrained(config, FlatPatchesConfig(WindowSpec((None, 4, 4))), task)
    clip = np.random.default_rng(1).random((7, 16, 16, 1), np.float32)
    np.save(tmp_path / "a.npy", clip)
    contexts = np.stack([clip[at : at + 3] for at in (0, 2, 4)])
    batch = {"context": contexts, "persistence": contexts[:, -1:]}
    expected = np.clip(run.answers(batch), 0, 1)
    made = {}
    for name in ("f.npz", "f.npy", "f.nc"):
        predict(run, str(tmp_path / "a.npy"), tmp_path / name, every=2, progress=False)
    with np.load(tmp_path / "f.npz") as arrays:
        made["npz"] = arrays["frames"]
        assert arrays["init_frame"].tolist() == [2, 4, 6]
        assert arrays["file"].tolist() == ["a.npy"] * 3
    made["npy"] = np.load(tmp_path / "f.npy")
    with xr.open_dataset(tmp_path / "f.nc") as stored:
        made["nc"] = stored.frames.values
        assert stored.lead_time.values.tolist() == [1, 2]
        assert stored.attrs["recipe"] == "untrained"
    for values in made.values():
        np.testing.assert_allclose(values, expected, rtol=1e-6)
    said = predict(run, str(tmp_path / "a.npy"), tmp_path / "f.mp4", every=2, progress=False)
    assert said == f"3 items: {tmp_path / 'f'}"
    assert sorted(file.name for file in (tmp_path / "f").iterdir()) == [
        *("a_2.mp4", "a_4.mp4", "a_6.mp4")
    ]
    with av.open(str(tmp_path / "f/a_6.mp4")) as video:
        shown = np.stack([frame.to_ndarray(format="gray") for frame in video.decode(video=0)])
    np.testing.assert_allclose(shown[:, 8::16, 8::16] / 255, expected[-1, ..., 0], atol=0.1)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        *("a.npy", "f", "f.nc", "f.npy", "f.npz")
    ]


def test_hidden_patches_are_filled_alike_alone_and_among_others(own, tmp_path):
    task = ReconstructConfig((2, 8, 8), mask_ratio=0.5)
    run = untrained(CLASSES, PatchCNNConfig(WindowSpec((2, 8, 8)), features=(4,)), task)
    clips = np.stack([own[0][at]["field"] for at in range(2)])
    np.save(tmp_path / "both.npy", clips)
    np.save(tmp_path / "last.npy", clips[1:])
    for name in ("both", "last"):
        predict(run, str(tmp_path / f"{name}.npy"), tmp_path / f"{name}.nc", progress=False)
    both, one = (xr.load_dataset(tmp_path / f"{name}.nc") for name in ("both", "last"))
    hidden, filled = both.hidden.values.astype(bool), both.field.values
    np.testing.assert_array_equal(one.field.values[0], filled[1])
    assert hidden.mean() == 0.5
    np.testing.assert_array_equal(filled[:, ~hidden], clips[:, ~hidden])
    made = run.answers({"field": clips[:1]})
    np.testing.assert_array_equal(filled[0][hidden], made[0][hidden])
