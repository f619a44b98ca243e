"""Folders of labelled clips: frames and squares, splits by file, damage, real video to a model."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stpatch_jax.data import Augmentation, AugmentedSource, LabelledClipsConfig
from stpatch_jax.data.labelled.clips import segments
from stpatch_jax.data.readers.video import open_video
from stpatch_jax.errors import InputError
from stpatch_jax.recipes import recipe
from stpatch_jax.runs import train


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 2**40))
def test_every_segment_gives_one_step(length, count, seed):
    edges = np.arange(count + 1) * length / count
    for steps in (segments(length, count), segments(length, count, random=draws(seed))):
        assert len(steps) == count
        assert ((np.floor(edges[:-1]) <= steps) & (steps <= edges[1:])).all()
        assert steps.min() >= 0
        assert steps.max() < length
        assert (np.diff(steps) >= 0).all()


def draws(seed):
    return np.random.default_rng(seed)


def write(folder, *, classes=("a", "b"), files=10):
    """Clips whose every value tells class, file and frame, of different lengths and sizes."""
    for label, name in enumerate(classes):
        (folder / name).mkdir()
        for file in range(files):
            value = 100 * label + file
            clip = np.zeros((3 + file % 4, 6 + file % 3, 9, 1))
            clip[:] = value + np.arange(len(clip)).reshape(-1, 1, 1, 1) / 10
            np.save(folder / name / f"{file:02}.npy", clip)
    return str(folder)


SMALL: dict[str, Any] = {"frames": 3, "size": 4}


def test_splits_share_no_file_and_each_class_is_in_all(tmp_path):
    data = LabelledClipsConfig(path=write(tmp_path), **SMALL).load()
    assert data.classes == ("a", "b")
    assert data.class_counts == (6, 6)
    groups = {}
    for split, count in {"train": 12, "validation": 4, "test": 4}.items():
        source = data.source(split)
        assert len(source) == count
        groups[split] = {int(source[i]["group"]) for i in range(count)}
        for i in range(count):
            example = source[i]
            assert example["field"].shape == (3, 4, 4, 1)
            assert example["field"].dtype == np.float32
            values = example["field"] * data.scaler.scale + data.scaler.center
            assert int(example["label"]) == int(values[0, 0, 0, 0] >= 100)
    assert sorted(number for of in groups.values() for number in of) == list(range(20))
    fields = np.stack([data.source("train")[i]["field"] for i in range(12)])
    assert fields.mean() == pytest.approx(0, abs=1e-5)
    assert fields.std() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("names", [("train", "val", "test"), ("train", "test"), ("train",)])
def test_splits_that_folders_tell_are_kept(names, tmp_path):
    (tmp_path / "x").mkdir()
    for name in names:
        (tmp_path / "x" / name).mkdir()
        write(tmp_path / "x" / name)
    data = LabelledClipsConfig(path=str(tmp_path / "x"), **SMALL).load()
    counts = {split: len(data.source(split)) for split in ("train", "validation", "test")}
    expected = {3: (20, 20, 20), 2: (16, 4, 20), 1: (12, 4, 4)}[len(names)]
    assert tuple(counts.values()) == expected
    told = f"The splits are those of the folders {', '.join(sorted(names))}."
    drawn = {3: (), 2: ("validation",), 1: ("validation", "test")}[len(names)]
    notes = [f"The {name} split is drawn from the training files." for name in drawn]
    assert data.report["notes"] == [told, *notes]


def test_training_draws_frames_and_squares_and_keeps_labels(tmp_path):
    changes = Augmentation(flip=(1,))
    config = LabelledClipsConfig(path=write(tmp_path), augmentation=changes, **SMALL)
    data = config.load()
    source = data.source("train")
    assert isinstance(source, AugmentedSource)
    assert not isinstance(data.source("test"), AugmentedSource)
    seen = set()
    for seed in range(30):
        drawn, plain = source.drawn(0, draws(seed)), source[0]
        assert (drawn["label"], drawn["group"]) == (plain["label"], plain["group"])
        assert drawn["field"].shape == plain["field"].shape
        assert drawn["field"].dtype == plain["field"].dtype
        np.testing.assert_array_equal(drawn["field"], source.drawn(0, draws(seed))["field"])
        seen.add(drawn["field"][:, 0, 0, 0].round(4).tobytes())
    assert len(seen) > 1


def test_clips_without_classes_are_seen_as_those_of_the_run(tmp_path):
    path = write(tmp_path)
    data = LabelledClipsConfig(path=path, **SMALL).load()
    (tmp_path / "new" / "inner").mkdir(parents=True)
    files = [tmp_path / "a" / "00.npy", tmp_path / "b" / "03.npy"]
    for file, name in zip(files, ("one.NPY", "inner/two.npy"), strict=True):
        (tmp_path / "new" / name).write_bytes(file.read_bytes())
    (tmp_path / "new" / "notes.txt").write_text("no clip")
    with pytest.warns(UserWarning, match=r"1 of 3 files are no items .* new/notes\.txt"):
        found = data.config.restore(str(tmp_path / "new"), data.state())
    assert found.names("all") == {"file": ["inner/two.npy", "one.NPY"]}
    assert found.classes == ("a", "b")
    seen = {}
    for split in ("train", "validation", "test"):
        source = data.source(split)
        seen |= {int(source[i]["group"]): source[i]["field"] for i in range(len(source))}
    source = found.source("all")
    for at, number in enumerate((13, 0)):
        assert source[at].keys() == {"field"}
        np.testing.assert_array_equal(source[at]["field"], seen[number])
    one = data.config.restore(str(files[0]), data.state())
    assert one.names("all") == {"file": ["00.npy"]}
    np.save(tmp_path / "colours.npy", np.zeros((3, 6, 6, 3)))
    with pytest.raises(InputError, match="must have the 1 channels of the run, got 3"):
        data.config.restore(str(tmp_path / "colours.npy"), data.state())
    with pytest.raises(InputError, match="there must be items at"):
        data.config.restore(str(tmp_path / "none"), data.state())


def test_what_cannot_be_opened_is_left_out_by_name(tmp_path):
    path = write(tmp_path)
    (tmp_path / "a" / "99.npy").write_bytes(b"no array")
    np.save(tmp_path / "b" / "98.npy", np.zeros((3, 4, 4, 2)))
    with pytest.warns(UserWarning, match=r"2 of 22 files left out: a/99.npy, b/98.npy; .*99.npy"):
        data = LabelledClipsConfig(path=path, **SMALL).load()
    assert set(data.report["unreadable"]) == {"a/99.npy", "b/98.npy"}
    assert data.class_counts == (6, 6)
    assert any("left out: a/99.npy, b/98.npy" in note for note in data.report["notes"])


def test_a_folder_without_a_readable_clip_says_why(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.npy").write_bytes(b"no array")
    with pytest.raises(InputError, match=r"got none; .*1\.npy must be a readable"):
        LabelledClipsConfig(path=str(tmp_path)).load()


def test_mistakes_are_told_in_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"frames must .*, got 0"):
        LabelledClipsConfig(frames=0)
    with pytest.raises(InputError, match=r"zoom must be in \(0, 1\], got 1.5"):
        LabelledClipsConfig(zoom=1.5)
    with pytest.raises(InputError, match="below 1 together"):
        LabelledClipsConfig(validation_share=0.5, test_share=0.5)
    with pytest.raises(InputError, match=r"data\.path must name the data"):
        LabelledClipsConfig().load()
    path = write(tmp_path, files=2)
    with pytest.raises(InputError, match="class a must have items for training and validation"):
        LabelledClipsConfig(path=path).load()


def test_frames_of_real_clips_are_those_of_their_files(data_dir, tmp_path):
    av = pytest.importorskip("av")
    folder = tmp_path / "clips"
    write_videos(av, data_dir / "video" / "mmaction2_demo.mp4", folder, count=10)
    data = LabelledClipsConfig(path=str(folder), frames=3, size=96, zoom=1.0).load()
    assert data.report["splits"]["train"] == {"dark": 3, "filmed": 3}
    names = sorted(path.relative_to(folder) for path in folder.rglob("*.mp4"))
    source = data.source("test")
    for i in range(len(source)):
        example = source[i]
        whole = open_video(folder / names[int(example["group"])]).values
        # The height of the files, so nothing is resized; frames 1, 3 and 5 of 6.
        square = (whole[1::2, :, 16:112] - data.scaler.center) / data.scaler.scale
        np.testing.assert_allclose(example["field"], square, atol=1e-4)
    train_source: Any = data.source("train")
    drawn = train_source.drawn(0, draws(0))
    assert drawn["field"].shape == (3, 96, 96, 3)


@pytest.mark.slow
def test_real_clips_are_learnt_from_their_files(data_dir, tmp_path):
    av = pytest.importorskip("av")
    write_videos(av, data_dir / "video" / "mmaction2_demo.mp4", tmp_path / "clips")
    base = recipe("clip")
    model: Any = base.model
    config = dataclasses.replace(
        base,
        data=dataclasses.replace(base.data, path=str(tmp_path / "clips"), frames=2, size=16),
        model=dataclasses.replace(
            model,
            spec=model.spec.replace(window=(1, 8, 8), stride=(1, 8, 8)),
            patch_features=(8, 8),
            grid_features=8,
            recurrent_features=8,
            dropout=0.0,
        ),
        train=dataclasses.replace(
            base.train,
            steps=40,
            batch_size=16,
            checkpoint_every=40,
            evaluate_every=40,
            optimizer=dataclasses.replace(base.train.optimizer, learning_rate=1e-2, warmup_steps=0),
        ),
    )
    text = train(config, workdir=tmp_path / "run", progress=False).report
    assert text.startswith("# clip\n")
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert set(report["test"]["classes"]) == {"dark", "filmed"}
    assert report["test"]["majority"]["accuracy"] == 0.5
    assert report["test"]["model"]["accuracy"] == 1.0
    assert (tmp_path / "run/plots/confusion.png").is_file()


def write_videos(av, clip, folder, *, count=20):
    """Short clips out of one real one: parts of it as they are, and darkened."""
    random = np.random.default_rng(0)
    with av.open(str(clip)) as container:
        frames = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)][:120:4])
    for number in range(count):
        first, top, left = (random.integers(0, n) for n in (20, 150, 200))
        part = frames[first : first + 6, top : top + 96, left : left + 128]
        part = part[::-1] if number % 4 >= 2 else part
        name = ("dark", "filmed")[number % 2]
        (folder / name).mkdir(parents=True, exist_ok=True)
        with av.open(str(folder / name / f"{number}.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.height, stream.width, stream.pix_fmt = 96, 128, "yuv420p"
            for pixels in part // 4 if name == "dark" else part:
                image = np.ascontiguousarray(pixels)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
