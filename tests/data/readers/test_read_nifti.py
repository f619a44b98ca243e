"""Volumes of NIfTI files against nibabel: values, places, and masks that lie elsewhere."""

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr

from stpatch_jax.data import LabelledConfig, SegmentedFieldsConfig
from stpatch_jax.data.readers.nifti import read_nifti
from stpatch_jax.errors import InputError
from stpatch_jax.runs.predicting import MaskPredictor

nibabel = pytest.importorskip("nibabel")
AFFINE = np.array([[-2.0, 0, 0, 5], [0, 0, 1.5, 6], [0, 3, 0, 7], [0, 0, 0, 1]])
SHAPE = (6, 5, 4)


def saved(path, values, affine=AFFINE, **scaling):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(values, affine)
    if scaling:
        image.header.set_slope_inter(**scaling)
    nibabel.save(image, path)
    return path


def pairs(folder, count=8, *, moved=0.0):
    """Volumes with masks, as float as many programs write them."""
    random = np.random.default_rng(0)
    for at in range(count):
        mask = random.integers(0, 3, SHAPE)
        saved(folder / "images" / f"{at}.nii.gz", (mask + random.random(SHAPE)).astype("f4"))
        places = AFFINE.copy()
        places[0, 3] += moved if at == 3 else 0
        saved(folder / "masks" / f"{at}_seg.nii.gz", mask.astype("f8"), places)


def test_values_are_those_of_nibabel_along_the_stored_axes(tmp_path):
    stored = np.arange(120, dtype="i2").reshape(SHAPE)
    found = read_nifti(saved(tmp_path / "a.nii.gz", stored))
    assert found.dtype == np.int16
    np.testing.assert_array_equal(found, stored)
    scaled = saved(tmp_path / "b.nii", stored, slope=0.5, inter=3)
    np.testing.assert_allclose(read_nifti(scaled), nibabel.load(scaled).get_fdata())
    four = saved(tmp_path / "c.nii", np.stack([stored, stored], axis=-1))
    assert read_nifti(four).shape == (*SHAPE, 2)
    assert read_nifti(saved(tmp_path / "d.nii", stored[..., None])).shape == SHAPE
    whole = (tmp_path / "a.nii.gz").read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(whole[:-30])
    with pytest.raises(InputError, match=r"cut\.nii\.gz must be a readable NIfTI volume"):
        read_nifti(tmp_path / "cut.nii.gz")


def test_volumes_are_segmented_and_classified_where_they_lie(tmp_path):
    pairs(tmp_path)
    data = SegmentedFieldsConfig(path=str(tmp_path)).load()
    assert data.crop == SHAPE
    assert data.classes == ("0", "1", "2")
    assert "Volumes are read as stored, their axes lead to LSA." in data.report["notes"]
    restored = SegmentedFieldsConfig().restore(str(tmp_path / "images"), data.state())
    np.testing.assert_array_equal(restored.fields[2], data.fields[2])
    assert restored.report["notes"] == []
    turned = saved(tmp_path / "new.nii", np.ones(SHAPE, "f4"), AFFINE * [[-1], [-1], [-1], [1]])
    with pytest.warns(
        UserWarning, match=r"lead to RIP in new\.nii, and to LSA in the run; none is"
    ):
        assert SegmentedFieldsConfig().restore(str(turned), data.state()).report["notes"]
    for at in range(8):
        place = tmp_path / "classes" / "ab"[at % 2] / f"{at}.nii.gz"
        saved(place, np.full(SHAPE, at, "f4"))
    found = LabelledConfig(path=str(tmp_path / "classes"), validation_share=0.3, test_share=0.3)
    classified = found.load()
    assert classified.report["found"]["layout"][0] == "volumes"
    assert classified.source("train")[0]["field"].shape == (1, *SHAPE, 1)
    again = found.restore(str(tmp_path / "images" / "0.nii.gz"), classified.state())
    assert len(again.source("all")) == 1


