"""`stpatch patches`: its figures against the operators, its pictures, what it reads and refuses."""

import math
from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import PatchCollection
from matplotlib.image import imread
from small_fields import small_field

from stpatch_jax import WindowSpec, cli, cover_count
from stpatch_jax.data.fields import describing
from stpatch_jax.data.fields.describing import describe_patches, patch_summary
from stpatch_jax.data.readers.lazy import LazyArray
from stpatch_jax.plotting.patches_of_file import draw_patches
from stpatch_jax.testing import reference_extract_patches

CASES = {
    "series": ((30,), WindowSpec((6,), stride=4, dilation=2, padding="CAUSAL")),
    "panel": ((20, 7), WindowSpec((5, None), stride=(2, None))),
    "map": (
        (9, 12, 10),
        WindowSpec((2, 4, 3), stride=(2, 3, 3), padding=("VALID", "SAME", "COVER")),
    ),
    "gaps": ((6, 9, 9), WindowSpec((1, 2, 2), stride=(2, 4, 3))),
    "ball": ((4, 7, 7), WindowSpec((1, 3, 3), stride=(1, 2, 2), footprint="ball")),
    "volume": ((3, 8, 9, 10), WindowSpec((1, 4, 4, 4), stride=(1, 4, 4, 2))),
}


def volume(shape):
    dims = ("time", "z", "y", "x", "channel")
    coords = {"time": np.arange(shape[0]), "channel": ["density"]}
    return xr.DataArray(np.zeros((*shape, 1), np.float32), dims=dims, coords=coords)


def made(name, **options):
    shape, spec = CASES[name]
    return (volume(shape) if len(shape) == 4 else small_field(shape, **options)), spec


@pytest.mark.parametrize("name", CASES)
def test_the_figures_are_those_of_the_patches(name):
    field, spec = made(name)
    summary = patch_summary(field, spec)
    patches = reference_extract_patches(field.values.astype(np.float32), spec)
    rank = len(field.shape) - 1
    assert tuple(summary["patch_grid"]) == patches.shape[:rank]
    assert tuple(summary["window"]) == patches.shape[rank:-1]
    assert summary["patches"] == math.prod(patches.shape[:rank])
    assert summary["values_per_patch"] == math.prod(patches.shape[rank:])
    assert summary["patch_bytes"] == patches.nbytes
    assert summary["field_bytes"] == 4 * field.size
    cover = cover_count(spec, field.shape[:-1])
    assert (summary["cover_count"]["min"], summary["cover_count"]["max"]) == (
        cover.min(),
        cover.max(),
    )
    assert summary["cover_count"]["uncovered_share"] == pytest.approx(np.mean(cover == 0))
    text = describe_patches(summary)
    assert f"{patches.nbytes:,} bytes" in text
    assert f"{summary['patches']:,} patches" in text


