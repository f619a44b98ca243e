"""Clips of moving digits: laws of the motion, exact labels and boxes, disjoint splits, files."""

import dataclasses
import gzip
import re
from typing import Any

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy import ndimage

from stpatch_jax.data import batch_iterator
from stpatch_jax.errors import InputError
from stpatch_jax.recipes.video.data import ClipClassesConfig, ClipObjectsConfig, NextFramesConfig
from stpatch_jax.recipes.video.digits import Digits, ink_bounds, read_digits, read_idx
from stpatch_jax.recipes.video.moving_digits import HEADINGS, SPEED, MovingDigits, bounce

SMALL: Any = {"canvas": 16, "digit": 8, "train_clips": 40, "validation_clips": 5, "test_clips": 7}


@pytest.fixture(scope="module")
def digits():
    return read_digits(None, size=8)


def clips(digits, **options):
    fields = {"canvas": 20, "frames": 10} | options
    return MovingDigits(digits, (3, 1), **fields)


@given(
    hnp.arrays(float, (3, 2), elements=st.floats(0, 9)),
    hnp.arrays(float, (3, 2), elements=st.floats(-40, 40)),
)
def test_points_between_walls_stay_inside_and_keep_their_speed(start, velocity):
    places = bounce(start, velocity, 12, room=9.0)
    assert (places[0] == start).all() or np.allclose(places[0], start)
    place, speed = start.copy(), velocity.copy()
    for now in places[1:]:
        place = place + speed
        while (outside := (place < 0) | (place > 9)).any():
            place = np.where(place < 0, -place, np.where(place > 9, 18 - place, place))
            speed = np.where(outside, -speed, speed)
        np.testing.assert_allclose(now, place, atol=1e-9)
        np.testing.assert_array_equal(np.abs(speed), np.abs(velocity))


@settings(max_examples=20)
@given(st.integers(0, 2**40), st.booleans())
def test_a_digit_is_whole_in_every_frame_and_its_box_is_that_of_its_ink(digits, number, straight):
    made = clips(digits)
    clip = made.straight(number) if straight else made.bouncing(number)
    frames = clip.frames[..., 0]
    assert frames.shape == (10, 20, 20)
    assert frames.dtype == np.float32
    image = digits.images[digits.labels == clip.labels[0]]
    inks = image.sum(axis=(1, 2))
    assert np.abs(inks - frames[0].sum()).min() < 1e-4
    np.testing.assert_allclose(frames.sum(axis=(1, 2)), frames[0].sum(), rtol=1e-5)
    np.testing.assert_array_equal(clip.boxes[:, 0], ink_bounds(frames))
    assert clip.boxes.min() >= 0
    assert clip.boxes.max() <= 20


@settings(max_examples=20)
@given(st.integers(0, 2**40), st.integers(0, 7), st.integers(0, 9))
def test_a_straight_way_heads_where_it_should_at_its_speed(digits, number, heading, label):
    clip = clips(digits).straight(number, label=label, heading=heading)
    assert clip.heading == heading
    assert clip.labels.tolist() == [label]
    way = clip.boxes[-1, 0, :2] - clip.boxes[0, 0, :2]
    angle = np.deg2rad(45 * heading)
    expected = SPEED * 12 * 9 * np.array([np.sin(angle), np.cos(angle)])
    # Corners are whole cells, each up to half a cell away.
    np.testing.assert_allclose(way, expected, atol=1.0001)
    down, right = np.sign(np.rint(np.sin(angle) * 2)), np.sign(np.rint(np.cos(angle) * 2))
    assert ("down" in HEADINGS[heading]) == (down > 0)
    assert ("up" in HEADINGS[heading]) == (down < 0)
    assert ("right" in HEADINGS[heading]) == (right > 0)
    assert ("left" in HEADINGS[heading]) == (right < 0)


def test_overlapping_digits_are_the_brighter_of_both(digits):
    both = clips(digits, count=2, canvas=10).bouncing(5)
    alone = np.zeros((10, 2, 10, 10), np.float32)
    chosen = np.random.default_rng((3, 1, 5)).integers(len(digits), size=2)
    corners = both.boxes[..., :2].astype(int) - ink_bounds(digits.images[chosen])[:, :2]
    for frame in range(10):
        for digit in range(2):
            top, left = corners[frame, digit]
            image = digits.images[chosen[digit]]
            alone[frame, digit, top : top + 8, left : left + 8] = image
    np.testing.assert_array_equal(both.frames[..., 0], alone.max(axis=1))


