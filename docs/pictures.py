"""Draws the pictures of these pages: `python docs/pictures.py [NAME ...]`, some minutes on 2 cores.

Everything is made from seeds or ships with a dependency; each picture has less than 150 KB.
"""

import base64
import json
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib import pyplot as plt
from PIL import Image

import stpatch_jax as st
from stpatch_jax import explain, plotting
from stpatch_jax.runs import ask

FOLDER = Path(__file__).parent / "pictures"
CELLS = ("height (cells)", "width (cells)")


def save(figure: plt.Figure, name: str, *, dpi: int = 100) -> None:
    """Writes a picture, the same bytes whenever and wherever it is drawn."""
    figure.savefig(FOLDER / f"{name}.png", dpi=dpi, metadata={"Software": None})
    plt.close(figure)


def first() -> None:
    """A clip with its windows from the front and from the side, and what an answer came from."""
    with tempfile.TemporaryDirectory() as folder:
        run = st.train("video-classification-motion", workdir=folder)
        question = ask(run, split="test", example=9)
        clip = question.field.isel(channel=0, drop=True)
        spec = st.WindowSpec((3, 8, 8))
        time, height, width = spec.axes(clip.shape)
        row = int(np.asarray(clip).sum(axis=(0, 2)).argmax())
        figure, axes = plt.subplots(1, 4, figsize=(15, 4.2), layout="constrained")
        values = np.asarray(clip)
        plotting.patch_grid(
            values[0],
            (height, width),
            ax=axes[0],
            labels=CELLS,
            title="a clip of 6 frames, frame 0",
        )
        side = ("time (frames)", CELLS[1])
        plotting.patch_grid(
            values[:, row], (time, width), ax=axes[1], labels=side, title=f"its row {row} over time"
        )
        maps = explain.smooth_grad(question.score, question.field, key=jax.random.key(0)).sum(
            "channel", keep_attrs=True
        )
        top, answer = float(abs(maps).max()), question.title.split("class ")[1].split(",")[0]
        for ax, frame in zip(axes[2:], (0, 5), strict=True):
            plotting.attribution_over_frame(
                clip[frame],
                maps[frame],
                ax=ax,
                limits=(-top, top),
                title=f"what says “{answer}” in frame {frame}",
                colorbar=frame == 5,
            )
        save(figure, "first", dpi=80)


def masks() -> None:
    """What the report of `segment` draws: cells, their true classes and those that were found."""
    with tempfile.TemporaryDirectory() as folder:
        st.train("segment", workdir=folder)
        small(Path(folder, "plots", "masks.png"), "masks")


def maps_and_bands() -> None:
    """What the report of a forecast of a map with quantiles draws."""
    hours = np.arange(400)[:, None, None]
    lat, lon = np.linspace(50, 60, 16)[:, None], np.linspace(-8, 4, 20)
    wave = 3 * np.sin(2 * np.pi * (hours / 24 - lon / 12)) * np.cos(np.deg2rad(8 * lat))
    drifting = np.random.default_rng(0).normal(0, 0.3, (400, 1, 1)).cumsum(axis=0)
    field = xr.DataArray(
        285 + wave + drifting,
        dims=("time", "lat", "lon"),
        coords={
            "time": pd.date_range("2024-01-01", periods=400, freq="h"),
            "lat": ("lat", lat[:, 0], {"units": "degrees_north"}),
            "lon": ("lon", lon, {"units": "degrees_east"}),
        },
        name="t2m",
        attrs={"units": "K"},
    )
    with tempfile.TemporaryDirectory() as folder:
        levels = (0.1, 0.25, 0.5, 0.75, 0.9)
        st.forecast(field, horizon=12, quantiles=levels, loss="mae", steps=100, workdir=folder)
        small(Path(folder, "plots", "maps.png"), "maps")
        small(Path(folder, "plots", "forecasts.png"), "bands")


def small(path: Path, name: str) -> None:
    """Takes a picture that a run drew, in fewer colours."""
    with Image.open(path) as picture:
        picture.thumbnail((1200, 1200))
        picture.convert("RGB").quantize(128).save(FOLDER / f"{name}.png", optimize=True)


def of_tutorials() -> None:
    """What the notebooks were saved with: (notebook, number of its picture)."""
    for name, (notebook, number) in TAKEN.items():
        (path,) = (FOLDER.parents[1] / "notebooks").glob(f"{notebook}_*.ipynb")
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        shown = [output.get("data", {}) for cell in cells for output in cell.get("outputs", ())]
        kinds = ("image/png", "image/gif")
        pictures = [(kind, data[kind]) for data in shown for kind in kinds if kind in data]
        kind, text = pictures[number]
        (FOLDER / f"{name}.{kind[-3:]}").write_bytes(base64.b64decode(text))


TAKEN = {
    "boxes": (3, 4),
    "next": (3, 3),
    "attributions": (3, 5),
    "deletion": (3, 6),
    "learning": (2, 1),
}
PICTURES = (first, masks, maps_and_bands, of_tutorials)

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for draw in PICTURES:
        if not sys.argv[1:] or draw.__name__ in sys.argv[1:]:
            draw()