@pytest.mark.parametrize("chunks", [{}, {"time": 7, "latitude": 4}, {"channel": 1}])
def test_missing_values_are_counted(chunks, monkeypatch):
    field = small_field(missing=0.2)
    field.encoding["preferred_chunks"] = chunks
    spec = WindowSpec((4, 2, 2))
    monkeypatch.setattr(describing, "_BOX_BYTES", 1000)
    whole = patch_summary(field, spec)
    assert whole["missing_share"] == pytest.approx(float(field.isnull().mean()))
    assert whole["counted_share"] == 1
    # A field of which only some boxes are read says so.
    monkeypatch.setattr(describing, "_COUNTED_BYTES", field.nbytes // 2)
    some = patch_summary(field, spec)
    assert 0.3 < some["counted_share"] <= 0.5
    assert abs(some["missing_share"] - 0.2) < 0.05
    assert "counted in" in describe_patches(some)
    assert "counted in" not in describe_patches(whole)


def test_coordinates_and_units_are_told():
    field = small_field(channels=("t2m", "wind"))
    field = field.assign_coords(
        longitude=("longitude", [0.0, 0.5, 0.75, 1.0, 2.0], {"units": "deg"})
    )
    lines = dict(
        line.split(None, 1)
        for line in describe_patches(patch_summary(field, WindowSpec((4, 2, 2)))).splitlines()
    )
    assert lines["dims"] == "time 40, latitude 6, longitude 5, channel 2"
    assert lines["values"] == "float32, t2m (K), wind (m s-1)"
    assert lines["time"] == "2024-02-27 to 2024-02-28T15:00, every 1 hour"
    assert lines["latitude"] == "0 to 1.25, every 0.25"
    assert lines["longitude"] == "0 to 2 deg, in uneven steps"
    assert lines["missing"] == "0 %"


class Counted(LazyArray):
    """A long video of zeros that counts what is read of it."""

    def __init__(self):
        self.shape, self.dtype, self.values_read = (100_000, 512, 512, 3), np.dtype(np.uint8), 0

    def read(self, key):
        block = np.zeros(
            [len(range(n)[part]) for n, part in zip(self.shape, key, strict=True)], np.uint8
        )
        self.values_read += block.size
        return block


def test_one_frame_is_read_for_a_picture_and_none_for_figures():
    array = Counted()
    coords: dict = {"time": np.arange(100_000) / 25, "channel": ["red", "green", "blue"]}
    field = array.field(("time", "height", "width", "channel"), coords)
    summary = patch_summary(field, WindowSpec((8, 16, 16)))
    assert array.values_read == 0
    assert summary["patch_bytes"] == 4 * field.size
    draw_patches(field, WindowSpec((8, 16, 16)))
    assert array.values_read == 512 * 512 * 3
    # Of many small windows only the first ones are drawn, and only their cells read.
    draw_patches(field, WindowSpec((1, 2, 2)))
    assert array.values_read == 512 * 512 * 3 + 128 * 128 * 3


@pytest.mark.parametrize("name", CASES)
def test_every_picture_shows_the_windows_that_there_are(name):
    field, spec = made(name)
    grid = spec.grid_shape(field.shape[:-1])
    ax = draw_patches(field, spec).axes[0]
    words = " x ".join(map(str, grid))
    assert f"patch grid {words}" in ax.get_title()
    if name == "series":
        bars = [patch for patch in ax.patches if patch.get_transform() != ax.transData]
        assert len(bars) - 1 == grid[0]
        return
    (collection,) = (part for part in ax.collections if isinstance(part, PatchCollection))
    drawn = grid[::-1] if name == "panel" else grid[-2:]
    assert len(collection.get_paths()) == math.prod(drawn)


@pytest.mark.parametrize("name", CASES)
def test_every_picture_shows_how_many_windows_hold_each_cell(name):
    field, spec = made(name)
    axes = spec.axes(field.shape[:-1])
    counts = cover_count(spec, field.shape[:-1])
    for axis in axes[:-2] if len(axes) > 2 else ():
        middle = axis.starts[axis.count // 2] + axis.window // 2 * axis.dilation
        counts = counts[min(max(middle, 0), axis.size - 1)]
    drawn = draw_patches(field, spec).axes[1]
    if name == "series":
        np.testing.assert_array_equal(drawn.get_lines()[0].get_ydata(), counts)
    else:
        image: Any = drawn.get_images()[0].get_array()
        shown = np.ma.filled(image, 0)
        np.testing.assert_array_equal(shown, counts.T if name == "panel" else counts)
    assert f"{100 * np.mean(counts == 0):.3g} % of the cells in no window" in drawn.get_title()


def test_a_file_is_described_and_drawn(tmp_path, capsys):
    field = small_field(channels=("flow",), missing=0.1)
    file, picture = tmp_path / "flow.npz", tmp_path / "patches.png"
    np.savez(file, flow=field.values, time=field.time.values.astype("datetime64[ns]"))
    command = ["patches", str(file), "--window", "4", "3", "None", "--stride", "2", "3", "1"]
    assert cli.main([*command, "--padding", "SAME", "--output", str(picture)]) == 0
    out = capsys.readouterr().out
    assert "patch grid      20 x 2 x 5, 200 patches" in out
    assert str(picture) in out
    assert imread(picture).ndim == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flow.npz", "patches.png"]
    # One value holds for all axes; an array may be named, and so may its axes.
    command = ["patches", str(file), "--window", "4", "3", "3", "--stride", "1", "--dilation", "1"]
    command += ["--data.variables", "flow", "--data.dims", "time", "b", "a", "channel"]
    assert cli.main(command) == 0
    assert "37 x 4 x 3, 444 patches" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--window", "4", "3"], "one entry for each of time, y, x (40 x 6 x 5 cells), got 4 x 3"),
        (["--window", "4", "9", "3"], "window must be no longer than the input (40, 6, 5)"),
        (
            ["--window", "4", "3", "0"],
            "window along axis 2 (space) must be an integer of at least 1",
        ),
        (
            ["--window", "4", "3", "3", "--stride", "1", "2"],
            "stride must have one entry per window",
        ),
        (["--window", "4", "3", "3", "--data.variables", "wind"], "got wind; choose"),
        (["--window", "4", "3", "3", "--output", "{}/a.txt"], "must be a file of one of the types"),
        (["--window", "4", "3", "3", "--output", "{}/none/a.png"], "must be writable"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(tmp_path, capsys, arguments, message):
    field = small_field(channels=("flow",))
    file = tmp_path / "flow.npz"
    np.savez(file, flow=field.values, time=field.time.values.astype("datetime64[ns]"))
    told = [argument.format(tmp_path) for argument in arguments]
    assert cli.main(["patches", str(file), *told]) == 2
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 1
    assert message in captured.err
    assert captured.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["flow.npz"]


def test_a_missing_file_and_missing_flags_are_told(tmp_path, capsys):
    assert cli.main(["patches", str(tmp_path / "none.npz"), "--window", "4"]) == 2
    assert "there must be a file" in capsys.readouterr().err
    assert cli.main(["patches", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("`stpatch patches` must be given what it requires, got no --window (")
    assert len(said.splitlines()) == 1
    assert cli.main(["patches", "--file", "flow.npz", "--window", "4"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("`stpatch patches` must be given FILE without --file before it, got")
    assert len(said.splitlines()) == 1


REAL = {
    "weather/era5_t2m_uk_2019-03.nc": (
        ["4", "16", "16"],
        ["186 x 2 x 3", "t2m (K)", "every 1 hour"],
    ),
    "traffic/bikenyc_tail.npz": (["24", "4", "4"], ["channel 2", "x 4 x 2"]),
    "video/mmaction2_demo.mp4": (["8", "32", "32"], ["35 x 8 x 10", "red, green, blue"]),
    "medical/adrenalmnist3d.npz": (["1", "7", "7", "7"], ["1188 x 4 x 4 x 4", "1 to 1 windows"]),
    "finance/stocks_ohlcv_2012_2017.csv.gz": (["20", "1"], ["62 x 87", "AAPL to XOM"]),
}
NAMED_AXES = ["--data.dims", "time", "z", "y", "x"]
OPTIONS = {
    "medical/adrenalmnist3d.npz": ["--data.variables", "train_images", *NAMED_AXES],
    "finance/stocks_ohlcv_2012_2017.csv.gz": ["--data.variables", "Adj Close"],
}
LIBRARIES = {".nc": "netCDF4", ".mp4": "av"}


@pytest.mark.parametrize("name", REAL)
def test_real_files(name, data_dir, tmp_path, capsys):
    file, (window, words) = data_dir / name, REAL[name]
    if not file.exists():
        pytest.skip(f"{file} is not there")
    if library := LIBRARIES.get(file.suffix):
        pytest.importorskip(library)
    picture = tmp_path / "patches.png"
    options = [*OPTIONS.get(name, []), "--output", str(picture)]
    assert cli.main(["patches", str(file), "--window", *window, *options]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in words), out
    assert imread(picture).std() > 0.05


def test_gaps_are_told():
    field = small_field().isel(time=np.setdiff1d(np.arange(40), [7, 8, 30]))
    summary = patch_summary(field, WindowSpec((4, 2, 2)))
    assert [gap["missing"] for gap in summary["gaps"]] == [2, 1]
    lines = [line for line in describe_patches(summary).splitlines() if line.startswith("gap ")]
    assert lines[0].split(None, 1)[1] == (
        "2 rows missing between 2024-02-27T06:00 and 2024-02-27T09:00, which patches reach over"
    )
    assert len(lines) == 2
