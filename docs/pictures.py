"""Draws the pictures of these pages: `python docs/pictures.py`, some minutes on 2 cores.

Everything is made from seeds or ships with a dependency; each picture has less than 150 KB.
"""

import tempfile
from pathlib import Path

import jax
import numpy as np
from matplotlib import pyplot as plt

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


PICTURES = (first,)

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for draw in PICTURES:
        draw()