def test_obstacle_and_noise_cover_what_they_say(digits):
    made = clips(digits, occlusion=6)
    bare, hidden = clips(digits).straight(2).frames, made.straight(2).frames
    changed = (bare != hidden).any(axis=(0, 3))
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    square = hidden[:, rows[0] : rows[0] + 6, columns[0] : columns[0] + 6]
    assert square.shape == (10, 6, 6, 1)
    assert (square == 0.5).all()
    assert changed.sum() == 36
    noisy = clips(digits, noise=0.2).straight(2).frames
    assert noisy.min() >= 0
    assert noisy.max() <= 1
    inside = (bare > 0.4) & (bare < 0.6)
    assert (noisy - bare)[inside].std() == pytest.approx(0.2, abs=0.05)


@pytest.mark.parametrize(
    "config",
    [
        NextFramesConfig(**SMALL, context=3, horizon=2),
        ClipClassesConfig(**SMALL, frames=4, occlusion=4),
        ClipClassesConfig(**SMALL, frames=4, occlusion=4, label="motion"),
        ClipObjectsConfig(**SMALL, frames=2),
    ],
    ids=["frames", "digit", "motion", "objects"],
)
def test_examples_depend_on_seed_and_number_only(config):
    data, again = config.load(), config.load()
    other = dataclasses.replace(config, seed=1).load()
    assert data.state() == again.state() != other.state()
    assert {split: len(data.source(split)) for split in data.generators} == config.clips
    source, repeated = data.source("train"), again.source("train")
    last = repeated[39]
    for name, values in source[-1].items():
        np.testing.assert_array_equal(values, last[name])
    field = "context" if "context" in last else "field"
    assert (other.source("train")[39][field] != last[field]).any()
    assert (data.source("test")[0][field] != source[0][field]).any()
    assert last[field].dtype == np.float32
    whole = next(batch_iterator(source, batch_size=4, seed=0, start_step=2))
    for process in range(2):
        share = batch_iterator(
            repeated, batch_size=4, seed=0, start_step=2, process_index=process, process_count=2
        )
        for name, values in next(share).items():
            np.testing.assert_array_equal(values, whole[name][process::2])
    with pytest.raises(IndexError, match="example 40 of 40"):
        source[40]
    with pytest.raises(InputError, match="'train', 'validation' or 'test', got 'all'"):
        data.source("all")


def test_splits_share_no_image_and_lose_none():
    count = 60
    images = np.arange(count, dtype=np.float32).reshape(-1, 1, 1)
    parts = Digits(images, np.arange(count) % 3, "here").splits(seed=5)
    dealt = [part.images.ravel().astype(int).tolist() for part in parts.values()]
    assert sorted(np.concatenate(dealt)) == list(range(count))
    assert [len(own) for own in dealt] == [42, 6, 12]
    for part, own in zip(parts.values(), dealt, strict=True):
        np.testing.assert_array_equal(part.labels, np.array(own) % 3)
        assert len(set(np.bincount(part.labels))) == 1
    with pytest.raises(InputError, match=r"class 0 of here must have at least 10 images .* got 9"):
        Digits(images[:9], np.zeros(9, int), "here").splits(seed=0)


def test_clips_of_the_next_frames_are_cut_in_two():
    data = NextFramesConfig(**SMALL, context=3, horizon=2).load()
    example = data.source("validation")[4]
    frames = data.generators["validation"].bouncing(4).frames
    np.testing.assert_array_equal(np.concatenate([example["context"], example["target"]]), frames)
    np.testing.assert_array_equal(example["persistence"][0], frames[2])
    assert example["target_mask"].all()
    assert example["index"] == 4
    assert data.report["splits"]["train"] == {"clips": 40, "digit_images": 1259}


@pytest.mark.parametrize("label", ["digit", "motion"])
def test_labels_are_what_is_shown_and_their_counts_are_exact(label):
    data = ClipClassesConfig(**SMALL, frames=4, occlusion=4, label=label).load()
    source = data.source("train")
    found = [int(source[number]["label"]) for number in range(len(source))]
    assert tuple(np.bincount(found, minlength=len(data.classes))) == data.class_counts
    for number in (0, 13):
        given = {"heading" if label == "motion" else "label": found[number]}
        clip = data.generators["train"].straight(number, **given)
        shown = clip.heading if label == "motion" else clip.labels[0]
        assert shown == found[number]
        np.testing.assert_array_equal(clip.frames, source[number]["field"])


