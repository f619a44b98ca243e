"""Masks of whole items of any size, from a run that was trained on crops."""

import re

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from stpatch_jax.data import SegmentedFieldsConfig
from stpatch_jax.errors import InputError
from stpatch_jax.nn import UNetConfig
from stpatch_jax.runs import RunConfig, load_run, predict, train
from stpatch_jax.tasks import SegmentConfig
from stpatch_jax.training import TrainConfig

pytestmark = pytest.mark.slow
RANDOM = np.random.default_rng(0)


def squares(count, height, width):
    """Bright squares in noise, whose mask is 255."""
    masks = np.zeros((count, height, width), np.uint8)
    for mask in masks:
        top, left = RANDOM.integers(0, (height - 8, width - 8))
        mask[top : top + 8, left : left + 8] = 255
    noise = RANDOM.normal(size=masks.shape)
    return np.clip(60 + 20 * noise + 0.5 * masks, 0, 255).astype(np.uint8), masks


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("masks")
    images, masks = squares(20, 24, 28)
    np.savez(folder / "pairs.npz", images=images, masks=masks)
    config = RunConfig(
        data=SegmentedFieldsConfig(path=str(folder / "pairs.npz"), crop=(16, 16)),
        model=UNetConfig(side=2, features=(8,)),
        task=SegmentConfig(),
        train=TrainConfig.cosine(60, 1e-2, batch_size=8, checkpoint_every=60, evaluate_every=60),
    )
    train(config, workdir=folder / "run", progress=False)
    return load_run(folder / "run")


def test_whole_items_come_back_in_the_values_of_the_masks(run, tmp_path):
    images, masks = squares(2, 40, 30)
    np.savez(tmp_path / "new.npz", images=images)
    told = predict(run, str(tmp_path / "new.npz"), tmp_path / "masks.npz", progress=False)
    assert told == f"2 items: {tmp_path / 'masks.npz'}"
    with np.load(tmp_path / "masks.npz") as made:
        found, sure = made["mask"], made["probability"]
    assert found.dtype == np.uint8
    assert set(np.unique(found)) == {0, 255}
    assert np.mean(found == masks) > 0.95
    assert ((sure >= 0.5) & (sure <= 1)).all()
    for given in (images, list(images)):
        held = run.predict(given)
        np.testing.assert_array_equal(held["mask"], found)
        np.testing.assert_array_equal(held["probability"], sure)
    Image.fromarray(images[1]).save(tmp_path / "one.png")
    predict(run, str(tmp_path / "one.png"), tmp_path / "mask.png", progress=False)
    with Image.open(tmp_path / "mask.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), found[1])
    predict(run, str(tmp_path / "new.npz"), tmp_path / "masks.nc", progress=False)
    with xr.open_dataset(tmp_path / "masks.nc", engine="netcdf4") as whole:
        np.testing.assert_array_equal(whole["mask"], found)
        assert list(whole.attrs["values"]) == [0, 255]


def test_items_of_several_sizes_have_a_mask_each(run, tmp_path):
    sizes = {"a.npy": (12, 20), "b.npy": (50, 17)}
    for name, size in sizes.items():
        np.save(tmp_path / name, squares(1, *size)[0][0])
    predict(run, str(tmp_path), tmp_path / "masks.npz", progress=False)
    with np.load(tmp_path / "masks.npz") as made:
        assert made["item"].tolist() == list(sizes)
        assert [made[f"mask_{at}"].shape for at in range(2)] == list(sizes.values())
        masks = [made[f"mask_{at}"] for at in range(2)]
    (tmp_path / "masks.npz").unlink()
    told = predict(run, str(tmp_path), tmp_path / "out.png", progress=False)
    assert told == f"2 items: {tmp_path / 'out'}"
    for name, mask in zip(("a", "b"), masks, strict=True):
        with Image.open(tmp_path / f"out/{name}.png") as picture:
            np.testing.assert_array_equal(np.asarray(picture), mask)
    with pytest.raises(InputError, match=re.escape("must be of one size for one array")):
        predict(run, str(tmp_path), tmp_path / "masks.npy", progress=False)


def test_what_is_no_image_of_the_run_is_refused(run, tmp_path):
    for value, told in [
        (np.zeros((3, 20, 20, 2), np.uint8), "must have 2 axes and 1 channels behind them"),
        (np.zeros((20, 20), np.float32), "must hold whole numbers from 0 to 255"),
        (np.zeros((20,), np.uint8), "must have 2 axes"),
    ]:
        np.save(tmp_path / "new.npy", value)
        with pytest.raises(InputError, match=re.escape(told)):
            predict(run, str(tmp_path / "new.npy"), tmp_path / "out.npz", progress=False)
    np.savez(tmp_path / "many.npz", a=np.zeros((1, 20, 20)), b=np.zeros((1, 20, 20)))
    with pytest.raises(InputError, match="name it with images="):
        predict(run, str(tmp_path / "many.npz"), tmp_path / "out.npz", progress=False)