def test_another_spacing_is_told_of_items_and_of_what_is_predicted(tmp_path):
    pairs(tmp_path)
    wide = AFFINE @ np.diag([1, 1, 2, 1])
    saved(tmp_path / "images" / "3.nii.gz", np.ones(SHAPE, "f4"), wide)
    saved(tmp_path / "masks" / "3_seg.nii.gz", np.zeros(SHAPE), wide)
    config = SegmentedFieldsConfig(path=str(tmp_path))
    note = "Cells lie 2 x 3 x 1.5 apart, and 2 x 3 x 3 in 3.nii.gz; none is resampled."
    with pytest.warns(UserWarning, match=re.escape(note)):
        data = config.load()
    assert note in data.report["notes"]
    assert data.state()["spacing"] == [2, 3, 1.5]
    wider = saved(tmp_path / "new.nii", np.ones(SHAPE, "f4"), wide)
    with pytest.warns(UserWarning, match=r"1\.5 apart in the run, and 2 x 3 x 3 in new\.nii"):
        assert config.restore(str(wider), data.state()).report["notes"]
    near = saved(tmp_path / "near.nii", np.ones(SHAPE, "f4"), AFFINE * 1.04)
    assert not config.restore(str(near), data.state()).report["notes"]
    for at in range(8):
        place = tmp_path / "classes" / "ab"[at % 2] / f"{at}.nii.gz"
        saved(place, np.full(SHAPE, at, "f4"), wide if at == 5 else AFFINE)
    items = LabelledConfig(path=str(tmp_path / "classes"), validation_share=0.3, test_share=0.3)
    with pytest.warns(UserWarning, match=r"2 x 3 x 3 in 5\.nii\.gz"):
        classified = items.load()
    with pytest.warns(UserWarning, match=r"apart in the run, and 2 x 3 x 3 in new\.nii"):
        assert items.restore(str(wider), classified.state()).report["notes"]


def test_what_does_not_fit_is_refused(tmp_path):
    pairs(tmp_path / "moved", moved=2.0)
    with pytest.raises(InputError, match=r"another affine in 3_seg\.nii\.gz than in 3\.nii\.gz"):
        SegmentedFieldsConfig(path=str(tmp_path / "moved")).load()
    pairs(tmp_path / "short")
    saved(tmp_path / "short" / "masks" / "1_seg.nii.gz", np.zeros((6, 5, 3)))
    with pytest.raises(InputError, match="must have the cells of its mask"):
        SegmentedFieldsConfig(path=str(tmp_path / "short")).load()
    pairs(tmp_path / "holes")
    saved(tmp_path / "holes" / "masks" / "1_seg.nii.gz", np.full(SHAPE, np.nan))
    with pytest.raises(InputError, match="a mask must hold whole numbers"):
        SegmentedFieldsConfig(path=str(tmp_path / "holes")).load()
    pairs(tmp_path / "good")
    with pytest.raises(InputError, match=r"data\.time must be left out"):
        SegmentedFieldsConfig(path=str(tmp_path / "good"), time=True).load()
    turned = AFFINE * [[-1], [-1], [-1], [1]]
    flipped = saved(tmp_path / "good" / "images" / "0.nii.gz", np.ones(SHAPE, "f4"), turned)
    saved(tmp_path / "good" / "masks" / "0_seg.nii.gz", np.ones(SHAPE), turned)
    with pytest.warns(UserWarning, match=r"several ways, and none is turned: RIP as in 0\.nii\.gz"):
        SegmentedFieldsConfig(path=str(flipped.parents[1])).load()


@pytest.mark.parametrize("name", ["mask.nii.gz", "mask.nii"])
def test_a_mask_is_written_at_the_places_of_its_volume(tmp_path, name):
    source = saved(tmp_path / "new.nii.gz", np.zeros(SHAPE, "f4"))
    mask = np.random.default_rng(0).integers(0, 3, (1, *SHAPE)).astype(np.uint8)
    predictor: Any = object.__new__(MaskPredictor)
    predictor.data = SimpleNamespace(report={"source": str(source)})
    made = xr.Dataset({"mask": (["item", "i", "j", "k"], mask)})
    predictor.save(tmp_path / name, made)
    found = nibabel.load(tmp_path / name)
    np.testing.assert_array_equal(found.affine, AFFINE)
    np.testing.assert_array_equal(np.asarray(found.dataobj), mask[0])
    assert found.header.get_zooms() == nibabel.load(source).header.get_zooms()
    predictor.data = SimpleNamespace(report={"source": str(tmp_path)})
    with pytest.raises(InputError, match="of one NIfTI volume"):
        predictor.save(tmp_path / name, made)