def test_objects_are_counted_from_training_clips():
    data = ClipObjectsConfig(**SMALL, frames=3).load()
    source = data.source("train")
    stacked = {name: np.stack([clip[name] for clip in source]) for name in source[0]}
    boxes, label, mask = (stacked[name] for name in ("boxes", "label", "object_mask"))
    counts = np.bincount(label[mask], minlength=10)
    np.testing.assert_array_equal(3 * np.array(data.class_counts), counts)
    assert data.mean_box == pytest.approx(boxes[mask].astype(np.float64).mean(axis=0))


def test_images_are_scaled_as_scipy_does():
    bundled = read_digits(None, size=8).images
    larger = read_digits(None, size=28).images[7]
    expected: Any = ndimage.zoom(bundled[7], 3.5, order=1, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(larger, expected, atol=1e-5)
    # A triangle of two cells each way, cut at the rim.
    smaller = read_digits(None, size=4).images[7]
    taps = np.array([[1, 3, 3, 1]]) / 8
    padded = np.pad(bundled[7].astype(float), 1)
    inner = [taps @ padded[2 * i : 2 * i + 4, 2 * j : 2 * j + 4] @ taps.T for i, j in [(1, 1)]]
    assert smaller[1, 1] == pytest.approx(inner[0].item(), abs=1e-5)


def idx(array):
    head = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
    return head + array.astype(np.uint8).tobytes()


def test_files_of_mnist_are_read_plain_and_gzipped(tmp_path):
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (40, 6, 6)), np.arange(40) % 4
    plain, zipped = (tmp_path / f"some-images-idx3-ubyte{end}" for end in ("", ".gz"))
    plain.write_bytes(idx(images))
    zipped.write_bytes(gzip.compress(idx(images)))
    for path in (plain, zipped):
        other = path.with_name(path.name.replace("images-idx3", "labels-idx1"))
        other.write_bytes(gzip.compress(idx(labels)))
        found = read_digits(str(path), size=6)
        np.testing.assert_array_equal(found.images, (images / 255).astype(np.float32))
        np.testing.assert_array_equal(found.labels, labels)
        assert found.classes == ("0", "1", "2", "3")


def test_the_digits_of_mnist_are_read_from_the_catalog(data_dir):
    found = read_digits("catalog:mnist_images", size=28)
    assert found.images.shape == (10000, 28, 28)
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(found.labels).tolist() == counts


def test_files_that_do_not_fit_are_refused_in_one_sentence(tmp_path):
    def refused(message, path):
        with pytest.raises(InputError, match=re.escape(message)):
            read_digits(str(path), size=6)

    path, other = tmp_path / "a-images-idx3-ubyte", tmp_path / "a-labels-idx1-ubyte"
    refused("must be a file of images named ...images-idx3-ubyte", tmp_path / "a.png")
    refused("there must be a file in the IDX format at", path)
    path.write_bytes(idx(np.zeros((3, 6, 6)))[:-1])
    refused("must be bytes with 3 axes in the IDX format of MNIST", path)
    path.write_bytes(b"\x1f\x8bno")
    refused("must be a readable file in the IDX format, got", path)
    path.write_bytes(idx(np.zeros((3, 6, 6))))
    other.write_bytes(idx(np.zeros(2)))
    refused("one image for each label", path)
    path.write_bytes(idx(np.zeros((3, 6, 5))))
    refused("must hold square images, got 6 x 5", path)
    other.write_bytes(b"")
    with pytest.raises(InputError, match="must be bytes with 1 axes"):
        read_idx(other, axes=1)


@pytest.mark.parametrize(
    ("config", "fields", "message"),
    [
        (NextFramesConfig, {"digit": 64}, "data.digit must be in [2, 64), got 64"),
        (NextFramesConfig, {"test_clips": 0}, "data.test_clips must be a whole number >= 1"),
        (NextFramesConfig, {"seed": -1}, "data.seed must be a whole number >= 0"),
        (NextFramesConfig, {"horizon": 0}, "data.horizon must be a whole number >= 1"),
        (ClipClassesConfig, {"frames": 12}, "data.frames must be in [1, 11]"),
        (ClipClassesConfig, {"label": "x"}, "data.label must be 'digit' or 'motion'"),
        (ClipClassesConfig, {"occlusion": 32}, "data.occlusion must be in"),
        (ClipClassesConfig, {"noise": -0.1}, "data.noise must be at least 0"),
        (ClipObjectsConfig, {"digits": 0}, "data.digits must be a whole number >= 1"),
    ],
)
def test_bad_settings_are_refused(config, fields, message):
    with pytest.raises(InputError, match=re.escape(message)):
        config(**fields)
